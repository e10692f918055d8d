"""Shows backups of the records, and what a restoration would do and has done."""

from collections.abc import Iterable
from pathlib import Path

from fleetpatch.cli.runtime.output import print_to_stderr, print_unwrapped, shorten_list
from tasks.records.backup.copying import CopiedRecords
from tasks.records.backup.making import SOUND_STATES
from tasks.records.backup.manifest import BackupManifest
from tasks.records.backup.restoring import Restored, RestorePlan
from tasks.reports.formatting import format_count, format_iso_utc
from tasks.reports.sanitizing import sanitize_to_one_line

_SHOWN = 5


def is_sound(manifest: BackupManifest) -> bool:
    """Return whether both chains were checked, and are as they should be."""
    return {manifest.audit_log, manifest.decisions} <= SOUND_STATES


def print_backup(path: Path, manifest: BackupManifest, keys: Path | None, names: Iterable[str]) -> None:
    """Print what a backup has, what it has not, and what was found when it was checked."""
    print_unwrapped(f"{path}: {_describe(manifest)}")
    print_unwrapped(f"SHA-256 of its content: {manifest.content_sha256}")
    for name, state in (("The audit log", manifest.audit_log), ("The chain of decisions", manifest.decisions)):
        if state not in SOUND_STATES:
            print_to_stderr(f"{name} is in the backup as it is. It is {_clean(state)}.")
    if keys is None:
        print_to_stderr(
            "The keys are not in it. Without them nobody can resume a run or check the audit log: --keys FILE."
        )
    else:
        print_unwrapped(f"{keys}: {', '.join(names)}")
        print_to_stderr(f"Keep {keys} in another place: with both files, somebody can change what runs do.")


def print_restore_plan(plan: RestorePlan) -> None:
    """Print what a restoration would do."""
    print_unwrapped(f"The backup {plan.path}: {_describe(plan.backup)}")
    print_unwrapped(f"It replaces {plan.place}.")
    if plan.fault:
        print_unwrapped(f"These records can't be read: {_clean(plan.fault)}")
    elif plan.present is None:
        print_unwrapped("There are no records yet.")
    elif plan.newer_runs:
        newer = _count(len(plan.newer_runs), "newer run", "is", "are")
        print_unwrapped(f"{newer} not in the backup{_list(plan.newer_runs)}")
    else:
        print_unwrapped("The backup has all of their runs.")
    if plan.lost_machines:
        names = ", ".join(shorten_list(plan.lost_machines, _SHOWN))
        print_unwrapped(f"Such runs work on machines, whose jobs go on to their end: {names}")
    if plan.backup.records.unfinished:
        unfinished = plan.backup.records.unfinished
        print_unwrapped(_count(len(unfinished), "run", "was", "were") + " in progress then" + _list(unfinished))
    if plan.reopened_runs:
        print_unwrapped(
            _count(len(plan.reopened_runs), "run", "has", "have")
            + " ended since, and would be in progress again"
            + _list(plan.reopened_runs)
        )
    for session in plan.sessions:
        print_unwrapped(f"It has the records open: {_clean(session)}")


def build_copy_json(copied: CopiedRecords) -> dict[str, object]:
    """Return what was copied as JSON data."""
    return {"records": copied.source, "copy": copied.target, "rows": dict(copied.rows), "auditLog": copied.audit_log}


def print_copy(copied: CopiedRecords) -> None:
    """Print what was copied, and what is to be done next."""
    runs, rows = copied.rows["runs"], sum(copied.rows.values())
    print_unwrapped(f"{copied.target} has all records of {copied.source}: {format_count(runs, 'run')}, {rows} rows.")
    if copied.audit_log not in SOUND_STATES:
        print_to_stderr(f"The audit log is in the copy as it is. It is {_clean(copied.audit_log)}.")
    print_to_stderr(
        "Give each program of this fleet the new FLEETPATCH_RECORDS_URL before you start it. What is written into "
        "the old records now is not in the copy. Make a new backup: those of another kind don't fit."
    )


