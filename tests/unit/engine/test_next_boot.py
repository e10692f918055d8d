"""A machine whose next boot lacks files is not rebooted, and is told of it wherever somebody looks."""

import pytest

from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of

LACKS = "the kernel 6.2 in /boot has no initramfs, and the next boot may choose it"


def test_a_reboot_into_it_is_refused(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.world.unbootable = LACKS

    outcome = outcome_of(fleet.patch(), "web")

    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert (outcome.reboot, web.boots.count) == (RebootState.REQUIRED, 0)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert LACKS in outcome.reason


def test_what_a_run_does_to_the_next_boot_is_its_failure(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True, seconds=60.0)])
    web.at(30, lambda: setattr(web.world, "unbootable", LACKS))

    outcome = outcome_of(fleet.patch(), "web")

    assert (outcome.state, web.boots.count) == (OperationState.FAILED, 0)
    assert LACKS in outcome.reason


def test_a_machine_with_nothing_pending_and_an_assessment_say_so(fleet: SimFleet) -> None:
    fleet.add("web", []).world.unbootable = LACKS
    for report in (fleet.patch(), fleet.assess()):
        outcome = outcome_of(report, "web")
        assert (outcome.state, LACKS in outcome.reason) == (OperationState.COMPLETED_WITH_WARNINGS, True)


def test_what_a_run_has_mended_is_no_warning(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=60.0)])
    web.world.unbootable = LACKS
    web.at(30, lambda: setattr(web.world, "unbootable", ""))

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason


WHOLE = {"kind": "survey", "ignores_devices": False, "fstab_is_proven": True}


@pytest.mark.parametrize("answer", [ScriptResult((), 1), ScriptResult((WHOLE,), 1), ScriptResult((), 0)])
def test_a_reboot_into_what_nobody_could_look_at_is_refused(fleet: SimFleet, answer: ScriptResult) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.answer("next_boot", lambda _: answer)

    outcome = outcome_of(fleet.patch(), "web")

    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert (outcome.reboot, web.boots.count) == (RebootState.REQUIRED, 0)
    (refused,) = [step.message for step in outcome.steps if step.step is Step.REBOOT]
    assert "could not be read: its answer is not whole" in refused


def test_units_that_nobody_could_read_are_told_and_keep_no_machine_from_its_reboot(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    unread = {"kind": "section", "name": "units", "exit_code": 1, "text": "", "stderr": "no bus"}
    web.answer("next_boot", [unread, WHOLE])

    outcome = outcome_of(fleet.patch(), "web")

    assert (outcome.reboot, web.boots.count) == (RebootState.COMPLETED, 1)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "which mounts and units a reboot ends is not known: systemctl ended with 1: no bus" in outcome.reason


def test_what_nobody_could_read_after_a_reboot_was_not_ended_for_sure(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    shown = (
        "Id=multi-user.target\nActiveEnterTimestampMonotonic=30000000\n\n"
        "Id=x.mount\nActiveState=active\nWhere=/srv/x\nType=xfs\nActiveEnterTimestampMonotonic=9000000000\n"
    )
    read = {"kind": "section", "name": "units", "exit_code": 0, "text": shown, "stderr": ""}
    unread = {**read, "exit_code": 1, "text": ""}
    web.answer("next_boot", lambda _: [unread if web.boots.count else read, WHOLE])

    outcome = outcome_of(fleet.patch(), "web")

    assert web.boots.count == 1
    assert "/srv/x (unknown) was mounted by hand" in outcome.reason
    assert "which mounts and units a reboot ends is not known" in outcome.reason
    assert "ended by the reboot" not in outcome.reason
