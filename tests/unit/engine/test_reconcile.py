"""Leases while a run stops, the wait for a dead one's lease, and what is to be done with a run that was left."""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.engine import run_lease
from flows.engine.interruption import RESUME_ACT, SUSPEND_ACT, Suspension
from flows.engine.run_lease import (
    STOPPING_LEASE_SECONDS,
    LeaseRenewer,
    build_component_lease,
    release_component_lease,
)
from flows.ports.caller import Caller
from flows.recovery import reconciliation
from flows.recovery.reconciliation import reconcile_runs, recover_if_abandoned
from flows.recovery.unfinished_runs import (
    AbandonedRun,
    find_abandoned_runs,
    find_finalize_reason,
    judge_run,
    wait_for_lease_expiry,
)
from tasks.domain.errors import RecordsUnavailable, RequestError
from tasks.domain.model import RunReport, Window
from tasks.domain.protocols.leases import LeaseHolder, LeaseStatus, StopRequest
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import Classification, OperationState, Step
from tasks.records.setup import open_records
from tasks.steps.context.run_control import StopToken
from tasks.steps.jobs import watch
from tasks.steps.jobs.watch import STOPPING_PAUSE_SECONDS
from tests.support.builders import make_report, make_run
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

RUN = "20260310-010000-aaaaaa"
US, OTHER = LeaseHolder("us", "here", 1, "me"), LeaseHolder("other", "there", 2, "anne")
NOW = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)


def until(seen) -> None:
    """Wait for a thread."""
    end = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_request_to_stop_that_stands_is_heard_before_anything_is_begun() -> None:
    leases, control = FakeLeases(), StopToken()
    leases.stops[RUN] = StopRequest("anne", "the wrong fleet", NOW)
    with LeaseRenewer(leases, RUN, control, US):
        assert control.reason == "the wrong fleet (anne)"


def test_a_run_that_stops_holds_its_lease_for_a_short_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lease, "RENEW_SECONDS", 0.01)
    leases, control = FakeLeases(), StopToken()
    with LeaseRenewer(leases, RUN, control, US):
        assert leases.held[RUN].until - leases.clock.now() == timedelta(seconds=run_lease.LEASE_SECONDS)
        control.request_stop("asked")
        until(lambda: leases.held[RUN].until - leases.clock.now() == timedelta(seconds=STOPPING_LEASE_SECONDS))
    assert leases.held[RUN].given_back


def test_a_lease_that_is_over_is_not_confirmed_while_the_records_do_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leases, control, seconds = FakeLeases(), StopToken(), [0.0]
    monkeypatch.setattr(run_lease, "_read_seconds", lambda: seconds[0])

    def fail(*_: object) -> None:
        raise RecordsUnavailable("no answer")

    with LeaseRenewer(leases, RUN, control, US):
        monkeypatch.setattr(FakeLeases, "renew", fail)
        seconds[0] = run_lease.LEASE_SECONDS
        assert control.confirm_lease()
        seconds[0] += 1
        assert not control.confirm_lease()
        assert not control.is_lease_lost
    assert [record.levelname for record in caplog.records if "not be renewed" in record.message] == ["WARNING"]


@pytest.mark.parametrize(
    ("run_seconds", "holder", "is_free"),
    [(60, OTHER, True), (80, OTHER, False), (60, US, False)],
    ids=["a dead process", "a process that lives", "a process of another run"],
)
def test_the_component_of_a_dead_process_is_free_as_soon_as_its_run(
    run_seconds: float, holder: LeaseHolder, is_free: bool
) -> None:
    leases, component = FakeLeases(), build_component_lease("exporter")
    leases.acquire(RUN, OTHER, run_seconds)
    leases.acquire(component, holder, 64)
    leases.clock.sleep(61)
    release_component_lease(leases, RUN, "exporter")
    assert leases.held[component].over(leases.clock.now()) == is_free


