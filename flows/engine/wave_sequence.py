"""The waves of a run in sequence: which machines begin, which wait for their turn, and which are skipped."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from flows.engine.failure_counter import RunCounter
from flows.engine.health_counter import HealthCounter
from flows.engine.machine_queue import MachineQueue, QueuedMachine
from flows.engine.machine_work import MachineWork, is_under_way
from flows.engine.rollout_watch import RolloutWatch
from flows.engine.run_lifecycle import RunLifecycle
from flows.engine.set_turns import SetTurns
from flows.engine.shard_work import ShardWork
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from tasks.domain.model import Outcome, Wave
from tasks.domain.states import OperationState
from tasks.rules.runs.approval import is_rehearsal_required
from tasks.rules.runs.failure_budget import is_login_error
from tasks.rules.runs.set_capacity import MemberRefusal, WaitsFor
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.machine.set_member import is_out_of_service
from tasks.steps.power import is_wake_due
from tasks.steps.start_checks import explain_no_time_left, explain_stop_request

ASK_AGAIN: Final = timedelta(seconds=10)
"""How often the records are asked for a member that waits. The end of a turn in this run wakes it at once."""


@dataclass(slots=True)
class _Wait:
    """How a machine waits for its turn.

    Attributes:
        refusal: why it waits, or why it must have another turn.
        is_in_turn: it has its turn, and a step of it waits, or it waits for its second look.
        told: the reason that people were told last.
    """

    refusal: MemberRefusal | None = None
    is_in_turn: bool = False
    told: str = ""


class MemberTurns:
    """The work on the machines of a wave with members of machine sets: each when its sets allow it.

    Attributes:
        postponed: machines that wait for members in later waves of this run; they have no outcome yet.
    """

    def __init__(self, work: MachineWork, turns: SetTurns, ports: Ports) -> None:
        self._work, self._turns = work, turns
        self._clock, self._listener = ports.clock, ports.listener
        self._waits: dict[str, _Wait] = {}
        self.postponed: list[MachineContext] = []

    def try_turn(self, machine: QueuedMachine) -> Outcome | None:
        """Do what can be done with a machine now. Return its outcome; None if it must wait."""
        context = machine.context
        is_prepared, wait = context.name in self._waits, self._waits.setdefault(context.name, _Wait())
        if not is_prepared and (reason := self._work.prepare(context)):
            return self._leave(machine, reason)
        if not wait.is_in_turn:
            if not self._turns.needs_turn(context):
                return self._work.go_on(machine)
            if not is_out_of_service(context) and (reason := self._explain_no_wait(context, wait)):
                return self._leave(machine, reason)
            wait.refusal = self._turns.begin(context)
        if wait.refusal is None:
            wait.is_in_turn = self._work.execute_steps(machine)
            wait.refusal = None if wait.is_in_turn else self._turns.end(context)
        if wait.refusal is None:
            return None if wait.is_in_turn else self._work.finish(context)
        return self._wait_or_leave(machine, wait, wait.refusal)

    def _wait_or_leave(self, machine: QueuedMachine, wait: _Wait, refusal: MemberRefusal) -> Outcome | None:
        if refusal.waits_for is WaitsFor.NOTHING:
            return self._leave(machine, refusal.reason)
        if refusal.waits_for is WaitsFor.LATER_WAVE:
            machine.is_postponed = True
            self.postponed.append(machine.context)
        machine.ask_at = self._clock.now() + ASK_AGAIN
        if wait.told != refusal.reason:
            self._listener.on_message(f"{machine.context.name} waits: {refusal.reason}")
            wait.told = refusal.reason
        return None

    def _explain_no_wait(self, context: MachineContext, wait: _Wait) -> str:
        """Return why a member neither begins nor waits any longer, or ""."""
        reason = explain_stop_request(context) or self._work.explain_spent_budget()
        if wait.refusal is None:
            return reason
        reason = reason or explain_no_time_left(context)
        return f"it waited for its turn: {wait.refusal.reason}; {reason}" if reason else ""

    def _leave(self, machine: QueuedMachine, reason: str) -> Outcome | None:
        """Return the outcome of a machine that does not begin."""
        context = machine.context
        if context.state.was_changed_before_resume:
            # an earlier process began a download there: its steps look after that, and change nothing
            context.explain_no_first_change = lambda: reason
        elif context.state.error is None:
            context.state = replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
        return self._work.go_on(machine)


class WaveSequence:
    """Executes the waves of a run.

    Args:
        contexts: the machines that the run has still to finish, by name.
        earlier_outcomes: the outcomes of machines that an earlier process of the run has finished.
        record_outcome: saves and returns the outcome of a machine: its step report.
        save_late_plan: saves a plan that was made after all others, before its machine begins.
        shard_work: carries the machines out by other runs; None: this run does so itself.

    Attributes:
        outcomes: the earlier outcomes, and those of this process as they come.
    """

    def __init__(
        self,
        ports: Ports,
        runner: Runner,
        lifecycle: RunLifecycle,
        request: PatchRequest,
        failure_counter: RunCounter,
        run_context: RunContext,
        contexts: Mapping[str, MachineContext],
        *,
        earlier_outcomes: Iterable[Outcome],
        record_outcome: Callable[[MachineContext], Outcome],
        save_late_plan: Callable[[MachineContext], None],
        shard_work: ShardWork | None = None,
    ) -> None:
        self._ports, self._runner, self._lifecycle = ports, runner, lifecycle
        self._shard_work = shard_work
        self._policy, self._failure_counter = request.waves.to_wave_policy(), failure_counter
        self._contexts, self.outcomes = contexts, list(earlier_outcomes)
        self._machine_count = len(contexts) + len(self.outcomes)
        has_turns = ports.inventory.sets and shard_work is None  # in shards, their runs see to them
        self._turns = SetTurns(ports, run_context, contexts) if has_turns else None
        self._work = MachineWork(
            ports,
            runner,
            failure_counter,
            self._turns,
            must_be_approved=request.approval.required or is_rehearsal_required(run_context.run),
            record_outcome=record_outcome,
            save_late_plan=save_late_plan,
        )
        self._postponed: list[MachineContext] = []
        self._rollout: RolloutWatch | None = None
        self._canary_pause_seconds = 0.0
        order = run_context.options.component_order
        if order is not None and isinstance(failure_counter, HealthCounter):
            plans = [context.state.plan for context in contexts.values()]
            planned = {update.available for plan in plans if plan is not None for update in plan.chosen}
            self._rollout = RolloutWatch(ports, run_context, failure_counter, planned, self._add_note)
            self._canary_pause_seconds = order.component.canary_pause_seconds

    def _add_note(self, note: str) -> None:
        self._lifecycle.notes = (*self._lifecycle.notes, note)

    def run_waves(self, waves: Sequence[Wave], refusal: str) -> Collection[str]:
        """Run the waves in sequence. Return the machines that a suspended run leaves open.

        If there is a ``refusal``, no further machine begins.
        """
        contexts = self._contexts.values()
        unreachable = [context.name for context in contexts if self._is_missing(context)]
        self._failure_counter.count_earlier_outcomes(waves, self.outcomes, unreachable)
        if isinstance(self._failure_counter, HealthCounter):
            states = {context.name: context.state for context in contexts if context.name not in unreachable}
            self._failure_counter.count_unhealthy(
                name for name, state in states.items() if state.error or state.plan is None or state.plan.refusals
            )
        try:
            if self._turns is not None:
                self._turns.release_untouched_slots()
            if self._rollout is not None:
                self._rollout.record_versions()
            for number, wave in enumerate(waves):
                if number and not refusal:
                    self._pause(waves[number - 1], wave)
                refusal = self._run_wave(wave, len(waves), refusal)
            if self._rollout is not None and len(waves) > 1:
                self.outcomes = self._rollout.look(self.outcomes, self._policy.at_once)
            self._skip_waiting(self._postponed, "the run ended before its turn")
        finally:
            if self._turns is not None:
                self._turns.close()
                self._lifecycle.notes = (*self._lifecycle.notes, *self._turns.notes)
        return self._left_open

    def _pause(self, before: Wave, wave: Wave) -> None:
        """Pause between two waves, if machines of the second one wait for it and the first had a result."""
        is_waiting = any(name in self._contexts and not is_under_way(self._contexts[name]) for name in wave.machines)
        if not (self.outcomes and is_waiting) or self._failure_counter.stop_reason:
            return
        seconds = self._policy.pause_seconds
        if before.canary and not wave.canary:
            seconds = max(seconds, self._canary_pause_seconds)
        self._lifecycle.wait_until(self._ports.clock.now() + timedelta(seconds=seconds))
        if self._rollout is not None:
            self.outcomes = self._rollout.look(self.outcomes, self._policy.at_once)

    def _is_missing(self, context: MachineContext) -> bool:
        """Return whether a machine counts as unreachable before the first wave."""
        return is_login_error(context.state.error) and not is_wake_due(context)

    @property
    def _left_open(self) -> set[str]:
        return self._work.left_open | (self._shard_work.left_open if self._shard_work is not None else set())

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
                outcomes = self._run_machines(wave.number, contexts)
            finally:
                self._runner.show_wave_end(outcomes)
            self.outcomes += outcomes
            self._work.is_first_wave = False
        self._failure_counter.judge_canary_wave()
        if self._left_open.intersection(wave.machines):
            return refusal  # the hooks after a wave run when all its machines are done
        hook_failure = lifecycle.run_hooks_after_wave(wave)
        return refusal or hook_failure

    def _run_machines(self, wave: int, contexts: Sequence[MachineContext]) -> list[Outcome]:
        """Run the machines of one wave. Machines that have not answered come last, so that the others don't wait."""
        if self._shard_work is not None:
            halted = [context for context in contexts if context.state.halted]
            others = [context for context in contexts if not context.state.halted]
            for context in halted:
                self._runner.execute_steps(context)
            return [*map(self._work.finish, halted), *self._shard_work.run(wave, others, self._machine_count)]
        answering_first = sorted(contexts, key=lambda context: context.state.error is not None)
        numbers = {context.name: number for number, context in enumerate(answering_first)}
        turns = self._turns
        if turns is None or not turns.concern(numbers):
            queue = MachineQueue(answering_first, self._ports, self._work.run)
        else:
            member_turns = MemberTurns(self._work, turns, self._ports)
            self._postponed = member_turns.postponed
            out_of_service_first = sorted(answering_first, key=lambda context: not turns.goes_first(context))
            queue = MachineQueue(
                out_of_service_first, self._ports, member_turns.try_turn, find_neighbours=turns.find_neighbours
            )
        outcomes = queue.run(self._policy.at_once)
        return sorted(outcomes, key=lambda outcome: numbers[outcome.machine])

    def _skip_waiting(self, contexts: Sequence[MachineContext], reason: str) -> list[MachineContext]:
        """Skip the machines that have not begun, and return those that have."""
        waiting = [context for context in contexts if not is_under_way(context)]
        if waiting:
            self._ports.listener.on_message(f"not begun: {', '.join(context.name for context in waiting)}: {reason}")
        for context in waiting:
            self.outcomes.append(self._work.skip(context, reason))
        return [context for context in contexts if is_under_way(context)]
