"""records and history: back up, restore and copy the records of a fleet, and say how long runs are kept."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleetpatch.cli.app import JsonOption, RecordsOption, YesOption, app, parse_path
from fleetpatch.cli.runtime.acting_command import KeepingCommand
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stdout, to_safe_text
from inventory.name_lists import format_count
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo
from tasks.reports.formatting import format_iso_utc
from tasks.rules.retention import MIN_RETENTION_DAYS, Retention

records_app = typer.Typer(no_args_is_help=True, help="Back up, restore and copy the records of a fleet.")
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
    from tasks.records.backup.archive import back_up_keys, require_free_key_name
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
    yes: YesOption = False,
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
    from tasks.records.backup.archive import read_key_backup, restore_keys
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
    if not (yes or confirm(f"Replace {plan.place}?", "to restore records")):
        return
    written = restore_keys(key_files)
    with record_restore(records, plan) as ended:
        restored = restore_records(records, plan, SystemClock().now())
        ended.message = f"the replaced records: {restored.kept or 'none'}"
    print_json_or_text(as_json, build_restore_json, print_restored, plan, restored, written)


@records_app.command("copy")
def copy(
    target: Annotated[str, typer.Argument(metavar="URL", help="The database of the copy: a URL, or env:NAME.")],
    yes: YesOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the records of this fleet into an empty database: from a file to PostgreSQL, or back."""
    from deployments.server.connection_urls import has_password
    from fleetpatch.cli.views.records import build_copy_json, print_copy
    from flows.backup import record_copy
    from flows.composition import read_own_secret
    from tasks.records.backup.copying import copy_records
    from tasks.records.backup.making import SOUND_STATES
    from tasks.records.storage.url import find_records_url, redact_url

    if target.startswith(("env:", "file:", "systemd:")):
        target = read_own_secret(target).reveal().strip()
    elif has_password(target):
        raise RequestError(
            "the URL contains a password, and every user of this machine can read the arguments of programs",
            hint="Keep the password in ~/.pgpass, or put the URL into a variable and give env:NAME.",
        )
    if not (yes or confirm(f"Copy the records to {redact_url(find_records_url(target))}?", "to copy records")):
        return
    with record_copy(records, target) as ended:
        copied = copy_records(records, target)
        ended.message = f"{sum(copied.rows.values())} rows"
    print_json_or_text(as_json, build_copy_json, print_copy, copied)
    raise typer.Exit(int(ExitCode.SUCCESS if copied.audit_log in SOUND_STATES else ExitCode.WARNINGS))


FOREVER = "forever"


def _parse_days(text: str) -> str:
    if text != FOREVER and not text.isdecimal():
        raise typer.BadParameter(f"give a number of days, or {FOREVER}")
    return text


@app.command("history", cls=KeepingCommand, rich_help_panel="Set up")
def configure_history(
    keep_assessments: Annotated[
        str | None,
        typer.Option(
            metavar="DAYS", parser=_parse_days, help="How long to keep runs that only read machines, or `forever`."
        ),
    ] = None,
    keep_runs: Annotated[
        str | None,
        typer.Option(
            metavar="DAYS", parser=_parse_days, help="How long to keep all other runs and their outcomes, or `forever`."
        ),
    ] = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change how long history is kept. The end of each run deletes what is older."""
    from tasks.records.queries.history import History
    from tasks.records.retention import read_retention, save_retention
    from tasks.records.setup import open_records

    with open_records(records) as records_database:
        retention = read_retention(records_database)
        if keep_assessments is not None or keep_runs is not None:
            retention = Retention(
                _resolve_days(keep_assessments, retention.assessments_days),
                _resolve_days(keep_runs, retention.runs_days),
            )
            if fault := retention.find_fault():
                raise RequestError(
                    fault, hint=f"Give {MIN_RETENTION_DAYS} days or more. Keep runs at least as long as assessments."
                )
            save_retention(records_database, retention)
        oldest = History(records_database).find_oldest_run()
        settings = (records_database.display_name, retention, oldest)
        print_json_or_text(as_json, _build_history_json, _print_history_settings, *settings)


def _resolve_days(days: str | None, current_days: int | None) -> int | None:
    if days is None:
        return current_days
    return None if days == FOREVER else int(days)


def _build_history_json(place: str, retention: Retention, oldest: RunInfo | None) -> dict[str, object]:
    """Return how long history is kept as JSON data; null days: forever."""
    return {
        "records": place,
        "keepAssessmentsDays": retention.assessments_days,
        "keepRunsDays": retention.runs_days,
        "oldestRunStartDateTime": format_iso_utc(oldest.started_at) if oldest else None,
    }


def _print_history_settings(place: str, retention: Retention, oldest: RunInfo | None) -> None:
    """Print how long history is kept."""
    print_to_stdout(Text.assemble(("Records ", "bold"), to_safe_text(place)))
    assessments_kept = _format_retention_days(retention.assessments_days)
    print_to_stdout(f"Runs that only read machines, and superseded assessments: kept {assessments_kept}.")
    print_to_stdout(f"All other runs, with outcomes and journal: kept {_format_retention_days(retention.runs_days)}.")
    print_to_stdout("The newest assessment and the measured speed of each machine are always kept.")
    if oldest is not None:
        print_to_stdout(f"The oldest run began at {oldest.started_at:%Y-%m-%d %H:%M} UTC.")
    if retention.is_forever:
        print_to_stdout(
            "", "Nothing is ever deleted. To change this: fleetpatch history --keep-assessments 90 --keep-runs 730"
        )


def _format_retention_days(days: int | None) -> str:
    return "forever" if days is None else f"for {format_count(days, 'day')}"
