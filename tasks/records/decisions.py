"""Stores what people and runs have decided for good, so that an earlier state of a row, put back by SQL, does nothing.

A seal says who wrote a row, and not that it is the newest state of it. So each decision is also an entry of a chain:
numbered, sealed with the key of decisions, and with the seal of the entry before it. The number and the seal of the
newest entry that a user's programs have seen are kept beside their keys: entries that are removed from the end are
missed. Each key has a chain of its own: a process without the key adds nothing to the chain of the others.

Who acts on a row asks here first. If the chain is not whole, nothing is acted on.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, delete, insert, select, text

from inventory.data_class import dataclass
from inventory.files.own_keys import KeyFileError
from tasks.domain.errors import RecordsError, RequestError, SealBroken, SealKeyMissing
from tasks.records import schema
from tasks.records.audit.seals_and_heads import AuditHead, advance_head, find_head_path, read_head
from tasks.records.seals import DECISION_KEY, Seals
from tasks.records.statements import read_shared_time
from tasks.records.storage.column_types import replace_unstorable
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)

_DECISIONS = schema.decisions
_LOCK_ID: Final = 0x666C6565_64656369  # "fleedeci": an arbitrary number; every fleetpatch must use the same one
_NOT_PROTECTED: Final = "the decision %r about %s %s is not protected: %s"


class DecisionKind(StrEnum):
    """What a decision is about. The subject is the id of it."""

    APPROVAL = "approval"
    ROLLOUT = "rollout"
    STOP = "stop"
    TOKEN = "token"  # noqa: S105 - no secret
    PAUSE = "pause"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Decision:
    """The newest decision about a subject."""

    text: str  # what was decided, in a word or two of its kind
    at: datetime


@dataclass(slots=True)
class _Chains:
    """What this process has read and checked of a database. An entry that was read can't be removed any more."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seals: dict[str, list[str]] = field(default_factory=dict)
    newest: dict[tuple[str, str], Decision] = field(default_factory=dict)
    is_head_lost: bool = False

    def forget(self) -> None:
        """Forget what was read."""
        self.seals.clear()
        self.newest.clear()


_CHAINS: "WeakKeyDictionary[Database, _Chains]" = WeakKeyDictionary()
_CHAINS_LOCK = threading.Lock()