class _Looks:
    """Leases that change each time somebody looks."""

    def __init__(self, *views: LeaseStatus | None) -> None:
        self.views = list(views)

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]


def held(seconds: float, holder: LeaseHolder = OTHER) -> LeaseStatus:
    return LeaseStatus(RUN, holder, is_held=True, until=NOW + timedelta(seconds=seconds))


OVER = LeaseStatus(RUN, OTHER, is_held=False, until=NOW)


def wait(looks: _Looks, **more: object) -> float:
    """Wait; return how long that took."""
    clock = FakeClock(NOW)
    wait_for_lease_expiry(looks, RUN, clock=clock, **more)  # type: ignore[arg-type]  # it only looks
    return (clock.now() - NOW).total_seconds()


def test_a_free_run_is_not_waited_for() -> None:
    assert wait(_Looks(None)) == 0
    assert wait(_Looks(OVER)) == 0


def test_a_lease_that_nobody_renews_is_waited_for_and_said() -> None:
    said: list[str] = []
    assert wait(_Looks(held(60), held(60), held(60), OVER), print_message=said.append) == 3
    assert len(said) == 1
    assert str(OTHER) in said[0]


@pytest.mark.parametrize("now", [held(65), held(60, US)])
def test_a_holder_that_lives_is_named_at_once(now: LeaseStatus) -> None:
    with pytest.raises(LeaseHeld, match="is executed by"):
        wait(_Looks(held(60), held(60), now))


def test_one_that_is_about_to_end_is_waited_for_even_when_it_renews() -> None:
    assert wait(_Looks(held(60), held(65), held(70), OVER), wait_for_live_holder=True) == 3


def test_no_wait_is_for_ever() -> None:
    with pytest.raises(LeaseHeld):
        wait(_Looks(held(60)), seconds=20)


def test_what_is_done_with_a_run_that_was_left() -> None:
    run = replace(make_report().run, window=Window(NOW, NOW + timedelta(hours=1)))
    assert find_finalize_reason(run, None, NOW) == ""
    assert find_finalize_reason(run, OVER, NOW) == ""
    assert find_finalize_reason(run, replace(OVER, stop=StopRequest("anne", "wrong", NOW)), NOW) == "wrong (anne)"
    assert "window was over at 2026-03-10 02:00 UTC" in find_finalize_reason(run, OVER, NOW + timedelta(hours=1))


@given(
    state=st.sampled_from(OperationState),
    kind=st.sampled_from(["assess", "plan", "stage", "patch"]),
    lease=st.sampled_from([None, OVER, held(60), replace(OVER, stop=StopRequest("anne", "wrong", NOW))]),
    suspension=st.sampled_from([None, *(Suspension(NOW, "why", "f", is_complete=it) for it in (True, False))]),
    minutes=st.integers(-10, 200),
)
def test_recovery_begins_something_only_in_an_open_window_of_a_run_that_nobody_has_or_stopped(
    state: OperationState, kind: str, lease: LeaseStatus | None, suspension: Suspension | None, minutes: int
) -> None:
    run = make_run(kind=kind, state=state, window=Window(NOW, NOW + timedelta(hours=1)))
    judged = judge_run(run, lease, suspension, NOW + timedelta(minutes=minutes))
    is_held, is_stopped = lease is not None and lease.is_held, lease is not None and lease.stop is not None
    is_unfinished = state in {OperationState.IN_PROGRESS, OperationState.UNKNOWN} and kind in {"stage", "patch"}
    assert isinstance(judged, AbandonedRun) is (is_unfinished and not is_held)
    if isinstance(judged, AbandonedRun):
        token = StopToken()
        judged.signal_stop(token)
        may_begin = minutes < 60 and not is_stopped and state is OperationState.IN_PROGRESS
        assert bool(judged.finalize_reason) is not may_begin
        assert bool(judged.wait_reason) is (may_begin and suspension is not None and suspension.is_complete)
        assert token.is_stopping is not (may_begin and suspension is None)
    else:
        assert run.id in judged


