"""The Prefect task of each step. A StepAttempt keeps the step's own result, whatever state the task run has."""

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from prefect.client.schemas.objects import State
from prefect.tasks import Task

from tasks.prefect_tasks import (
    OpaqueMachineState,
    assess_machine,
    install_updates,
    precheck_machine,
    reboot_machine,
    validate_machine,
)
from tasks.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState

StepTask = Task[[MachineContext], MachineState | State[OpaqueMachineState]]


class StepAttempt:
    """One execution of a step of a machine, independent of the task run that shows it."""

    __slots__ = ("begun", "error", "well")

    def __init__(self) -> None:
        self.begun = False
        self.well = False
        self.error: BaseException | None = None

    def run(
        self, body: Callable[[MachineContext], MachineState | State[OpaqueMachineState]], context: MachineContext
    ) -> MachineState | State[OpaqueMachineState]:
        """Run the body and return its result. Keep the error that it raises."""
        self.begun, self.well, self.error = True, False, None
        try:
            result = body(context)
        except BaseException as error:
            self.error = error
            raise
        self.well = not isinstance(result, State)
        return result

    def get_result(self, context: MachineContext) -> MachineState:
        """Return the step's result, or raise its error."""
        if self.error is not None:
            raise self.error
        return context.state


CURRENT_ATTEMPT: ContextVar[StepAttempt] = ContextVar("fleetpatch_turn")


def wrap_step_task(task: StepTask) -> StepTask:
    """Return a copy of the task that keeps its body's result. Prefect may fail before or after the body."""
    wrapped_task, body = task.with_options(), task.fn

    @functools.wraps(body)
    def run_attempt(context: MachineContext) -> MachineState | State[OpaqueMachineState]:
        return CURRENT_ATTEMPT.get().run(body, context)

    wrapped_task.fn = run_attempt
    return wrapped_task


STEP_TASKS: Mapping[Step, StepTask] = {
    Step.ASSESS: wrap_step_task(assess_machine),
    Step.PRECHECK: wrap_step_task(precheck_machine),
    Step.INSTALL: wrap_step_task(install_updates),
    Step.REBOOT: wrap_step_task(reboot_machine),
    Step.VALIDATE: wrap_step_task(validate_machine),
}


STEP_TASKS_WITHOUT_RETRY: Mapping[Step, StepTask] = {
    Step.ASSESS: wrap_step_task(assess_machine.with_options(retries=0))
}
"""For machines without retries (see ``MachineContext.is_retry_disabled``)."""
