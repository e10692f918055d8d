"""Options that several verbs have. Nothing heavy is loaded here: --help has to be quick."""

from pathlib import Path
from typing import Annotated

import typer


def parse_path(text: str) -> Path:
    """Return a path that a person gave; "" would mean the folder that one happens to be in: an unset variable, mostly.

    Raises:
        BadParameter: it is empty.
    """
    if not text:
        raise typer.BadParameter("is empty: give a path, or leave the option out")
    return Path(text)


ScopeArgument = Annotated[
    str,
    typer.Argument(metavar="SCOPE", help='Which machines, e.g. "env=prod,!ring=canary" or a name; "*" is all.'),
]
InventoryOption = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        "-i",
        metavar="FILE",
        parser=parse_path,
        help="Inventory file or folder. Default: $FLEETPATCH_INVENTORY, ./fleet.yaml, or the user's own.",
    ),
]
RecordsOption = Annotated[
    str | None,
    typer.Option(
        "--records", metavar="URL", help="Where runs are remembered. Default: $FLEETPATCH_RECORDS_URL, or a file."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="DIR", parser=parse_path, help="Write a report there, in a folder named for the run."
    ),
]
NoRefreshOption = Annotated[
    bool, typer.Option("--no-refresh", help="Don't have the machines read their repositories anew first.")
]
OldNoPrefectOption = Annotated[bool, typer.Option("--plain", hidden=True)]  # the former name of --no-prefect
ALL_MACHINES = "*"
