"""The states of task runs in Prefect: their type, their name, and the reason as their message. Pure.

The drawing of a run shows only the type, as a color. Green (Completed): what was due is done, or nothing was due. Grey
(Cancelled): it is not done, or nobody knows. Red (Failed): it went wrong. The lists show the name: that of Azure Update
Manager, except that Prefect calls Succeeded "Completed".
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.states import Completed

from inventory.name_lists import join_first_names
from tasks.domain.model import Assessment, Outcome
from tasks.domain.states import PRESENT_UPDATE_STATES, OperationState, RebootState, Step
from tasks.reports.formatting import format_count
from tasks.rules.runs.outcome import determine_run_state
from tasks.steps.context.machine_context import MachineState
from tasks.steps.pipeline import describe_result, evaluate_step

_TYPES: Final[Mapping[OperationState, StateType]] = {
    OperationState.SUCCEEDED: StateType.COMPLETED,
    OperationState.COMPLETED_WITH_WARNINGS: StateType.COMPLETED,
    OperationState.IN_PROGRESS: StateType.COMPLETED,  # of a look at a machine that is looked at again
    OperationState.NOT_STARTED: StateType.CANCELLED,
    OperationState.CANCELLED: StateType.CANCELLED,
    OperationState.UNKNOWN: StateType.FAILED,  # as of a run
    OperationState.FAILED: StateType.FAILED,
}
_REBOOT_TYPES: Final[Mapping[RebootState, StateType]] = {
    RebootState.NOT_NEEDED: StateType.COMPLETED,
    RebootState.COMPLETED: StateType.COMPLETED,
    RebootState.REQUIRED: StateType.CANCELLED,
    RebootState.STARTED: StateType.CANCELLED,
    RebootState.UNKNOWN: StateType.CANCELLED,
    RebootState.FAILED: StateType.FAILED,
}
_GOOD_ENDS: Final = frozenset(
    {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS, OperationState.NOT_STARTED}
)
_MAX_NAMES: Final = 10


def build_state(state: OperationState, message: str) -> State[None]:
    """Return the state of a task run whose work has just ended so: Prefect ignores one that is older than Running."""
    name = "Completed" if state is OperationState.SUCCEEDED else state.value
    return State(type=_TYPES[state], name=name, message=message or None)


def build_step_state(
    machine_state: MachineState, step: Step, *, download_only: bool = False, next_look: datetime | None = None
) -> State[None]:
    """Return the state of a step that raised nothing.

    Args:
        machine_state: after the step.
        step: the step.
        download_only: whether the run only downloads updates.
        next_look: when the step goes on, in a task run of its own; None: it is over.
    """
    state, message = evaluate_step(machine_state, step, download_only=download_only)
    if next_look is not None and _TYPES[state] is StateType.COMPLETED:
        return build_state(OperationState.IN_PROGRESS, f"the machine is looked at again at {next_look:%H:%M:%S} UTC")
    if step is Step.REBOOT and machine_state.reboots and not machine_state.halted:
        result = machine_state.reboots[-1]
        return State(type=_REBOOT_TYPES[result.state], name=result.state.value, message=result.reason or None)
    if step is Step.INSTALL and state is OperationState.SUCCEEDED:
        message = _describe_installation(machine_state)
    return build_state(state, message or describe_result(machine_state, step))


def evaluate_assessment(assessments: Sequence[Assessment]) -> tuple[OperationState, str]:
    """Return the state of the assessment of all machines, and a short reason."""
    failed = [assessment.machine for assessment in assessments if assessment.error is not None]
    return (OperationState.FAILED if failed else OperationState.SUCCEEDED), _describe(
        failed, len(assessments), "failed"
    )


def evaluate_wave(outcomes: Sequence[Outcome]) -> tuple[OperationState, str]:
    """Return the state of a wave, and a short reason. Without outcomes it broke off."""
    if not outcomes:
        return OperationState.FAILED, "the wave broke off"
    state = determine_run_state(outcomes)
    if state is OperationState.NOT_STARTED:
        return state, outcomes[0].reason
    good, verb = _GOOD_ENDS, "failed"
    if state is not OperationState.FAILED:
        good, verb = frozenset({OperationState.SUCCEEDED}), "did not get all that was due"
    others = [outcome.machine for outcome in outcomes if outcome.state not in good]
    return state, _describe(others, len(outcomes), verb)


def build_edge(task_run_id: UUID) -> State[bool]:
    """Return what a task run waits for that begins after another one, whatever became of that."""
    return Completed(data=True, state_details=StateDetails(task_run_id=task_run_id))


def _describe_installation(machine_state: MachineState) -> str:
    results = machine_state.install.results if machine_state.install is not None else ()
    installed = sum(result.state in PRESENT_UPDATE_STATES for result in results)
    return f"{format_count(installed, 'update')} installed" if installed else "nothing was installed"


def _describe(names: Sequence[str], count: int, verb: str) -> str:
    """Return which machines of how many; "" if none."""
    shown = join_first_names(names, _MAX_NAMES)
    return f"{len(names)} of {format_count(count, 'machine')} {verb}: {shown}" if names else ""
