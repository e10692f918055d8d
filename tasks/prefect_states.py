"""The Prefect states of a machine's steps.

The task run of a failed step is Failed (red) in Prefect. No exception is raised, so the other machines continue.
"""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.tasks import Task

from inventory.errors import FleetpatchError
from tasks.states import OperationState, Step
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import evaluate_step


class OpaqueMachineState:
    """A machine state in a Failed state, with a short repr: Prefect logs this data, and the full state is very long."""

    __slots__ = ("state",)

    def __init__(self, state: MachineState) -> None:
        self.state = state

    def __repr__(self) -> str:
        return self.state.machine.name


def to_prefect_state(machine_state: MachineState, step: Step) -> MachineState | State[OpaqueMachineState]:
    """Return the result of a step; in a Prefect Failed state when the step failed."""
    state, message = evaluate_step(machine_state, step)
    if state is OperationState.FAILED:
        return Failed(message=message, data=OpaqueMachineState(machine_state))
    return machine_state


def is_transient_failure(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a retry of a failed task run may succeed. The kind of the error decides, never its text."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, FleetpatchError) and error.transient
