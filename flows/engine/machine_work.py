"""The work on the machines of a run: the assessment of all of them in parallel, and each one's work in its wave."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

from flows.engine.failure_counter import RunCounter
from flows.engine.machine_queue import MachineQueue, QueuedMachine
from flows.engine.resume_state import ResumeState
from flows.engine.set_turns import SetTurns
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest
from inventory.machine import Inventory, Machine, TransportKind
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.model import ErrorInfo, Outcome
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import OperationState, Step
from tasks.rules.runs.failure_budget import FailureBudget, OutcomeClass, OutcomeTally, check_unreachable, is_login_error
from tasks.rules.runs.hooks import build_set_hooks
from tasks.rules.runs.power import restore_power_cycle
from tasks.rules.runs.resource_turns import ASSESSMENT_KINDS
from tasks.rules.runs.set_capacity import index_sets
from tasks.steps.checkpoint import restore_checkpoint, save_checkpoint
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import RunContext
from tasks.steps.hooks import restore_hook_results
from tasks.steps.outcome import build_outcome
from tasks.steps.pipeline import find_settle_end, hand_back_machine, is_turn_over
from tasks.steps.power import can_wake, is_wake_due, judge_wake, wake_machine


def assess_machines(contexts: Sequence[MachineContext], at_once: int, runner: Runner, ports: Ports) -> None:
    """Assess all machines in parallel. The runner retries machines that don't answer, if it supports retries."""

    def assess(machine: QueuedMachine) -> MachineState:
        return runner.execute_steps(machine.context, last=Step.ASSESS)

    MachineQueue(contexts, ports, assess, ASSESSMENT_KINDS).run(at_once)


def assess_machines_once(
    contexts: Sequence[MachineContext],
    at_once: int,
    runner: Runner,
    ports: Ports,
    budget: FailureBudget,
    first_names: Collection[str],
) -> None:
    """Assess all machines once, so that machines that answer don't wait for retries of the others.

    The machines of ``first_names`` begin when all are assessed. Their connections stay open for that.

    If too many machines don't answer for the run to begin, those machines are tried again at once. Machines that the
    run can power on don't count: they are expected to be off, and are powered on when their turn comes.
    """
    for context in contexts:
        context.is_retry_disabled = True
        is_ssh = context.state.machine.transport is TransportKind.SSH  # an idle WinRM connection ends by itself
        context.keeps_connection = is_ssh and context.name in first_names
    assess_machines(contexts, at_once, runner, ports)
    for context in contexts:
        context.is_retry_disabled = False
    unreachable_count = sum(is_login_error(context.state.error) and not is_wake_due(context) for context in contexts)
    if check_unreachable(budget, OutcomeTally(len(contexts), {OutcomeClass.UNREACHABLE: unreachable_count})):
        machines_to_retry = [
            context
            for context in contexts
            if may_retry_assessment(context) and not is_wake_due(context) and not ports.stop_token.is_stopping
        ]
        for context in machines_to_retry:
            context.forget_assessment()
        assess_machines(machines_to_retry, at_once, runner, ports)
    for context in contexts if ports.stop_token.is_stopping else ():
        context.transport.close()


def assess_for_plan(
    contexts: Sequence[MachineContext],
    request: PatchRequest,
    run_context: RunContext,
    runner: Runner,
    ports: Ports,
    first_wave: Sequence[str],
) -> None:
    """Assess and plan the machines of a run that patches.

    If the window is open, no machine waits for machines that don't answer: those are tried again in their own wave. The
    run waits for them only before the window opens, in a dry run, or if a person must approve the complete plan.
    """
    at_once, policy = request.assess_at_once, request.waves.to_wave_policy()
    if request.dry_run or request.approval.required or run_context.clock.now() < run_context.window.start:
        assess_machines(contexts, at_once, runner, ports)
    else:
        assess_machines_once(contexts, at_once, runner, ports, policy.budget, first_wave[: policy.at_once])


