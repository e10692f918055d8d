"""The waves of a run in sequence: which machines begin, which wait for their turn, and which are skipped.

In a wave with members of machine sets, a worker takes the next machine that may begin. A member that must wait for its
turn occupies no worker, so machines of other sets, and of none, go on.
"""

import contextvars
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from flows.engine.failure_counter import FailureCounter
from flows.engine.machine_work import MachineWork, is_under_way, run_concurrently
from flows.engine.run_lifecycle import RunLifecycle
from flows.engine.set_turns import SetTurns
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest
from tasks.domain.model import Outcome, Wave
from tasks.domain.protocols.clock import Clock
from tasks.domain.states import OperationState
from tasks.rules.runs.failure_budget import is_login_error
from tasks.rules.runs.set_capacity import MemberRefusal, WaitsFor
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import ProgressListener, RunContext, StopToken
from tasks.steps.machine.set_member import is_out_of_service
from tasks.steps.power import is_wake_due
from tasks.steps.start_checks import explain_no_time_left, explain_stop_request

ASK_AGAIN: Final = timedelta(seconds=10)
"""How often the records are asked for a member that waits. The end of a turn in this run wakes it at once."""
POLL_SECONDS: Final = 1.0  # how often a worker without a machine looks at its stop token and the clock


@dataclass(eq=False, slots=True)
class _Waiter:
    """A machine in the queue.

    Attributes:
        refusal: why it waits, or why it must have another turn.
        ask_at: when it is tried again; None: now.
        told: the reason that people were told last.
    """

    context: MachineContext
    variables: contextvars.Context
    is_prepared: bool = False
    refusal: MemberRefusal | None = None
    ask_at: datetime | None = None
    told: str = ""


