"""What Prefect's task runs say of a machine: red when it failed there, although nothing is raised through the fleet."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.tasks import Task

from inventory.errors import FleetpatchError
from tasks.states import OperationState, Step
from tasks.steps.context import MachineRun
from tasks.steps.order import how_it_went


class Handed:
    """A machine's run within a Failed state. Prefect writes such data to its log, and a whole run would drown it."""

    __slots__ = ("run",)

    def __init__(self, run: MachineRun) -> None:
        self.run = run

    def __repr__(self) -> str:
        return self.run.machine.name


def as_state(run: MachineRun, step: Step) -> MachineRun | State[Handed]:
    """Return a step's result: as it is, or within a Failed state when the step found or left the machine wanting."""
    state, message = how_it_went(run, step)
    if state is OperationState.FAILED:
        return Failed(message=message, data=Handed(run))
    return run


def worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a failed task run may go better if it is tried again: by the error's kind, never by its text."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, FleetpatchError) and error.transient