def restore_machines(
    resume_state: ResumeState,
    run_context: RunContext,
    inventory: Inventory,
    connect: Callable[[Machine], Transport],
    begun_elsewhere: Collection[str] | None,
) -> tuple[dict[str, MachineContext], list[Outcome]]:
    """Return the unfinished machines of a run in their recorded state, and the outcomes of those that are gone.

    Args:
        resume_state: what an earlier process left.
        run_context: of the run.
        inventory: that of the run.
        connect: connects to a machine.
        begun_elsewhere: the machines that other runs have begun for this one, if others carry them all out; else None.
    """
    hooks, sets = run_context.options.hooks, index_sets(inventory.sets)
    finished = {outcome.machine for outcome in resume_state.outcomes}
    contexts: dict[str, MachineContext] = {}
    gone: list[Outcome] = []
    for wave in resume_state.waves:
        for name in wave.machines:
            if name in finished:
                continue
            try:
                machine = inventory.find_machine(name)
            except KeyError:
                reason = "it is no longer in the inventory; what this run did to it stands in the journal"
                gone.append(Outcome(run_context.run.id, name, OperationState.UNKNOWN, reason, wave=wave.number))
                continue
            assessment, plan = resume_state.assessments.get(name), resume_state.plans.get(name)
            entries = resume_state.journal.get(name, ())
            state = restore_checkpoint(MachineState(machine, wave.number, assessment, plan), entries)
            state = restore_hook_results(state, (*hooks, *build_set_hooks(sets.get(name, ()))), entries)
            if begun_elsewhere is not None:
                state = replace(state, was_changed_before_resume=name in begun_elsewhere, may_hold_lock=False)
            contexts[name] = MachineContext(run_context, connect_or_defer_error(connect, machine), state)
    return contexts, gone


def may_retry_assessment(context: MachineContext) -> bool:
    """Return whether a machine has no plan, and a new assessment may succeed."""
    return context.state.plan is None and context.state.error is not None and context.state.error.transient


UNAPPROVED_REASON = (
    "it could not be reached when the plan was made, so what would be done on it was not approved or rehearsed"
)


class MachineWork:
    """What is done with each machine of a wave. Safe for use by many threads.

    Args:
        must_be_approved: whether a person approves the complete plan, so that no machine is planned later.
        save_late_plan: saves a plan that was made after all others, before its machine begins.

    Attributes:
        is_first_wave: whether the machines are those of the first wave that begins.
        left_open: the machines that a suspended run leaves open; they have no outcome yet.
    """

    def __init__(
        self,
        ports: Ports,
        runner: Runner,
        failure_counter: RunCounter,
        turns: SetTurns | None,
        *,
        must_be_approved: bool,
        record_outcome: Callable[[MachineContext], Outcome],
        save_late_plan: Callable[[MachineContext], None],
    ) -> None:
        self._ports, self._runner, self._failure_counter, self._turns = ports, runner, failure_counter, turns
        self._must_be_approved = must_be_approved
        self._record_outcome, self._save_late_plan = record_outcome, save_late_plan
        self.is_first_wave = True
        self.left_open: set[str] = set()

    def run(self, machine: QueuedMachine) -> Outcome | None:
        """Do all of a machine that needs no turn, and return its outcome. None: it waits."""
        if not (machine.look_at or machine.context.wait) and (reason := self.prepare(machine.context)):
            return self.skip(machine.context, reason)
        return self.go_on(machine)

    def go_on(self, machine: QueuedMachine) -> Outcome | None:
        """Execute the steps of a machine, and return its outcome. None: it waits."""
        return None if self.execute_steps(machine) else self.finish(machine.context)

    def prepare(self, context: MachineContext) -> str:
        """Plan a machine that has no plan yet. Return why it may not begin, or ""."""
        if not is_under_way(context) and (reason := self.explain_spent_budget()):
            return reason
        if context.state.machine.wake is not None:
            recall_wake(context)
        self._plan_late_machine(context)
        return ""

    def explain_spent_budget(self) -> str:
        """Return which limit is exceeded, or "". After a stop request the steps report that."""
        return "" if self._ports.stop_token.is_stopping else self._failure_counter.stop_reason

    def execute_steps(self, machine: QueuedMachine) -> bool:
        """Execute the steps of a machine. Return whether it waits: they go on when it is called again."""
        context = machine.context
        self._runner.execute_steps(context)
        machine.look_at = find_settle_end(context)
        machine.ask_at = context.wait.until if context.wait is not None else None
        return bool(machine.look_at or machine.ask_at)

    def finish(self, context: MachineContext) -> Outcome:
        """Return a machine's outcome, and count it. Save it, unless the machine is left open."""
        outcome = self._leave_open_or_record(context)
        self._failure_counter.add_outcome(outcome)
        return outcome

    def skip(self, context: MachineContext, reason: str) -> Outcome:
        """Return the outcome of a machine that does not begin."""
        context.state = mark_machine_not_started(context, reason)
        hand_back_machine(context)
        return self.finish(context)

    def _leave_open_or_record(self, context: MachineContext) -> Outcome:
        if self._turns is not None:
            self._turns.mark_done(context.name)
        if not is_left_open(context):
            return self._record_outcome(context)
        try:
            # Its machine lock was released: the next process repeats the pre-check.
            save_checkpoint(context, Step.PRECHECK)
        except RecordsError:
            return self._record_outcome(context)
        self.left_open.add(context.name)
        return build_outcome(context)

    def _plan_late_machine(self, context: MachineContext) -> None:
        """Assess and plan a machine that did not answer in the first assessment. It may answer now."""
        state = context.state
        left_out = state.plan is None and state.error is None and not state.halted  # no assessment in a resumed run
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
        context.is_retry_disabled = not self.is_first_wave or can_wake(context)
        context.keeps_connection = True
        assess_late_machine(context, self._runner)
        if context.state.plan is not None:
            self._save_late_plan(context)


