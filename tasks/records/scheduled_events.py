"""Stores scheduled events and the incarnations of their documents, on SQLite and PostgreSQL.

An incarnation is a counter in the database, and no time: it rises with each change of what a machine is told, whatever
the clock does. The machine "" has the number of all changes, which no incarnation exceeds. Who keeps that number
outside of the database (see ``resume_count``) notices that an older database was restored, and all incarnations rise
above those that machines were told before.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, select, update

from tasks.domain.errors import RecordsError
from tasks.domain.protocols.clock import Clock
from tasks.domain.scheduled_events import (
    OPEN_EVENT_STATUSES,
    ApprovalRule,
    EventApproval,
    EventDocument,
    EventSource,
    EventStatus,
    EventType,
    ScheduledEvent,
)
from tasks.records import event_schema, schema
from tasks.records.statements import (
    UNFINISHED_STATES,
    build_row,
    insert_missing,
    iterate_batches,
    read_shared_time,
    upsert_row,
)
from tasks.records.storage.database import Database
from tasks.rules.scheduled_events import build_event_id, compute_events_digest, may_change

_EVENTS, _MACHINES = event_schema.scheduled_events, event_schema.event_machines
_DOCUMENTS = event_schema.event_documents
_NOTHING: Final = compute_events_digest(())
_COUNTER: Final = ""  # the machine of the row that counts all changes
_OPEN: Final = tuple(status.value for status in OPEN_EVENT_STATUSES)
_ENDED_REASON: Final = "its run ended, or its time was over, and nobody said what became of it"


class SqlScheduledEvents:
    """Scheduled events in a database. All threads of one process may share an object.

    ``clock``: replaces the default clock: the PostgreSQL server's clock, or this system's clock with SQLite.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    def announce(self, event: ScheduledEvent) -> ScheduledEvent:
        """See ScheduledEvents. The id is that of the act: who asks again after a lost answer gets the same event."""
        event = replace(event, resources=tuple(sorted(event.resources)))
        audience = tuple(sorted({*event.resources, *event.audience}))
        with self._database.begin_write(f"announce {event.event_type} of {', '.join(event.resources)}") as connection:
            _lock_counter(connection, self._now(connection))
            query = select(_EVENTS).where(_EVENTS.c.run_id == event.run_id, _EVENTS.c.act == event.act)
            earlier = [known for known in _read_events(connection, query) if known.resources == event.resources]
            if earlier and (earlier[-1].is_open or earlier[-1].withdrawn_by):
                return earlier[-1]
            event_id = build_event_id(event.run_id, event.resources, event.act, len(earlier))
            event = replace(event, id=event_id, audience=audience)
            insert_missing(connection, _EVENTS, build_row(_EVENTS, event, approved_by=None, approved_at=None))
            for machine in audience:
                is_resource = machine in event.resources
                row = {"event_id": event_id, "machine": machine, "is_resource": is_resource, "approved_at": None}
                insert_missing(connection, _MACHINES, row)
            self._publish(connection, audience)
        return event

    def find(self, run_id: str, machine: str = "") -> tuple[ScheduledEvent, ...]:
        """See ScheduledEvents."""
        query = select(_EVENTS).where(_EVENTS.c.run_id == run_id)
        if machine:
            query = query.join_from(_EVENTS, _MACHINES, _MACHINES.c.event_id == _EVENTS.c.id)
            query = query.where(_MACHINES.c.machine == machine, _MACHINES.c.is_resource)
        with self._database.begin_read("look for scheduled events") as connection:
            return _read_events(connection, query)

    def find_newest(
        self, limit: int | None, *, only_open: bool, since: datetime | None = None
    ) -> tuple[ScheduledEvent, ...]:
        """Return the newest events of all runs, newest first. ``since``: only those that were announced since then."""
        query = select(_EVENTS).order_by(_EVENTS.c.announced_at.desc(), _EVENTS.c.id).limit(limit)
        if since is not None:
            query = query.where(_EVENTS.c.announced_at >= since)
        with self._database.begin_read("look for scheduled events") as connection:
            if only_open:
                query = query.where(self._is_told(self._now(connection)))
            return tuple(reversed(_read_events(connection, query)))

    def change(self, event_id: str, status: EventStatus, reason: str = "", by: str = "") -> ScheduledEvent:
        """See ScheduledEvents."""
        with self._database.begin_write(f"record that an event is {status}") as connection:
            now = self._now(connection)
            _lock_counter(connection, now)
            event = _require_event(connection, event_id)
            if may_change(event, status):
                self._store_status(connection, event, status, reason, now, by)
                self._publish(connection, event.audience)
            return _require_event(connection, event_id)

    def approve(self, machine: str, event_ids: Collection[str]) -> tuple[ScheduledEvent, ...]:
        """See ScheduledEvents. The first approval of a machine counts. After the begin, one changes nothing."""
        with self._database.begin_write(f"record an approval of {machine}") as connection:
            now = self._now(connection)
            told = [event for event in self._read_told(connection, machine, now) if event.id in set(event_ids)]
            ids = [event.id for event in told if event.status is EventStatus.SCHEDULED]
            own = (_MACHINES.c.machine == machine, _MACHINES.c.event_id.in_(ids), _MACHINES.c.approved_at.is_(None))
            connection.execute(update(_MACHINES).where(*own).values(approved_at=now))
            query = select(_EVENTS).where(_EVENTS.c.id.in_([event.id for event in told]))
            return _read_events(connection, query)

    def approve_for_all(self, event_id: str, by: str) -> ScheduledEvent:
        """Record that a person approves an event for all its resources. The first person counts.

        Raises:
            RecordsError: there is no such event.
        """
        with self._database.begin_write("record an approval") as connection:
            now = self._now(connection)
            own = (_EVENTS.c.id == event_id, _EVENTS.c.status == EventStatus.SCHEDULED.value)
            first = (*own, _EVENTS.c.approved_at.is_(None))
            connection.execute(update(_EVENTS).where(*first).values(approved_by=by, approved_at=now))
            return _require_event(connection, event_id)

    def read_document(self, machine: str, above: int = 0) -> EventDocument:
        """See ScheduledEvents. It only reads if nothing has changed since the document was last read or stored."""
        with self._database.begin_read("read scheduled events") as connection:
            events = self._read_told(connection, machine, self._now(connection))
            row = _read_document_row(connection, machine)
        if row is not None and row.digest == compute_events_digest(events) and row.incarnation > above:
            return EventDocument(machine, row.incarnation, events)
        with self._database.begin_write("store what a machine is told") as connection:
            _lock_counter(connection, self._now(connection))
            return self._publish(connection, [machine], above)[0]

    def read_documents(self) -> dict[str, EventDocument]:
        """Return the documents of all machines that were told something or have asked, as far as they are stored.

        One that is not up to date in the database is left out: read_document stores it.
        """
        with self._database.begin_read("read what machines are told") as connection:
            told: dict[str, list[ScheduledEvent]] = {}
            for event in _read_events(connection, select(_EVENTS).where(self._is_told(self._now(connection)))):
                for machine in event.audience:
                    told.setdefault(machine, []).append(event)
            rows = connection.execute(select(_DOCUMENTS).where(_DOCUMENTS.c.machine != _COUNTER)).all()
        documents = {}
        for row in rows:
            events = tuple(told.get(row.machine, ()))
            if row.digest == (compute_events_digest(events) if events else _NOTHING):
                documents[row.machine] = EventDocument(row.machine, row.incarnation, events)
        return documents

    def end_forgotten(self) -> tuple[ScheduledEvent, ...]:
        """End the events whose run has ended, or whose time is over, and return them: nobody else does it any more."""
        with self._database.begin_write("end forgotten events") as connection:
            now = self._now(connection)
            query = select(_EVENTS).where(_EVENTS.c.status.in_(_OPEN), ~self._is_told(now))
            forgotten = _read_events(connection, query)
            if forgotten:
                _lock_counter(connection, now)
            for event in forgotten:
                has_begun = event.status is EventStatus.STARTED
                status = EventStatus.COMPLETED if has_begun else EventStatus.CANCELED
                self._store_status(connection, event, status, _ENDED_REASON, now)
            self._publish(connection, sorted({name for event in forgotten for name in event.audience}))
        return forgotten

    def read_count(self) -> int:
        """Return the number of changes of all documents."""
        with self._database.begin_read("count what machines were told") as connection:
            row = _read_document_row(connection, _COUNTER)
        return 0 if row is None else int(row.incarnation)

    def resume_count(self, known: int) -> bool:
        """Raise all incarnations if the database has counted fewer changes than are known: an older one was restored.

        Return whether that was so.
        """
        with self._database.begin_write("go on with the incarnations of documents") as connection:
            lost = known - _lock_counter(connection, self._now(connection))
            if lost > 0:  # one more: the last of the lost changes may have been of the same machine
                connection.execute(update(_DOCUMENTS).values(incarnation=_DOCUMENTS.c.incarnation + lost + 1))
        return lost > 0

    def _now(self, connection: Connection) -> datetime:
        return read_shared_time(connection, self._clock)

    def _store_status(
        self,
        connection: Connection,
        event: ScheduledEvent,
        status: EventStatus,
        reason: str,
        now: datetime,
        by: str = "",
    ) -> None:
        moment = "started_at" if status is EventStatus.STARTED else "ended_at"
        values = {"status": status.value, "reason": reason, moment: now, "withdrawn_by": by}
        connection.execute(update(_EVENTS).where(_EVENTS.c.id == event.id).values(values))

    def _publish(self, connection: Connection, machines: Sequence[str], above: int = 0) -> list[EventDocument]:
        """Store and return the documents of machines. Those whose events have changed get a new incarnation.

        The lock of the counter must be held.
        """
        now, documents = self._now(connection), []
        for machine in machines:
            events, row = self._read_told(connection, machine, now), _read_document_row(connection, machine)
            digest, count = compute_events_digest(events), _lock_counter(connection, now)
            known = count if row is None else int(row.incarnation)
            is_new = row is None or row.digest != digest
            incarnation = max(known + int(is_new), above + 1)
            if is_new or incarnation != known:
                document = {"machine": machine, "incarnation": incarnation, "digest": digest, "at": now}
                upsert_row(connection, _DOCUMENTS, document)
                counted = {"incarnation": max(count + 1, incarnation), "at": now}
                connection.execute(update(_DOCUMENTS).where(_DOCUMENTS.c.machine == _COUNTER).values(counted))
            documents.append(EventDocument(machine, incarnation, events))
        return documents

    def _read_told(self, connection: Connection, machine: str, now: datetime) -> tuple[ScheduledEvent, ...]:
        query = select(_EVENTS).join_from(_EVENTS, _MACHINES, _MACHINES.c.event_id == _EVENTS.c.id)
        return _read_events(connection, query.where(_MACHINES.c.machine == machine, self._is_told(now)))

    def _is_told(self, now: datetime) -> Any:  # noqa: ANN401 - an SQL condition
        """Return the condition for events that documents have. It is never NULL, so it can be negated."""
        runs = schema.runs
        is_run_open = select(runs.c.id).where(runs.c.id == _EVENTS.c.run_id, runs.c.state.in_(UNFINISHED_STATES))
        return and_(_EVENTS.c.status.in_(_OPEN), _EVENTS.c.expires_at > now, is_run_open.exists())


