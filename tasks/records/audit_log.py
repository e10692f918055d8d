"""Stores the audit log of the pages and the API. Entries are only added: nothing here changes or deletes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import insert, select

from tasks.records.page_tables import audit_log
from tasks.records.storage.database import Database


class AuditResult(StrEnum):
    """What became of an act."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log.

    Attributes:
        who: the name of the login; "" for somebody who has none.
        address: the network address of the browser or the program.
        act: what was done: "approve", "patch", "login" …
        subject: the run, the machine or the scope.
        detail: more of it, without secrets.
        message: why it failed or was refused.
        number: its place in the log; 0 before it is stored.
    """

    at: datetime
    who: str
    address: str
    act: str
    subject: str
    detail: str
    result: AuditResult
    message: str = ""
    number: int = 0


class SqlAuditLog:
    """The audit log in the database of the records. All threads of a process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: AuditEntry) -> None:
        """Store an entry.

        Raises:
            RecordsError: the records can't be written.
        """
        row = {name: getattr(entry, name) for name in AuditEntry.__slots__ if name != "number"}
        with self._database.begin_write("write the audit log") as connection:
            connection.execute(insert(audit_log).values(row | {"result": entry.result.value}))

    def read(self, limit: int, *, before: int = 0, who: str = "", act: str = "") -> Sequence[AuditEntry]:
        """Return entries, newest first.

        Args:
            limit: how many at most.
            before: only entries with a smaller number; 0: from the newest.
            who: only those of this login; "": of all.
            act: only these acts; "": all.

        Raises:
            RecordsError: the records can't be read.
        """
        query = select(audit_log).order_by(audit_log.c.number.desc()).limit(limit)
        if before:
            query = query.where(audit_log.c.number < before)
        if who:
            query = query.where(audit_log.c.who == who)
        if act:
            query = query.where(audit_log.c.act == act)
        with self._database.begin_read("read the audit log") as connection:
            return [
                AuditEntry(
                    row.at,
                    row.who,
                    row.address,
                    row.act,
                    row.subject,
                    row.detail,
                    AuditResult(row.result),
                    row.message,
                    row.number,
                )
                for row in connection.execute(query)
            ]