def print_restored(plan: RestorePlan, restored: Restored, keys: Iterable[str]) -> None:
    """Print what a restoration has done, and what is to be done next."""
    print_unwrapped(f"{plan.place} has the records of {plan.backup.made_at:%Y-%m-%d %H:%M:%S} UTC.")
    if restored.kept:
        print_unwrapped(f"What was replaced is kept: {restored.kept}")
        counts = (restored.carried.decisions, restored.carried.audit_entries)
        decisions, entries = ("not kept" if count is None else f"{count} kept" for count in counts)
        print_unwrapped(f"Newer than the backup: decisions {decisions}, entries of the audit log {entries}.")
    if written := list(keys):
        print_unwrapped(f"Keys that were not here: {', '.join(written)}")
    if restored.ended_logins:
        print_unwrapped("Everybody logs in to the pages again.")
    for line in build_next_steps(plan):
        print_to_stderr(line)


def build_next_steps(plan: RestorePlan) -> list[str]:
    """Return what is to be done after a restoration, in order."""
    steps = ["Before workers and pages start: fleetpatch doctor, and fleetpatch runs."]
    if plan.backup.records.unfinished:
        steps.append("Then fleetpatch reconcile: it reads what jobs on machines did, and repeats none of them.")
    if plan.newer_runs or plan.present is None:
        steps.append(
            "Runs after the backup are not known. Their machines may still be locked: fleetpatch unlock MACHINE."
        )
        steps.append("Read what is installed now: fleetpatch assess '*'.")
    return [*steps, "More: docs/how-to/backup.md#after-a-restoration"]


def build_backup_json(path: Path, manifest: BackupManifest, keys: Iterable[str]) -> dict[str, object]:
    """Return a backup as JSON data."""
    records = manifest.records
    return {
        "file": str(path),
        "fleet": records.fleet,
        "database": manifest.database,
        "revision": records.revision,
        "version": manifest.version,
        "startDateTime": format_iso_utc(manifest.made_at),
        "rows": dict(records.rows),
        "runsInProgress": list(records.unfinished),
        "contentSha256": manifest.content_sha256,
        "auditLog": manifest.audit_log,
        "decisions": manifest.decisions,
        "keys": list(keys),
    }


def build_restore_json(plan: RestorePlan, restored: Restored | None, written_keys: Iterable[str]) -> dict[str, object]:
    """Return a restoration, or only its plan, as JSON data."""
    return {
        "backup": build_backup_json(plan.path, plan.backup, ()),
        "records": plan.place,
        "restored": restored is not None,
        "presentRecords": "unreadable" if plan.fault else "present" if plan.present is not None else "none",
        "openedBy": list(plan.sessions),
        "newerRuns": list(plan.newer_runs),
        "reopenedRuns": list(plan.reopened_runs),
        "machinesOfNewerRuns": list(plan.lost_machines),
        "replacedRecords": restored.kept if restored is not None else None,
        "keptDecisions": restored.carried.decisions if restored is not None else None,
        "keptAuditEntries": restored.carried.audit_entries if restored is not None else None,
        "writtenKeys": list(written_keys),
    }


def _describe(manifest: BackupManifest) -> str:
    records = manifest.records
    runs = records.rows.get("runs", 0)
    return (
        f"fleet {records.fleet}, {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC, {format_count(runs, 'run')}, "
        f"{sum(records.rows.values())} rows, {manifest.content_bytes / 1e6:.1f} MB, "
        f"fleetpatch {manifest.version} (revision {records.revision})"
    )


def _count(count: int, noun: str, one: str, several: str) -> str:
    return f"{count} {noun} {one}" if count == 1 else f"{count} {noun}s {several}"


def _list(runs: Iterable[str]) -> str:
    names = ", ".join(shorten_list(runs, _SHOWN))
    return f": {names}" if names else "."


def _clean(text: str) -> str:
    return sanitize_to_one_line(text, 500)
