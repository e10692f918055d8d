"""The waves of one run, one after the other: who is begun, who is tried again, and who is held back."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from flows.engine.assessment import may_retry_assessment
from flows.engine.failure_counter import FailureCounter
from flows.engine.machine_pool import run_concurrently
from flows.engine.run_lifecycle import RunLifecycle
from flows.ports.ports import Ports
from flows.ports.runner import Runner
from flows.request.patch_request import PatchRequest
from tasks.errors import RecordsError
from tasks.model import Outcome, Wave
from tasks.rules.runs.failure_budget import is_unreachable
from tasks.states import OperationState, Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.pipeline import clean_up_machine, run_steps, save_checkpoint
from tasks.steps.report import build_outcome

UNAPPROVED_REASON = "it could not be reached when the plan was made, so what would be done on it was not approved"


class WaveSequence:
    """Takes the machines of a run through its waves.

    Args:
        ports: the way out.
        runner: how the work is spread.
        lifecycle: what surrounds the waves.
        request: what was asked for.
        failure_counter: the run's failures so far.
        outcomes: of the machines that are done; the others' are added.
        record_outcome: makes a machine's outcome and keeps it.
        save_late_plan: stores a plan that was made after all others, before anything is done on its machine.

    Attributes:
        open_machines: the machines that a suspended run leaves for whoever goes on with it; they have no outcome yet.
    """

    def __init__(
        self,
        ports: Ports,
        runner: Runner,
        lifecycle: RunLifecycle,
        request: PatchRequest,
        failure_counter: FailureCounter,
        *,
        outcomes: list[Outcome],
        record_outcome: Callable[[MachineContext], Outcome],
        save_late_plan: Callable[[MachineContext], None],
    ) -> None:
        self._ports = ports
        self._runner = runner
        self._lifecycle = lifecycle
        self._policy = request.to_wave_policy()
        self._must_be_approved = request.approval.required
        self._failure_counter = failure_counter
        self._outcomes = outcomes
        self._record_outcome = record_outcome
        self._save_late_plan = save_late_plan
        self._is_first = True
        self.open_machines: set[str] = set()

    def run_waves(self, waves: Sequence[Wave], contexts: dict[str, MachineContext], refusal: str) -> None:
        """Run one wave after the other. Once ``refusal`` says why, no further machine begins."""
        lifecycle = self._lifecycle
        unreachable = [name for name, work in contexts.items() if is_unreachable(work.state.error)]
        self._failure_counter.start_run(waves, self._outcomes, unreachable)
        for wave in waves:
            self._failure_counter.start_wave(wave)
            wave_contexts = [contexts[name] for name in wave.machines if name in contexts]
            if not refusal and self._failure_counter.stop_reason and not self._ports.stop_token.is_stopping:
                wave_contexts = self._skip_waiting(wave_contexts, describe_spent_budget(self._failure_counter))
            if wave_contexts and not refusal:
                if self._outcomes and self._policy.pause_seconds:
                    lifecycle.wait_until(self._ports.clock.now() + timedelta(seconds=self._policy.pause_seconds))
                refusal = lifecycle.start_wave(wave)
            if wave_contexts and self._ports.stop_token.is_suspended:
                wave_contexts = self._skip_waiting(
                    wave_contexts, f"the run is suspended: {self._ports.stop_token.reason}"
                )
            if refusal:
                wave_contexts = self._skip_waiting(wave_contexts, refusal)
            if wave_contexts:
                rest = replace(wave, machines=tuple(work.name for work in wave_contexts))  # the others are done
                self._ports.listener.on_message(f"wave {wave.number} of {len(waves)}: {', '.join(rest.machines)}")
                self._outcomes += self._runner.run_wave(rest, functools.partial(self._run_wave, wave_contexts))
                self._is_first = False
            self._failure_counter.end_wave()
            if self.open_machines.intersection(wave.machines):
                continue  # what comes after a wave comes when all of it is done
            closed = lifecycle.finish_wave(wave)
            refusal = refusal or closed

    def _run_wave(self, contexts: Sequence[MachineContext]) -> list[Outcome]:
        """Start the machines of one wave. Those that did not answer yet come last, so that the others don't wait."""
        answering_first = sorted(contexts, key=lambda work: work.state.error is not None)
        return run_concurrently(answering_first, self._policy.at_once, self._run_machine, self._ports.stop_token)

    def _run_machine(self, context: MachineContext) -> Outcome:
        if self._failure_counter.stop_reason and not is_under_way(context) and not self._ports.stop_token.is_stopping:
            outcome = self._skip_machine(context, describe_spent_budget(self._failure_counter))
        else:
            self._plan_late_machine(context)
            run_steps(context, self._runner.run_step)
            outcome = self._finish_machine(context)
        self._failure_counter.add_outcome(outcome)
        return outcome

    def _finish_machine(self, context: MachineContext) -> Outcome:
        """Return what became of a machine, and keep it, unless the machine is left open."""
        if not is_left_open(context):
            return self._record_outcome(context)
        try:
            save_checkpoint(context, Step.PRECHECK)  # its claim is given back: who goes on asks its pre-check again
        except RecordsError:
            return self._record_outcome(context)
        self.open_machines.add(context.name)
        return build_outcome(context)

    def _plan_late_machine(self, context: MachineContext) -> None:
        """Assess and plan for a machine that was not there when all others were assessed; it may be now."""
        left_out = context.state.plan is None and context.state.error is None  # of a run that was resumed
        if not (left_out or may_retry_assessment(context)) or is_under_way(context):
            return
        if self._must_be_approved:
            if left_out:
                context.state = replace(context.state, halted=UNAPPROVED_REASON, halted_as=OperationState.NOT_STARTED)
            return
        if self._ports.stop_token.is_stopping or self._ports.clock.now() >= context.run_context.window.end:
            return
        context.forget_assessment()
        context.is_retry_disabled = not self._is_first  # in later waves it had time enough since it was asked
        run_steps(context, self._runner.run_step, last=Step.ASSESS)
        if context.state.plan is not None:
            self._save_late_plan(context)

    def _skip_waiting(self, contexts: Sequence[MachineContext], why: str) -> list[MachineContext]:
        """Let machines go without anything being done to them, and return those that are under way already."""
        waiting = [work for work in contexts if not is_under_way(work)]
        if waiting:
            self._ports.listener.on_message(f"not begun: {', '.join(work.name for work in waiting)}: {why}")
        for work in waiting:
            self._outcomes.append(self._skip_machine(work, why))
            self._failure_counter.add_outcome(self._outcomes[-1])
        return [work for work in contexts if is_under_way(work)]

    def _skip_machine(self, context: MachineContext, why: str) -> Outcome:
        if context.state.error is None:
            context.state = replace(context.state, halted=why, halted_as=OperationState.NOT_STARTED)
        clean_up_machine(context)
        return self._finish_machine(context)


def describe_spent_budget(failure_counter: FailureCounter) -> str:
    """Return that the failure budget is spent, and how, or ""."""
    why = failure_counter.stop_reason
    return f"the failure budget is spent: {why}" if why else ""


def is_left_open(context: MachineContext) -> bool:
    """Whether a suspended run leaves a machine for whoever goes on: nothing was ordered on it, and no hook has run."""
    run = context.state
    untouched = run.error is None and run.install is None and not run.was_started and not run.hooks
    held = bool(run.halted) and run.halted_as is OperationState.NOT_STARTED
    rebooted = any(result.count for result in run.reboots)
    return context.run_context.stop_token.is_suspended and held and untouched and not rebooted


def is_under_way(context: MachineContext) -> bool:
    """Whether an earlier process of the run may have changed a machine, or have run hooks for it."""
    return context.state.was_started or context.state.before_hooks_ran
