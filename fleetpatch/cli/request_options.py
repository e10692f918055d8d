"""The options that fill a patch request. They follow its fields; a table says what differs.

This module loads pydantic. Only the verbs that use these options may load it.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fleetpatch.cli.app import (
    InventoryOption,
    JsonOption,
    NoRefreshOption,
    OptionalScopeArgument,
    RecordsOption,
    ReportOption,
    parse_path,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.command_help import complete_help
from fleetpatch.cli.runtime.completion import complete_machine
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass

RequestFileOption = Annotated[
    Path | None,
    typer.Option(
        "--request",
        metavar="FILE",
        parser=parse_path,
        rich_help_panel="Run",
        help="Request file, YAML or JSON. Options override it.",
    ),
]
OnlyIncludedOption = Annotated[
    bool | None, typer.Option("--only-included", rich_help_panel="Updates", help="Install only what --include names.")
]


@dataclass(frozen=True, slots=True)
class RequestOption:
    """An option of the command and the field that it fills. What is empty follows from the field."""

    key: str  # of the field, as in ``waves.size``. An option that fills no field has a key of its own.
    spelled: str = ""  # on the command line
    help: str = ""  # without the default
    metavar: str | None = None  # the name of its value
    short: str = ""  # its one letter
    panel: str = ""  # of the help
    sets: object = None  # the value that the option sets, if it takes none
    is_count_or_percent: bool = False  # it fills two fields, one with a count and one with a percentage
    parameter: Any = None  # the whole option, if other verbs have it too
    is_named_in_errors: bool | None = None  # errors of the field name the option; None: if the option takes a value
    field: FieldInfo | None = None  # None: it fills no field
    completion: Callable[..., Any] | None = None  # which values a shell offers

    def complete(self, field: FieldInfo | None) -> "RequestOption":
        """Return the option with all that follows from its field."""
        sets, (group, _, last) = self.sets, self.key.rpartition(".")
        if sets is None and field is not None and field.annotation is bool:
            sets = not field.default
        no = "no-" if sets is False else ""
        named = sets is None if self.is_named_in_errors is None else self.is_named_in_errors
        whole = replace(
            self,
            spelled=self.spelled or f"--{no}{last.replace('_', '-')}",
            panel=self.panel or group.capitalize() or "Policies",
            sets=sets,
            is_named_in_errors=named and field is not None,
            field=field,
        )
        return whole if field is None or self.parameter else replace(whole, parameter=_build_parameter(whole, field))

    @property
    def name(self) -> str:
        """The option as a name in Python."""
        return self.spelled.removeprefix("--").replace("-", "_")

    def read_value(self, options: Mapping[str, Any]) -> object:
        """Return what the field gets from options. None: not given.

        Raises:
            BadParameter: the text of the option is neither a count nor a percentage.
        """
        value = options[self.name]
        if value is None or value is False or value == []:
            return None
        if self.is_count_or_percent:
            return _parse_count_or_percent(self.spelled, str(value))[self.key.endswith("_percent")]
        return value if self.sets is None else self.sets


def _build_parameter(option: RequestOption, field: FieldInfo) -> Any:  # noqa: ANN401 - an annotation
    kind = str if option.is_count_or_percent else _find_plain_type(field.annotation) if option.sets is None else bool
    parameter = typer.Option(
        *filter(None, (option.spelled, option.short)),
        metavar=option.metavar,
        parser=parse_path if kind is Path else None,
        case_sensitive=False,
        rich_help_panel=option.panel,
        autocompletion=option.completion,
        help=_build_help(option, kind, field),
    )
    return Annotated[kind | None, parameter]


def _build_help(option: RequestOption, kind: Any, field: FieldInfo) -> str:  # noqa: ANN401 - a type
    item = (*get_args(kind), kind)[0]
    choices = f"{', '.join(item)}." if issubclass(item, Enum) else ""
    repeatable = " Repeatable." if get_origin(kind) is list else ""
    values = field.default if isinstance(field.default, list) else [field.default]
    is_default_shown = field.default and option.sets is None and not option.is_count_or_percent
    default = f" Default: {' and '.join(map(str, values))}." if is_default_shown else ""
    return f"{option.help or choices or field.description}{repeatable}{default}"


def _parse_count_or_percent(option: str, text: str) -> tuple[int | None, float | None]:
    stripped = text.strip()
    try:
        return (None, float(stripped.removesuffix("%"))) if stripped.endswith("%") else (int(stripped), None)
    except ValueError:
        raise typer.BadParameter(
            f"{option}: {stripped!r:.80} is neither a number of machines nor a percentage"
        ) from None


_ROWS = (
    RequestOption("scope", parameter=OptionalScopeArgument, is_named_in_errors=False),
    RequestOption("inventory", parameter=InventoryOption, is_named_in_errors=False),
    RequestOption("records", parameter=RecordsOption),
    RequestOption("as_json", parameter=JsonOption),
    RequestOption("report_directory", "--report", parameter=ReportOption),
    RequestOption("request", parameter=RequestFileOption),
    RequestOption(
        "only_machines", "--only", "Of the scope, only this machine.", "NAME", panel="Run", completion=complete_machine
    ),
    RequestOption("updates.classifications", "--classification", short="-c", metavar="NAME"),
    RequestOption("updates.severities", "--severity", metavar="NAME"),
    RequestOption("updates.include", help="Also install, e.g. nginx=1.22*.", metavar="MASK"),
    RequestOption("updates.exclude", help="Never install. Overrides all other options.", metavar="MASK"),
    RequestOption("only_included", parameter=OnlyIncludedOption),
    RequestOption("updates.exclude_requiring_reboot", help="Exclude updates that are known to need a reboot."),
    RequestOption(
        "updates.newest", help="Install the newest version of a security fix, even if no security repository offers it."
    ),
    RequestOption(
        "updates.published_before",
        help='Exclude updates published after this time, e.g. "2026-11-01", in --zone.',
        metavar="WHEN",
    ),
    RequestOption(
        "window.start", "--start", 'When the window opens, e.g. "2026-11-21 02:00", in --zone. Default: now.', "WHEN"
    ),
    RequestOption(
        "outside_window",
        help="Patch now, outside the windows of the configuration that the request file names.",
        panel="Window",
        is_named_in_errors=True,
    ),
    RequestOption(
        "override_freeze",
        help="Patch although a freeze touches the window, for this reason. It is recorded with your name.",
        metavar="REASON",
        panel="Window",
    ),
    RequestOption("window.minutes", help="Length of the window."),
    RequestOption("window.zone", help="IANA time zone of the window."),
    RequestOption(
        "reboot_reserve_minutes", "--reserve", "Reboot reserve at the end of the window.", "MINUTES", panel="Window"
    ),
    RequestOption("waves.canary_count", "--canary", is_count_or_percent=True),
    RequestOption(
        "waves.canary_percent",
        "--canary",
        "Machines (or share of them) in a first canary wave.",
        "N|N%",
        is_count_or_percent=True,
    ),
    RequestOption("waves.size", "--wave-size", "Machines in each wave."),
    RequestOption("waves.percent", "--wave-percent", "Share of machines in each wave, in percent."),
    RequestOption("waves.at_once", help="Machines of a wave at the same time."),
    RequestOption("waves.pause_minutes", "--pause", "Pause between waves.", "MINUTES"),
    RequestOption("waves.failure_budget_count", "--failure-budget", is_count_or_percent=True),
    RequestOption(
        "waves.failure_budget_percent",
        "--failure-budget",
        "How many machines may fail. With more, no further machine begins. Default: 20%.",
        "N|N%",
        is_count_or_percent=True,
    ),
    RequestOption(
        "waves.unreachable_percent",
        help="Percent of machines that may be unreachable. With more, no further machine begins.",
    ),
    RequestOption(
        "waves.go_on_after_failed_canary",
        help="Continue within the failure budget. Without it, no machine begins after a failed canary.",
    ),
    RequestOption("waves.keep_locations_apart", help="Never put two locations in the same wave."),
    RequestOption("reboot", metavar="POLICY"),
    RequestOption(
        "reboot_if_live_patched", help="Do not reboot for a new kernel whose security fixes live patches have applied."
    ),
    RequestOption(
        "live_patched_reboot_days", help="Most days that such a reboot may wait. Default: no deadline.", metavar="DAYS"
    ),
    RequestOption("reboot_pending_first", help="First do a reboot that was required before."),
    RequestOption("max_reboots", help="Most reboots of one machine."),
    RequestOption(
        "restart_services",
        "--no-restart-services",
        "Do not restart services that run replaced files on machines that do not reboot.",
        sets="Never",
    ),
    RequestOption(
        "restart_services_exclude", "--restart-exclude", "Units not to restart.", "MASK", is_named_in_errors=False
    ),
    RequestOption(
        "announce.enabled",
        "--announce",
        "Announce reboots and restarts of services as scheduled events, and wait for their time or approval.",
        panel="Policies",
    ),
    RequestOption("announce.notice_minutes", "--notice", "Time from the announcement on.", "MINUTES", panel="Policies"),
    RequestOption(
        "snapshot.take",
        "--snapshot",
        "Take a snapshot of each machine by its provider before its first change: before or never.",
        panel="Policies",
    ),
    RequestOption(
        "snapshot.revert_on_failure", help="Put a machine back to it if the run fails on it.", panel="Policies"
    ),
    RequestOption(
        "rehearse.on_copies", "--rehearse", "First patch copies of machines, and begin only if that went well."
    ),
    RequestOption("allow_removals"),
    RequestOption("reboot_with_passphrase"),
    RequestOption("remove_unused_kernels", help="After the validation, remove kernels that are in no use."),
    RequestOption("accept_licences", help="Accept licence terms of updates."),
    RequestOption(
        "patched_by_others",
        help="Machines on which something else installs updates by itself: patch (them too), fail or skip.",
        metavar="POLICY",
    ),
    RequestOption("repair", help="First finish an interrupted package transaction."),
    RequestOption("keep_previous", help="Keep on the machine what is replaced, for an undo."),
    RequestOption("stage", help="Do not download everything before the first installation."),
    RequestOption("refresh", parameter=NoRefreshOption),
)
"""The options in the order of the help. Fields without a row follow them."""

_NOT_OPTIONS = frozenset(
    {"dry_run", "approval", "hooks", "notify", "freezes", "configuration", "report_formats", "updates.as_in_run"}
    | {
        "window.lead_minutes",
        "going_down_minutes",
        "coming_up_minutes",
        "come_back_seconds",
        "assess_at_once",
    }
    | {"native_updaters", "download_only", "announce.approval", "maintenance"}
    | {"rehearse.strict", "rehearse.at_most"}
    | {"snapshot.keep_days", "snapshot.patch_without", "snapshot.with_data_disks"}
)
"""Fields that only a request file sets, and ``dry_run``, which depends on the verb."""


def _find_plain_type(annotation: Any) -> Any:  # noqa: ANN401 - types
    """Return the type of an option's value; the model checks the rest."""
    origin, (first, *_) = get_origin(annotation), get_args(annotation) or (None,)
    if origin is list:
        return list[_find_plain_type(first)]  # type: ignore[misc]  # made while the program runs
    if origin is not None and origin is not Literal:
        return _find_plain_type(first)
    is_own_type = isinstance(annotation, type) and issubclass(annotation, (int, float, Path, Enum))
    return annotation if is_own_type else str


