"""Work on many machines in parallel threads, and the assessment of all machines before the first wave."""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flows.ports.ports import Runner
from tasks.domain.states import Step
from tasks.rules.runs.failure_budget import FailureBudget, OutcomeClass, OutcomeTally, check_unreachable, is_unreachable
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import StopToken
from tasks.steps.pipeline import run_steps
from tasks.steps.power import is_wake_due

T = TypeVar("T")


def run_concurrently(
    contexts: Sequence[MachineContext], at_once: int, body: Callable[[MachineContext], T], stop_token: StopToken
) -> list[T]:
    """Call the body for each machine in parallel, each in a copy of this context, which holds Prefect's flow run.

    If a body raises, ask the run to stop, wait for the other bodies, and raise the error.
    """
    if not contexts:
        return []
    with ThreadPoolExecutor(min(at_once, len(contexts)), thread_name_prefix="machine") as pool:
        futures = [pool.submit(contextvars.copy_context().run, body, work) for work in contexts]
        try:
            return [future.result() for future in futures]
        except BaseException as error:  # the exit of the pool waits for the others; they begin nothing new
            stop_token.request_stop(f"the run broke off: {type(error).__name__}: {error}")
            raise


def assess_machines(contexts: Sequence[MachineContext], at_once: int, runner: Runner, stop_token: StopToken) -> None:
    """Assess all machines in parallel. The runner retries machines that don't answer, if it supports retries."""
    run_concurrently(contexts, at_once, lambda work: run_steps(work, runner.run_step, last=Step.ASSESS), stop_token)


def assess_machines_once(
    contexts: Sequence[MachineContext], at_once: int, runner: Runner, stop_token: StopToken, budget: FailureBudget
) -> None:
    """Assess all machines once, so that machines that answer don't wait for retries of the others.

    If too many machines don't answer for the run to begin, those machines are tried again at once. Machines that the
    run can power on don't count: they are expected to be off, and are powered on when their turn comes.
    """
    for work in contexts:
        work.is_retry_disabled = True
    assess_machines(contexts, at_once, runner, stop_token)
    for work in contexts:
        work.is_retry_disabled = False
    unreachable_count = sum(is_unreachable(work.state.error) and not is_wake_due(work) for work in contexts)
    if check_unreachable(budget, OutcomeTally(len(contexts), {OutcomeClass.UNREACHABLE: unreachable_count})):
        machines_to_retry = [
            work
            for work in contexts
            if may_retry_assessment(work) and not is_wake_due(work) and not stop_token.is_stopping
        ]
        for work in machines_to_retry:
            work.forget_assessment()
        assess_machines(machines_to_retry, at_once, runner, stop_token)


def may_retry_assessment(context: MachineContext) -> bool:
    """Return whether a machine has no plan, and a new assessment may succeed."""
    return context.state.plan is None and context.state.error is not None and context.state.error.transient
