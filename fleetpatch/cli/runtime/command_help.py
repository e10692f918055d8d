"""The help of commands: their order, their examples, and options that take no value."""

from typing import Any, Final

from typer.core import TyperGroup

from fleetpatch.cli.examples import EXAMPLES

_PROGRAM: Final = "fleetpatch"
_TITLE: Final = "Examples:"
HELP_OPTIONS: Final = ["--help", "-h"]
_METAVARS: Final = {"bool": "", "str": "TEXT", "int": "NUMBER", "float": "NUMBER", "list[str]": "TEXT"}
"""What stands behind an option without a name for its value. Typer shows "<bool>" behind one that takes none."""


class CommandGroup(TyperGroup):
    """The root of the command. Its commands stand in the order of the examples, and get them."""

    def get_params(self, ctx: Any) -> Any:  # noqa: ANN401 - a context of Typer's own click
        """Return the options of the root."""
        return _name_values(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - the same
        """Return the names of the commands, in the order of the help."""
        order = {path.partition(" ")[0]: number for number, path in reversed([*enumerate(EXAMPLES)])}
        return sorted(super().list_commands(ctx), key=lambda name: order.get(name, len(order)))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - the same
        """Return a command with its examples."""
        command = super().get_command(ctx, cmd_name)
        return None if command is None else complete_help(command, cmd_name)


def complete_help(command: Any, path: str) -> Any:  # noqa: ANN401 - the same
    """Return the command, whose help and that of its commands now has examples.

    Args:
        command: of Typer.
        path: its name, as in ``audit list``.
    """
    if path in EXAMPLES and not (command.epilog or "").startswith(_TITLE):  # it is asked for each time
        lines = "\n".join(f"{_PROGRAM} {example}" for example in EXAMPLES[path])
        command.epilog = f"{_TITLE}\n{lines}" + (f"\n\n{command.epilog}" if command.epilog else "")
    settings = {"help_option_names": HELP_OPTIONS, **command.context_settings}
    _name_values(command.get_params(command.context_class(command, **settings)))
    for name, inner in getattr(command, "commands", {}).items():
        complete_help(inner, f"{path} {name}")
    return command


def _name_values(parameters: Any) -> Any:  # noqa: ANN401 - the same
    """Return the parameters, of which each option now has a name for its value, or none if it takes none."""
    for parameter in parameters:
        if parameter.param_type_name == "option" and parameter.metavar is None:
            parameter.metavar = _METAVARS.get(parameter.bare_type())
    return parameters
