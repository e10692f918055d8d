"""Hooks before and after each machine: when they run, what their failure means, and that they run once."""

from typing import Any

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.unit.engine.hook_stage import Broken, Owner, asked_for, hook, run, small_fleet

KINDS = ["machine-command", "http", "controller-command", "python", "deployment"]


def finding(outcome: Outcome, name: str) -> tuple[FindingLevel, str]:
    (found,) = [each for each in outcome.findings if each.check == f"hook {name}"]
    return found.level, found.message


def drained(kind: str, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "before_machine": [hook("drain", kind, **(before or {}))],
        "after_machine": [hook("undrain", kind, **(after or {}))],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_machine_is_drained_before_and_undrained_after_its_turn(kind: str) -> None:
    fleet = small_fleet()
    owner = Owner(fleet)

    report = run(owner, asked_for(fleet, drained(kind)))

    assert owner.asked == [
        "gate",
        "before_machine/drain/first",
        "after_machine/undrain/first",
        "before_machine/drain/second",
        "after_machine/undrain/second",
    ]
    assert report.run.state is OperationState.SUCCEEDED
    assert [(r.hook.name, r.subject, r.succeeded) for r in report.hooks] == [
        ("drain", "first", True),
        ("undrain", "first", True),
        ("drain", "second", True),
        ("undrain", "second", True),
    ]
    assert finding(outcome_of(report, "first"), "drain") == (FindingLevel.GOOD, "drain done")


def test_the_machine_is_drained_after_its_download_and_undrained_before_its_lock_is_given_back() -> None:
    fleet = small_fleet("second")
    run(Owner(fleet), asked_for(fleet, drained("machine-command")))

    told = []
    for call in fleet.machines["second"].calls:
        if call.script is not None and call.verb == "run" and call.script.name in {"hook", "machine_lock", "reboot"}:
            told.append(str(call.script.params.get("name") or call.script.params.get("release") or call.script.name))
        elif call.verb == "start" and call.script is not None:
            told.append(str(call.script.params["work"]))
    assert [each for each in told if each != "machine_lock"] == [
        "stage",
        "drain",
        "install",
        "reboot",
        "undrain",
        "yes",
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mode", "state", "level"),
    [
        ("must_succeed", OperationState.FAILED, FindingLevel.BLOCK),
        ("warn", OperationState.COMPLETED_WITH_WARNINGS, FindingLevel.WARN),
        ("ignore", OperationState.SUCCEEDED, FindingLevel.GOOD),
    ],
)
def test_a_failing_hook_before_a_machine_means_what_its_mode_says(
    kind: str, mode: str, state: OperationState, level: FindingLevel
) -> None:
    fleet = small_fleet("first")
    owner = Owner(fleet, fails={"drain": "the balancer said no"})

    report = run(owner, asked_for(fleet, drained(kind, {"mode": mode})))

    outcome = outcome_of(report, "first")
    assert (outcome.state, report.run.state) == (state, state)
    assert finding(outcome, "drain")[0] is level
    assert "the balancer said no" in finding(outcome, "drain")[1]
    installed = mode != "must_succeed"
    assert bool(fleet.machines["first"].installs()) is installed
    assert (result_of(outcome, "a").state is UpdateState.INSTALLED) is installed
    assert "after_machine/undrain/first" in owner.asked
    if not installed:
        assert "hook drain" in outcome.reason
        assert "pre-check" not in outcome.reason
        assert "the balancer said no" in result_of(outcome, "a").reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mode", "state"),
    [
        ("must_succeed", OperationState.FAILED),
        ("warn", OperationState.COMPLETED_WITH_WARNINGS),
        ("ignore", OperationState.SUCCEEDED),
    ],
)
def test_a_failing_hook_after_a_machine_means_what_its_mode_says(kind: str, mode: str, state: OperationState) -> None:
    fleet = small_fleet("first")

    report = run(Owner(fleet, fails={"undrain": "stuck"}), asked_for(fleet, drained(kind, None, {"mode": mode})))

    outcome = outcome_of(report, "first")
    assert (outcome.state, report.run.state) == (state, state)
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_one_machines_hook_does_not_stop_the_others() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    fleet.machines["first"].answer("hook", {"kind": "hook", "exit_code": 3, "text": "no"})

    report = run(owner, asked_for(fleet, {"before_machine": [hook("drain", "machine-command")]}))

    assert outcome_of(report, "first").state is OperationState.FAILED
    assert not fleet.machines["first"].installs()
    assert outcome_of(report, "second").state is OperationState.SUCCEEDED


