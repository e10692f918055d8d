"""What a controller's death must not change: what a pre-check forbade stays forbidden, and no lock is left behind."""

import contextlib
from dataclasses import replace

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from tasks.domain.errors import RequestError
from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.taking_up import RUN, begin, resume


def one(*packages: FakePackage, skew: float = 0.0) -> SimFleet:
    fleet = SimFleet()
    fleet.add("web", packages, skew_seconds=skew)
    return fleet


def calls(fleet: SimFleet, **fields: object) -> int:
    life = Life()
    begin(fleet, fleet.request(**fields), life)  # type: ignore[arg-type]
    return life.calls


BLOCKED = calls(one(FakePackage("a"), skew=3600))
WHOLE = calls(one(FakePackage("a"), FakePackage("b", asks_reboot=True)))


@pytest.mark.parametrize("dies_at", choose_calls(BLOCKED))
def test_a_pre_check_that_blocks_blocks_whoever_takes_the_run_up(dies_at: int) -> None:
    fleet = one(FakePackage("a"), skew=3600)
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(), Life(dies_at=dies_at, after_the_act=True))
    if RUN in fleet.records.runs:
        with contextlib.suppress(RequestError):
            outcome = outcome_of(resume(fleet), "web")
            assert outcome.state is OperationState.FAILED
            assert "clock" in outcome.reason
    assert fleet.machines["web"].jobs() == []


@pytest.mark.parametrize("dies_at", choose_calls(WHOLE))
def test_no_lock_is_left_behind_when_a_run_is_taken_up_too_late(dies_at: int) -> None:
    fleet = one(FakePackage("a"), FakePackage("b", asks_reboot=True))
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(minutes=30), Life(dies_at=dies_at, after_the_act=True))
    fleet.clock.advance(45 * 60)  # the window is over, and a lock still lasts
    if RUN in fleet.records.runs:
        with contextlib.suppress(RequestError):
            resume(fleet)
        assert fleet.machines["web"].locked_by is None


def test_no_lock_is_left_behind_when_the_failure_budget_was_spent_meanwhile() -> None:
    fleet = one(FakePackage("a"))
    fleet.add("app", [FakePackage("bad", fails="no")])
    fleet.add("db", [FakePackage("a")])
    web, db = fleet.machines["web"], fleet.machines["db"]
    request = fleet.request(waves={"size": 2, "failure_budget_count": 0})
    begin(fleet, request, Life())
    assert outcome_of(fleet.records.reports[RUN], "db").state is OperationState.NOT_STARTED

    db.locked_by = web.locked_by = (RUN, "tester", fleet.clock.now().timestamp() + 3600)
    del fleet.records.outcomes[RUN, "db"]
    open_run(fleet)  # as if it had broken off before its end
    resume(fleet)

    assert db.locked_by is None


def open_run(fleet: SimFleet) -> None:
    """Let the records say that the run still goes on."""
    report = fleet.records.reports[RUN]
    fleet.records.runs[RUN] = replace(report.run, state=OperationState.IN_PROGRESS, ended_at=None)
    fleet.records.reports[RUN] = replace(report, run=fleet.records.runs[RUN])


def test_an_update_that_would_bring_in_another_costs_itself_alone() -> None:
    fleet = one(
        FakePackage("held", held=True),
        FakePackage("parent", group="g", needs=("held",)),
        FakePackage("sibling", group="g"),
        FakePackage("asks", needs=("sibling",)),  # whose group can't be installed
        FakePackage("later"),
        FakePackage("innocent"),
    )
    web = fleet.machines["web"]
    web.on_start("stage", 0.0, lambda: setattr(web.world["later"], "needs", ("sibling",)))  # after it was planned for

    outcome = outcome_of(fleet.patch(), "web")

    assert result_of(outcome, "innocent").state is UpdateState.INSTALLED
    assert result_of(outcome, "asks").state is UpdateState.EXCLUDED
    assert result_of(outcome, "later").state is UpdateState.NOT_ATTEMPTED
    assert "sibling" in result_of(outcome, "later").reason
    assert "sibling" in result_of(outcome, "asks").reason
    assert fleet.machines["web"].world.whole()["sibling"] == "1.0"


def test_the_lock_is_kept_while_a_download_does_not_end() -> None:
    fleet = one(FakePackage("a"))
    web = fleet.machines["web"]
    web.world.start_seconds = 1e5

    outcome = outcome_of(fleet.patch(minutes=60), "web")

    assert outcome.error is not None
    assert outcome.error.kind == "DeadlineExceeded"
    assert web.locked_by is not None


def test_the_lock_is_left_to_whoever_has_taken_the_run_over() -> None:
    fleet = one(FakePackage("a", seconds=60))
    web = fleet.machines["web"]
    web.on_start("install", 5, fleet.control.mark_lease_lost)

    fleet.patch()

    assert fleet.control.is_stopping
    assert web.locked_by is not None


@pytest.mark.parametrize("stage", [True, False])
def test_a_job_that_was_only_about_to_be_handed_over_is_not_begun_by_a_run_that_stops(stage: bool) -> None:
    for dies_at in choose_calls(WHOLE - 1):
        fleet = one(FakePackage("a"))
        with contextlib.suppress(Killed):
            begin(fleet, fleet.request(stage=stage), Life(dies_at=dies_at))
        begun = [job.id for job in fleet.machines["web"].jobs()]
        if RUN in fleet.records.runs and fleet.records.runs[RUN].state is OperationState.IN_PROGRESS:
            settle(fleet)
        assert [job.id for job in fleet.machines["web"].jobs()] == begun


def settle(fleet: SimFleet) -> None:
    """Take the run up and begin nothing new."""
    ports = fleet.ports()
    ports.stop_token.request_stop("only finalized")
    past = read_resume_state(FakeHistory(fleet.records), RUN)  # type: ignore[arg-type]  # the fake tells what the real one does
    FleetRun(parse_recorded_request(past.run), ports, LocalRunner(), run_id=RUN, resume_state=past).execute()
