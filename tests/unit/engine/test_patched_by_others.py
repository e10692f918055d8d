"""Machines that others patch: patched with a warning, failed by the pre-check, or left out, as the request says."""

import contextlib
from typing import Any

import pytest

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from flows.ports.ports import GateDecision
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import Finding, Outcome, RunReport
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK
from tasks.rules.runs.failure_budget import OutcomeClass, classify_outcome
from tasks.steps.context.run_control import StopToken
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN, begin, resume
from tests.unit.engine.hook_stage import Owner, asked_for, hook, run

AGENT = "an agent"
LEFT_OUT = f"left out: others patch this machine ({AGENT}), and the request skips such machines"
HOOKS = {"before_machine": [hook("drain", "machine-command")], "after_machine": [hook("undrain", "machine-command")]}


def owned(*names: str) -> SimFleet:
    """Return a fleet of "web", which these patch, and "db", which no other patches."""
    fleet = SimFleet()
    for name in ("web", "db"):
        fleet.add(name, [FakePackage("a", seconds=20)])
    take_over(fleet.machines["web"], *names)
    return fleet


def take_over(machine: SimMachine, *names: str) -> None:
    machine.world.auto_updaters = tuple((name, None) for name in names)
    machine.world.unpausable_updaters = names


def about(outcome: Outcome) -> list[Finding]:
    return [each for each in outcome.findings if each.check == AUTO_UPDATER_CHECK]


def test_by_default_it_is_patched_with_a_remark() -> None:
    report = owned(AGENT).patch()
    outcome = outcome_of(report, "web")
    assert (outcome.state, to_run_exit_code(report)) == (OperationState.SUCCEEDED, ExitCode.SUCCESS)
    assert [each.level for each in about(outcome)] == [FindingLevel.REMARK]
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_fail_fails_its_pre_check_with_reason_and_remedy_before_anything_is_done() -> None:
    fleet = owned(AGENT)
    report = fleet.patch(patched_by_others="fail", waves={"failure_budget_count": 1})
    outcome, machine = outcome_of(report, "web"), fleet.machines["web"]
    assert outcome.state is OperationState.FAILED
    assert outcome.reason.startswith(f"pre-check {AUTO_UPDATER_CHECK}: {AGENT} may install updates by itself")
    assert "skip" in about(outcome)[0].remedy
    assert not machine.jobs()
    assert machine.locked_by is None
    assert outcome_of(report, "db").state is OperationState.SUCCEEDED
    assert to_run_exit_code(report) is ExitCode.MACHINE_FAILED


