"""Options that several verbs have. Nothing heavy is loaded here: --help has to be quick."""

from pathlib import Path
from typing import Annotated

import typer

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
    Path | None, typer.Option("--report", metavar="DIR", help="Write a report there, in a folder named for the run.")
]
NoRefreshOption = Annotated[
    bool, typer.Option("--no-refresh", help="Don't have the machines read their repositories anew first.")
]
EVERYTHING = "*"