def _iterate_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        if key in _NOT_OPTIONS:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _iterate_fields(field.annotation, f"{key}.")
        else:
            yield key, field


def _build_request_options() -> tuple[RequestOption, ...]:
    model_fields = dict(_iterate_fields(PatchRequest))
    rows = {row.key: row for row in _ROWS}
    return tuple(
        rows.get(key, RequestOption(key)).complete(model_fields.get(key))
        for key in dict.fromkeys([*rows, *model_fields])
    )


REQUEST_OPTIONS = _build_request_options()
OPTIONS_BY_KEY: Mapping[str, str] = {each.key: each.spelled for each in REQUEST_OPTIONS if each.is_named_in_errors}
"""Option names by the field's key, for errors."""
PATCH_OPTIONS: Mapping[str, Any] = {each.name: each.parameter for each in REQUEST_OPTIONS}


def build_patch_command(
    name: str, body: Callable[[dict[str, Any]], None], flags: Mapping[str, Any], *, is_act: bool
) -> Any:  # noqa: ANN401 - of Typer's
    """Return the command of a verb that has all these options and its own flags. The verb receives them as one map."""

    def command(**options: Any) -> None:  # noqa: ANN401 - as many types as options
        body(options)

    all_options = {**PATCH_OPTIONS, **{key: Annotated[bool | None, flag] for key, flag in flags.items()}}
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, kind, default=None, annotation=hint) for key, hint in all_options.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = all_options
    verb = typer.Typer(add_completion=False)
    verb.command(name, cls=ActingCommand if is_act else None, help=body.__doc__)(command)
    return complete_help(typer.main.get_command(verb), name)
