"""A process that is held up for longer than its lease lasts: it must notice, wherever it stood."""

from datetime import timedelta

import pytest

from flows.engine import run_lease
from flows.engine.retrying_records import RetryingRecords
from flows.engine.run_lease import LEASE_SECONDS, LeaseRenewer
from tasks.domain.errors import RecordsError, RecordsUnavailable, Unreachable
from tasks.domain.model import RunInfo
from tasks.domain.protocols.leases import LeaseHolder
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.support.builders import make_run
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet

RUN = "20260310-010000-aaaaaa"
US, OTHER = LeaseHolder("us", "here", 1, "me"), LeaseHolder("other", "there", 2, "anne")


class Monotonic:
    """A clock that nobody sets, in the test's hands."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def read_seconds(self) -> float:
        return self.seconds


def test_a_process_that_is_stopped_before_it_reads_the_answer_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, leases, control = Monotonic(), FakeLeases(), StopToken()
    monkeypatch.setattr(run_lease, "_read_seconds", clock.read_seconds)
    monkeypatch.setattr(run_lease, "RENEW_SECONDS", 1e6)
    ours = LeaseRenewer(leases, RUN, control, US)
    with ours:
        renew = leases.renew

        def held_up(*words: object) -> object:
            answer = renew(*words)  # type: ignore[arg-type]
            clock.seconds += LEASE_SECONDS + 10
            leases.rob(RUN, OTHER)
            return answer

        monkeypatch.setattr(FakeLeases, "renew", lambda self, *words: held_up(*words))
        ours._renew()
        monkeypatch.setattr(FakeLeases, "renew", lambda self, *words: renew(*words))

        assert not ours.still_holds_lease()
        assert control.is_lease_lost


class Held(FakeRecords):
    """Records that are away; while they are, somebody takes the run over."""

    lost = False

    def save(self, item: object) -> None:
        was_away = self.away > 0
        try:
            super().save(item)  # type: ignore[arg-type]
        finally:
            self.lost = self.lost or was_away


def test_a_run_that_held_looks_whose_it_is_before_it_writes() -> None:
    records = Held()
    records.away = 2
    steady = RetryingRecords(records, FakeClock(), None, LoggingListener(), still_holds_lease=lambda: not records.lost)
    run: RunInfo = make_run()

    with pytest.raises(RecordsError, match="another process executes this run now"):
        steady.save(run)
    assert records.runs == {}


def test_a_process_that_was_held_up_while_it_handed_a_job_over_begins_none(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.fail(Unreachable("gone"), on="start")
    fleet.control.still_holds_lease = lambda: all(call.verb != "start" for call in web.calls)

    with pytest.raises(RecordsError, match="another process executes this run now"):
        fleet.patch()

    assert web.jobs() == []


class Forgetful(FakeRecords):
    """Records that are away for the first questions."""

    deaf_for = 3

    def read_measure(self, machine: str, measure: str) -> float | None:
        if self.deaf_for:
            self.deaf_for -= 1
            raise RecordsUnavailable("away")
        return 1300.0


def test_how_long_a_reboot_takes_is_waited_for_and_the_rest_is_not() -> None:
    clock, said = FakeClock(), LoggingListener()
    records = RetryingRecords(Forgetful(), clock, clock.now() + timedelta(hours=1), said)
    assert records.read_measure("web", "install_seconds_per_update") is None
    assert clock.sleeps == []
    assert records.read_measure("web", "reboot_seconds") == 1300.0
    assert len(clock.sleeps) == 2
    assert records.read_measure("web", "install_seconds_per_update") == 1300.0
