"""Builds the rows of missing updates from what a machine says of them."""

from datetime import datetime

from tasks.domain.model import Update
from tasks.domain.rows.updates import MissingUpdateRow


def build_missing_update_row(
    machine: str, update: Update, since: datetime | None, reason: str | None = None, run_id: str = ""
) -> MissingUpdateRow:
    """Return the row of an update that a machine lacks.

    Args:
        machine: the machine's name.
        update: the update, as the machine's newest answer has it.
        since: since when the machine has lacked it.
        reason: why it is not installed; None: runs and windows were not looked at.
        run_id: the run that says so; "" for none.
    """
    return MissingUpdateRow(
        machine=machine,
        name=update.name,
        title=update.title or None,
        arch=update.arch,
        installed=update.installed,
        available=update.available,
        classification=update.classification,
        severity=update.severity or "",
        kb=update.kb or None,
        cves=update.cves,
        origins=update.origins,
        size_bytes=update.size_bytes,
        held=update.held,
        blocked=update.blocked,
        needs_licence=update.needs_licence,
        published=update.published,
        since=since,
        reason=reason,
        run_id=run_id or None,
    )
