"""Stores the audit log. Entries are only added; ``cut_log`` alone removes old ones, and records that it did.

Programs that append need no right but to insert and to select. On PostgreSQL an advisory lock makes them a queue, on
SQLite the one writer is one.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, text

from inventory.files.own_keys import KeyFileError, ensure_key
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.rows import list_kinds
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.records.audit.seals_and_heads import (
    CUT_ACT,
    KEY_NAME,
    MISS_ACT,
    NUMBER_LIMIT,
    AuditHead,
    advance_head,
    find_head_path,
    is_sealed_by,
    parse_cut,
    read_head,
    seal_entry,
)
from tasks.records.page_schema import audit_log
from tasks.records.storage.column_types import replace_unstorable, to_index_key
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)

_LOCK_ID: Final = 0x666C6565_61756474  # "fleeaudt": an arbitrary number; every fleetpatch must use the same one
_WAIT: Final = "10s"
"""How long an entry waits for other entries on PostgreSQL: a page must not hang."""
_BATCH: Final = 1000
_TEXTS: Final = ("who", "address", "subject", "detail", "message", "claimed")
_WORDS: Final = ("act", "source")
_RESULTS: Final = frozenset(AuditResult)
_COLUMNS: Final = tuple(list_kinds(AuditEntry))


class SqlAuditLog:
    """The audit log in the database of the records. All threads of a process may share an object."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def append(self, entry: AuditEntry) -> AuditEntry:
        """Store an entry at the end of the chain, and return it with its number and seal.

        Raises:
            RecordsError: the records can't be written, or the key of the audit log can't be read or made.
        """
        with self.database.begin_write("write the audit log") as connection:
            stored = self._append(connection, lambda _last: entry)
        self._advance_head(stored)
        return stored

    def cut(self, through: int, build_entry: Callable[[str], AuditEntry]) -> tuple[AuditEntry, int]:
        """Remove all entries up to a number, and record that at the end of the chain, in one transaction.

        Rows that somebody has added far behind the end are removed too.

        Args:
            through: the number of the last entry that is removed.
            build_entry: returns the entry that records it. Its argument is the detail, for ``parse_cut``.

        Returns:
            The entry, and how many were removed.

        Raises:
            RequestError: the number is larger than the last.
            RecordsError: the records can't be written, or the database user may not delete entries.
        """
        table = audit_log

        def build(last: AuditHead) -> AuditEntry:
            if through > last.number:
                text = f"the audit log has no entry {through}: its last is {last.number}"
                raise RequestError(text, hint="fleetpatch audit list")
            following = select(table.c.previous).where(table.c.number == through + 1)
            seal = _find_seal(connection, through)
            if seal is None:
                seal = connection.execute(following).scalar_one_or_none()
            if seal is None:
                seal = last.seal
            return build_entry(json.dumps({"through": through, "seal": seal}))

        with self.database.begin_write("cut the audit log") as connection:
            stored = self._append(connection, build)
            added = table.c.number > stored.number  # with numbers that no entry gets
            removed = connection.execute(delete(table).where((table.c.number <= through) | added)).rowcount
        self._advance_head(stored)
        return stored, removed

    def _append(self, connection: Connection, build: Callable[[AuditHead], AuditEntry]) -> AuditEntry:
        try:
            key = ensure_key(KEY_NAME)
        except KeyFileError as error:
            raise RecordsError(f"the audit log can't be sealed: {error.message}", hint=error.hint) from error
        if not self.database.is_sqlite:
            connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": _WAIT})
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_ID})
        last, missed = self._find_last(connection, key)
        entry = build(last)
        if missed is not None:
            noted = _insert(connection, _build_missed(entry, missed), last, key)
            last = AuditHead(noted.number, noted.seal)
        return _insert(connection, entry, last, key)

    def _find_last(self, connection: Connection, key: bytes) -> tuple[AuditHead, AuditHead | None]:
        """Return the end of the chain, and the newest entry that this user knows of, if it is gone or replaced.

        Behind entries that are gone from the end the chain goes on: so the gap stays visible. Others who do not know
        that they are gone use their numbers again. So whoever knows them compares.
        """
        last, limit = _find_newest(connection, NUMBER_LIMIT), NUMBER_LIMIT
        for _ in range(_BATCH):
            if last.number != limit - 1:
                break
            last, limit = _find_newest(connection, limit - 1), limit - 1  # behind this one no number is free
        try:
            head = read_head(find_head_path(self.database))
        except KeyFileError as error:
            logger.warning("the head of the audit log: %s", error)
            return last, None
        if head is None or head == last:
            return last, None
        if last.number < head.number < limit:
            return head, None
        seal = last.seal if head.number == last.number else _find_seal(connection, head.number)
        if seal == head.seal or (seal is None and _is_cut(connection, head.number, key)):
            return last, None
        return last, head

    def _advance_head(self, entry: AuditEntry) -> None:
        """Note the newest entry outside of the database. The entry is stored, whatever becomes of the note."""
        try:
            advance_head(find_head_path(self.database), AuditHead(entry.number, entry.seal))
        except KeyFileError as error:
            logger.warning("the head of the audit log: %s", error)

    def read(
        self, limit: int, *, offset: int = 0, before: int = 0, who: str = "", act: str = ""
    ) -> Sequence[AuditEntry]:
        """Return entries, newest first.

        Args:
            limit: how many at most.
            offset: how many of the newest are left out.
            before: only entries with a smaller number; 0: from the newest.
            who: only those of this proven name; "": of all.
            act: only these acts; "": all.
        """
        query = select(audit_log).order_by(audit_log.c.number.desc()).offset(offset).limit(limit)
        if before:
            query = query.where(audit_log.c.number < before)
        if who:
            query = query.where(audit_log.c.who == who)
        if act:
            query = query.where(audit_log.c.act == act)
        with self.database.begin_read("read the audit log") as connection, _translate_time_errors(0):
            return [_to_entry(row) for row in connection.execute(query)]

    def count(self) -> int:
        """Return how many entries there are."""
        with self.database.begin_read("read the audit log") as connection:
            return connection.execute(select(func.count()).select_from(audit_log)).scalar_one()

    def read_names(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return all proven names and all acts of the log, sorted."""
        with self.database.begin_read("read the audit log") as connection:
            columns = audit_log.c.who, audit_log.c.act
            who, act = (
                connection.execute(select(column).distinct().order_by(column)).scalars().all() for column in columns
            )
        return who, act

    def read_of_subject(self, act: str, subject: str, result: AuditResult) -> Sequence[AuditEntry]:
        """Return the entries of an act on a subject with a result, oldest first."""
        columns = audit_log.c
        conditions = (columns.act == act, columns.subject == subject, columns.result == result.value)
        with self.database.begin_read("read the audit log") as connection, _translate_time_errors(0):
            return [
                _to_entry(row)
                for row in connection.execute(select(audit_log).where(*conditions).order_by(columns.number))
            ]

    def count_after(self, number: int) -> tuple[int, datetime | None]:
        """Return how many entries have a larger number, and the time of the oldest of them."""
        columns = audit_log.c
        query = select(func.count(), func.min(columns.at)).where(columns.number > number)
        with self.database.begin_read("read the audit log") as connection, _translate_time_errors(number):
            count, oldest_at = connection.execute(query).tuples().one()
            return count, oldest_at

    def read_after(self, number: int, limit: int) -> Sequence[AuditEntry]:
        """Return entries with a larger number, oldest first, this many at most."""
        query = select(audit_log).where(audit_log.c.number > number).order_by(audit_log.c.number).limit(limit)
        with self.database.begin_read("read the audit log") as connection, _translate_time_errors(number):
            return [_to_entry(row) for row in connection.execute(query)]

    def read_seal(self, number: int) -> str | None:
        """Return the seal of an entry; None if there is no such entry."""
        with self.database.begin_read("read the audit log") as connection:
            return _find_seal(connection, number)

    def iterate(self, after: int | None = None) -> Iterator[AuditEntry]:
        """Yield entries, oldest first, as they were at one moment.

        Args:
            after: only entries with a larger number; None: all.
        """
        with self.database.begin_read("read the audit log") as connection:
            while True:
                query = select(audit_log).order_by(audit_log.c.number).limit(_BATCH)
                if after is not None:
                    query = query.where(audit_log.c.number > after)
                with _translate_time_errors(after or 0):
                    rows = connection.execute(query).all()
                yield from map(_to_entry, rows)
                if len(rows) < _BATCH:
                    return
                after = rows[-1].number

    def read_head(self) -> AuditHead | None:
        """Return the newest entry that this computer knows of; None if it knows none.

        Raises:
            KeyFileError: the file can't be read, or is damaged.
        """
        return read_head(find_head_path(self.database))


def _find_newest(connection: Connection, limit: int) -> AuditHead:
    """Return the newest entry with a number below a limit; number 0 for none."""
    columns = audit_log.c
    query = select(columns.number, columns.seal).where(columns.number < limit).order_by(columns.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return AuditHead(row.number, row.seal) if row is not None else AuditHead(0, "")


def _insert(connection: Connection, entry: AuditEntry, last: AuditHead, key: bytes) -> AuditEntry:
    """Store an entry behind the last one."""
    stored = seal_entry(_to_stored(entry), last.number + 1, last.seal, key)
    connection.execute(insert(audit_log).values({name: getattr(stored, name) for name in _COLUMNS}))
    return stored


def _build_missed(entry: AuditEntry, missed: AuditHead) -> AuditEntry:
    """Return the entry that says, before another one of the same program, what that program misses."""
    detail = json.dumps({"number": missed.number, "seal": missed.seal})
    message = "it is gone, or another one has its number: somebody changed the log in the database"
    subject = f"entry {missed.number}"
    return AuditEntry(
        at=entry.at,
        who="",
        address=entry.address,
        act=MISS_ACT,
        subject=subject,
        detail=detail,
        result=AuditResult.FAILED,
        message=message,
        source="automatic",
    )


def _is_cut(connection: Connection, number: int, key: bytes) -> bool:
    """Return whether a cut that is sealed with a key has removed an entry."""
    query = select(audit_log).where(audit_log.c.act == CUT_ACT, audit_log.c.number > number)
    entries = (_to_entry(row) for row in connection.execute(query.order_by(audit_log.c.number.desc()).limit(_BATCH)))
    cuts = (parse_cut(entry) for entry in entries if is_sealed_by(entry, key))
    return any(cut is not None and cut.number >= number for cut in cuts)


def _find_seal(connection: Connection, number: int) -> str | None:
    return connection.execute(select(audit_log.c.seal).where(audit_log.c.number == number)).scalar_one_or_none()


@contextmanager
def _translate_time_errors(after: int) -> Iterator[None]:
    """Raise RecordsError if a time is none: SQLite lets others store any text there."""
    try:
        yield
    except ValueError as error:
        raise RecordsError(
            f"the audit log has an entry after {after} whose time is none",
            hint="Somebody has changed it in the database.",
        ) from error


def _to_stored(entry: AuditEntry) -> AuditEntry:
    """Return an entry with the texts that the columns can hold."""
    texts = {name: replace_unstorable(getattr(entry, name)) for name in _TEXTS}
    index_keys = {name: to_index_key(getattr(entry, name)) for name in _WORDS}
    return replace(entry, **texts, **index_keys)  # type: ignore[arg-type] # all of them are texts


def _to_entry(row: Any) -> AuditEntry:  # noqa: ANN401 - SQLAlchemy's rows have no type
    result = AuditResult(row.result) if row.result in _RESULTS else row.result
    return AuditEntry(**{**{name: getattr(row, name) for name in _COLUMNS}, "result": result})
