"""The engine of a run: scope, waves, assessment and plan, window, work, report. It does not depend on Prefect."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from threading import Lock

from flows.engine.event_announcer import build_event_parts
from flows.engine.failure_counter import build_failure_counter
from flows.engine.interruption import add_cancellation, find_suspension, record_resumption, record_suspension
from flows.engine.machine_work import (
    assess_for_plan,
    assess_machines,
    connect_or_defer_error,
    is_under_way,
    restore_machines,
)
from flows.engine.resume_state import ResumeState
from flows.engine.rollout_watch import keep_versions
from flows.engine.run_end import publish_end
from flows.engine.run_info import (
    build_options,
    build_refused_outcomes,
    build_run_id,
    build_run_info,
    build_step_ports,
    rehearses,
    require_one_process,
    select_machines,
)
from flows.engine.run_lifecycle import RunLifecycle, build_machine_report, merge_hook_results
from flows.engine.set_plan import choose_canaries, prepare_waves
from flows.engine.shard_work import ShardWork, open_shard_work
from flows.engine.wave_sequence import WaveSequence
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.machine import Machine
from tasks.domain.errors import InternalError, RecordsError
from tasks.domain.model import ErrorInfo, Hook, HookResult, Outcome, RunInfo, RunReport, Wave
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.records import JournalMark
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import NotificationOccasion, OperationState
from tasks.reports.formatting import format_count
from tasks.rules.runs.hooks import MACHINE_PLACES, determine_state_with_hooks
from tasks.rules.runs.outcome import determine_run_state
from tasks.rules.runs.shard_limits import lower_limits
from tasks.rules.runs.shared_roles import describe_shared_roles
from tasks.rules.runs.waves import describe_canaries
from tasks.rules.updates.selection import describe_unmatched_masks
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import MachineInstances, RunContext
from tasks.steps.outcome import build_assessment_outcome, build_dry_run_outcome, build_outcome, record_outcome

logger = logging.getLogger(__name__)


class FleetRun:
    """One run on the machines of a scope.

    Args:
        role_scope: the scope of the role of who started it; "": it is not limited.
        resume_state: the state that an earlier process of the same run left. The run resumes from it in its own window.
    """

    def __init__(
        self,
        request: PatchRequest | AssessRequest,
        ports: Ports,
        runner: Runner,
        *,
        run_id: str | None = None,
        flow_run_id: str = "",
        started_by: str = "",
        role_scope: str = "",
        resume_state: ResumeState | None = None,
    ) -> None:
        self._ports = ports = replace(ports, inventory=lower_limits(ports.inventory, request.shard_limits))
        self._runner = runner
        pinned_updates = None
        if isinstance(request, PatchRequest) and request.updates.as_in_run:
            from flows.engine.pinned_updates import resolve_pinned_updates  # noqa: PLC0415 - few runs have them

            has_plans = resume_state is not None and bool(resume_state.waves)
            request, pinned_updates = resolve_pinned_updates(request, ports.find_pinned_updates, has_plans=has_plans)
        self._request = request
        self._records_error: RecordsError | None = None
        self._is_end_recorded = True
        self._resume_state, self._flow_run_id = resume_state, flow_run_id
        now = ports.clock.now()
        self._run_info = build_run_info(
            request,
            run_id or build_run_id(now),
            now,
            flow_run_id=flow_run_id,
            started_by=started_by,
            role_scope=role_scope,
            earlier_run=resume_state.run if resume_state is not None else None,
        )
        options = build_options(request, ports, pinned_updates, self._run_info.window)
        options, ports = keep_versions(options, ports, resume_state)
        self._run_context = RunContext(
            run=self._run_info,
            options=options,
            clock=ports.clock,
            records=ports.records,
            connect=ports.connect,
            find_manager=ports.find_manager,
            listener=ports.listener,
            stop_token=ports.stop_token,
            call_hook=self._call_hook,
            explain_spent_budget=lambda: self._failure_counter.stop_reason,
            **build_step_ports(ports, self._run_info.window),
            instances=MachineInstances(resume_state.known_facts if resume_state else ()),
            **build_event_parts(request, ports, self._run_info.started_by),
        )
        self._failure_counter = build_failure_counter(request, self._run_context.options.component_order)
        self._contexts, self._plan_lock = list[MachineContext](), Lock()
        self._waves: tuple[Wave, ...] = ()
        self._earlier_outcomes: Sequence[Outcome] = ()  # of machines that an earlier process of this run has finished
        self._wave_sequence: WaveSequence | None = None
        self._shard_work: ShardWork | None = None  # of a run whose machines other runs carry out
        self._refused_outcomes: tuple[Outcome, ...] = ()  # of machines that this configuration may not patch
        self._lifecycle = RunLifecycle(
            ports, self._run_context, request, resume_state, self._build_interim_report, self._stop_on_records_error
        )

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run_info.id

    @property
    def _outcomes(self) -> Sequence[Outcome]:
        return self._earlier_outcomes if self._wave_sequence is None else self._wave_sequence.outcomes

    @property
    def _connect(self) -> Callable[[Machine], Transport]:
        return self._ports.connect if self._shard_work is None else self._shard_work.refuse_connection

    @property
    def info(self) -> RunInfo:
        """The run as it is now, or as it ended."""
        return self._run_info

    def execute(self) -> RunReport:
        """Execute the request and return the complete report. Errors of single machines never raise.

        If the records fail during the run, nothing more begins. The run waits for what is already running, publishes
        the report, and then raises.

        Raises:
            InventoryError: the scope or the inventory is not usable; no machine was contacted.
            RequestError: the waves can't be built; no machine was contacted.
            RecordsError: the records are not usable, so nothing more has begun.
            LeaseLost: another process executes the run now, so this one publishes nothing.
            EndUnknown: the records don't answer, and another process may execute the run.
        """
        machines = select_machines(self._request, self._ports.inventory)
        self._ports.records.save(self._run_info)
        earlier = self._resume_state
        was_suspended = earlier is not None and find_suspension(earlier.journal.get("", ())) is not None
        if was_suspended and not self._ports.stop_token.is_stopping:
            record_resumption(self._ports.records, self.run_id, self._ports.clock.now(), self._run_info.started_by)
        self._ports.listener.on_message(
            f"run {self.run_id}: {format_count(len(machines), 'machine')} in scope {self._request.scope!r}"
        )
        request = self._request
        planned = {name for wave in earlier.waves for name in wave.machines} if earlier is not None else frozenset()
        not_planned = [machine for machine in machines if machine.name not in planned]
        self._shard_work = open_shard_work(
            self._ports, request, machines, self._run_context, self._failure_counter, self._resume_state, self._save
        )
        self._refused_outcomes = build_refused_outcomes(
            self.run_id, request, not_planned, reaches_other_sites=self._shard_work is not None
        )
        refused = {outcome.machine for outcome in self._refused_outcomes}
        machines = [machine for machine in machines if machine.name not in refused]
        try:
            if isinstance(request, AssessRequest):
                finished = self._assess_fleet(machines, request)
            elif isinstance(sequence := self._plan_fleet(machines, request), RunReport):
                finished = sequence
            else:
                refusal = self._wait_for_approval_and_window()
                finished = self._finish_waves(sequence.run_waves(self._waves, refusal), refusal)
        except BaseException as error:
            self._ports.stop_token.request_stop(f"the run broke off: {type(error).__name__}: {error}")
            self._note_end(OperationState.UNKNOWN, f"interrupted: {type(error).__name__}: {error}")
            self._save(self._run_info)
            if self._run_info.kind == "patch" and isinstance(error, Exception):
                self._lifecycle.notify(NotificationOccasion.FAILED, self._build_interim_report())
            raise
        publish_end(
            finished,
            self._runner,
            self._ports,
            self._lifecycle.notify,
            is_recorded=self._is_end_recorded,
            is_broken_off=self._records_error is not None,
        )
        if self._records_error is not None:
            raise self._records_error
        return finished

    def _assess_fleet(self, machines: Sequence[Machine], request: AssessRequest) -> RunReport:
        self._ports.progress.expect_machines(dict.fromkeys(machine.name for machine in machines))
        self._contexts = self._assess_all(machines, request)
        if self._shard_work is not None:
            outcomes = [self._shard_work.assessed[context.name] for context in self._contexts]
        else:
            outcomes = list(map(build_assessment_outcome, self._contexts))
        return self._conclude_run([*outcomes, *self._refused_outcomes])

    def _plan_fleet(self, machines: Sequence[Machine], request: PatchRequest) -> WaveSequence | RunReport:
        """Return the waves, planned or restored. Or return the report if no wave begins: dry run, or suspended."""
        require_one_process(request, is_divided=self._shard_work is not None)
        restored = self._resume_state if self._resume_state is not None and self._resume_state.waves else None
        if restored is not None:
            self._lifecycle.restore_hook_results()
            self._order_machines(restored.waves)
            begun = self._shard_work.list_begun_machines() if self._shard_work is not None else None
            contexts, gone = restore_machines(restored, self._run_context, self._ports.inventory, self._connect, begun)
            for outcome in gone:
                self._save(outcome)
            self._earlier_outcomes = (*restored.outcomes, *gone)
        else:
            contexts = self._plan_machines(machines, request)
        self._contexts = list(contexts.values())
        if request.dry_run:
            outcomes = (*map(build_dry_run_outcome, self._contexts), *self._refused_outcomes)
            return self._conclude_run(outcomes, self._lifecycle.explain_no_begin(self._contexts))
        if self._ports.stop_token.is_suspended and restored is None:
            # Drop the plans: the process that resumes the run assesses all machines again.
            self._contexts, self._waves = [], ()
            return self._suspend_run([machine.name for machine in machines])
        for outcome in self._refused_outcomes:
            self._save(outcome)
        self._save(self._build_report(()))  # saved before any change, so that the run can be resumed
        if rehearses(request):
            self._lifecycle.rehearse(request, self._contexts)
            self._save(self._build_report(()))
        self._wave_sequence = WaveSequence(
            self._ports,
            self._runner,
            self._lifecycle,
            request,
            self._failure_counter,
            self._run_context,
            contexts,
            earlier_outcomes=self._earlier_outcomes,
            record_outcome=self._record_outcome,
            save_late_plan=self._save_late_plan,
            shard_work=self._shard_work,
        )
        return self._wave_sequence

    def _plan_machines(self, machines: Sequence[Machine], request: PatchRequest) -> dict[str, MachineContext]:
        """Assess and plan the machines, and divide them into waves. Canaries have something to install."""
        policy, is_divided = request.waves.to_wave_policy(), self._shard_work is not None
        build = prepare_waves(machines, policy, self._ports.inventory, self._run_context, is_divided=is_divided)
        self._order_machines(build())  # visible from the start, before anything is known of the machines
        contexts = {context.name: context for context in self._assess_all(machines, request)}
        self._order_machines(choose_canaries(self._waves, contexts.values(), build))
        self._lifecycle.notes += describe_canaries(self._waves, policy)
        facts = {name: c.state.assessment.facts for name, c in contexts.items() if c.state.assessment is not None}
        roles = {name: of_machine.roles for name, of_machine in facts.items() if of_machine is not None}
        self._lifecycle.notes += describe_shared_roles(roles, self._waves, self._ports.inventory.sets)
        for name, number in [(name, wave.number) for wave in self._waves for name in wave.machines]:
            contexts[name].state = replace(contexts[name].state, wave=number)
        return contexts

    def _order_machines(self, waves: tuple[Wave, ...]) -> None:
        self._waves = waves
        self._ports.progress.expect_machines({name: wave.number for wave in waves for name in wave.machines})

    def _finish_waves(self, left_open: Collection[str], refusal: str) -> RunReport:
        """Finish the run after its waves, or leave it open if it was suspended with these machines.

        ``refusal``: why nothing was to begin.
        """
        if left_open:
            return self._suspend_run(left_open)
        self._lifecycle.run_hooks_after_run()
        recorded = {outcome.machine for outcome in self._outcomes}
        return self._conclude_run(
            (*self._outcomes, *(outcome for outcome in self._refused_outcomes if outcome.machine not in recorded)),
            refusal,
        )

    def _suspend_run(self, left_open: Collection[str]) -> RunReport:
        """Leave the run open with these machines, so that it can be resumed in its window."""
        ports, until = self._ports, self._run_context.window.end
        reason, left = ports.stop_token.reason, f"{format_count(len(left_open), 'machine')} not begun"
        how = f"resumed until {until:%Y-%m-%d %H:%M} UTC, it goes on: fleetpatch resume {self.run_id}"
        self._run_info = replace(self._run_info, message=f"suspended ({reason}): {left}; {how}")
        finished = self._build_report([outcome for outcome in self._outcomes if outcome.machine not in left_open])
        self._save(finished)
        try:
            record_suspension(
                ports.records, self.run_id, JournalMark.AFTER, ports.clock.now(), reason, self._flow_run_id
            )
        except RecordsError as error:
            self._stop_on_records_error(error)
        self._ports.listener.on_message(self._run_info.message)
        return finished

    def _wait_for_approval_and_window(self) -> str:
        """Notify, wait for the approval and the window, run the hooks before the run. Return why nothing may begin."""
        self._lifecycle.notify_planned()
        self._runner.show_plan(self._build_report(self._outcomes))  # a resumed run shows it again, in its own flow run
        decision = self._lifecycle.await_approval()
        for context in self._contexts:
            if context.name in decision.plans and not context.state.was_changed_before_resume:
                context.state = replace(context.state, plan=decision.plans[context.name])
        if decision.plans or decision.notes:
            self._save(self._build_report(()))  # so a process that resumes the run does only what was approved
        refusal = decision.refusal or self._lifecycle.run_hooks_and_wait_for_window(self._contexts, self._waves)
        if refusal and any(map(is_under_way, self._contexts)):
            self._ports.stop_token.request_stop(refusal)  # complete what an earlier process has begun, and no more
        return refusal

    def _assess_all(self, machines: Sequence[Machine], request: AssessRequest | PatchRequest) -> list[MachineContext]:
        """Assess all machines, and plan them."""
        connections = ((machine, connect_or_defer_error(self._connect, machine)) for machine in machines)
        contexts = [
            MachineContext(self._run_context, transport, MachineState(machine)) for machine, transport in connections
        ]
        if self._shard_work is not None:
            self._shard_work.plan(contexts)
        elif isinstance(request, AssessRequest):
            assess_machines(contexts, request.at_once, self._runner, self._ports)
        else:
            first_wave = self._waves[0].machines if self._waves else ()
            assess_for_plan(contexts, request, self._run_context, self._runner, self._ports, first_wave)
        return contexts

    def _record_outcome(self, context: MachineContext) -> Outcome:
        """Save and return a machine's outcome. An internal error fails only this machine."""
        try:
            return record_outcome(context)
        except RecordsError as error:
            self._stop_on_records_error(error)
            return build_outcome(context)
        except Exception as error:
            logger.exception("%s: its outcome could not be made", context.name)
            info = ErrorInfo.from_error(InternalError(f"{type(error).__name__}: {error}"))
            outcome = Outcome(self.run_id, context.name, OperationState.FAILED, info.message, error=info)
            self._save(outcome)
            return outcome

    def _save_late_plan(self, context: MachineContext) -> None:
        """Save a plan that was made after all others. A process that resumes the run must not make a new one."""
        with self._plan_lock:  # so that the last report that is saved has all plans
            self._save(replace(self._build_report(()), assessments=tuple(filter(None, [context.state.assessment]))))

    def _save(self, item: Outcome | RunReport | RunInfo) -> bool:
        """Save an item, and return whether the records have it. The error is raised at the end of the run."""
        try:
            self._ports.records.save(item)
        except RecordsError as error:
            self._stop_on_records_error(error)
            return False
        return True

    def _stop_on_records_error(self, error: RecordsError) -> None:
        """Stop the run because the records failed. The error is raised at its end."""
        self._records_error = self._records_error or error
        self._ports.stop_token.request_stop(f"the records failed: {error.message}")

    def _conclude_run(self, outcomes: Sequence[Outcome], why_nothing: str = "") -> RunReport:
        state = determine_state_with_hooks(
            determine_run_state(outcomes), self._lifecycle.results, stopped=self._ports.stop_token.is_stopping
        )
        is_stopping = self._ports.stop_token.is_stopping
        if self._run_info.kind == "plan" and state is OperationState.NOT_STARTED and not (why_nothing or is_stopping):
            state = OperationState.SUCCEEDED  # a plan is not supposed to begin anything
        message = self._lifecycle.describe_failed_hooks() if state is OperationState.FAILED else why_nothing
        if self._ports.stop_token.is_stopping and self._run_info.may_change_machines:
            state, message = add_cancellation(self._ports.leases, self._run_info.id, state, message, outcomes)
        self._note_end(state, message)
        finished = self._build_report(outcomes)
        self._is_end_recorded = self._save(finished)  # the run comes last in it: who sees its end sees all results
        lost = [outcome.error for outcome in outcomes if outcome.error and outcome.error.is_a(RecordsError)]
        if lost:
            self._stop_on_records_error(RecordsError(lost[0].message, hint=lost[0].hint))
        return finished

    def _build_interim_report(self, machine: str = "") -> RunReport:
        """Return the report so far. With a machine, return the part of this unfinished machine only."""
        for context in self._contexts if machine else ():
            if context.name == machine:
                return build_machine_report(context, self._waves, self._lifecycle.results)
        return self._build_report(self._outcomes)

    def _call_hook(self, hook: Hook, subject: str, deadline: Deadline) -> HookResult:
        """Run a hook that is not a command on a machine."""
        report = self._build_interim_report(subject if hook.place in MACHINE_PLACES else "")
        return self._ports.call_hook(hook, report, subject, deadline)

    def _build_report(self, outcomes: Sequence[Outcome]) -> RunReport:
        plans = {context.name: context.state.plan for context in self._contexts if context.state.plan is not None}
        assessments = {context.name: last for context in self._contexts if (last := context.state.last_assessment)}
        hook_results = [result for context in self._contexts for result in context.state.hooks]
        if (earlier := self._resume_state) is not None:
            plans, assessments = {**earlier.plans, **plans}, {**earlier.assessments, **assessments}
        site_notes = self._shard_work.describe_sites() if self._shard_work is not None else ()
        mask_notes = describe_unmatched_masks(self._run_context.options.selection, plans.values())
        return RunReport(
            run=self._run_info,
            outcomes=tuple(outcomes),
            waves=self._waves,
            plans=tuple(plans.values()) if self._run_info.kind != "assess" else (),
            assessments=tuple(assessments.values()),
            hooks=merge_hook_results(self._lifecycle.results, hook_results),
            notes=(*self._lifecycle.describe_sets(self._waves), *self._lifecycle.notes, *site_notes, *mask_notes),
        )

    def _note_end(self, state: OperationState, message: str) -> None:
        self._run_info = replace(self._run_info, state=state, ended_at=self._ports.clock.now(), message=message)
