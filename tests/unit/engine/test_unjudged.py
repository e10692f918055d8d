"""Validation while somebody changes packages: it waits, and never takes for good what it could not judge."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tasks.domain.model import Outcome, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.sim_machine import SimMachine

WORDS = "packages could not be checked: they were being changed by dpkg (pid 7)"


def hold(machine: SimMachine, seconds: float) -> None:
    now = machine.fake_clock.now()
    machine.world.locks = (*machine.world.locks, (now, now + timedelta(seconds=seconds)))


def patched(seconds: float, *, broken: bool = False, minutes: float = 240, up_after: float = 20) -> Outcome:
    """A machine that is rebooted, and on which somebody changes packages for so long from its boot on."""
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a"), FakePackage("other")])

    def booted() -> None:
        hold(web, seconds)
        web.world.shelf["other"].broken = broken

    web.boots.up_after = up_after
    web.on_start("install", 8, booted)  # it is down by then
    outcome = outcome_of(fleet.patch("a", reboot=RebootPolicy.ALWAYS, minutes=minutes), "web")
    assert web.boots.count == 1
    return outcome


def found(outcome: Outcome) -> list[str]:
    return [each.message for each in outcome.findings if each.check == "packages" and each.level is FindingLevel.WARN]


def test_somebody_who_ends_in_time_is_waited_for() -> None:
    outcome = patched(300)
    assert outcome.state is OperationState.SUCCEEDED
    assert outcome.steps[-1].ended_at - outcome.steps[-1].started_at > timedelta(seconds=200)


def test_what_comes_to_light_then_fails_the_machine() -> None:
    outcome = patched(300, broken=True)
    assert outcome.state is OperationState.FAILED
    assert "other 1.0 is half-configured" in outcome.reason


@pytest.mark.parametrize("broken", [True, False])
def test_somebody_who_does_not_end_is_a_warning_that_names_them(broken: bool) -> None:
    outcome = patched(50_000, broken=broken)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert found(outcome) == [WORDS]
    assert outcome.steps[-1].ended_at - outcome.steps[-1].started_at < timedelta(seconds=660)


def test_after_the_window_it_waits_for_its_own_time_only() -> None:
    outcome = patched(50_000, minutes=20, up_after=1500)
    validate = outcome.steps[-1]
    assert found(outcome) == [WORDS]
    assert validate.ended_at - validate.started_at < timedelta(seconds=30)


def test_a_machine_that_needs_no_visit_and_could_not_be_judged_says_so() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a", installed="2.0")])
    hold(web, 600)
    outcome = outcome_of(fleet.patch(), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert found(outcome) == [WORDS]


@pytest.mark.parametrize(
    ("seconds", "lost", "state", "warnings"),
    [
        (300, False, OperationState.SUCCEEDED, []),
        (300, True, OperationState.FAILED, []),
        (50_000, False, OperationState.COMPLETED_WITH_WARNINGS, [WORDS]),
    ],
)
def test_what_is_changed_again_as_it_is_compared_is_compared_when_that_has_ended(
    seconds: float, lost: bool, state: OperationState, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator begins after the last look at all packages, and before our versions are asked for."""
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("a")])
    asked = FakeManager.read_installed_versions

    def installed(manager: FakeManager, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> Any:
        validates = sum(call.name == "facts" for call in web.calls) == 3
        if validates and not web.world.locks:
            hold(web, seconds)
        now = web.fake_clock.now()
        if any(ends > now for _, ends in web.world.locks) or (lost and validates):
            return {}
        return asked(manager, transport, updates, deadline=deadline)

    monkeypatch.setattr(FakeManager, "read_installed_versions", installed)
    outcome = outcome_of(fleet.patch(), "web")
    assert (outcome.state, found(outcome)) == (state, warnings), outcome.reason
