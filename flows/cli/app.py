"""The root of the command. Every verb registers here."""

from typing import Annotated

import typer

app = typer.Typer(
    name="fleetpatch",
    help="Patch a whole fleet inside a maintenance window, over SSH, without an agent.",
    epilog="Exit codes: 0 success, 1 a machine failed, 2 bad input, 3 warnings, 4 nothing attempted, 5 cannot run, "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # slow to load, and rarely needed

        print(f"fleetpatch {version('fleetpatch')}")
        raise typer.Exit


@app.callback()
def handle_global_options(
    debug: Annotated[  # main() reads it, also behind the verb
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Patch a whole fleet inside a maintenance window, over SSH, without an agent."""
