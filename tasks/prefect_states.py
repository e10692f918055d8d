"""What Prefect's task runs say of a machine: red when it failed there, although nothing is raised through the fleet."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.tasks import Task

from inventory.errors import FleetpatchError
from tasks.states import OperationState, Step
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import evaluate_step


class OpaqueMachineState:
    """A machine's run within a Failed state. Prefect writes such data to its log, and a whole run would drown it."""

    __slots__ = ("state",)

    def __init__(self, state: MachineState) -> None:
        self.state = state

    def __repr__(self) -> str:
        return self.state.machine.name


def to_prefect_state(machine_state: MachineState, step: Step) -> MachineState | State[OpaqueMachineState]:
    """Return a step's result: as it is, or within a Failed state when the step found or left the machine wanting."""
    state, message = evaluate_step(machine_state, step)
    if state is OperationState.FAILED:
        return Failed(message=message, data=OpaqueMachineState(machine_state))
    return machine_state


def is_transient_failure(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a failed task run may go better if it is tried again: by the error's kind, never by its text."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, FleetpatchError) and error.transient
