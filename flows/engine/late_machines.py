"""Assesses machines that did not answer in the first assessment, in their own wave: they may be powered on first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tasks.domain.errors import RecordsError
from tasks.domain.model import ErrorInfo
from tasks.domain.states import Step
from tasks.rules.runs.power import restore_power_cycle
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import run_steps
from tasks.steps.wake import can_wake, is_wake_due, judge_wake, wake_machine


def recall_wake(context: MachineContext) -> None:
    """Recall from the journal that an earlier process of this run has powered a machine on.

    A run that is resumed before it had any plan begins anew, and its machines have lost their state.
    """
    if not can_wake(context) or context.state.power is not None:
        return
    with _record_failures(context):
        cycle = restore_power_cycle(context.records.read_entries(context.run.id, context.name))
        context.state = replace(context.state, power=cycle)
        if context.state.plan is not None and context.state.error is None:
            judge_wake(context)


def assess_late_machine(context: MachineContext, execute: Callable[[MachineContext, Step], MachineState]) -> None:
    """Assess and plan a machine in its wave. One that still does not answer is powered on, if the inventory says how.

    The window is open when this is called. Nothing is powered on before.
    """
    with _record_failures(context):
        run_steps(context, execute, last=Step.ASSESS)
        if context.state.error is None:
            judge_wake(context)  # an earlier process of this run may have powered it on
        elif is_wake_due(context) and wake_machine(context):
            context.forget_assessment()
            run_steps(context, execute, last=Step.ASSESS)


@contextmanager
def _record_failures(context: MachineContext) -> Iterator[None]:
    """Stop the run if the records fail. The machine does not begin then."""
    try:
        yield
    except RecordsError as error:
        context.stop_token.request_stop(f"the records failed: {error.message}")
        context.state = replace(context.state, error=ErrorInfo.from_error(error))
    finally:
        context.transport.close()
