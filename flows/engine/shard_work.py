"""The work of a run whose machines other runs carry out: one run for each shard, at the site of its machines.

The run itself contacts no machine. It owns the window, the approval, the waves and the failure budget. It makes its
plan from the plans of the shards' runs, and takes over the outcomes of their machines as they come. What it starts is
in its journal before: a process that resumes it finds the same runs, and a shard's run begins only if it finds that.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

from flows.engine.failure_counter import RunCounter
from flows.engine.interruption import SUSPEND_ACT
from flows.engine.resume_state import ResumeState
from flows.engine.shard_entries import (
    PLAN_WAVE,
    ShardEntry,
    build_assessment_request,
    build_shard_request,
    describe_sites,
    parse_shard_entry,
)
from flows.engine.shard_watch import ActiveShard, EndHandler, OutcomeHandler, ShardWatch
from flows.ports.ports import Ports
from flows.ports.shards import ShardRuns
from flows.request import AssessRequest, PatchRequest, RunRequest, WavesRequest
from inventory.data_class import dataclass
from inventory.machine import Machine
from inventory.resource_limits import ResourceKind
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError, OtherSite, PatchError, RequestError
from tasks.domain.model import ErrorInfo, Outcome, RunReport
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, Step
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.precheck import check_same_machine
from tasks.rules.runs.failure_budget import compute_share
from tasks.rules.runs.resource_turns import ASSESSMENT_KINDS, find_limited_resources
from tasks.rules.runs.shard_limits import ShardShare, build_shares, divide_into_turns
from tasks.rules.runs.shards import Shard, build_shard_run_id, divide_into_shards, needs_shards
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.outcome import build_assessment_outcome

REPORT_GRACE: Final = timedelta(minutes=30)
"""How long after its window a run waits for outcomes that do not reach the records."""
ASSESSMENT_LIMIT: Final = timedelta(hours=24)
"""How long an assessment waits for sites that work on it."""
ASSESSMENT_SIZE: Final = 2000
"""How many machines one process assesses at most, so that Prefect takes their names as a parameter."""


def open_shard_work(
    ports: Ports,
    request: RunRequest,
    machines: Sequence[Machine],
    run_context: RunContext,
    failure_counter: RunCounter,
    resume_state: ResumeState | None,
    save_outcome: Callable[[Outcome], object],
) -> "ShardWork | None":
    """Return the work by other runs, if this process can't carry all these machines out itself; else None.

    A run that is resumed goes on as it began. One process may assess any number of machines of its own site.

    Raises:
        RequestError: other runs carry it out, and this process can't reach them.
    """
    if request.shard:
        return None
    entries = resume_state.journal.get("", ()) if resume_state is not None else ()
    own_entries = [entry for entry in entries if entry.act == SHARD_ACT]
    if not own_entries and resume_state is not None and resume_state.waves:
        return None
    site, size = find_site(), ports.shard_size if isinstance(request, PatchRequest) else len(machines)
    if not own_entries and not needs_shards(machines, site, size):
        return None
    if ports.open_shard_runs is None:
        if own_entries:
            hint = "Resume it in Prefect, with its deployment resume-fleet."
            raise RequestError("the machines of this run are patched by runs at their sites", hint=hint)
        return None
    runs = ports.open_shard_runs()
    if not own_entries and not _may_be_served(runs, site):
        return None  # no worker would carry out its shards: this process has the machines of its own site
    return ShardWork(ports, runs, request, run_context, failure_counter, entries, save_outcome)


def _may_be_served(runs: ShardRuns, site: str) -> bool:
    try:
        return runs.is_served(site)
    except FleetpatchError:
        return True  # Prefect does not answer now: the run waits for it


@dataclass(slots=True)
class _TakenOutcomes:
    """The outcomes of a wave that were taken over, by machine. First those of shards of an earlier process."""

    wave: int
    is_earlier: bool
    outcomes: dict[str, Outcome] = field(default_factory=dict)


class ShardWork:
    """Assesses, plans and patches machines by the runs of their shards.

    Args:
        entries: the journal of the run itself: what an earlier process has started.
        save_outcome: saves the outcome of a machine.

    Attributes:
        left_open: machines that a suspended run leaves open: their run was told to stop before they began.
        assessed: of an assessment, the outcomes of machines, by name.
    """

    def __init__(
        self,
        ports: Ports,
        runs: ShardRuns,
        request: RunRequest,
        run_context: RunContext,
        failure_counter: RunCounter,
        entries: Sequence[JournalEntry],
        save_outcome: Callable[[Outcome], object],
    ) -> None:
        self._ports, self._request, self._run_context = ports, request, run_context
        self._watch = ShardWatch(ports, runs, run_context.run.id, run_context.run.window, failure_counter)
        self._failure_counter, self._save_outcome = failure_counter, save_outcome
        self._was_suspended = any(entry.act == SUSPEND_ACT for entry in entries)
        own_entries = [entry for entry in entries if entry.act == SHARD_ACT]
        closed = {entry.key for entry in own_entries if entry.mark is JournalMark.AFTER}
        begun = [entry for entry in own_entries if entry.mark is JournalMark.BEFORE]
        # a closed one may have begun just before
        still = [entry for entry in begun if entry.key not in closed or self._watch.has_begun(entry.key)]
        self._begun = [parse_shard_entry(entry) for entry in still]
        self._count, self._may_fail = len(begun), 0
        self._contexts: dict[str, MachineContext] = {}
        self.left_open: set[str] = set()
        self.assessed: dict[str, Outcome] = {}

    def refuse_connection(self, machine: Machine) -> NoReturn:
        """Refuse a connection: this process touches no machine, also none of its own site.

        Raises:
            OtherSite: always.
        """
        raise OtherSite("its machine is reached by the run of a shard", machine=machine.name)

    def describe_sites(self) -> tuple[str, ...]:
        """Return a note for each site, for the report: how many of its machines which runs have carried out."""
        reads = not self._run_context.run.may_change_machines
        return describe_sites([entry for entry in self._begun if reads or not entry.is_read_only])

    def list_begun_machines(self) -> frozenset[str]:
        """Return the machines that an earlier process has handed to a run that may change them."""
        return frozenset(name for entry in self._begun if not entry.is_read_only for name in entry.shard.machines)

    def plan(self, contexts: Sequence[MachineContext]) -> None:
        """Let the sites assess and plan machines, and give each its plan with its assessment, or the error.

        In an assessment, give each its assessment, and its outcome into ``assessed``.

        Raises:
            RecordsError: the journal can't be written. Nothing has begun.
        """
        self._contexts = {context.name: context for context in contexts}
        window = self._run_context.run.window
        take_end = self._take_assessments if window is None else self._take_plans
        until = self._ports.clock.now() + ASSESSMENT_LIMIT if window is None else window.end
        machines = [context.state.machine for context in contexts]
        self._run_in_turns(PLAN_WAVE, machines, lambda _active, _outcomes: None, take_end, until)

    def run(self, wave: int, contexts: Sequence[MachineContext], machine_count: int) -> list[Outcome]:
        """Let the sites patch the machines of a wave, and return their outcomes in the order of the machines.

        Machines that an earlier process has handed to a run are waited for. Those that a suspended run had left open
        get a new one.

        Args:
            wave: the number of the wave.
            contexts: its machines that are not done.
            machine_count: the number of machines of the whole run.

        Raises:
            RecordsError: the journal can't be written, so nothing more has begun.
        """
        budget = self._waves.to_wave_policy().budget
        self._may_fail = (
            budget.count if budget.count is not None else compute_share(machine_count, budget.percent or 0.0)
        )
        self._contexts = {context.name: context for context in contexts}
        taken = _TakenOutcomes(wave, is_earlier=True)
        take_outcomes = functools.partial(self._take_outcomes, taken)
        take_end = functools.partial(self._take_end, taken)
        until = self._run_context.window.end + REPORT_GRACE
        self._watch.watch(self._adopt(wave), take_outcomes, take_end, until)
        taken.is_earlier = False
        fresh = [context.state.machine for context in contexts if context.name not in taken.outcomes]
        if not self._ports.stop_token.is_stopping:
            self.left_open -= {machine.name for machine in fresh}
        self._run_in_turns(wave, fresh, take_outcomes, take_end, until)
        not_begun = sorted(self._contexts.keys() - taken.outcomes.keys() - self.left_open)
        if self._ports.stop_token.is_suspended:
            self.left_open |= set(not_begun)
        for name in () if self._ports.stop_token.is_suspended else not_begun:
            reason = self._watch.explain_stop()
            self._take_over(taken, Outcome(self._run_id, name, OperationState.NOT_STARTED, reason))
        return [taken.outcomes[context.name] for context in contexts if context.name in taken.outcomes]

    def _take_outcomes(self, taken: _TakenOutcomes, active: ActiveShard, new: Sequence[Outcome]) -> None:
        is_suspended = self._ports.stop_token.is_suspended
        was_left = (active.is_told and is_suspended) or (taken.is_earlier and self._was_suspended)
        touched = self._watch.find_touched(active) if new and was_left else frozenset()
        for outcome in new:
            if outcome.state is OperationState.NOT_STARTED and was_left and outcome.machine not in touched:
                self.left_open.add(outcome.machine)
            else:
                self._take_over(taken, outcome)

    def _take_end(self, taken: _TakenOutcomes, active: ActiveShard, reason: str) -> None:
        if active.has_begun:
            self._take_report(active)
        elif active.missing and self._ports.stop_token.is_suspended:
            self.left_open |= active.missing
            return
        state = OperationState.UNKNOWN if active.has_begun else OperationState.NOT_STARTED
        for name in sorted(active.missing):
            self._take_over(taken, Outcome(self._run_id, name, state, reason))

    @property
    def _run_id(self) -> str:
        return self._run_context.run.id

    @property
    def _waves(self) -> WavesRequest:
        assert isinstance(self._request, PatchRequest)  # noqa: S101 - for the type checker: an assessment has none
        return self._request.waves

    def _take_over(self, taken: _TakenOutcomes, outcome: Outcome) -> None:
        own = replace(outcome, run_id=self._run_id, wave=taken.wave)
        taken.outcomes[outcome.machine] = own
        self._failure_counter.add_outcome(own)
        self._save_outcome(own)
        self._ports.listener.on_step_finished(own.machine, Step.REPORT, own.state.value, own.reason)

    def _take_plans(self, active: ActiveShard, reason: str) -> None:
        """Give the machines of a shard that is over their plans. One without a plan gets the error."""
        report, cause = self._read_end(active, reason)
        plans = {plan.machine: plan for plan in report.plans} if report else {}
        assessments = {assessment.machine: assessment for assessment in report.assessments} if report else {}
        errors = {outcome.machine: outcome.error for outcome in report.outcomes} if report else {}
        for name in active.entry.shard.machines:
            assessment, error = assessments.get(name), errors.get(name)
            if name not in plans and error is None:
                message = f"the site {active.entry.shard.site} has made no plan of it: {cause}"
                # its machines may be reached: that is not known
                error = ErrorInfo(kind=PatchError.__name__, message=message, transient=True)
            facts = assessment.facts if assessment is not None else None
            other_name = self._run_context.instances.meet(facts, name)
            same = check_same_machine(other_name, changes_machines=True)
            self._contexts[name].state = replace(
                self._contexts[name].state,
                plan=plans.get(name),
                assessment=replace(assessment, run_id=self._run_id) if assessment is not None else None,
                findings=same,
                halted=describe_blocking_findings(same),
                halted_as=OperationState.NOT_STARTED,
                error=None if name in plans else error,
            )

    def _take_assessments(self, active: ActiveShard, reason: str) -> None:
        """Take over what a shard that is over has assessed. A machine without an answer is unread, and not up to date.

        Of a shard that died, only what it had saved of its machines is known.
        """
        report, cause = self._read_end(active, reason)
        assessments = {assessment.machine: assessment for assessment in report.assessments} if report else {}
        outcomes = {outcome.machine: outcome for outcome in report.outcomes} if report else {}
        for name in active.entry.shard.machines:
            context, assessment = self._contexts[name], assessments.get(name)
            other_name = self._run_context.instances.meet(assessment.facts if assessment else None, name)
            same = check_same_machine(other_name, changes_machines=False)
            if assessment is not None:
                own = replace(assessment, run_id=self._run_id)
                context.state = replace(context.state, assessment=own, error=own.error)
            if name in outcomes:
                outcome = replace(outcomes[name], run_id=self._run_id)
            elif assessment is not None:
                outcome = build_assessment_outcome(context)
            else:
                outcome = self._build_unread_outcome(active, name, cause)
            findings = (*outcome.findings, *(finding for finding in same if finding not in outcome.findings))
            self.assessed[name] = replace(outcome, findings=findings)
            self._ports.listener.on_step_finished(name, Step.ASSESS, outcome.state.value, outcome.reason)

    def _build_unread_outcome(self, active: ActiveShard, name: str, cause: str) -> Outcome:
        if stop := self._watch.explain_stop():
            return Outcome(self._run_id, name, OperationState.NOT_STARTED, stop)
        state = OperationState.UNKNOWN if active.has_begun else OperationState.NOT_STARTED
        message = f"the site {active.entry.shard.site} has not read it: {cause}"
        error = ErrorInfo(kind=PatchError.__name__, message=message, transient=True)
        return Outcome(self._run_id, name, state, message, error=error)

    def _read_end(self, active: ActiveShard, reason: str) -> tuple[RunReport | None, str]:
        """Return the report of a shard that is over, if there is one, and why machines are missing in it."""
        report = self._watch.read_report(active)
        if report is None and active.remark:
            return report, active.remark
        if report is not None and report.run.state not in UNFINISHED_RUN_STATES and not report.run.message:
            reason = f"run {report.run.id} is over and does not have it. Does the inventory at its site?"
        return report, reason or "its run does not say why"

    def _take_report(self, active: ActiveShard) -> None:
        """Take over what the report of a shard has beside the outcomes: newest plans and assessments, and hooks."""
        report = self._watch.read_report(active)
        for assessment in report.assessments if report else ():
            if (context := self._contexts.get(assessment.machine)) is not None:
                own = replace(assessment, run_id=self._run_id)
                context.state = replace(context.state, assessment=own)
        for plan in report.plans if report else ():
            if (context := self._contexts.get(plan.machine)) is not None:
                context.state = replace(context.state, plan=plan)
        for name, context in self._contexts.items():
            hooks = tuple(result for result in report.hooks if result.subject == name) if report else ()
            context.state = replace(context.state, hooks=(*context.state.hooks, *hooks))

    def _adopt(self, wave: int) -> list[ActiveShard]:
        """Return the shards of a wave that an earlier process has begun, as far as their machines are not done."""
        begun = [entry for entry in self._begun if entry.wave == wave]
        adopted = [ActiveShard(entry, set(entry.shard.machines) & self._contexts.keys()) for entry in begun]
        return [active for active in adopted if active.missing]

    def _divide(self, machines: Sequence[Machine]) -> tuple[Shard, ...]:
        if isinstance(self._request, AssessRequest):
            return divide_into_shards(machines, ASSESSMENT_SIZE)
        return divide_into_shards(machines, self._ports.shard_size, self._ports.inventory.sets)

    def _run_in_turns(
        self,
        wave: int,
        machines: Sequence[Machine],
        take_outcomes: OutcomeHandler,
        take_end: EndHandler,
        until: datetime,
    ) -> None:
        """Let new shards carry machines out. Those run at the same time that can share what the run may do at once.

        Sites plan at the same time also if each must then assess one machine more than its share.
        """
        request, limits = self._request, self._ports.inventory.limits
        kinds = ASSESSMENT_KINDS if wave == PLAN_WAVE else frozenset(ResourceKind)
        resources = find_limited_resources(self._ports.inventory, [machine.name for machine in machines], kinds)
        shards = self._divide(machines)
        if isinstance(request, AssessRequest):
            at_once = assess_at_once = request.at_once
        else:
            at_once, assess_at_once = request.waves.at_once, request.assess_at_once
        for turn in divide_into_turns(shards, len(shards) if wave == PLAN_WAVE else at_once, resources, limits):
            if wave == PLAN_WAVE or not self._watch.explain_stop():
                shares = build_shares(turn, at_once, assess_at_once, resources, limits)
                self._watch.watch(self._begin(wave, turn, shares), take_outcomes, take_end, until)

    def _begin(self, wave: int, shards: Sequence[Shard], shares: Sequence[ShardShare]) -> list[ActiveShard]:
        """Write new shards into the journal, and return them. Their runs are started when they are first looked at."""
        begun = list[ActiveShard]()
        for shard, share in zip(shards, shares, strict=True):
            self._count += 1
            run_id, now = build_shard_run_id(self._run_id, self._count), self._ports.clock.now()
            entry = ShardEntry(run_id, shard, wave, now, self._build_request(run_id, shard, wave, share))
            self._watch.append(JournalMark.BEFORE, run_id, entry.detail)
            self._begun.append(entry)
            begun.append(ActiveShard(entry, set(shard.machines)))
        return begun

    def _build_request(self, run_id: str, shard: Shard, wave: int, share: ShardShare) -> RunRequest:
        if isinstance(self._request, AssessRequest):
            return build_assessment_request(self._request, run_id, shard.machines, share)
        opens = self._run_context.window.start
        return build_shard_request(self._request, run_id, shard.machines, wave, opens, self._may_fail, share)
