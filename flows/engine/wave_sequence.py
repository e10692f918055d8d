"""The waves of a run in sequence: which machines begin, which are tried again, and which are skipped."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from flows.engine.failure_counter import FailureCounter
from flows.engine.machine_pool import run_concurrently
from flows.engine.machine_work import MachineWork, is_under_way
from flows.engine.run_lifecycle import RunLifecycle
from flows.engine.set_turns import SetTurns
from flows.engine.turn_queue import TurnQueue
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest
from tasks.domain.model import Outcome, Wave
from tasks.rules.runs.failure_budget import is_unreachable
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.power import is_wake_due


class WaveSequence:
    """Executes the waves of a run.

    Args:
        ports: the connections to the outside.
        runner: executes steps, and shows the waves.
        lifecycle: runs hooks before and after waves.
        request: the request of the run.
        failure_counter: the run's failures so far.
        run_context: of the run.
        contexts: the machines that the run has still to finish, by name.
        outcomes: the outcomes of finished machines; new outcomes are appended.
        record_outcome: builds and saves a machine's outcome.
        save_late_plan: saves a plan that was made after all others, before its machine begins.
    """

    def __init__(
        self,
        ports: Ports,
        runner: Runner,
        lifecycle: RunLifecycle,
        request: PatchRequest,
        failure_counter: FailureCounter,
        run_context: RunContext,
        contexts: Mapping[str, MachineContext],
        *,
        outcomes: list[Outcome],
        record_outcome: Callable[[MachineContext], Outcome],
        save_late_plan: Callable[[MachineContext], None],
    ) -> None:
        self._ports = ports
        self._runner = runner
        self._lifecycle = lifecycle
        self._policy = request.waves.to_wave_policy()
        self._failure_counter = failure_counter
        self._contexts = contexts
        self._outcomes = outcomes
        self._turns = SetTurns(ports, run_context, contexts)
        self._work = MachineWork(
            ports,
            runner,
            failure_counter,
            self._turns,
            must_be_approved=request.approval.required,
            record_outcome=record_outcome,
            save_late_plan=save_late_plan,
        )
        self._postponed: list[MachineContext] = []

    def run_waves(self, waves: Sequence[Wave], refusal: str) -> Collection[str]:
        """Run the waves in sequence. Return the machines that a suspended run leaves open.

        If there is a ``refusal``, no further machine begins.
        """
        contexts = self._contexts.values()
        unreachable = [
            context.name for context in contexts if is_unreachable(context.state.error) and not is_wake_due(context)
        ]
        self._failure_counter.start_run(waves, self._outcomes, unreachable)
        try:
            self._turns.start_run()
            for wave in waves:
                refusal = self._run_wave(wave, len(waves), refusal)
            self._skip_waiting(self._postponed, "the run ended before its turn")
        finally:
            self._turns.close()
            self._lifecycle.notes = (*self._lifecycle.notes, *self._turns.notes)
        return self._work.open_machines

    def _run_wave(self, wave: Wave, count: int, refusal: str) -> str:
        """Run a wave with its hooks. Return why no later wave may begin, or ""."""
        lifecycle, stop_token = self._lifecycle, self._ports.stop_token
        self._failure_counter.start_wave(wave)
        self._turns.start_wave(wave.number)
        contexts = [self._contexts[name] for name in wave.machines if name in self._contexts] + self._postponed
        self._postponed = []
        if not refusal and self._failure_counter.stop_reason and not stop_token.is_stopping:
            contexts = self._skip_waiting(contexts, self._failure_counter.stop_reason)
        if contexts and not refusal:
            if self._outcomes and self._policy.pause_seconds:
                lifecycle.wait_until(self._ports.clock.now() + timedelta(seconds=self._policy.pause_seconds))
            refusal = lifecycle.start_wave(wave)
        if contexts and stop_token.is_suspended:
            contexts = self._skip_waiting(contexts, f"the run is suspended: {stop_token.reason}")
        if refusal:
            contexts = self._skip_waiting(contexts, refusal)
        if contexts:
            remaining_wave = replace(
                wave, machines=tuple(context.name for context in contexts)
            )  # the other machines are done
            self._ports.listener.on_message(f"wave {wave.number} of {count}: {', '.join(remaining_wave.machines)}")
            outcomes: Sequence[Outcome] = ()
            self._runner.begin_wave(remaining_wave)
            try:
                outcomes = self._run_machines(contexts)
            finally:
                self._runner.end_wave(outcomes)
            self._outcomes += outcomes
            self._work.is_first_wave = False
        self._failure_counter.end_wave()
        if self._work.open_machines.intersection(wave.machines):
            return refusal  # the hooks after a wave run when all its machines are done
        hook_failure = lifecycle.finish_wave(wave)
        return refusal or hook_failure

    def _run_machines(self, contexts: Sequence[MachineContext]) -> list[Outcome]:
        """Run the machines of one wave. Machines that have not answered come last, so that the others don't wait."""
        answering_first = sorted(contexts, key=lambda context: context.state.error is not None)
        ports, at_once = self._ports, self._policy.at_once
        if not self._turns.concern([context.name for context in contexts]):
            return run_concurrently(answering_first, at_once, self._work.run, ports.stop_token)
        queue = TurnQueue(answering_first, self._work, self._turns, ports.clock, ports.stop_token, ports.listener)
        outcomes = queue.run(at_once)
        self._postponed = queue.postponed
        return outcomes

    def _skip_waiting(self, contexts: Sequence[MachineContext], why: str) -> list[MachineContext]:
        """Skip the machines that have not begun, and return those that have."""
        waiting = [context for context in contexts if not is_under_way(context)]
        if waiting:
            self._ports.listener.on_message(f"not begun: {', '.join(context.name for context in waiting)}: {why}")
        for context in waiting:
            self._outcomes.append(self._work.skip(context, why))
        return [context for context in contexts if is_under_way(context)]
