"""Scheduled events in memory, with faults on demand. Held to the same contract as the real ones."""

import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.protocols.clock import Clock
from tasks.domain.scheduled_events import EventApproval, EventDocument, EventStatus, ScheduledEvent
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.rules.scheduled_events import build_event_id, compute_events_digest, is_told, may_change
from tests.support.fake_clock import FakeClock
from tests.support.fake_records import FakeRecords


@dataclass
class FakeScheduledEvents:
    """Remembers everything in plain attributes that tests may read and change.

    Attributes:
        away: how many of the next calls raise RecordsUnavailable and do nothing.
        story: "announce reboot/0 of web", "Started reboot/0 of web", in order.
    """

    records: FakeRecords = field(default_factory=FakeRecords)
    clock: Clock = field(default_factory=FakeClock)
    away: float = 0
    story: list[str] = field(default_factory=list)
    events: dict[str, ScheduledEvent] = field(default_factory=dict)
    count: int = 0
    documents: dict[str, tuple[int, str]] = field(default_factory=dict)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def announce(self, event: ScheduledEvent) -> ScheduledEvent:
        with self._turn:
            self._be_there()
            resources = tuple(sorted(event.resources))
            same = [
                known
                for known in self.events.values()
                if (known.run_id, known.act, known.resources) == (event.run_id, event.act, resources)
            ]
            if same and (same[-1].is_open or same[-1].withdrawn_by):
                return same[-1]
            event = replace(
                event,
                id=build_event_id(event.run_id, resources, event.act, len(same)),
                resources=resources,
                audience=tuple(sorted({*resources, *event.audience})),
            )
            self.events[event.id] = event
            self.story.append(f"announce {event.act} of {', '.join(resources)}")
            self._publish(event.audience)
            return event

    def find(self, run_id: str, machine: str = "") -> tuple[ScheduledEvent, ...]:
        with self._turn:
            self._be_there()
            of_run = (event for event in self.events.values() if event.run_id == run_id)
            own = (event for event in of_run if not machine or machine in event.resources)
            return tuple(sorted(own, key=lambda event: (event.announced_at, event.id)))

    def change(self, event_id: str, status: EventStatus, reason: str = "", by: str = "") -> ScheduledEvent:
        with self._turn:
            self._be_there()
            if event_id not in self.events:
                raise RecordsError(f"there is no scheduled event {event_id}")
            event, now = self.events[event_id], self.clock.now()
            if may_change(event, status):
                event = replace(event, status=status, reason=reason, withdrawn_by=by)
                if status is EventStatus.STARTED:
                    event = replace(event, started_at=now)
                else:
                    event = replace(event, ended_at=now)
                self.events[event_id] = event
                self.story.append(f"{status} {event.act} of {', '.join(event.resources)}")
                self._publish(event.audience)
            return event

    def read_document(self, machine: str, above: int = 0) -> EventDocument:
        with self._turn:
            self._be_there()
            return self._publish([machine], above)

    def approve(self, machine: str, event_ids: Collection[str]) -> tuple[ScheduledEvent, ...]:
        with self._turn:
            self._be_there()
            told = [event for event in self._read_told(machine) if event.id in event_ids]
            for event in told:
                known = {approval.machine for approval in event.approvals}
                if event.status is EventStatus.SCHEDULED and machine not in known:
                    approval = EventApproval(machine, "", self.clock.now())
                    self.events[event.id] = replace(event, approvals=(*event.approvals, approval))
            return tuple(self.events[event.id] for event in told)

    def _read_told(self, machine: str) -> list[ScheduledEvent]:
        now = self.clock.now()
        own = [event for event in self.events.values() if machine in event.audience and is_told(event, now)]
        is_open = {run.id for run in self.records.runs.values() if run.state in UNFINISHED_RUN_STATES}
        return sorted(
            (event for event in own if event.run_id in is_open), key=lambda event: (event.announced_at, event.id)
        )

    def _publish(self, machines: Collection[str], above: int = 0) -> EventDocument:
        for machine in machines:
            events = tuple(self._read_told(machine))
            digest = compute_events_digest(events)
            known, known_digest = self.documents.get(machine, (self.count, ""))
            incarnation = max(known + int(digest != known_digest), above + 1)
            if (incarnation, digest) != (known, known_digest):
                self.documents[machine] = (incarnation, digest)
                self.count = max(self.count + 1, incarnation)
            document = EventDocument(machine, incarnation, events)
        return document

    def _be_there(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise RecordsUnavailable("the records are away: told to be", hint="A test asked for this.")
