"""The root of the command, where every verb registers, and the options that several verbs have.

This module loads nothing heavy: --help must be quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.runtime.command_help import HELP_OPTIONS, CommandGroup
from fleetpatch.cli.runtime.completion import complete_machine, complete_run, complete_scope

app = typer.Typer(
    name="fleetpatch",
    help="Patch a whole fleet inside a maintenance window, over SSH or WinRM, without an agent.",
    cls=CommandGroup,
    epilog="First steps: fleetpatch inventory check, fleetpatch doctor, fleetpatch plan SCOPE.\n"
    "Exit codes: 0 success, 1 a machine failed, 2 bad input, 3 warnings, 4 nothing attempted, 5 cannot run, "
    "6 no storage, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_OPTIONS},
)
CommandGroup.root = app


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
    """Patch a whole fleet inside a maintenance window, over SSH or WinRM, without an agent."""


def parse_path(text: str) -> Path:
    """Return a path that a person gave. An empty text is mostly an unset variable, and would mean the current folder.

    Raises:
        BadParameter: it is empty.
    """
    if not text:
        raise typer.BadParameter("is empty: give a path, or leave the option out")
    return Path(text)


_SCOPE_ARGUMENT = typer.Argument(
    metavar="SCOPE",
    help='Machines, e.g. "env=prod,!ring=canary" or a name. "*" selects all.',
    autocompletion=complete_scope,
)
OptionalScopeArgument = Annotated[str | None, _SCOPE_ARGUMENT]
ScopeArgument = Annotated[str, _SCOPE_ARGUMENT]
MachineArgument = Annotated[
    str, typer.Argument(metavar="MACHINE", help="The name of one machine.", autocompletion=complete_machine)
]
InventoryOption = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        "-i",
        metavar="FILE",
        parser=parse_path,
        help="Inventory file or folder. Default: $FLEETPATCH_INVENTORY, ./fleet.yaml, or the user's configuration.",
    ),
]
RecordsOption = Annotated[
    str | None,
    typer.Option(
        "--records", metavar="URL", help="Database URL of the records. Default: $FLEETPATCH_RECORDS_URL, or a file."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="DIR", parser=parse_path, help="Write a report to a subfolder with the id of the run."
    ),
]
NoRefreshOption = Annotated[
    bool, typer.Option("--no-refresh", help="Do not refresh the package lists of the machines first.")
]
NoPrefectOption = Annotated[
    bool, typer.Option("--no-prefect", help="Run without Prefect. Starts faster. Prefect's UI does not show it.")
]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run id, a unique beginning of it, or `last`.", autocompletion=complete_run),
]
ConfigurationsOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="PATH",
        parser=parse_path,
        help="Configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
    ),
]
ConfigurationsArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        parser=parse_path,
        help="File or folder of configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done. Machines are only read.")]
AtOnceOption = Annotated[int, typer.Option("--at-once", min=1, max=500, help="How many machines at the same time.")]
FlowOption = Annotated[bool, typer.Option("--flow", help="Run as a Prefect flow. Prefect's UI shows it.")]
ALL_MACHINES = "*"