class SqlDecisions:
    """Decisions in a database. All threads of one process may share an object.

    Every method raises RecordsError if the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seals = Seals(DECISION_KEY, database.fleet)
        with _CHAINS_LOCK:
            self._chains = _CHAINS.setdefault(database, _Chains())

    def append(self, connection: Connection, kind: DecisionKind, decided: str, *subjects: str) -> None:
        """Store a decision, in the transaction that stores what it changes. Then call ``note_newest``.

        A chain that is not whole gets no entry: nobody acts on anything before an administrator has begun a new one.

        Args:
            connection: of the writing transaction. Only one call for each: a second one would read and remember what
                the transaction may take back.
            kind: what it is about.
            decided: what was decided.
            subjects: the ids of those about whom it was decided.
        """
        try:
            key_id = self._seals.get_key_id()
        except RecordsError as error:  # also without a key of its own, a person can stop a run
            logger.warning(_NOT_PROTECTED, decided, kind, ", ".join(subjects), error)
            return
        try:
            if not self._database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_ID})
            with self._chains.lock:
                self._read_entries(connection, self.read_heads())
                newest = dict(self._chains.newest)
                seals = self._chains.seals.get(key_id, [])
                number, previous = len(seals) + 1, seals[-1] if seals else ""
        except (SealBroken, KeyFileError) as error:
            logger.warning(_NOT_PROTECTED, decided, kind, ", ".join(subjects), error)
            return
        for subject in map(replace_unstorable, subjects):
            if (earlier := newest.get((kind, subject))) is not None and earlier.text == decided:
                continue
            row = {
                "key_id": key_id,
                "number": number,
                "previous": previous,
                "kind": kind.value,
                "subject": subject,
                "decision": decided,
                "at": read_shared_time(connection, None),
            }
            sealed = self._seals.seal(_DECISIONS, row)
            connection.execute(insert(_DECISIONS).values(sealed))
            number, previous = number + 1, sealed["seal"]

    def note_newest(self) -> None:
        """Note the newest entry outside of the database, after a transaction that has stored one."""
        try:
            self._read()
        except RecordsError as error:
            logger.warning("the chain of decisions: %s", error)

    def require_whole(self) -> None:
        """Require that no entry is missing or changed.

        Raises:
            SealBroken: the chain is not whole.
            RecordsError: the records or the key can't be read.
        """
        self._read()

    def find(self, kind: DecisionKind, subject: str) -> Decision | None:
        """Return the newest decision about a subject; None if there is none.

        Raises:
            SealBroken: the chain is not whole.
            RecordsError: the records or the key can't be read.
        """
        return self._read().get((kind, replace_unstorable(subject)))

    def find_all(self, kind: DecisionKind) -> Mapping[str, Decision]:
        """Return the newest decision about each subject of a kind.

        Raises:
            SealBroken: the chain is not whole.
            RecordsError: the records or the key can't be read.
        """
        return {subject: decision for (of_kind, subject), decision in self._read().items() if of_kind == kind}

    def check(self, heads: Mapping[str, AuditHead | None]) -> int:
        """Check the chain against its ends as they were noted of other records, and note none. Return its length.

        Args:
            heads: the end that the chain of each key must have at least, by ``read_heads``.

        Raises:
            SealBroken: the chain is not whole.
            RecordsError: the records or the key can't be read.
        """
        with self._database.begin_read("read the decisions") as connection, self._chains.lock:
            self._read_entries(connection, heads)
            return sum(len(seals) for seals in self._chains.seals.values())

    def begin_anew(self) -> tuple[str, int]:
        """Begin a new chain for each key of this process whose chain is not whole.

        Entries that fit each other and their seals stay. Otherwise all entries under the key are removed. Programs that
        run have the old chain in memory: they need a restart.

        Returns:
            What was wrong, and how many entries were removed.

        Raises:
            RequestError: the chain is whole.
            RecordsError: the records or a file can't be written.
        """
        removed, faults = 0, []
        for key_id in self._seals.read_key_ids():
            path = self._find_head_path(key_id)
            with self._database.begin_write("begin a new chain of decisions") as connection, self._chains.lock:
                try:
                    self._read_entries(connection, {key_id: read_head(path)})
                    continue
                except (SealBroken, KeyFileError) as error:
                    faults.append(error.message)
                self._chains.forget()
                try:
                    self._read_entries(connection, {key_id: None})
                except SealBroken:
                    removed += connection.execute(delete(_DECISIONS).where(_DECISIONS.c.key_id == key_id)).rowcount
                    self._chains.forget()
                path.unlink(missing_ok=True)
        if not faults:
            raise RequestError("the chain of decisions is whole", hint="Nothing has to begin anew.")
        self.note_newest()
        return "; ".join(faults), removed

    def _read(self) -> Mapping[tuple[str, str], Decision]:
        with self._database.begin_read("read the decisions") as connection, self._chains.lock:
            # The heads come before the transaction's first query: others add entries meanwhile.
            try:
                heads = self.read_heads()
            except KeyFileError as error:
                fault = f"the end of the chain of decisions is not known: {error.message}"
                raise SealBroken(fault, hint=error.hint) from error
            self._read_entries(connection, heads)
            newest = dict(self._chains.newest)
            self._advance_heads(heads)
        return newest

    def read_heads(self) -> Mapping[str, AuditHead | None]:
        """Return the noted end of the chain of each key that this process has.

        Raises:
            KeyFileError: a file can't be read.
            RecordsError: the key can't be read.
        """
        return {key_id: read_head(self._find_head_path(key_id)) for key_id in self._seals.read_key_ids()}

    def _read_entries(self, connection: Connection, heads: Mapping[str, AuditHead | None]) -> None:
        """Read and check the entries that are new. What does not fit is not remembered."""
        for key_id, head in heads.items():
            seals = self._chains.seals.setdefault(key_id, [])
            query = select(_DECISIONS).where(_DECISIONS.c.key_id == key_id, _DECISIONS.c.number >= len(seals))
            try:
                rows = connection.execute(query.order_by(_DECISIONS.c.number)).mappings().all()
            except ValueError as error:  # SQLite lets others store any text as a time
                raise self._build_error(f"an entry after {len(seals)} has no time") from error
            if seals:
                if not rows or rows[0]["number"] != len(seals) or rows[0]["seal"] != seals[-1]:
                    raise self._build_error(f"entry {len(seals)} is gone, or is another one")
                rows = rows[1:]
            for row in rows:
                if row["number"] != len(seals) + 1 or row["previous"] != (seals[-1] if seals else ""):
                    raise self._build_error(f"entry {row['number']} does not follow entry {len(seals)}")
                try:
                    self._seals.check(_DECISIONS, row, f"entry {row['number']}")
                except (SealBroken, SealKeyMissing) as error:
                    raise self._build_error(error.message) from error
                seals.append(row["seal"])
                subject, decision = (row["kind"], row["subject"]), Decision(row["decision"], row["at"])
                newest = self._chains.newest.get(subject)
                if newest is None or newest.at <= decision.at:  # one chain may be of an earlier key
                    self._chains.newest[subject] = decision
            if head is not None and (head.number > len(seals) or seals[head.number - 1] != head.seal):
                records, noted = self._database.display_name, self._find_head_path(key_id)
                fault = f"{records} lacks the decision number {head.number} that {noted} notes"
                fault += ": the records were deleted, replaced or restored, or somebody has removed decisions"
                raise self._build_error(fault)

    def _advance_heads(self, heads: Mapping[str, AuditHead | None]) -> None:
        for key_id, head in heads.items():
            seals = self._chains.seals[key_id]
            if len(seals) > (head.number if head is not None else 0):
                try:
                    advance_head(self._find_head_path(key_id), AuditHead(len(seals), seals[-1]))
                except KeyFileError as error:
                    if not self._chains.is_head_lost:  # leases are renewed every few seconds
                        logger.warning("the end of the chain of decisions is not noted: %s", error)
                    self._chains.is_head_lost = True

    def _find_head_path(self, key_id: str) -> Path:
        return find_head_path(self._database, f"decisions-head-{key_id}")

    def _build_error(self, fault: str) -> SealBroken:
        return SealBroken(
            f"the chain of decisions is not whole: {fault}",
            hint="No run begins, and nobody approves. If you have deleted, replaced or restored the records yourself:"
            " fleetpatch audit renew --reason TEXT. Otherwise find out first who can write them:"
            " docs/how-to/backup.md#the-chain-of-decisions",
        )