def _lock_counter(connection: Connection, now: datetime) -> int:
    """Return the number of all changes. Until the end of the transaction, nobody else changes a document."""
    row = {"machine": _COUNTER, "incarnation": 0, "digest": "", "at": now}
    upsert_row(connection, _DOCUMENTS, row, changes={"digest": ""})
    counted = _read_document_row(connection, _COUNTER)
    return 0 if counted is None else int(counted.incarnation)


def _read_document_row(connection: Connection, machine: str) -> Row[Any] | None:
    return connection.execute(select(_DOCUMENTS).where(_DOCUMENTS.c.machine == machine)).first()


def _require_event(connection: Connection, event_id: str) -> ScheduledEvent:
    events = _read_events(connection, select(_EVENTS).where(_EVENTS.c.id == event_id))
    if not events:
        raise RecordsError(f"there is no scheduled event {event_id}", hint="fleetpatch events list --all shows them.")
    return events[0]


def _read_events(connection: Connection, query: Select[Any]) -> tuple[ScheduledEvent, ...]:
    """Return events with their machines and approvals, oldest first."""
    rows = connection.execute(query).all()
    machines: dict[str, list[Row[Any]]] = {row.id: [] for row in rows}
    for ids in iterate_batches(list(machines)):
        for row in connection.execute(select(_MACHINES).where(_MACHINES.c.event_id.in_(ids))):
            machines[row.event_id].append(row)
    events = (_to_event(row, sorted(machines[row.id], key=lambda told: str(told.machine))) for row in rows)
    return tuple(sorted(events, key=lambda event: (event.announced_at, event.id)))


def _to_event(row: Row[Any], machines: Iterable[Row[Any]]) -> ScheduledEvent:
    told = list(machines)
    approvals = [EventApproval(each.machine, "", each.approved_at) for each in told if each.approved_at is not None]
    if row.approved_at is not None:
        approvals.append(EventApproval("", row.approved_by, row.approved_at))
    return ScheduledEvent(
        id=row.id,
        run_id=row.run_id,
        act=row.act,
        event_type=EventType(row.event_type),
        resources=tuple(each.machine for each in told if each.is_resource),
        audience=tuple(each.machine for each in told),
        not_before=row.not_before,
        expires_at=row.expires_at,
        announced_at=row.announced_at,
        description=row.description,
        source=EventSource(row.source),
        rule=ApprovalRule(row.rule),
        duration_seconds=row.duration_seconds,
        status=EventStatus(row.status),
        started_at=row.started_at,
        ended_at=row.ended_at,
        reason=row.reason,
        withdrawn_by=row.withdrawn_by,
        approvals=tuple(sorted(approvals, key=lambda approval: approval.at)),
    )
