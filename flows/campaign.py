"""How a fleet moves: scope, assess, select, budget, waves, machines, report. The one engine; it knows no Prefect."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock

from flows.ceremony import Ceremony, all_results, calling, of_machine
from flows.failure_count import FailureCount
from flows.frozen import pinned
from flows.past import Past
from flows.ports import Ports, Runner, Unopened
from flows.request import AssessRequest, PatchRequest
from flows.survey import quick_survey, survey
from flows.suspension import go_on, suspend, suspension_of
from flows.wave_sequence import WaveSequence, is_under_way, spent
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.errors import FleetpatchError, InternalError, RecordsError
from tasks.model import ErrorInfo, Outcome, RunInfo, RunReport, Wave, Window
from tasks.reporting.text import plural
from tasks.rules.failure_budget import FailureBudget
from tasks.rules.hooks import state_with
from tasks.rules.orchestration import may_patch
from tasks.rules.verdict import run_state
from tasks.rules.waves import waves
from tasks.rules.window import window as open_window
from tasks.seams.records import JournalMark
from tasks.seams.transport import Transport
from tasks.states import Occasion, OperationState
from tasks.steps.context import Context, MachineRun, PatchOptions, Work
from tasks.steps.hooks import taken_up
from tasks.steps.progress import recalled
from tasks.steps.report import planned, report, settle_outcome

logger = logging.getLogger(__name__)


def new_run_id(now: datetime) -> str:
    """Return an id that sorts by time and that nobody else takes."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class Campaign:
    """One run over a fleet.

    Args:
        request: what was asked for.
        ports: the way out.
        runner: how the work is spread.
        run_id: of the run; a new one by default.
        flow_run_id: Prefect's id of it, for people who look there.
        started_by: who asked, for the records.
        past: what an earlier process of the same run has left; the run goes on from there, in its own window.
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
        past: Past | None = None,
    ) -> None:
        self._ports = ports
        self._runner = runner
        request, frozen = pinned(request, ports.frozen, planned=past is not None and bool(past.waves))
        self._request = request
        self._unrecorded: RecordsError | None = None
        self._past = past
        self._flow_run_id = flow_run_id
        now = ports.clock.now()
        self._failures = _failure_count(request)
        self._run = RunInfo(
            id=run_id or new_run_id(now),
            kind=_kind(request),
            started_at=now,
            state=OperationState.IN_PROGRESS,
            request=request.model_dump(mode="json"),
            window=window_of(request, now),
            scope=request.scope,
            started_by=started_by,
            flow_run_id=flow_run_id,
        )
        if past is not None:
            began = past.run
            self._run = replace(
                self._run,
                id=began.id,
                started_at=began.started_at,
                window=began.window,
                started_by=began.started_by,
                flow_run_id=began.flow_run_id or flow_run_id,  # the first: when Prefect retries that one, it is known
            )
        self._context = Context(
            run=self._run,
            options=request.options(frozen)
            if isinstance(request, PatchRequest)
            else PatchOptions(refresh=request.refresh),
            clock=ports.clock,
            records=ports.records,
            connect=ports.connect,
            manager_for=ports.manager_for,
            watch=ports.watch,
            control=ports.control,
            call_hook=calling(ports, self._as_it_stands),
            budget_spent=lambda: spent(self._failures),
        )
        self._works: list[Work] = []
        self._keeping = Lock()
        self._order: tuple[Wave, ...] = ()
        self._outcomes: list[Outcome] = []
        self._ceremony = Ceremony(ports, self._context, request, past, self._as_it_stands, self._hold)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.id

    def carry_out(self) -> RunReport:
        """Do what was asked and return the whole report. What goes wrong on a machine never raises.

        When the records fail half-way, nothing more is begun, what runs is seen to its end, the report is published,
        and only then it raises.

        Raises:
            InventoryError: the scope or the inventory can't be used; nothing was asked of any machine.
            RequestError: the waves can't be made; nothing was asked of any machine.
            RecordsError: history can't be kept, so nothing more was begun.
        """
        machines = Scope.parse(self._request.scope).select(self._ports.inventory)
        self._ports.records.save(self._run)
        was_suspended = self._past is not None and suspension_of(self._past.journal.get("", ())) is not None
        if was_suspended and not self._ports.control.stopping:
            go_on(self._ports.records, self.run_id, self._ports.clock.now(), self._run.started_by)
        self._ports.watch.said(
            f"run {self.run_id}: {plural(len(machines), 'machine')} in scope {self._request.scope!r}"
        )
        try:
            finished = self._patch(machines) if isinstance(self._request, PatchRequest) else self._assess(machines)
        except BaseException as error:
            self._interrupted(error)
            raise
        self._runner.publish(finished)
        if finished.run.kind == "patch" and finished.run.state is not OperationState.IN_PROGRESS:
            self._ceremony.tell_end(finished, failed=self._unrecorded is not None)
        if self._unrecorded is not None:
            raise self._unrecorded
        return finished

    def _assess(self, machines: Sequence[Machine]) -> RunReport:
        self._works = self._survey(machines, self._request)
        outcomes = tuple(self._assessed(work) for work in self._works)
        return self._report(outcomes)

    def _assessed(self, work: Work) -> Outcome:
        outcome = settle_outcome(work)
        if outcome.error is None and work.run.assessment is not None:
            urgent, other = work.run.assessment.urgent, work.run.assessment.other
            reason = f"{urgent} critical and security updates and {other} others are pending"
            outcome = replace(outcome, state=OperationState.SUCCEEDED, reason=reason)
        self._keep(outcome)
        return outcome

    def _patch(self, machines: Sequence[Machine]) -> RunReport:
        request = self._request
        assert isinstance(request, PatchRequest)  # noqa: S101 - for the type checker; carry_out has asked
        why_not = {machine.name: may_patch(machine, request.configuration) for machine in machines}
        ours = [machine for machine in machines if not why_not[machine.name]]
        strangers = tuple(
            self._not_begun(machine, why_not[machine.name]) for machine in machines if why_not[machine.name]
        )
        if self._past is not None and self._past.waves:
            self._ceremony.recall()
            self._order = self._past.waves
            works, self._outcomes = self._taken_up(self._past)
        else:
            self._order = waves(ours, request.wave_policy())
            works = {work.name: work for work in self._survey(ours, request)}
            for wave in self._order:
                for name in wave.machines:
                    works[name].run = replace(works[name].run, wave=wave.number)
        self._works = list(works.values())
        if request.dry_run:
            return self._report((*map(planned, self._works), *strangers))
        if self._ports.control.suspended and not (self._past is not None and self._past.waves):
            self._works, self._order = [], ()  # what was planned is of no use: whoever goes on asks all machines
            return self._suspended(len(ours))
        for outcome in strangers:
            self._keep(outcome)
        self._keep(self._so_far(()))  # what may be resumed, before anything is done
        refused = self._opening()
        sequence = WaveSequence(
            self._ports,
            self._runner,
            self._ceremony,
            request,
            self._failures,
            outcomes=self._outcomes,
            settle=self._told,
            keep_plan=self._keep_plan,
        )
        sequence.run(self._order, works, refused)
        if sequence.left_open:
            self._outcomes = [each for each in self._outcomes if each.machine not in sequence.left_open]
            return self._suspended(len(sequence.left_open))
        self._ceremony.close()
        known = {outcome.machine for outcome in self._outcomes}
        left = [outcome for outcome in strangers if outcome.machine not in known]
        return self._report((*self._outcomes, *left))

    def _suspended(self, left_open: int) -> RunReport:
        """Leave the run open, for whoever goes on with it in its window."""
        control, until = self._ports.control, self._context.window.end
        left = f"{plural(left_open, 'machine')} not begun"
        how = f"resumed until {until:%Y-%m-%d %H:%M} UTC, it goes on: fleetpatch resume {self.run_id}"
        self._run = replace(self._run, message=f"suspended ({control.reason}): {left}; {how}")
        finished = self._so_far(self._outcomes)
        self._keep(finished)
        try:
            now = self._ports.clock.now()
            suspend(self._ports.records, self.run_id, JournalMark.AFTER, now, control.reason, self._flow_run_id)
        except RecordsError as error:
            self._hold(error)
        self._ports.watch.said(self._run.message)
        return finished

    def _opening(self) -> str:
        """Let people know, ask whether the run may go on, and open it; return why nothing may be begun, or ""."""
        self._ceremony.tell_planned()
        decision = self._ceremony.agreed()
        for work in self._works:
            if work.name in decision.plans and not work.run.begun:
                work.run = replace(work.run, plan=decision.plans[work.name])
        if decision.plans or decision.notes:
            self._keep(self._so_far(()))  # whoever takes the run up does only what was agreed to
        refused = decision.refused or self._ceremony.open()
        if refused and any(is_under_way(work) for work in self._works):
            self._ports.control.stop(refused)  # what an earlier process has begun is seen to its end, and no more
        return refused

    def _taken_up(self, past: Past) -> tuple[dict[str, Work], list[Outcome]]:
        """Return the machines that are not done yet, as far as they had come, and the outcomes of the others."""
        done = list(past.outcomes)
        hooks = self._context.options.hooks
        finished = {outcome.machine for outcome in done}
        works: dict[str, Work] = {}
        for wave in past.waves:
            for name in wave.machines:
                if name in finished:
                    continue
                try:
                    machine = self._ports.inventory.named(name)
                except KeyError:
                    gone = "it is no longer in the inventory; what this run did to it stands in the journal"
                    done.append(Outcome(self.run_id, name, OperationState.UNKNOWN, gone, wave=wave.number))
                    self._keep(done[-1])
                    continue
                run = MachineRun(machine, wave.number, past.assessments.get(name), past.plans.get(name))
                run = taken_up(recalled(run, past.journal.get(name, ())), hooks, past.journal.get(name, ()))
                works[name] = Work(self._context, self._transport(machine), run)
        return works, done

    def _survey(self, machines: Sequence[Machine], request: AssessRequest | PatchRequest) -> list[Work]:
        """Assess (and plan for) all machines.

        Once the window is open, no machine waits for those that don't answer: they are tried again in their own wave.
        The run waits for them when that costs no time of the window, and when a person has to approve the whole plan.
        """
        works = [Work(self._context, self._transport(machine), MachineRun(machine)) for machine in machines]
        runner, control = self._runner, self._ports.control
        if isinstance(request, AssessRequest):
            survey(works, request.at_once, runner, control)
        elif request.dry_run or request.approval.required or self._ports.clock.now() < self._context.window.start:
            survey(works, request.assess_at_once, runner, control)
        else:
            quick_survey(works, request.assess_at_once, runner, control, request.wave_policy().budget)
        return works

    def _transport(self, machine: Machine) -> Transport:
        """Return the way to a machine; one that can't even be tried costs that machine its run, not the fleet."""
        try:
            return self._ports.connect(machine)
        except FleetpatchError as error:
            return Unopened(error)

    def _told(self, work: Work) -> Outcome:
        """Return a machine's outcome and keep it; a fault of ours in making it costs one machine, not the fleet."""
        try:
            return report(work)
        except RecordsError as error:
            self._hold(error)
            return settle_outcome(work)
        except Exception as error:
            logger.exception("%s: its outcome could not be made", work.name)
            info = ErrorInfo.of(InternalError(f"{type(error).__name__}: {error}"))
            outcome = Outcome(self.run_id, work.name, OperationState.FAILED, info.message, error=info)
            self._keep(outcome)
            return outcome

    def _keep_plan(self, work: Work) -> None:
        """Store a plan that was made after all others: a process that resumes the run must not make another one."""
        own = work.run.assessment
        with self._keeping:  # the last one that writes has all plans
            self._keep(replace(self._so_far(()), assessments=() if own is None else (own,)))

    def _keep(self, item: Outcome | RunReport | RunInfo) -> None:
        try:
            self._ports.records.save(item)
        except RecordsError as error:
            self._hold(error)

    def _hold(self, error: RecordsError) -> None:
        """History can't be kept: begin nothing more, and raise that in the end."""
        self._unrecorded = self._unrecorded or error
        self._ports.control.stop(f"the records failed: {error.message}")

    def _not_begun(self, machine: Machine, why: str) -> Outcome:
        return Outcome(self.run_id, machine.name, OperationState.NOT_STARTED, why)

    def _report(self, outcomes: Sequence[Outcome]) -> RunReport:
        state = state_with(run_state(outcomes), self._ceremony.results, stopped=self._ports.control.stopping)
        if self._run.kind == "plan" and state is OperationState.NOT_STARTED:
            state = OperationState.SUCCEEDED  # that nothing was begun is what a plan is for
        self._end(state, self._ceremony.faults() if state is OperationState.FAILED else "")
        finished = self._so_far(outcomes)
        self._keep(finished)
        lost = [outcome.error for outcome in outcomes if outcome.error and outcome.error.is_a(RecordsError)]
        if lost:
            self._hold(RecordsError(lost[0].message, hint=lost[0].hint))
        return finished

    def _as_it_stands(self, machine: str = "") -> RunReport:
        """Return the report as far as the run has come; of a machine, whose turn is not over, it has that one alone."""
        for work in self._works if machine else ():
            if work.name == machine:
                return of_machine(work, self._order, self._ceremony.results)
        return self._so_far(self._outcomes)

    def _so_far(self, outcomes: Sequence[Outcome]) -> RunReport:
        works = self._works
        plans = {work.name: work.run.plan for work in works if work.run.plan is not None}
        assessments = {work.name: work.run.assessment for work in works if work.run.assessment is not None}
        if self._past is not None:
            plans, assessments = {**self._past.plans, **plans}, {**self._past.assessments, **assessments}
        return RunReport(
            run=self._run,
            outcomes=tuple(outcomes),
            waves=self._order,
            plans=tuple(plans.values()) if self._run.kind != "assess" else (),
            assessments=tuple(assessments.values()),
            hooks=all_results(self._ceremony.results, [result for work in works for result in work.run.hooks]),
            notes=self._ceremony.notes,
        )

    def _interrupted(self, error: BaseException) -> None:
        self._ports.control.stop(f"the run broke off: {type(error).__name__}: {error}")
        self._end(OperationState.UNKNOWN, f"interrupted: {type(error).__name__}: {error}")
        if self._run.kind == "patch" and isinstance(error, Exception):
            self._ceremony.tell(Occasion.FAILED, self._as_it_stands())

    def _end(self, state: OperationState, message: str) -> None:
        self._run = replace(self._run, state=state, ended_at=self._ports.clock.now(), message=message)
        self._keep(self._run)


def _failure_count(request: PatchRequest | AssessRequest) -> FailureCount:
    if isinstance(request, AssessRequest):
        return FailureCount(FailureBudget())
    return FailureCount(request.wave_policy().budget, only_downloads=request.download_only)


def _kind(request: PatchRequest | AssessRequest) -> str:
    if isinstance(request, AssessRequest):
        return "assess"
    if request.dry_run:
        return "plan"
    return "stage" if request.download_only else "patch"


def window_of(request: PatchRequest | AssessRequest, now: datetime) -> Window | None:
    """Return the window that a request asks for; None when it only looks at machines."""
    if isinstance(request, AssessRequest):
        return None
    return open_window(request.window.start, request.window.minutes, request.window.zone, now)
