"""Reads the audit log, for pages."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select

from tasks.records.page_tables import audit_log
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of ``audit_log``."""

    number: int
    at: datetime
    who: str
    source: str
    claimed: str
    address: str
    act: str
    subject: str
    detail: str
    result: str
    message: str
    previous: str
    key_id: str
    seal: str


def read_audit_rows(database: Database, offset: int, limit: int) -> tuple[tuple[AuditRow, ...], int]:
    """Return a part of the audit log, the newest first, and how many rows it has.

    Raises:
        RecordsError: the records can't be read.
    """
    columns = [audit_log.columns[field.name] for field in fields(AuditRow)]
    query = select(*columns).order_by(audit_log.c.number.desc()).offset(offset).limit(limit)
    with database.begin_read("read the audit log") as connection:
        total = connection.execute(select(func.count()).select_from(audit_log)).scalar_one()
        return tuple(AuditRow(*row) for row in connection.execute(query).tuples()), total