def test_skip_leaves_it_out_untouched_and_says_why() -> None:
    fleet = owned(AGENT)
    report = fleet.patch(patched_by_others="skip", waves={"failure_budget_count": 0})
    outcome, machine = outcome_of(report, "web"), fleet.machines["web"]
    assert (outcome.state, outcome.reason) == (OperationState.NOT_STARTED, LEFT_OUT)
    assert (result_of(outcome, "a").state, result_of(outcome, "a").reason) == (UpdateState.NOT_ATTEMPTED, LEFT_OUT)
    assert [each.level for each in about(outcome)] == [FindingLevel.REMARK]
    assert classify_outcome(outcome) is OutcomeClass.NOT_STARTED
    assert {call.name for call in machine.calls} <= {"facts", "fake_assess", "fake_simulate"}
    assert outcome_of(report, "db").state is OperationState.SUCCEEDED
    assert report.run.state is OperationState.COMPLETED_WITH_WARNINGS
    assert to_run_exit_code(report) is ExitCode.WARNINGS


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("hooks", [{}, HOOKS])
def test_a_machine_that_nobody_else_patches_is_patched(policy: str, hooks: dict[str, Any]) -> None:
    fleet = owned()
    outcome = outcome_of(run(Owner(fleet), asked_for(fleet, hooks, patched_by_others=policy)), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert about(outcome) == []


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_what_the_run_pauses_does_not_count(policy: str) -> None:
    fleet = owned("fake.timer")
    machine = fleet.machines["web"]
    machine.world.unpausable_updaters = ()
    ahead = fleet.patch(patched_by_others=policy, native_updaters="pause", download_only=True)
    assert machine.updaters.asked == []  # a run that only downloads pauses nothing
    assert [str(job.script.params["work"]) for job in machine.jobs()] == ["stage"], outcome_of(ahead, "web").reason
    outcome = outcome_of(fleet.patch(patched_by_others=policy, native_updaters="pause"), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


@pytest.mark.parametrize(("policy", "state"), [("fail", OperationState.FAILED), ("skip", OperationState.NOT_STARTED)])
def test_nothing_is_downloaded_to_it_ahead(policy: str, state: OperationState) -> None:
    fleet = owned(AGENT)
    outcome = outcome_of(fleet.patch(patched_by_others=policy, download_only=True), "web")
    assert outcome.state is state
    assert not fleet.machines["web"].jobs()


def test_a_machine_without_anything_to_do_is_neither_failed_nor_left_out() -> None:
    for policy in ("fail", "skip"):
        fleet = SimFleet()
        take_over(fleet.add("web", []), AGENT)
        planned = outcome_of(fleet.patch(patched_by_others=policy, dry_run=True), "web")
        assert planned.reason == "plan: nothing would be installed"
        assert outcome_of(fleet.patch(patched_by_others=policy), "web").state is OperationState.SUCCEEDED


@pytest.mark.parametrize(
    ("policy", "state", "words"),
    [("fail", OperationState.FAILED, "refuses"), ("skip", OperationState.NOT_STARTED, "left out")],
)
def test_a_plan_says_it_before_the_window(policy: str, state: OperationState, words: str) -> None:
    report = owned(AGENT).patch(patched_by_others=policy, dry_run=True)
    outcome = outcome_of(report, "web")
    assert outcome.state is state
    assert words in outcome.reason
    (plan,) = [each for each in report.plans if each.machine == "web"]
    assert any(words in note for note in plan.notes)


@pytest.mark.parametrize(("policy", "state"), [("fail", OperationState.FAILED), ("skip", OperationState.NOT_STARTED)])
def test_who_takes_it_over_after_the_pre_check_is_seen_before_the_first_change(
    policy: str, state: OperationState
) -> None:
    fleet = owned()
    machine = fleet.machines["web"]
    machine.on_start("stage", 1, lambda: take_over(machine, AGENT))
    outcome = outcome_of(run(Owner(fleet), asked_for(fleet, HOOKS, patched_by_others=policy)), "web")
    assert outcome.state is state
    assert AGENT in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert not machine.installs()
    assert [call.name for call in machine.calls if call.name == "hook"] == []
    assert machine.locked_by is None


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_repair_of_a_machine_that_others_took_over_does_not_begin(policy: str) -> None:
    fleet = SimFleet()
    machine = fleet.add("web", [FakePackage("a"), FakePackage("b", broken=True)])
    plain = machine._handlers["machine_lock"][0]

    def locked(script: object) -> object:  # as the pre-check gets its lock
        take_over(machine, AGENT)
        return plain(script)  # type: ignore[arg-type]  # a Script

    machine.answer("machine_lock", locked)  # type: ignore[arg-type]  # records
    outcome = outcome_of(fleet.patch(patched_by_others=policy, repair=True), "web")
    assert outcome.state is (OperationState.FAILED if policy == "fail" else OperationState.NOT_STARTED)
    assert not machine.jobs()


@pytest.mark.parametrize("work", ["repair", "install"])
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_what_has_begun_is_finished(policy: str, work: str) -> None:
    fleet = SimFleet()
    machine = fleet.add("web", [FakePackage("a", seconds=20), FakePackage("b", broken=True), FakePackage("c")])
    machine.on_start(work, 0, lambda: take_over(machine, AGENT))
    outcome = outcome_of(fleet.patch(patched_by_others=policy, repair=True), "web")
    assert {result_of(outcome, each).state for each in "ac"} == {UpdateState.INSTALLED}, outcome.reason


def test_who_takes_it_over_during_its_approval_is_seen() -> None:
    fleet = owned()
    owner = Owner(fleet)
    plain = owner.gate

    def approve(planned: RunReport, control: StopToken) -> GateDecision:
        take_over(fleet.machines["web"], AGENT)
        return plain(planned, control)

    owner.gate = approve  # type: ignore[method-assign]  # the port asks it
    asked = asked_for(fleet, {}, patched_by_others="skip", approval={"required": True})
    outcome = outcome_of(run(owner, asked), "web")
    assert owner.asked == ["gate"]
    assert (outcome.state, outcome.reason) == (OperationState.NOT_STARTED, LEFT_OUT)
    assert not fleet.machines["web"].installs()


def half_broken() -> SimFleet:
    """Return a fleet with one machine to be repaired first."""
    fleet = owned()
    fleet.add("broken", [FakePackage("a", seconds=20), FakePackage("b", broken=True)])
    return fleet


def request_repair(fleet: SimFleet, policy: str) -> PatchRequest:
    return fleet.request(patched_by_others=policy, repair=True, waves={"failure_budget_count": 9})


def count_calls() -> int:
    life, fleet = Life(), half_broken()
    begin(fleet, request_repair(fleet, "skip"), life)
    return life.calls


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("dies_at", choose_calls(count_calls()))
def test_a_resumed_run_finishes_what_it_began_and_begins_nothing_on_a_machine_that_others_took_over(
    policy: str, dies_at: int
) -> None:
    fleet = half_broken()
    with contextlib.suppress(Killed):
        begin(fleet, request_repair(fleet, policy), Life(dies_at=dies_at))
    if RUN not in fleet.records.runs:
        return
    begun = {each.machine for each in fleet.records.journal if each.act in {"repair", "install"}}
    for machine in fleet.machines.values():
        take_over(machine, AGENT)
    with contextlib.suppress(RequestError):  # it was over
        resume(fleet)
    for name, machine in fleet.machines.items():
        outcome = fleet.records.outcomes[RUN, name]
        assert bool(machine.installs()) is (machine.world.whole()["a"] == "2.0") is (name in begun), outcome.reason
        if name not in begun:
            assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
            assert AGENT in outcome.reason