class TurnQueue:
    """Runs the machines of one wave, each when its sets allow it.

    Args:
        contexts: the machines, in the order in which they begin if they may.

    Attributes:
        postponed: machines that wait for members in later waves of this run; they have no outcome yet.
    """

    def __init__(
        self,
        contexts: Sequence[MachineContext],
        work: MachineWork,
        turns: SetTurns,
        clock: Clock,
        stop_token: StopToken,
        listener: ProgressListener,
    ) -> None:
        first = sorted(contexts, key=lambda context: not turns.goes_first(context))
        # each machine gets a copy of this context, which holds Prefect's flow run
        self._numbers = {context.name: number for number, context in enumerate(contexts)}
        self._waiting = [_Waiter(context, contextvars.copy_context()) for context in first]
        self._work, self._turns = work, turns
        self._clock, self._stop_token, self._listener = clock, stop_token, listener
        self._changed = threading.Condition()
        self._in_hand = 0
        self._has_sleeper = False
        self._error: BaseException | None = None
        self._outcomes: list[Outcome] = []
        self.postponed: list[MachineContext] = []

    def run(self, at_once: int) -> list[Outcome]:
        """Run all machines, and return the outcomes in the order of the machines.

        If a body raises, ask the run to stop, wait for the other bodies, and raise the error.
        """
        count = min(at_once, len(self._waiting))
        with ThreadPoolExecutor(count, thread_name_prefix="machine") as pool:
            futures = [pool.submit(self._run_worker) for _ in range(count)]
            try:
                for future in futures:
                    future.result()
            except BaseException as error:  # noqa: BLE001 - raised below; the exit of the pool waits for the others
                self._break_off(error)
        if self._error is not None:
            raise self._error
        return sorted(self._outcomes, key=lambda outcome: self._numbers[outcome.machine])

    def _run_worker(self) -> None:
        while (waiter := self._take_next()) is not None:
            outcome: Outcome | None = None
            try:
                outcome = waiter.variables.run(self._try_turn, waiter)
            except BaseException as error:  # noqa: BLE001 - run() raises it at the end
                self._break_off(error)
                waiter.refusal = None
            with self._changed:
                self._in_hand -= 1
                if outcome is not None:
                    self._outcomes.append(outcome)
                if outcome is not None or waiter.refusal is None:  # its turn has ended, or its body has raised
                    neighbours = self._turns.find_neighbours(waiter.context.name)
                    for neighbour in self._waiting:
                        if neighbour.context.name in neighbours:  # it may be the next one
                            neighbour.ask_at = None
                elif waiter.refusal.waits_for is WaitsFor.LATER_WAVE:
                    self.postponed.append(waiter.context)
                else:
                    self._waiting.append(waiter)
                self._changed.notify_all()

    def _break_off(self, error: BaseException) -> None:
        self._stop_token.request_stop(f"the run broke off: {type(error).__name__}: {error}")
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _take_next(self) -> _Waiter | None:
        """Return the next machine that may have its turn; None when no machine is left. Wait for it."""
        with self._changed:
            while True:
                now, is_stopping = self._clock.now(), self._stop_token.is_stopping
                due = (it for it in self._waiting if is_stopping or it.ask_at is None or it.ask_at <= now)
                if (waiter := next(due, None)) is not None:
                    self._waiting.remove(waiter)
                    self._in_hand += 1
                    return waiter
                if not self._waiting and not self._in_hand:
                    self._changed.notify_all()
                    return None
                self._wait()

    def _wait(self) -> None:
        """Wait, with the lock held before and after. While machines are in hand, the end of each wakes this worker."""
        if self._in_hand or self._has_sleeper:
            self._changed.wait(POLL_SECONDS)
            return
        self._has_sleeper = True
        self._changed.release()
        try:
            self._clock.sleep(POLL_SECONDS)
        finally:
            self._changed.acquire()
            self._has_sleeper = False
            self._changed.notify_all()

    def _try_turn(self, waiter: _Waiter) -> Outcome | None:
        """Do what can be done with a machine now. Return its outcome; None if it must wait."""
        context = waiter.context
        if not waiter.is_prepared:
            waiter.is_prepared = True
            if reason := self._work.prepare(context):
                return self._leave(context, reason)
        if not self._turns.needs_turn(context):
            self._work.execute_steps(context)
            return self._work.finish(context)
        if not is_out_of_service(context) and (reason := self._explain_no_wait(waiter)):
            return self._leave(context, reason)
        waiter.refusal = self._turns.begin(context)
        if waiter.refusal is None:
            self._work.execute_steps(context)
            waiter.refusal = self._turns.end(context)
            if waiter.refusal is None:
                return self._work.finish(context)
        if waiter.refusal.waits_for is WaitsFor.NOTHING:
            return self._leave(context, waiter.refusal.reason)
        waiter.ask_at = self._clock.now() + ASK_AGAIN
        if waiter.told != waiter.refusal.reason:
            self._listener.on_message(f"{context.name} waits: {waiter.refusal.reason}")
            waiter.told = waiter.refusal.reason
        return None

    def _explain_no_wait(self, waiter: _Waiter) -> str:
        """Return why a member neither begins nor waits any longer, or ""."""
        reason = explain_stop_request(waiter.context) or self._work.explain_spent_budget()
        if waiter.refusal is None:
            return reason
        reason = reason or explain_no_time_left(waiter.context)
        return f"it waited for its turn: {waiter.refusal.reason}; {reason}" if reason else ""

    def _leave(self, context: MachineContext, reason: str) -> Outcome:
        """Return the outcome of a machine that does not begin."""
        if context.state.was_changed_before_resume:
            # an earlier process began a download there: its steps look after that, and change nothing
            context.explain_no_first_change = lambda: reason
        elif context.state.error is None:
            context.state = replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
        self._work.execute_steps(context)
        return self._work.finish(context)


