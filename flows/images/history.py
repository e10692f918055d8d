"""Reads the last upgrades of a group of images from the records."""

from datetime import datetime, timedelta
from typing import Final

from tasks.domain.protocols.records import JournalMark
from tasks.domain.rows.images import ImageUpgradeRow
from tasks.records.components import SqlComponents
from tasks.records.queries.history import History
from tasks.records.sql_records import SqlRecords
from tasks.rules.images.history import build_upgrade_row
from tasks.steps.context.journal import REPLACE_ACT

MAX_ATTEMPTS: Final = 5
MAX_AGE: Final = timedelta(days=61)
"""Azure shows the last five attempts within two months."""


def read_attempts(records: SqlRecords, component: str, now: datetime) -> tuple[ImageUpgradeRow, ...]:
    """Return the last upgrades of a group (its ``component``), the newest first. Raise RecordsError."""
    history = History(records)
    rows = []
    for run_id in SqlComponents(records.database).read_run_ids(component, now - MAX_AGE, MAX_ATTEMPTS):
        begun = {
            entry.machine
            for entry in history.read_journal(run_id)
            if entry.act == REPLACE_ACT and entry.mark is JournalMark.BEFORE
        }
        rows.append(build_upgrade_row(history.read_report(run_id), begun))
    return tuple(rows)
