"""The root of the command: which module has which command, their order in the help, and their examples."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, Final

from typer.core import TyperGroup

_COMMANDS_BY_MODULE: Final[Mapping[str, tuple[str, ...]]] = {
    "approval": ("approvals", "approve", "reject"),
    "audit": ("audit",),
    "automatic": ("automatic",),
    "broker": ("broker",),
    "calendar": ("calendar",),
    "clean": ("machines",),
    "compliance": ("compliance", "compliance-report"),
    "components": ("components",),
    "config": ("config", "policy"),
    "deploy": ("deploy",),
    "doctor": ("doctor",),
    "events": ("events",),
    "fleet_status": ("updates",),
    "hotpatch": ("hotpatch",),
    "images": ("images",),
    "inventory": ("inventory", "sets"),
    "maintenance": ("maintenance",),
    "patch": ("assess", "patch", "plan"),
    "providers": ("providers",),
    "query": ("query",),
    "records": ("history", "records"),
    "recovery": ("cancel", "reconcile", "resume"),
    "runs": ("orders", "report", "runs", "show", "why"),
    "server": ("prefect", "server"),
    "settings": ("settings", "version"),
    "snapshots": ("snapshots",),
    "undo": ("undo",),
    "unlock": ("unlock",),
    "updaters": ("updaters",),
    "web": ("web",),
}
"""The names that a module of ``fleetpatch.cli.commands`` adds to the root. To load all takes longer than to run one."""
_MODULES_BY_COMMAND: Final = {name: module for module, names in _COMMANDS_BY_MODULE.items() for name in names}

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "doctor": ("doctor", "doctor env=prod --refresh", "doctor --server"),
    "assess": ("assess", "assess env=prod", "assess web-1 --no-refresh"),
    "machines list": ("machines", "machines env=prod"),
    "machines clean": ("machines clean web-1 --dry-run", "machines clean env=old"),
    "updates": ("updates --urgent", "updates env=prod --by machine"),
    "compliance": ("compliance", "compliance env=prod --all"),
    "sets": ("sets",),
    "sets release": ("sets release web-1",),
    "providers": ("providers", "providers env=prod"),
    "policy explain": ("policy explain env=prod", "policy explain --request tuesday.yaml"),
    "audit list": ("audit list", "audit list --who anna --limit 20"),
    "audit verify": ("audit verify",),
    "audit cut": ("audit cut 1200 --reason 'kept for two years'",),
    "audit renew": ('audit renew --reason "the records were lost with their disk"',),
    "audit send": ("audit send",),
    "plan": (
        "plan env=prod --minutes 120",
        "plan web-1 --include nginx=1.22* --only-included",
        "plan --request tuesday.yaml --details",
    ),
    "patch": (
        "patch web-1 --minutes 60",
        "patch env=prod --minutes 120 --canary 1 --failure-budget 10%",
        "patch --request tuesday.yaml --yes",
    ),
    "cancel": ("cancel last", "cancel last --reason 'web-1 is slow' --wait"),
    "resume": ("resume last", "resume last --finalize"),
    "reconcile": ("reconcile --dry-run", "reconcile"),
    "approvals": ("approvals", "approvals last"),
    "approve": ("approve last", "approve last --remark 'as agreed'"),
    "reject": ("reject last --remark 'not before Monday'",),
    "undo": ("undo last --plan", "undo 20261128-0100 web-1 --yes", "undo last --exclude 'linux-*'"),
    "unlock": ("unlock web-1",),
    "hotpatch status": ("hotpatch status", "hotpatch status os=windows"),
    "hotpatch enroll": ("hotpatch enroll os=windows --dry-run", "hotpatch enroll win-1"),
    "hotpatch unenroll": ("hotpatch unenroll win-1",),
    "hotpatch enable": ("hotpatch enable win-1",),
    "hotpatch disable": ("hotpatch disable win-1",),
    "updaters status": ("updaters status", "updaters status owner=os"),
    "updaters on": ("updaters on owner=os --dry-run", "updaters on web-1"),
    "updaters off": ("updaters off owner=managed --dry-run", "updaters off web-1"),
    "events list": ("events list", "events list --all"),
    "events approve": ("events approve f020ba2e",),
    "events withdraw": ("events withdraw f020ba2e --reason 'not today'",),
    "events forward": (
        "events forward env=prod --to fleet.example.org:4281",
        "events forward web-1 --remove",
    ),
    "events serve": ("events serve --host 0.0.0.0",),
    "events token add": ("events token add web-1",),
    "events token list": ("events token list",),
    "events token remove": ("events token remove web-1",),
    "components list": ("components list", "components list env=prod"),
    "components plan": ("components plan", "components plan node_exporter env=prod"),
    "components upgrade": (
        "components upgrade",
        "components upgrade node_exporter env=prod --to 2.0.0",
    ),
    "components enroll": ("components enroll node_exporter env=prod",),
    "components unenroll": ("components unenroll node_exporter env=prod",),
    "components schema": ("components schema",),
    "images list": ("images list", "images list web"),
    "images history": ("images history web",),
    "images plan": ("images plan", "images plan web"),
    "images upgrade": ("images upgrade web --roll-back", "images upgrade web --to 12.7"),
    "images clean": ("images clean",),
    "images fetch": ("images fetch web/12/stable", "images fetch web/12/stable --dry-run"),
    "images schema": ("images schema",),
    "snapshots list": ("snapshots list", "snapshots list env=prod"),
    "snapshots adopt": ("snapshots adopt web-1", "snapshots adopt web-1 --as-it-is"),
    "snapshots delete": (
        "snapshots delete '*' --expired",
        "snapshots delete web-1 --dry-run",
        "snapshots delete web-1 --unrecorded",
    ),
    "maintenance list": ("maintenance list", "maintenance list --json"),
    "maintenance show": ("maintenance show web",),
    "maintenance forget": ("maintenance forget web",),
    "maintenance apply": ("maintenance apply web --dry-run", "maintenance apply web db --yes"),
    "runs": ("runs", "runs --kind patch -n 5"),
    "orders": ("orders", "orders --machine web-1"),
    "show": ("show", "show last --machine web-1", "show last --journal"),
    "why": ("why web-1", "why web-1 openssl", "why web-1 'linux-*' --runs 20"),
    "report": ("report last --to reports", "report last --to reports --format html"),
    "query": ('query "SHOW TABLES"', 'query "SELECT * FROM machines" --csv'),
    "compliance-report": ("compliance-report --to reports", "compliance-report 2026-11 --scope env=prod"),
    "calendar": ("calendar", "calendar --machine web-1 --next 5"),
    "deploy": ("deploy --check", "deploy", "deploy --yes --serve"),
    "automatic": ("automatic", "automatic --all"),
    "automatic explain": ("automatic explain web-1",),
    "automatic pause": (
        "automatic pause env=prod --reason 'audit week'",
        "automatic pause web-1 --reason demo --until 2030-12-24",
    ),
    "automatic resume": ("automatic resume env=prod",),
    "automatic release": ("automatic release openssl", "automatic release openssl=3.0.15-1"),
    "automatic cancel": ("automatic cancel --reason 'a bad kernel'",),
    "config check": ("config check", "config check configurations/web.yaml"),
    "config schema": ("config schema --output configuration.schema.json", "config schema --policy"),
    "config import-azure": ("config import-azure azure.json --scope env=prod --output web.yaml",),
    "inventory check": ("inventory check", "inventory check fleet.yaml", "inventory check --providers"),
    "inventory list": ("inventory list", "inventory list env=prod,!ring=canary"),
    "inventory owner": ("inventory owner env=test managed --dry-run", "inventory owner web-1 os"),
    "inventory schema": ("inventory schema",),
    "settings": ("settings",),
    "server": ("server", "server --show", "server --database env:PREFECT_DATABASE"),
    "web": ("web", "web --port 8080 --require-login"),
    "web login": ("web login", "web login anna --role view"),
    "web logout": ("web logout anna",),
    "web token add": ("web token add prometheus", "web token add anna --role approve --role run --days 30"),
    "web token list": ("web token list",),
    "web token remove": ("web token remove prometheus",),
    "web grant": ("web grant",),
    "broker": ("broker web-1", "broker web-1 --user patch"),
    "records backup": ("records backup records.backup", "records backup records.backup --keys keys.backup"),
    "records copy": ("records copy postgresql://fleetpatch@db.example.org/fleetpatch",),
    "records restore": ("records restore records.backup --dry-run", "records restore records.backup"),
    "history": ("history", "history --keep-assessments 90 --keep-runs 730"),
    "prefect": ("prefect work-pool ls", "prefect flow-run ls --limit 5"),
    "version": ("version",),
}
"""The words behind ``fleetpatch`` by the name of the command: a test parses each. A line of the help has 80 columns."""


_PROGRAM: Final = "fleetpatch"
_TITLE: Final = "Examples:"
HELP_OPTIONS: Final = ["--help", "-h"]
_METAVARS: Final = {"bool": "", "str": "TEXT", "int": "NUMBER", "float": "NUMBER", "list[str]": "TEXT"}
"""What stands behind an option without a name for its value. Typer shows "<bool>" behind one that takes none."""


class CommandGroup(TyperGroup):
    """The root of the command. It loads a command when it is asked for. The order is that of the examples."""

    root: ClassVar[Any]  # the Typer where commands register

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - those of Typer's own base
        self._modules: set[str] = set()
        super().__init__(*arguments, **settings)

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """All commands by name."""
        self._load(_COMMANDS_BY_MODULE)
        return self._commands

    @commands.setter
    def commands(self, commands: MutableMapping[str, Any]) -> None:
        self._commands = commands

    def get_params(self, ctx: Any) -> Any:  # noqa: ANN401 - a context of Typer's own click
        """Return the options of the root."""
        return _complete_parameters(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - the same
        """Return the names of the commands, in the order of the help."""
        order = {path.partition(" ")[0]: number for number, path in reversed([*enumerate(EXAMPLES)])}
        return sorted(super().list_commands(ctx), key=lambda name: order.get(name, len(order)))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - the same
        """Return a command with its examples."""
        if (module := _MODULES_BY_COMMAND.get(cmd_name)) is not None:
            self._load((module,))
        command = self._commands.get(cmd_name)
        return None if command is None else complete_help(command, cmd_name)

    def _load(self, modules: Iterable[str]) -> None:
        """Load modules, and take the commands that they add to the root."""
        from typer.main import get_group

        missing = [module for module in modules if module not in self._modules]
        if not missing:
            return
        for module in missing:
            import_module(f"fleetpatch.cli.commands.{module}")
        self._modules.update(missing)
        loaded: Any = get_group(self.root)
        self._commands = {**self._commands, **loaded._commands}  # noqa: SLF001 - of this class


def complete_help(command: Any, path: str) -> Any:  # noqa: ANN401 - the same
    """Return the command of Typer with this name, as in ``audit list``. Its help and its commands' now has examples."""
    if path in EXAMPLES and not (command.epilog or "").startswith(_TITLE):  # it is asked for each time
        lines = "\n".join(f"{_PROGRAM} {example}" for example in EXAMPLES[path])
        command.epilog = f"{_TITLE}\n{lines}" + (f"\n\n{command.epilog}" if command.epilog else "")
    settings = {"help_option_names": HELP_OPTIONS, **command.context_settings}
    _complete_parameters(command.get_params(command.context_class(command, **settings)))
    for name, inner in getattr(command, "commands", {}).items():
        complete_help(inner, f"{path} {name}")
    return command


class _LateConversion:
    """Converts a value as Typer does, but loads pydantic only for a value that is not of its type yet.

    Args:
        load: returns Typer's own conversion.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401 - the same
        """Return the value for the command. BadParameter: it can't be converted."""
        is_single, descriptor = param.nargs == 1 and not param.multiple, param.type_descriptor
        is_converted = type(value) is descriptor.annotation and descriptor.parameter_info.parser is None
        if is_single and (value is None or is_converted):
            return value
        return self._load().coerce(value, param=param, ctx=ctx)


def _complete_parameters(parameters: Any) -> Any:  # noqa: ANN401 - the same
    """Return the parameters: each option has a name for its value, or none if it takes none, and converts it late."""
    for parameter in parameters:
        if parameter.param_type_name == "option" and parameter.metavar is None:
            parameter.metavar = _METAVARS.get(parameter.bare_type())
        if "get_runtime_param" not in vars(parameter):  # it is completed each time that its command is asked for
            parameter.get_runtime_param = partial(_LateConversion, parameter.get_runtime_param)
    return parameters