def test_it_is_undrained_when_its_installation_failed() -> None:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("bad", fails="no")])
    owner = Owner(fleet)

    report = run(owner, asked_for(fleet, drained("http")))

    assert outcome_of(report, "web").state is OperationState.FAILED
    assert owner.asked[-1] == "after_machine/undrain/web"
    state = [outcome.state for outcome in owner.reports["undrain"].outcomes]
    assert state == [OperationState.FAILED]


def test_nothing_is_run_on_a_machine_whose_turn_never_came() -> None:
    fleet = SimFleet()
    fleet.add("idle", [FakePackage("a", available="1.0")])
    fleet.add("full", [FakePackage("a")]).free_kib = 10
    owner = Owner(fleet)

    run(owner, asked_for(fleet, drained("http")))

    assert owner.asked == ["gate"]


def test_hooks_after_are_run_without_hooks_before_once_something_was_begun() -> None:
    fleet = small_fleet("first")
    owner = Owner(fleet)

    run(owner, asked_for(fleet, {"after_machine": [hook("smoke")]}))

    assert owner.asked == ["gate", "after_machine/smoke/first"]


def test_a_reboot_that_is_taken_first_waits_for_the_hooks_too() -> None:
    fleet = small_fleet("first")
    machine = fleet.machines["first"]
    machine.world.shelf.reboot_reasons.append("a kernel")
    owner = Owner(fleet, fails={"drain": "no"})

    report = run(owner, asked_for(fleet, drained("http"), reboot_pending_first=True))

    assert machine.boots.count == 0
    assert not machine.installs()
    assert outcome_of(report, "first").state is OperationState.FAILED
    assert owner.asked == ["gate", "before_machine/drain/first", "after_machine/undrain/first"]


def test_a_machine_is_drained_once_for_a_reboot_and_an_installation() -> None:
    fleet = small_fleet("second")
    machine = fleet.machines["second"]
    machine.world.shelf.reboot_reasons.append("a kernel")
    owner = Owner(fleet)

    report = run(owner, asked_for(fleet, drained("http"), reboot_pending_first=True))

    assert machine.boots.count == 2
    assert outcome_of(report, "second").state is OperationState.SUCCEEDED
    assert owner.asked == ["gate", "before_machine/drain/second", "after_machine/undrain/second"]


def test_only_a_reboot_is_a_reason_to_drain_as_well() -> None:
    fleet = SimFleet()
    fleet.add("idle", [FakePackage("a", available="1.0")])
    owner = Owner(fleet)

    report = run(owner, asked_for(fleet, drained("http"), reboot="Always"))

    assert fleet.machines["idle"].boots.count == 1
    assert owner.asked == ["gate", "before_machine/drain/idle", "after_machine/undrain/idle"]
    assert report.run.state is OperationState.SUCCEEDED


def test_a_hook_that_keeps_the_reboot_off_is_the_machines_failure() -> None:
    fleet = SimFleet()
    fleet.add("idle", [FakePackage("a", available="1.0")])

    report = run(Owner(fleet, fails={"drain": "no"}), asked_for(fleet, drained("http"), reboot="Always"))

    assert fleet.machines["idle"].boots.count == 0
    assert outcome_of(report, "idle").state is OperationState.FAILED


def test_the_window_ends_while_a_machine_is_drained() -> None:
    fleet = small_fleet("first")
    owner = Owner(fleet, takes={"drain": 3600})

    report = run(owner, asked_for(fleet, drained("http", {"timeout_minutes": 120}), minutes=60))

    outcome = outcome_of(report, "first")
    assert outcome.state is OperationState.NOT_STARTED
    assert not fleet.machines["first"].installs()
    assert owner.asked[-1] == "after_machine/undrain/first"
    assert owner.deadlines["drain"] <= report.run.window.end  # type: ignore[union-attr]  # a patch run has one