def test_a_job_is_asked_to_stop_within_moments_and_not_after_a_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = SimFleet()
    packages = [FakePackage(name, seconds=200, classification=Classification.SECURITY, group=name) for name in "abc"]
    web = fleet.add("web", packages)
    at: dict[str, datetime] = {}

    def stop() -> None:
        at["asked"] = fleet.clock.now()
        fleet.control.request_stop("asked")

    monkeypatch.setattr(watch, "request_job_stop", lambda _work, _job: at.setdefault("passed on", fleet.clock.now()))
    web.on_start("install", 150, stop)  # by then it is looked at every ten seconds
    fleet.patch()
    assert at["passed on"] - at["asked"] <= timedelta(seconds=STOPPING_PAUSE_SECONDS)


@pytest.fixture
def caller(tmp_path: Path, empty_records: Path) -> Caller:
    """Records with three runs that nobody carries out, whose windows are open."""
    who = Caller(records_url=f"sqlite:///{shutil.copy(empty_records, tmp_path)}")
    now = datetime.now(UTC)
    with open_records(who.records_url) as records:
        for name in "abc":
            window = Window(now, now + timedelta(hours=1))
            records.save(make_run(id=name, state=OperationState.IN_PROGRESS, ended_at=None, window=window))
    return who


def test_no_run_waits_for_the_end_of_another(caller: Caller) -> None:
    together = threading.Barrier(3, timeout=120)

    def take(left: AbandonedRun, who: Caller) -> RunReport:
        together.wait()  # none ends before all have begun
        if left.run.id == "b":
            raise LeaseHeld("b", holder=OTHER, until=NOW)
        return replace(make_report(), run=left.run)

    done = reconcile_runs(caller, take)

    assert [(each.abandoned_run.run.id, each.report is None) for each in done] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]


def test_a_wish_to_stop_all_reaches_each_and_one_runs_own_reaches_no_other(caller: Caller) -> None:
    heard: dict[str, str] = {}
    together = threading.Barrier(3, timeout=120)

    def take(left: AbandonedRun, who: Caller) -> RunReport:
        if left.run.id == "a":
            who.stop_token.request_stop("its own")
        together.wait()
        if left.run.id == "b":
            assert not who.stop_token.is_stopping
            caller.stop_token.request_stop("Ctrl-C")
        until(lambda: who.stop_token.is_stopping)
        heard[left.run.id] = who.stop_token.reason
        return replace(make_report(), run=left.run)

    reconcile_runs(caller, take)

    assert heard == {"a": "its own", "b": "Ctrl-C", "c": "Ctrl-C"}
    with open_records(caller.records_url) as records:  # for whoever finishes what this process can't
        stops = {name: view.stop.reason for name in "bc" if (view := records.leases.find_lease(name)) and view.stop}
    assert stops == {"b": "Ctrl-C", "c": "Ctrl-C"}


