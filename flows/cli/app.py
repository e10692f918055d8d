"""The command's root: every verb hangs itself in here."""

from typing import Annotated

import typer

app = typer.Typer(
    name="fleetpatch",
    help="Patch a whole fleet inside a maintenance window, over SSH, without an agent.",
    epilog="Exit codes: 0 good, 1 a machine failed, 2 bad input, 3 warnings, 4 nothing attempted, 5 can't run, "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def root(
    debug: Annotated[  # read by main(), which also finds it behind the verb
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Patch a whole fleet inside a maintenance window, over SSH, without an agent."""
