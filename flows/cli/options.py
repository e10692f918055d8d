"""Options that several verbs have. This module loads nothing heavy: --help must be quick."""

from pathlib import Path
from typing import Annotated

import typer


def parse_path(text: str) -> Path:
    """Return a path that a person gave. An empty text is mostly an unset variable, and would mean the current folder.

    Raises:
        BadParameter: it is empty.
    """
    if not text:
        raise typer.BadParameter("is empty: give a path, or leave the option out")
    return Path(text)


ScopeArgument = Annotated[
    str,
    typer.Argument(metavar="SCOPE", help='Machines, e.g. "env=prod,!ring=canary" or a name. "*" selects all.'),
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
OldNoPrefectOption = Annotated[bool, typer.Option("--plain", hidden=True)]  # the former name of --no-prefect
ALL_MACHINES = "*"
