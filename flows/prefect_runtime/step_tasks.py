"""The Prefect task of each step. A StepAttempt keeps what the body did, whatever Prefect makes of the task run."""

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from prefect.client.schemas.objects import State
from prefect.tasks import Task

from tasks.prefect_states import OpaqueMachineState
from tasks.prefect_tasks import assess_machine, install_updates, precheck_machine, reboot_machine, validate_machine
from tasks.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState

StepTask = Task[[MachineContext], MachineState | State[OpaqueMachineState]]


class StepAttempt:
    """One step of one machine, whatever becomes of the task run that shows it."""

    __slots__ = ("begun", "error", "well")

    def __init__(self) -> None:
        self.begun = False
        self.well = False
        self.error: BaseException | None = None

    def run(
        self, body: Callable[[MachineContext], MachineState | State[OpaqueMachineState]], context: MachineContext
    ) -> MachineState | State[OpaqueMachineState]:
        """Run the body, and keep what it raises. Its result is the body's own."""
        self.begun, self.well, self.error = True, False, None
        try:
            result = body(context)
        except BaseException as error:
            self.error = error
            raise
        self.well = not isinstance(result, State)
        return result

    def get_result(self, context: MachineContext) -> MachineState:
        """Return what was done, or raise what went wrong."""
        if self.error is not None:
            raise self.error
        return context.state


CURRENT_ATTEMPT: ContextVar[StepAttempt] = ContextVar("fleetpatch_turn")


def wrap_step_task(task: StepTask) -> StepTask:
    """Return the task, made to note what its body did: Prefect may fail before the body, or after it."""
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
"""For machines that are not waited for (see ``MachineContext.is_retry_disabled``)."""
