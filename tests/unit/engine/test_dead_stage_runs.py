"""A run that only downloads and whose process died: it is found and ends as any other, and its locks end in time."""

import contextlib
import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from flows.engine.resume_state import require_resumable
from flows.ports.caller import Caller
from flows.recovery.cancellation import cancel_run
from flows.recovery.unfinished_runs import find_abandoned_runs
from tasks.domain.errors import RequestError
from tasks.domain.states import OperationState, UpdateState
from tasks.records.setup import open_records
from tests.support.builders import make_run
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.taking_up import RUN, begin, resume

MINUTES = 60


def two() -> SimFleet:
    fleet = SimFleet()
    fleet.add("first", [FakePackage("a"), FakePackage("b", asks_reboot=True)])
    fleet.add("second", [FakePackage("a")])
    return fleet


def calls() -> int:
    life, fleet = Life(), two()
    begin(fleet, fleet.request(download_only=True), life)
    return life.calls


CALLS = calls()


@pytest.fixture
def url(tmp_path: Path, empty_records: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_records, tmp_path)}"


@pytest.mark.parametrize("kind", ["patch", "stage"])
def test_every_kind_of_run_that_locks_machines_is_found_and_can_be_stopped(url: str, kind: str) -> None:
    run = make_run(kind=kind, state=OperationState.IN_PROGRESS, ended_at=None)
    with open_records(url) as records:
        records.save(run)

    (left,) = find_abandoned_runs(url, clock=FakeClock(run.started_at))

    assert left.run.id == run.id
    assert require_resumable(left.run) is left.run
    asked = cancel_run(run.id, "the wrong fleet", Caller(records_url=url))
    assert asked.stop_request.reason == "the wrong fleet"


@pytest.mark.parametrize("kind", ["assess", "plan"])
def test_a_run_that_only_looks_is_none_that_was_left(url: str, kind: str) -> None:
    run = make_run(kind=kind, state=OperationState.IN_PROGRESS, ended_at=None)
    with open_records(url) as records:
        records.save(run)
    assert find_abandoned_runs(url) == ()
    with pytest.raises(RequestError, match="only looked"):
        require_resumable(run)


@pytest.mark.parametrize("after_the_act", [False, True])
@pytest.mark.parametrize("dies_at", choose_calls(CALLS))
def test_killed_at_any_call_and_taken_up_it_has_downloaded_and_leaves_no_lock(
    dies_at: int, after_the_act: bool
) -> None:
    fleet = two()
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(download_only=True), Life(dies_at=dies_at, after_the_act=after_the_act))
    if not open_still(fleet):
        return
    fleet.clock.advance(60)

    report = resume(fleet)

    for name, machine in fleet.machines.items():
        assert [job.script.params["work"] for job in machine.jobs()] == ["stage"]
        assert machine.locked_by is None
        result = result_of(outcome_of(report, name), "a")
        assert result.state is UpdateState.NOT_ATTEMPTED
        assert "only downloaded" in result.reason


@pytest.mark.parametrize("dies_at", choose_calls(CALLS))
def test_taken_up_when_its_time_is_over_it_downloads_nothing_more_and_its_record_is_true(dies_at: int) -> None:
    fleet = two()
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(download_only=True, minutes=MINUTES), Life(dies_at=dies_at, after_the_act=True))
    if not open_still(fleet):
        return
    begun = {name: len(machine.begun()) for name, machine in fleet.machines.items()}
    fleet.clock.advance(MINUTES * 60 + 1)

    report = resume(fleet)

    assert report.run.state not in (OperationState.IN_PROGRESS, OperationState.UNKNOWN)
    for name, machine in fleet.machines.items():
        assert len(machine.begun()) == begun[name]
        assert machine.locked_by is None
        outcome = outcome_of(report, name)
        was_downloaded = outcome.install is not None and outcome.install.staged_seconds is not None
        assert was_downloaded is bool(begun[name])
        reason = result_of(outcome, "a").reason
        assert re.search("only downloaded" if was_downloaded else "no time (is )?left", reason), reason


def test_a_lock_of_a_download_ends_with_the_runs_own_time() -> None:
    fleet = two()
    life, first = Life(), fleet.machines["first"]
    first.on_start("stage", 0.0, lambda: setattr(life, "dead", True))
    with pytest.raises(Killed):
        begin(fleet, fleet.request(download_only=True, minutes=MINUTES), life)
    window = fleet.records.runs[RUN].window

    assert window is not None
    assert first.locked_by is not None
    assert first.locked_by[2] == pytest.approx(window.end.timestamp(), abs=1)
    fleet.clock.advance(timedelta(minutes=MINUTES).total_seconds())
    second_run = fleet.campaign(fleet.request()).execute()  # the run in the window finds its machine free
    assert result_of(outcome_of(second_run, "first"), "a").state is UpdateState.INSTALLED


def open_still(fleet: SimFleet) -> bool:
    return RUN in fleet.records.runs and fleet.records.runs[RUN].state is OperationState.IN_PROGRESS