def mark_machine_not_started(context: MachineContext, reason: str) -> MachineState:
    """Return the state of a machine that does not begin. An error that it has already is its reason."""
    if context.state.error is not None:
        return context.state
    return replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)


def is_left_open(context: MachineContext) -> bool:
    """Return whether a suspended run leaves a machine open: nothing has begun on it, and no hook has run for it."""
    state = context.state
    untouched = (
        state.error is None and state.install is None and not state.was_changed_before_resume and not state.hooks
    )
    held = bool(state.halted) and state.halted_as is OperationState.NOT_STARTED
    rebooted = any(result.count for result in state.reboots)
    return context.stop_token.is_suspended and held and untouched and not rebooted


def is_under_way(context: MachineContext) -> bool:
    """Return whether an earlier process of the run may have changed a machine, or has run hooks for it."""
    return context.state.was_changed_before_resume or context.state.before_hooks_ran


def recall_wake(context: MachineContext) -> None:
    """Recall from the journal that an earlier process of this run has powered a machine on.

    A run that is resumed before it had any plan begins anew, and its machines have lost their state.
    """
    if not can_wake(context) or context.state.power is not None:
        return
    with _stop_if_records_fail(context):
        cycle = restore_power_cycle(context.records.read_entries(context.run.id, context.name))
        context.state = replace(context.state, power=cycle)
        if context.state.plan is not None and context.state.error is None:
            judge_wake(context)


def assess_late_machine(context: MachineContext, runner: Runner) -> None:
    """Assess and plan a machine in its wave. One that still does not answer is powered on, if the inventory says how.

    The window is open when this is called. Nothing is powered on before.
    """
    with _stop_if_records_fail(context):
        runner.execute_steps(context, last=Step.ASSESS)
        if context.state.error is None:
            judge_wake(context)  # an earlier process of this run may have powered it on
        elif is_wake_due(context) and wake_machine(context):
            context.forget_assessment()
            runner.execute_steps(context, last=Step.ASSESS)


@contextmanager
def _stop_if_records_fail(context: MachineContext) -> Iterator[None]:
    """Stop the run if the records fail. The machine does not begin then. Its next steps close its connection."""
    try:
        yield
    except RecordsError as error:
        context.stop_token.request_stop(f"the records failed: {error.message}")
        context.state = replace(context.state, error=ErrorInfo.from_error(error))


class UnavailableTransport:
    """A Transport that raises the given error in every operation."""

    def __init__(self, error: FleetpatchError) -> None:
        self._error = error

    def _raise(self, *_arguments: object, **_options: object) -> NoReturn:
        raise self._error

    run_script = start_job = poll_job = _raise

    def close(self) -> None:
        """Do nothing: there is no connection."""


def connect_or_defer_error(connect: Callable[[Machine], Transport], machine: Machine) -> Transport:
    """Return the connection to a machine. If none can be tried, only this machine fails."""
    try:
        return connect(machine)
    except FleetpatchError as error:
        return UnavailableTransport(error)
