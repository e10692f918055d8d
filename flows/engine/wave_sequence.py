"""The waves of a run in sequence: which machines begin, which are tried again, and which are skipped."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from flows.engine.failure_counter import FailureCounter
from flows.engine.late_machines import assess_late_machine, recall_wake
from flows.engine.machine_pool import may_retry_assessment, run_concurrently
from flows.engine.run_lifecycle import RunLifecycle
from flows.engine.set_turns import SetTurns
from flows.engine.turn_queue import MachineActions, TurnQueue
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RecordsError
from tasks.domain.model import Outcome, Wave
from tasks.domain.states import OperationState, Step
from tasks.rules.runs.failure_budget import is_unreachable
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState
from tasks.steps.pipeline import clean_up_machine, is_turn_over, run_steps, save_checkpoint
from tasks.steps.report import build_outcome
from tasks.steps.wake import can_wake, is_wake_due

UNAPPROVED_REASON = "it could not be reached when the plan was made, so what would be done on it was not approved"


class WaveSequence:
    """Executes the waves of a run.

    Args:
        ports: the connections to the outside.
        runner: executes steps and waves.
        lifecycle: runs hooks before and after waves.
        request: the request of the run.
        failure_counter: the run's failures so far.
        outcomes: the outcomes of finished machines; new outcomes are appended.
        record_outcome: builds and saves a machine's outcome.
        save_late_plan: saves a plan that was made after all others, before its machine begins.

    Attributes:
        open_machines: the machines that a suspended run leaves open; they have no outcome yet.
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
        self._policy = request.waves.to_wave_policy()
        self._must_be_approved = request.approval.required
        self._failure_counter = failure_counter
        self._outcomes = outcomes
        self._record_outcome = record_outcome
        self._save_late_plan = save_late_plan
        self._is_first = True
        self._turns = SetTurns(ports, {})
        self._postponed: list[MachineContext] = []
        self.open_machines: set[str] = set()

    def run_waves(self, waves: Sequence[Wave], contexts: dict[str, MachineContext], refusal: str) -> None:
        """Run the waves in sequence. If there is a ``refusal``, no further machine begins."""
        lifecycle = self._lifecycle
        unreachable = [
            name for name, work in contexts.items() if is_unreachable(work.state.error) and not is_wake_due(work)
        ]
        self._failure_counter.start_run(waves, self._outcomes, unreachable)
        self._turns = SetTurns(self._ports, contexts)
        try:
            self._run_all(waves, contexts, refusal)
        finally:
            self._turns.close()
            lifecycle.notes = (*lifecycle.notes, *self._turns.notes)

    def _run_all(self, waves: Sequence[Wave], contexts: dict[str, MachineContext], refusal: str) -> None:
        lifecycle = self._lifecycle
        self._turns.start_run()
        for wave in waves:
            self._failure_counter.start_wave(wave)
            self._turns.start_wave(wave.number)
            wave_contexts = [contexts[name] for name in wave.machines if name in contexts] + self._postponed
            self._postponed = []
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
                rest = replace(wave, machines=tuple(work.name for work in wave_contexts))  # the other machines are done
                self._ports.listener.on_message(f"wave {wave.number} of {len(waves)}: {', '.join(rest.machines)}")
                outcomes: Sequence[Outcome] = ()
                self._runner.begin_wave(rest)
                try:
                    outcomes = self._run_wave(wave_contexts)
                finally:
                    self._runner.end_wave(outcomes)
                self._outcomes += outcomes
                self._is_first = False
            self._failure_counter.end_wave()
            if self.open_machines.intersection(wave.machines):
                continue  # the hooks after a wave run when all its machines are done
            closed = lifecycle.finish_wave(wave)
            refusal = refusal or closed
        self._skip_waiting(self._postponed, "the run ended before its turn")

    def _run_wave(self, contexts: Sequence[MachineContext]) -> list[Outcome]:
        """Run the machines of one wave. Machines that have not answered come last, so that the others don't wait."""
        answering_first = sorted(contexts, key=lambda work: work.state.error is not None)
        ports = self._ports
        if not self._turns.concern([work.name for work in contexts]):
            return run_concurrently(answering_first, self._policy.at_once, self._run_machine, ports.stop_token)
        actions = MachineActions(self._prepare_machine, self._execute_steps, self._count_machine, self._check_budget)
        queue = TurnQueue(answering_first, actions, self._turns, ports.clock, ports.stop_token, ports.listener)
        outcomes = queue.run(self._policy.at_once)
        self._postponed = queue.postponed
        return outcomes

    def _run_machine(self, context: MachineContext) -> Outcome:
        if why := self._prepare_machine(context):
            context.state = halt_unless_failed(context, why)
            clean_up_machine(context)
        else:
            self._execute_steps(context)
        return self._count_machine(context)

    def _prepare_machine(self, context: MachineContext) -> str:
        """Plan a machine that has no plan yet. Return why it may not begin, or ""."""
        if not is_under_way(context) and (why := self._check_budget()):
            return why
        recall_wake(context)
        self._plan_late_machine(context)
        return ""

    def _check_budget(self) -> str:
        """Return which limit is exceeded, or "". After a stop request the steps report that."""
        return "" if self._ports.stop_token.is_stopping else describe_spent_budget(self._failure_counter)

    def _execute_steps(self, context: MachineContext) -> None:
        run_steps(context, self._runner.run_step)

    def _count_machine(self, context: MachineContext) -> Outcome:
        outcome = self._finish_machine(context)
        self._failure_counter.add_outcome(outcome)
        return outcome

    def _finish_machine(self, context: MachineContext) -> Outcome:
        """Return a machine's outcome. Save it, unless the machine is left open."""
        self._turns.mark_done(context.name)
        if not is_left_open(context):
            return self._record_outcome(context)
        try:
            # Its machine lock was released: the next process repeats the pre-check.
            save_checkpoint(context, Step.PRECHECK)
        except RecordsError:
            return self._record_outcome(context)
        self.open_machines.add(context.name)
        return build_outcome(context)

    def _plan_late_machine(self, context: MachineContext) -> None:
        """Assess and plan a machine that did not answer in the first assessment. It may answer now."""
        run = context.state
        left_out = run.plan is None and run.error is None and not run.halted  # no assessment in a resumed run
        if not (left_out or may_retry_assessment(context)) or is_under_way(context) or is_turn_over(context.state):
            return
        if self._must_be_approved:
            if left_out:
                context.state = replace(context.state, halted=UNAPPROVED_REASON, halted_as=OperationState.NOT_STARTED)
            return
        if self._ports.stop_token.is_stopping or self._ports.clock.now() >= context.window.end:
            return
        context.forget_assessment()
        # No retries in later waves: the machine had enough time since its first assessment.
        context.is_retry_disabled = not self._is_first or can_wake(context)
        assess_late_machine(context, self._runner.run_step)
        if context.state.plan is not None:
            self._save_late_plan(context)

    def _skip_waiting(self, contexts: Sequence[MachineContext], why: str) -> list[MachineContext]:
        """Skip the machines that have not begun, and return those that have."""
        waiting = [work for work in contexts if not is_under_way(work)]
        if waiting:
            self._ports.listener.on_message(f"not begun: {', '.join(work.name for work in waiting)}: {why}")
        for work in waiting:
            self._outcomes.append(self._skip_machine(work, why))
            self._failure_counter.add_outcome(self._outcomes[-1])
        return [work for work in contexts if is_under_way(work)]

    def _skip_machine(self, context: MachineContext, why: str) -> Outcome:
        context.state = halt_unless_failed(context, why)
        clean_up_machine(context)
        return self._finish_machine(context)


def halt_unless_failed(context: MachineContext, why: str) -> MachineState:
    """Return the state of a machine that does not begin. An error that it has already is its reason."""
    if context.state.error is not None:
        return context.state
    return replace(context.state, halted=why, halted_as=OperationState.NOT_STARTED)


def describe_spent_budget(failure_counter: FailureCounter) -> str:
    """Return which limit on failed or unreachable machines is exceeded, or ""."""
    return failure_counter.stop_reason


def is_left_open(context: MachineContext) -> bool:
    """Return whether a suspended run leaves a machine open: nothing has begun on it, and no hook has run for it."""
    run = context.state
    untouched = run.error is None and run.install is None and not run.was_started and not run.hooks
    held = bool(run.halted) and run.halted_as is OperationState.NOT_STARTED
    rebooted = any(result.count for result in run.reboots)
    return context.stop_token.is_suspended and held and untouched and not rebooted


def is_under_way(context: MachineContext) -> bool:
    """Return whether an earlier process of the run may have changed a machine, or has run hooks for it."""
    return context.state.was_started or context.state.before_hooks_ran