def test_who_is_interrupted_while_it_waits_for_them_has_them_begin_nothing_more(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def take(left: AbandonedRun, who: Caller) -> RunReport:
        until(lambda: who.stop_token.is_stopping)
        heard.append(who.stop_token.reason)
        return make_report()

    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(reconciliation, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reconcile_runs(caller, take)
    assert len(heard) == 3
    assert all("KeyboardInterrupt" in each for each in heard)


def not_to_be_called(left: AbandonedRun, who: Caller) -> RunReport:
    raise AssertionError(left.run.id)


def over(caller: Caller) -> None:
    with open_records(caller.records_url) as records:
        (run,) = [left.run for left in find_abandoned_runs(caller.records_url) if left.run.id == "a"]
        records.save(replace(run, state=OperationState.SUCCEEDED))


def held_by_another(caller: Caller) -> None:
    with open_records(caller.records_url) as records:
        records.leases.acquire("a", OTHER, 600)


@pytest.mark.parametrize(("happens", "why"), [(over, "is over: Succeeded"), (held_by_another, str(OTHER))])
def test_a_run_that_is_left_no_more_when_its_turn_comes_is_left_alone(
    caller: Caller, happens: Callable[[Caller], None], why: str
) -> None:
    happens(caller)
    assert why in str(recover_if_abandoned("a", caller, not_to_be_called))


@pytest.mark.parametrize("error", [LeaseHeld("a", holder=OTHER, until=NOW), RequestError("run a is over")])
def test_one_that_somebody_takes_up_or_ends_at_the_same_moment_is_theirs(caller: Caller, error: Exception) -> None:
    def beaten(left: AbandonedRun, who: Caller) -> RunReport:
        over(caller)
        raise error

    assert isinstance(recover_if_abandoned("a", caller, beaten), str)


def test_what_can_not_be_taken_up_is_told_so(caller: Caller) -> None:
    def broken(left: AbandonedRun, who: Caller) -> RunReport:
        raise RequestError("its inventory is gone")

    with pytest.raises(RequestError, match="inventory is gone"):
        recover_if_abandoned("a", caller, broken)


@pytest.mark.parametrize(("asked", "finalized"), [(False, False), (True, True)])
def test_what_is_done_is_judged_when_its_turn_comes(caller: Caller, asked: bool, finalized: bool) -> None:
    if asked:
        with open_records(caller.records_url) as records:
            records.leases.request_stop("a", "anne", "the wrong fleet")
    seen: list[str] = []

    def take(left: AbandonedRun, who: Caller) -> RunReport:
        seen.append(left.finalize_reason)
        return make_report()

    recover_if_abandoned("a", caller, take)
    assert bool(seen[0]) is finalized


ENTRY = JournalEntry(
    RUN, "", Step.ASSESS, JournalMark.AFTER, SUSPEND_ACT, SUSPEND_ACT, NOW, {"reason": "suspended in Prefect"}
)
SUSPENDED, STOPPING = (ENTRY,), (replace(ENTRY, mark=JournalMark.BEFORE),)
HOUR = timedelta(hours=1)
CASES = [
    (OperationState.IN_PROGRESS, (), NOW, False, "resumed"),
    (OperationState.IN_PROGRESS, SUSPENDED, NOW, True, "left alone: suspended in Prefect"),
    (OperationState.IN_PROGRESS, STOPPING, NOW, False, "stopped to the end"),
    (OperationState.IN_PROGRESS, SUSPENDED, NOW + 2 * HOUR, False, "finalized: its window was over"),
    (OperationState.IN_PROGRESS, (*SUSPENDED, replace(ENTRY, act=RESUME_ACT)), NOW, False, "resumed"),
    (OperationState.UNKNOWN, (), NOW, False, "finalized: it was left: interrupted"),
]


@pytest.mark.parametrize(("state", "journal", "now", "waits", "action"), CASES)
def test_every_run_that_has_no_end_is_seen_and_what_is_done_with_it(
    tmp_path: Path,
    empty_records: Path,
    state: OperationState,
    journal: tuple[JournalEntry, ...],
    now: datetime,
    waits: bool,
    action: str,
) -> None:
    url = f"sqlite:///{shutil.copy(empty_records, tmp_path)}"
    run = make_run(id=RUN, state=state, started_at=NOW, ended_at=None, message="interrupted: Pause")
    with open_records(url) as records:
        records.save(replace(run, window=Window(NOW, NOW + HOUR)))
        for entry in journal:
            records.append_entry(entry)
    (left,) = find_abandoned_runs(url, clock=FakeClock(now))
    assert left.planned_action.startswith(action)
    assert bool(left.wait_reason) is waits
    control = StopToken()
    left.signal_stop(control)
    assert control.is_stopping is (action != "resumed")
    assert control.is_suspended is bool(left.suspension and not left.finalize_reason)