def test_the_window_cuts_a_hook_short_and_that_is_not_the_machines_fault() -> None:
    fleet = small_fleet("first")
    owner = Owner(fleet, takes={"drain": 3600}, fails={"drain": "it took too long"})

    report = run(owner, asked_for(fleet, drained("http", {"timeout_minutes": 120}), minutes=60))

    assert outcome_of(report, "first").state is OperationState.NOT_STARTED
    assert "it took too long" in outcome_of(report, "first").reason
    assert report.run.state is OperationState.NOT_STARTED


def test_a_run_that_is_stopped_while_a_machine_is_drained_undrains_it_and_begins_nothing() -> None:
    fleet = small_fleet()
    owner = Owner(fleet, does={"drain": lambda: fleet.control.request_stop("enough")}, fails={"drain": "given up"})

    report = run(owner, asked_for(fleet, drained("http")))

    assert owner.asked == ["gate", "before_machine/drain/first", "after_machine/undrain/first"]
    assert [outcome.state for outcome in report.outcomes] == [OperationState.NOT_STARTED] * 2
    assert "enough" in outcome_of(report, "first").reason
    assert not any(machine.installs() for machine in fleet.machines.values())


def test_a_hook_that_fails_after_a_stop_is_still_the_machines_failure() -> None:
    fleet = small_fleet("first")
    owner = Owner(fleet, does={"drain": lambda: fleet.control.request_stop("enough")}, fails={"undrain": "stuck"})

    report = run(owner, asked_for(fleet, drained("http")))

    assert outcome_of(report, "first").state is OperationState.FAILED
    assert "stuck" in outcome_of(report, "first").reason


@pytest.mark.parametrize("error", [Broken("the way is blocked"), ValueError("surprise")])
def test_a_hook_that_can_not_even_be_called_has_failed(error: Exception) -> None:
    fleet = small_fleet("first")

    report = run(Owner(fleet, raises={"drain": error}), asked_for(fleet, drained("http")))

    outcome = outcome_of(report, "first")
    assert outcome.state is OperationState.FAILED
    assert str(error) in outcome.reason or getattr(error, "message", "") in outcome.reason


def test_commands_are_handed_over_as_parameters_and_never_sent_twice() -> None:
    fleet = small_fleet("first")
    run(Owner(fleet), asked_for(fleet, drained("machine-command", {"timeout_minutes": 2})))

    (drain, undrain) = [c.script for c in fleet.machines["first"].calls if c.script and c.script.name == "hook"]
    assert drain.params["command"] == "run-drain"
    assert drain.params["timeout"] == "120"
    assert (drain.params["machine"], drain.params["place"], drain.params["state"]) == ("first", "before_machine", "")
    assert undrain.params["state"] == "Succeeded"
    assert not drain.read_only


def test_all_hooks_after_are_run_and_no_more_before_once_one_failed() -> None:
    fleet = small_fleet("first")
    owner = Owner(fleet, fails={"one": "no", "three": "no"})
    hooks = {
        "before_machine": [hook("zero"), hook("one"), hook("two")],
        "after_machine": [hook("three"), hook("four")],
    }

    run(owner, asked_for(fleet, hooks))

    names = [each.split("/")[1] for each in owner.asked[1:]]
    assert names == ["zero", "one", "three", "four"]


def test_a_hook_of_a_machine_is_handed_its_own_machine_only(fleet: SimFleet) -> None:
    for name in ("a", "b", "c"):
        fleet.add(name, [FakePackage("p")])
    owner = Owner(fleet)
    hooks = drained("http") | {"before_wave": [hook("wave")], "after_run": [hook("end")]}
    report = run(owner, asked_for(fleet, hooks, waves={"size": 3}))
    for name in ("drain", "undrain"):
        seen = owner.reports[name]
        (wave,) = seen.waves
        assert [each.machine for each in seen.outcomes] == ["c"]
        assert [each.machine for each in seen.assessments] == [each.machine for each in seen.plans] == ["c"]
        assert (wave.machines, wave.number) == (("c",), report.waves[0].number)
        assert {each.subject for each in seen.hooks} == {"c", "wave 1"} - ({"c"} if name == "drain" else set())
    assert len(owner.reports["wave"].plans) == 3
    assert len(owner.reports["end"].outcomes) == 3
