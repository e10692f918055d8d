"""What tests of backups share: runs, decisions and entries of the audit log in records, and a restoration."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.log import SqlAuditLog
from tasks.records.backup.restoring import Restored, plan_restore, require_restorable, restore_records
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.support import builders as make

MOMENT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ME = LeaseHolder("token-me", "ctl", os.getpid(), "me")


def restore(url: str, file: Path, *, abandon_runs: bool = False, replace_unreadable: bool = False) -> Restored:
    plan = plan_restore(url, file)
    require_restorable(plan, abandon_runs=abandon_runs, replace_unreadable=replace_unreadable)
    return restore_records(url, plan, MOMENT)


def name_run(number: int) -> str:
    return f"20260310-{number:06d}-aaaaaa"


def save_run(url: str, number: int, **changes: object) -> str:
    run_id = name_run(number)
    with open_records(url) as records:
        records.save(make.make_run(id=run_id, started_at=make.START + timedelta(seconds=number), **changes))
    return run_id


def read_run_ids(url: str) -> set[str]:
    with open_records(url) as records:
        return {run.id for run in History(records).read_runs(limit=10_000)}


def append_entry(url: str, subject: str) -> None:
    with open_records(url) as records:
        SqlAuditLog(records.database).append(
            AuditEntry(
                at=MOMENT, who="me", address="", act="patch", subject=subject, detail="", result=AuditResult.DONE
            )
        )


def decide(url: str, subject: str) -> None:
    with open_records(url) as records:
        decisions = SqlDecisions(records.database)
        with records.database.begin_write("decide") as connection:
            decisions.append(connection, DecisionKind.TOKEN, "removed", subject)
        decisions.note_newest()
