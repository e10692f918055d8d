"""Leases in memory, with faults on demand. Held to the same contract as the real ones."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tasks.domain.errors import RecordsUnavailable, RequestError
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.leases import LeaseHolder, LeaselessRun, LeaseRenewal, LeaseStatus, StopRequest
from tasks.domain.protocols.records import SHARD_ACT
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tests.support.fake_clock import FakeClock
from tests.support.fake_records import FakeRecords


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as it is kept."""

    holder: LeaseHolder
    until: datetime
    given_back: bool = False

    def over(self, now: datetime) -> bool:
        return self.given_back or self.until <= now


@dataclass(slots=True)
class FakeLeases:
    """Remembers everything in plain attributes that tests may read and change.

    Attributes:
        away: how many of the next calls raise RecordsUnavailable and do nothing; infinity for all.
        lost_answers: how many of the next calls do what they should and raise RecordsUnavailable all the same.
        before: called at the start of every call with the method's name: let somebody act at that moment.
        calls: (method, run id) of each call, failed ones included; "" for abandoned.
    """

    records: FakeRecords = field(default_factory=FakeRecords)
    clock: Clock = field(default_factory=FakeClock)
    away: float = 0
    lost_answers: float = 0
    before: Callable[[str], None] = lambda method: None
    held: dict[str, Held] = field(default_factory=dict)
    stops: dict[str, StopRequest] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.records.holds = lambda run_id, holder: self._own(run_id, holder) is not None

    def require_known_stops(self) -> None:
        pass

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> datetime:
        with self._call("take", run_id):
            now, lease = self.clock.now(), self.held.get(run_id)
            if lease is not None and not lease.over(now) and lease.holder.id != holder.id:
                raise LeaseHeld(run_id, holder=lease.holder, until=lease.until)
            self.held[run_id] = Held(holder, now + timedelta(seconds=seconds))
            return now

    def renew(self, run_id: str, holder: LeaseHolder, seconds: float) -> LeaseRenewal:
        with self._call("renew", run_id):
            lease = self._own(run_id, holder)
            if lease is not None:
                self.held[run_id] = replace(lease, until=self.clock.now() + timedelta(seconds=seconds))
            return LeaseRenewal(lease is not None, self.stops.get(run_id))

    def release(self, run_id: str, holder: LeaseHolder) -> None:
        with self._call("give_back", run_id):
            lease = self._own(run_id, holder)
            if lease is not None:
                self.held[run_id] = replace(lease, until=self.clock.now(), given_back=True)

    def find_leaseless_runs(self) -> tuple[LeaselessRun, ...]:
        with self._call("abandoned", ""):
            now, found = self.clock.now(), []
            without_end = {OperationState.IN_PROGRESS, OperationState.UNKNOWN}
            runs = [run for run in self.records.runs.values() if run.state in without_end]
            for run in sorted(runs, key=lambda each: (each.started_at, each.id)):
                lease = self.held.get(run.id)
                if lease is None:
                    found.append(LeaselessRun(run.id, None, run.started_at))
                elif lease.over(now):
                    found.append(LeaselessRun(run.id, lease.holder, lease.until))
            return tuple(found)

    def request_stop(self, run_id: str, who: str, reason: str) -> StopRequest:
        with self._call("ask_to_stop", run_id):
            run = self.records.runs.get(run_id)
            if run is None:
                raise RequestError(f"there is no run {run_id!r}", hint="A test asked for it.")
            if run.state not in {OperationState.NOT_STARTED, OperationState.IN_PROGRESS}:
                raise RequestError(f"run {run_id} can't be stopped: it is over ({run.state.value})")
            asked = StopRequest(who, reason, self.clock.now())
            for entry in self.records.journal:
                if entry.run_id == run_id and entry.act == SHARD_ACT:
                    self.stops.setdefault(entry.key, asked)
            return self.stops.setdefault(run_id, asked)

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        with self._call("lease", run_id):
            lease, stop = self.held.get(run_id), self.stops.get(run_id)
            if lease is not None:
                return LeaseStatus(run_id, lease.holder, not lease.over(self.clock.now()), lease.until, stop)
            return LeaseStatus(run_id, None, is_held=False, until=None, stop=stop) if stop else None

    def rob(self, run_id: str, by: LeaseHolder, seconds: float = 60.0) -> None:
        """Let somebody else have the lease, whoever has it now: its holder was away for too long."""
        with self._turn:
            self.held[run_id] = Held(by, self.clock.now() + timedelta(seconds=seconds))

    def _own(self, run_id: str, holder: LeaseHolder) -> Held | None:
        lease = self.held.get(run_id)
        return lease if lease is not None and lease.holder.id == holder.id and not lease.given_back else None

    @contextmanager
    def _call(self, method: str, run_id: str) -> Iterator[None]:
        self.before(method)
        with self._turn:
            self.calls.append((method, run_id))
            if self.away > 0:
                self.away -= 1
                raise RecordsUnavailable(f"can't {method}: told to be away", hint="A test asked for this.")
            yield
            if self.lost_answers > 0:
                self.lost_answers -= 1
                raise RecordsUnavailable(f"can't {method}: answer lost", hint="A test asked for this.")
