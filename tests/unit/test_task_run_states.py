"""What Prefect shows of a step, an assessment and a wave: the type (its color), the name and the message."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from prefect.utilities.engine import collect_task_run_inputs_sync

from flows.prefect_runtime.task_run_states import (
    build_edge,
    build_state,
    build_step_state,
    evaluate_assessment,
    evaluate_wave,
)
from tasks.domain.states import FindingLevel, OperationState, RebootState, Step, UpdateState
from tasks.steps.context.machine_context import MachineState
from tests.support.builders import (
    at,
    make_assessment,
    make_failed_assessment,
    make_finding,
    make_install_result,
    make_machine,
    make_outcome,
    make_reboot_result,
    make_update_result,
    make_validation,
)

GREEN, GREY, RED = StateType.COMPLETED, StateType.CANCELLED, StateType.FAILED
WARNING = make_finding(check="disk", level=FindingLevel.WARN, message="nearly full")


def show(step: Step, *, download_only: bool = False, **progress: Any) -> tuple[StateType, str | None, str | None]:
    machine_state = MachineState(machine=make_machine(), **progress)
    state = build_step_state(machine_state, step, download_only=download_only)
    return state.type, state.name, state.message


def results(*states: UpdateState, reason: str = "") -> dict[str, Any]:
    made = tuple(make_update_result(state=state, reason=reason) for state in states)
    return {"install": make_install_result(results=made, staged_seconds=3.0)}


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (RebootState.NOT_NEEDED, (GREEN, "NotNeeded")),
        (RebootState.COMPLETED, (GREEN, "Completed")),
        (RebootState.REQUIRED, (GREY, "Required")),
        (RebootState.UNKNOWN, (GREY, "Unknown")),
        (RebootState.STARTED, (GREY, "Started")),
        (RebootState.FAILED, (RED, "Failed")),
    ],
)
def test_a_reboot_has_the_name_of_azure_and_is_green_only_if_none_is_left_to_do(
    state: RebootState, shown: tuple[StateType, str]
) -> None:
    assert show(Step.REBOOT, reboot=make_reboot_result(state=state, reason="why")) == (*shown, "why")


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (results(UpdateState.INSTALLED, UpdateState.EXCLUDED), (GREEN, "Completed", "1 update installed")),
        (results(UpdateState.EXCLUDED), (GREEN, "Completed", "nothing was installed")),
        (
            results(UpdateState.INSTALLED, UpdateState.SETUP_FAILED),
            (GREEN, "CompletedWithWarnings", "setup failed: openssl"),
        ),
        (
            results(UpdateState.INSTALLED, UpdateState.NOT_ATTEMPTED),
            (GREEN, "CompletedWithWarnings", "not attempted: openssl"),
        ),
        (results(UpdateState.NOT_ATTEMPTED, reason="the window closes"), (GREY, "NotStarted", "the window closes")),
        (results(UpdateState.INSTALLED, UpdateState.FAILED), (RED, "Failed", "failed: openssl")),
    ],
)
def test_an_installation_that_attempted_nothing_is_not_green(
    progress: dict[str, Any], shown: tuple[StateType, str, str]
) -> None:
    assert show(Step.INSTALL, **progress) == shown


def test_a_download_is_what_a_run_that_only_downloads_has_to_do() -> None:
    progress = results(UpdateState.NOT_ATTEMPTED, reason="only downloaded")

    assert show(Step.INSTALL, download_only=True, **progress) == (GREEN, "Completed", "nothing was installed")


def test_a_machine_that_is_left_alone_is_grey_and_one_that_a_check_stops_is_red() -> None:
    left = show(Step.PRECHECK, halted="another run has it", halted_as=OperationState.NOT_STARTED)
    stopped = show(Step.PRECHECK, halted="the disk is full", halted_as=OperationState.FAILED)

    assert left == (GREY, "NotStarted", "another run has it")
    assert stopped == (RED, "Failed", "the disk is full")


def test_warnings_have_a_name_and_are_said() -> None:
    shown = (GREEN, "CompletedWithWarnings", str(WARNING))

    assert show(Step.PRECHECK, findings=(WARNING,)) == shown
    assert show(Step.VALIDATE, validation=make_validation(findings=(WARNING,))) == shown


def test_a_validation_that_is_repeated_later_says_so() -> None:
    machine_state = MachineState(machine=make_machine(), validation=make_validation(findings=()))

    state = build_step_state(machine_state, Step.VALIDATE, next_look=at(0) + timedelta(minutes=5))

    assert (state.type, state.name) == (GREEN, "InProgress")
    assert state.message == f"the machine is looked at again at {at(300):%H:%M:%S} UTC"


def test_an_assessment_and_a_wave_name_the_machines() -> None:
    succeeded, failed = make_outcome(machine="a"), make_outcome(machine="b", state=OperationState.FAILED)
    warned = make_outcome(machine="c", state=OperationState.COMPLETED_WITH_WARNINGS)
    idle = make_outcome(machine="d", state=OperationState.NOT_STARTED, reason="another run has it")
    unknown = make_outcome(machine="e", state=OperationState.UNKNOWN)

    assert evaluate_assessment([make_assessment()]) == (OperationState.SUCCEEDED, "")
    assert evaluate_assessment([make_assessment(), make_failed_assessment(machine="x")]) == (
        OperationState.FAILED,
        "1 of 2 machines failed: x",
    )
    assert evaluate_wave([]) == (OperationState.FAILED, "the wave broke off")
    assert evaluate_wave([succeeded]) == (OperationState.SUCCEEDED, "")
    assert evaluate_wave([idle]) == (OperationState.NOT_STARTED, "another run has it")
    assert evaluate_wave([succeeded, warned, idle]) == (
        OperationState.COMPLETED_WITH_WARNINGS,
        "2 of 3 machines did not get all that was due: c, d",
    )
    assert evaluate_wave([succeeded, failed, unknown, warned]) == (
        OperationState.FAILED,
        "2 of 4 machines failed: b, e",
    )


@pytest.mark.parametrize("state", list(OperationState))
def test_each_state_of_an_operation_has_a_type_and_an_end(state: OperationState) -> None:
    assert build_state(state, "").is_final()


def test_an_edge_lets_a_task_run_begin_whatever_became_of_the_one_before() -> None:
    before = uuid4()

    edge = build_edge(before)

    assert edge.is_completed()
    assert edge.result() is True
    assert [one.id for one in collect_task_run_inputs_sync([edge])] == [before]
