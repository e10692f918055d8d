"""A run that installs waits for the end of another run's download, which it has asked to stop; and nothing else."""

from collections.abc import Callable

import pytest

from tasks.domain.errors import ConnectionLost, LockLost
from tasks.domain.model import Outcome
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import SimMachine

OTHER = "20260309-010000-beef00"
NEVER = 1e6


def downloading(machine: SimMachine, polls: float, then: Callable[[], None] = lambda: None) -> list[Script]:
    """Let another run's download be there until it was asked so often to stop; return the requests."""
    asked: list[Script] = []

    def take_lock(script: Script) -> ScriptRecord:
        asked.append(script)
        if len(asked) > polls or script.params.get("release"):
            return machine._take_lock(script)
        then()
        until = machine.fake_clock.now().timestamp() + 86400
        job = f"{OTHER}-stage-0-abcdef"
        return {"kind": "taken", "run": OTHER, "by": "anne", "until": until, "job": job, "ending": True}

    machine.answer("machine_lock", take_lock)
    return asked


def lock_finding(outcome: Outcome) -> tuple[FindingLevel, str]:
    (found,) = [(each.level, each.message) for each in outcome.findings if each.check == "machine lock"]
    return found


@pytest.mark.parametrize("polls", [1, 5])
def test_the_machine_is_patched_when_the_download_has_ended(fleet: SimFleet, polls: int) -> None:
    web = fleet.add("web", [FakePackage("a")])
    asked = downloading(web, polls)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED
    assert lock_finding(outcome) == (FindingLevel.GOOD, f"taken over from run {OTHER}, which only downloads")
    requests = [(each.params["preempts"], each.params["kind"]) for each in asked if not each.params.get("release")]
    assert requests == [("stage", "")] * (polls + 1)


def test_a_lock_without_a_running_download_is_taken_over_at_once(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.answer("machine_lock", lambda script: {**web._take_lock(script), "preempted": OTHER})

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED
    assert lock_finding(outcome) == (FindingLevel.GOOD, f"taken over from run {OTHER}, which only downloads")


def test_a_run_that_is_asked_to_stop_waits_no_longer(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    asked = downloading(web, NEVER, lambda: fleet.control.request_stop("enough"))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.NOT_STARTED
    assert f"a job of run {OTHER} (anne) is still running" in outcome.reason
    assert "its end was not awaited: the run was asked to stop: enough" in outcome.reason
    assert len([each for each in asked if not each.params.get("release")]) == 1
    assert web.jobs() == []


def test_a_download_that_does_not_end_is_awaited_as_long_as_the_window_holds_an_installation(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    began = fleet.clock.now()
    downloading(web, NEVER)

    outcome = outcome_of(fleet.patch(minutes=60, reboot="Never"), "web")

    assert outcome.state is OperationState.NOT_STARTED
    assert "its end was not awaited: the shortest installation needs about" in outcome.reason
    assert 58 * 60 < (fleet.clock.now() - began).total_seconds() < 61 * 60
    assert web.jobs() == []


def test_a_lost_connection_does_not_end_the_wait(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    downloading(web, 3)
    web.fail(ConnectionLost("cut"), on="machine_lock", call=2)

    assert outcome_of(fleet.patch(), "web").state is OperationState.SUCCEEDED


@pytest.mark.parametrize("ending", [False, "yes", 1, None])
def test_another_installation_is_not_awaited(fleet: SimFleet, ending: object) -> None:
    web = fleet.add("web", [FakePackage("a")])
    answer = {"kind": "taken", "run": OTHER, "by": "anne", "until": 2e9, "job": f"{OTHER}-install-0-abcdef"}
    web.answer("machine_lock", {**answer, "ending": ending})
    began = fleet.clock.now()

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.endswith("is still running on this machine: 20260309-010000-beef00-install-0-abcdef")
    assert (fleet.clock.now() - began).total_seconds() < 60


def test_a_download_says_that_it_gives_way_and_asks_nobody_to(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])

    fleet.patch(download_only=True)

    requests = [call.script.params for call in web.calls if call.name == "machine_lock" and call.script is not None]
    assert [(each["kind"], each["preempts"]) for each in requests if not each.get("release")] == [("stage", "")]


def test_a_download_whose_machine_was_taken_over_before_it_began_was_not_attempted(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    fleet.add("db", [FakePackage("a")])
    taken = LockLost("run tonight (bert) has the lock", exit_code=0)
    taken.holder = "tonight"
    web.fail(taken, on="start")

    report = fleet.patch(download_only=True, waves={"failure_budget_count": 0})

    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    result = result_of(outcome, "a")
    assert (result.state, result.reason) == (
        UpdateState.NOT_ATTEMPTED,
        "not downloaded: run tonight (bert) has the lock",
    )
    assert web.jobs() == []
    assert "only downloaded" in result_of(outcome_of(report, "db"), "a").reason


def test_a_download_that_no_other_run_has_taken_over_has_failed(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.fail(LockLost("no run has it: it was removed by bert", exit_code=0), on="start")

    outcome = outcome_of(fleet.patch(download_only=True), "web")

    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert "removed by bert" in outcome.error.message


def test_an_installation_that_lost_its_machine_has_failed(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.fail(LockLost("run tonight (bert) has the lock", exit_code=0), on="start")

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.installs() == []
