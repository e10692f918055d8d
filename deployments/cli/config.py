"""config check, schema and import-azure: are the maintenance configurations right, and what may stand in them?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import InventoryOption, JsonOption, some_path

if TYPE_CHECKING:
    from deployments.config.azure import Imported

group = typer.Typer(
    help="Maintenance configurations: check them, describe them to an editor, take Azure's over.", no_args_is_help=True
)
app.add_typer(group, name="config", rich_help_panel="Schedule")

PathArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        parser=some_path,
        help="File or folder of configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", parser=some_path, help="Write it there. Default: stdout."),
]


@group.command("check")
def check(path: PathArgument = None, inventory: InventoryOption = None, as_json: JsonOption = False) -> None:
    """Say everything that is wrong with configurations, and what will surprise."""
    from deployments.cli.config_view import check_document, code_of, fault_document, tell_checked, tell_faults
    from deployments.config.errors import InvalidConfigurations
    from deployments.config.findings import findings
    from deployments.config.fleets import read_fleets
    from deployments.config.load import find_configurations, load_configurations
    from deployments.config.surroundings import needs
    from flows.cli.exits import Code
    from flows.cli.screen import print_json
    from tasks.seams.clock import SystemClock

    now = SystemClock().now()
    place = find_configurations(path)
    try:
        found = load_configurations(place, now.date())
    except InvalidConfigurations as faulty:
        if as_json:
            print_json(fault_document(place, faulty.problems))
        else:
            tell_faults(place, faulty.problems)
        raise typer.Exit(int(Code.USAGE)) from faulty
    fleets = read_fleets(found, inventory)
    about = (*findings(found, fleets, now), *needs(found))
    if as_json:
        print_json(check_document(found, fleets, about, now))
    else:
        tell_checked(found, fleets, about, now)
    if code := code_of(fleets, about, inventory):
        raise typer.Exit(int(code))


@group.command("schema")
def schema(output: OutputOption = None) -> None:
    """Print the JSON Schema of configurations, for editors."""
    import json

    from deployments.config.schema import json_schema
    from flows.cli.screen import note, print_json

    if output is None:
        print_json(json_schema())
        return
    output.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    note(f"written to {output}")


@group.command("import-azure")
def import_azure(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE.json…", parser=some_path, help="What `az maintenance configuration show -o json` printed."
        ),
    ],
    scope: Annotated[
        str | None,
        typer.Option("--scope", metavar="SCOPE", help="Which machines; Azure keeps that in its assignments."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Write Azure's maintenance configurations as ours, and say what can't be carried over."""
    from deployments.cli.importing import read_azure, whole_text
    from flows.cli.exits import Code
    from flows.cli.screen import note, safe, say

    imported: Imported = read_azure(files, scope)
    for line in imported.notes:
        note(safe(line))
    if not imported.configurations:
        raise typer.Exit(int(Code.USAGE))
    text = whole_text(imported, output)
    if output is None:
        say(text.rstrip("\n"))
    else:
        output.write_text(text, encoding="utf-8")
        note(f"written to {output}; look at it, and run `fleetpatch config check {output}`")
    if imported.notes:
        raise typer.Exit(int(Code.WARNINGS))
