"""records: back up the records of a fleet, and restore them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import JsonOption, RecordsOption, app, parse_path
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import ask, can_ask, print_json, print_to_stderr
from tasks.domain.errors import RequestError

if TYPE_CHECKING:
    from tasks.records.backup.restoring import RestorePlan

records_app = typer.Typer(no_args_is_help=True, help="Back up the records of a fleet, and restore them.")
app.add_typer(records_app, name="records", rich_help_panel="Set up")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", parser=parse_path, help="The file of the backup.")]


@records_app.command("backup")
def back_up(
    file: FileArgument,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            parser=parse_path,
            help="Write the keys too, to a file of their own. Keep it apart.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier backup of that name.")] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the records of this fleet to a file, while runs go on. FLEETPATCH_FLEET names the fleet."""
    from fleetpatch.cli.views.records import build_backup_json, is_sound, print_backup
    from flows.backup import record_backup
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.backup.keys import back_up_keys, require_free_key_name
    from tasks.records.backup.making import back_up_records

    if keys is not None:
        require_free_key_name(keys)
    manifest = back_up_records(records, file, SystemClock().now(), overwrite=overwrite)
    record_backup(records, file, manifest, keys)
    names = back_up_keys(keys) if keys is not None else ()
    if as_json:
        print_json(build_backup_json(file, manifest, names))
    else:
        print_backup(file, manifest, keys, names)
    raise typer.Exit(int(ExitCode.SUCCESS if is_sound(manifest) else ExitCode.WARNINGS))


@records_app.command("restore")
def restore(
    file: FileArgument,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", metavar="FILE", parser=parse_path, help="Write the keys of this file that are not here."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    abandon_runs: Annotated[
        bool, typer.Option("--abandon-runs", help="Also while runs without a live process are in progress.")
    ] = False,
    replace_unreadable: Annotated[
        bool, typer.Option("--replace-unreadable", help="Also if the present records can't be read.")
    ] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the records of this fleet by a backup, after a question. What is replaced is kept beside them."""
    from fleetpatch.cli.views.records import build_restore_json, print_restore_plan, print_restored
    from flows.backup import record_restore
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.backup.keys import read_key_backup, restore_keys
    from tasks.records.backup.restoring import plan_restore, require_restorable, restore_records

    key_files = read_key_backup(keys) if keys is not None else {}
    plan = plan_restore(records, file)
    if not as_json:
        print_restore_plan(plan)
    if dry_run:
        if as_json:
            print_json(build_restore_json(plan, None, ()))
        return
    require_restorable(plan, abandon_runs=abandon_runs, replace_unreadable=replace_unreadable)
    if not (yes or _confirm(plan)):
        print_to_stderr("Nothing was done.")
        return
    written = restore_keys(key_files)
    with record_restore(records, plan) as ended:
        restored = restore_records(records, plan, SystemClock().now())
        ended.message = f"the replaced records: {restored.kept or 'none'}"
    if as_json:
        print_json(build_restore_json(plan, restored, written))
    else:
        print_restored(plan, restored, written)


def _confirm(plan: "RestorePlan") -> bool:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is no terminal.
    """
    if not can_ask():
        raise RequestError("to restore records needs a confirmation, and there is no terminal", hint="Add --yes.")
    return ask(f"Replace {plan.place}?")