class WaveSequence:
    """Executes the waves of a run.

    Args:
        contexts: the machines that the run has still to finish, by name.
        earlier_outcomes: the outcomes of machines that an earlier process of the run has finished.
        record_outcome: saves and returns the outcome of a machine: its step report.
        save_late_plan: saves a plan that was made after all others, before its machine begins.

    Attributes:
        outcomes: the earlier outcomes, and those of this process as they come.
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
        earlier_outcomes: Iterable[Outcome],
        record_outcome: Callable[[MachineContext], Outcome],
        save_late_plan: Callable[[MachineContext], None],
    ) -> None:
        self._ports, self._runner, self._lifecycle = ports, runner, lifecycle
        self._policy, self._failure_counter = request.waves.to_wave_policy(), failure_counter
        self._contexts, self.outcomes = contexts, list(earlier_outcomes)
        self._turns = SetTurns(ports, run_context, contexts) if ports.inventory.sets else None
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
            context.name for context in contexts if is_login_error(context.state.error) and not is_wake_due(context)
        ]
        self._failure_counter.count_earlier_outcomes(waves, self.outcomes, unreachable)
        try:
            if self._turns is not None:
                self._turns.release_untouched_slots()
            for wave in waves:
                refusal = self._run_wave(wave, len(waves), refusal)
            self._skip_waiting(self._postponed, "the run ended before its turn")
        finally:
            if self._turns is not None:
                self._turns.close()
                self._lifecycle.notes = (*self._lifecycle.notes, *self._turns.notes)
        return self._work.left_open

    def _run_wave(self, wave: Wave, count: int, refusal: str) -> str:
        """Run a wave with its hooks. Return why no later wave may begin, or ""."""
        lifecycle, stop_token = self._lifecycle, self._ports.stop_token
        self._failure_counter.begin_counting_wave(wave)
        if self._turns is not None:
            self._turns.set_wave_number(wave.number)
        contexts = [self._contexts[name] for name in wave.machines if name in self._contexts] + self._postponed
        self._postponed = []
        if not refusal and self._failure_counter.stop_reason and not stop_token.is_stopping:
            contexts = self._skip_waiting(contexts, self._failure_counter.stop_reason)
        if contexts and not refusal:
            if self.outcomes and self._policy.pause_seconds:
                lifecycle.wait_until(self._ports.clock.now() + timedelta(seconds=self._policy.pause_seconds))
            refusal = lifecycle.run_hooks_before_wave(wave)
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
            self._runner.show_wave_begin(remaining_wave)
            try:
                outcomes = self._run_machines(contexts)
            finally:
                self._runner.show_wave_end(outcomes)
            self.outcomes += outcomes
            self._work.is_first_wave = False
        self._failure_counter.judge_canary_wave()
        if self._work.left_open.intersection(wave.machines):
            return refusal  # the hooks after a wave run when all its machines are done
        hook_failure = lifecycle.run_hooks_after_wave(wave)
        return refusal or hook_failure

    def _run_machines(self, contexts: Sequence[MachineContext]) -> list[Outcome]:
        """Run the machines of one wave. Machines that have not answered come last, so that the others don't wait."""
        answering_first = sorted(contexts, key=lambda context: context.state.error is not None)
        ports, at_once = self._ports, self._policy.at_once
        if self._turns is None or not self._turns.concern([context.name for context in contexts]):
            return run_concurrently(answering_first, at_once, self._work.run, ports.stop_token)
        queue = TurnQueue(answering_first, self._work, self._turns, ports.clock, ports.stop_token, ports.listener)
        outcomes = queue.run(at_once)
        self._postponed = queue.postponed
        return outcomes

    def _skip_waiting(self, contexts: Sequence[MachineContext], reason: str) -> list[MachineContext]:
        """Skip the machines that have not begun, and return those that have."""
        waiting = [context for context in contexts if not is_under_way(context)]
        if waiting:
            self._ports.listener.on_message(f"not begun: {', '.join(context.name for context in waiting)}: {reason}")
        for context in waiting:
            self.outcomes.append(self._work.skip(context, reason))
        return [context for context in contexts if is_under_way(context)]
