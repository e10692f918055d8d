"""Stores which members of machine sets are out of service, on SQLite and PostgreSQL."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, delete, or_, select, text, update

from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.records import schema
from tasks.records.statements import UNFINISHED_STATES, build_row, read_shared_time, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.runs.set_capacity import build_stored_slot, check_slot, find_taken_over

RUN_ROW_GRACE: Final = timedelta(minutes=10)
"""How long a slot counts whose run has no row. A run stores its row before it takes a slot, so a slot without a row
belongs to a run that was deleted. The grace is for other users of these records that store in another order.
"""
_LOCK_ID: Final = 0x666C6565_73657473  # "fleesets": an arbitrary number; every fleetpatch must use the same one
_SLOTS, _RUNS = schema.set_slots, schema.runs


class SqlSetSlots:
    """The slots of machine sets in a database. All threads of one process may share an object.

    The records hold the slots, and not Prefect's concurrency limits: they hold also for runs without a server, survive
    its restart, know the run of each slot, and end with it.

    ``clock``: replaces the default clock: the PostgreSQL server's clock, or this system's clock with SQLite.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    def take(self, slots: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        """See SetSlots.

        Only one process decides at a time: SQLite has one writer, and on PostgreSQL each decision first takes an
        advisory lock. Without it, two transactions could see the same free place, because neither sees the row that
        the other one is about to store. Row locks would not do: a set without slots has no row.
        """
        if not slots:
            return ""
        with self._database.begin_write(f"take {slots[0].machine} out of service") as connection:
            if not self._database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_ID})
            present = self._read_present(connection, None)
            for slot in slots:
                if refusal := check_slot(slot, present, may_take):
                    return refusal
            # Slots that don't count any more are deleted: another run may have to store the same member.
            query = _join_runs().where(~_counts(self._find_oldest_rowless(connection)))
            for row in connection.execute(query).all():
                _delete(connection, row.set_name, row.machine, row.run_id)
            for slot in find_taken_over(slots[0].machine, present):
                _delete(connection, slot.set_name, slot.machine, slot.run_id)
            for slot in slots:
                stored = build_stored_slot(slot, present)
                changes = {"domain": stored.domain, "reason": stored.reason, "drained": stored.drained}
                # The run's own slot keeps its beginning.
                upsert_row(connection, _SLOTS, build_row(_SLOTS, stored), changes=changes)
        return ""

    def mark_drained(self, run_id: str, machine: str, set_names: Collection[str]) -> None:
        """See SetSlots."""
        mine = (_SLOTS.c.run_id == run_id, _SLOTS.c.machine == machine, _SLOTS.c.set_name.in_(set_names))
        with self._database.begin_write(f"record that {machine} is drained") as connection:
            connection.execute(update(_SLOTS).where(*mine).values(drained=True))

    def release(self, run_id: str, machine: str) -> None:
        """See SetSlots."""
        with self._database.begin_write(f"end the turn of {machine}") as connection:
            connection.execute(delete(_SLOTS).where(_SLOTS.c.run_id == run_id, _SLOTS.c.machine == machine))

    def keep(self, run_id: str, machine: str, reason: str, drained: Collection[str]) -> None:
        """See SetSlots."""
        mine = (_SLOTS.c.run_id == run_id, _SLOTS.c.machine == machine)
        values = {"reason": reason, "drained": _SLOTS.c.set_name.in_(drained)}
        with self._database.begin_write(f"record why {machine} stays out of service") as connection:
            connection.execute(update(_SLOTS).where(*mine).values(values))

    def find(self, set_names: Sequence[str] | None = None) -> tuple[SetSlot, ...]:
        """See SetSlots."""
        with self._database.begin_read("look at machine sets") as connection:
            return self._read_present(connection, set_names)

    def _read_present(self, connection: Connection, set_names: Sequence[str] | None) -> tuple[SetSlot, ...]:
        """Return the slots that count."""
        oldest = self._find_oldest_rowless(connection)
        query = _join_runs().add_columns(_is_open(oldest).label("is_open")).where(_counts(oldest))
        if set_names is not None:
            query = query.where(_SLOTS.c.set_name.in_(set_names))
        rows = connection.execute(query.order_by(_SLOTS.c.since, _SLOTS.c.set_name, _SLOTS.c.machine)).all()
        return tuple(
            SetSlot(
                row.set_name,
                row.machine,
                row.run_id,
                row.since,
                row.domain,
                row.reason,
                drained=row.drained,
                is_left=not row.is_open,
            )
            for row in rows
        )

    def _find_oldest_rowless(self, connection: Connection) -> Any:  # noqa: ANN401 - a datetime, as a column compares it
        return read_shared_time(connection, self._clock) - RUN_ROW_GRACE


def _delete(connection: Connection, set_name: str, machine: str, run_id: str) -> None:
    key = (_SLOTS.c.set_name == set_name, _SLOTS.c.machine == machine, _SLOTS.c.run_id == run_id)
    connection.execute(delete(_SLOTS).where(*key))


def _join_runs() -> Select[Any]:
    return select(_SLOTS).join_from(_SLOTS, _RUNS, _SLOTS.c.run_id == _RUNS.c.id, isouter=True)


def _counts(oldest_rowless: Any) -> Any:  # noqa: ANN401 - an SQL condition
    """Return the condition for slots that count. It is never NULL, so it can be negated."""
    return or_(_is_open(oldest_rowless), _SLOTS.c.drained)


def _is_open(oldest_rowless: Any) -> Any:  # noqa: ANN401 - an SQL condition
    """Return the condition for slots of unfinished runs. It is never NULL."""
    unfinished = and_(_RUNS.c.id.is_not(None), _RUNS.c.state.in_(UNFINISHED_STATES))
    beginning = and_(_RUNS.c.id.is_(None), _SLOTS.c.since > oldest_rowless)
    return or_(unfinished, beginning)
