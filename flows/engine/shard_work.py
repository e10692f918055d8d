"""The work of a run whose machines other runs carry out: one run for each shard, at the site of its machines.

The run itself contacts no machine. It owns the window, the approval, the waves and the failure budget. It makes its
plan from the plans of the shards' runs, and takes over the outcomes of their machines as they come. What it starts is
in its journal before: a process that resumes it finds the same runs, and a shard's run begins only if it finds that.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, NoReturn

from flows.engine.failure_counter import FailureCounter
from flows.engine.interruption import SUSPEND_ACT
from flows.engine.resume_state import ResumeState
from flows.engine.shard_entries import PLAN_WAVE, ShardEntry, build_shard_request, dump_shard_request, parse_shard_entry
from flows.engine.shard_watch import ActiveShard, ShardWatch
from flows.ports.ports import Ports
from flows.ports.shards import ShardRuns
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.machine import Machine
from inventory.name_lists import format_count, join_first_names
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError, OtherSite, PatchError, RequestError
from tasks.domain.model import ErrorInfo, Outcome
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.precheck import check_same_machine
from tasks.rules.runs.failure_budget import compute_share
from tasks.rules.runs.shards import Shard, build_shard_run_id, divide_into_shards, needs_shards, share_at_once
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext

_MAX_RUNS_SHOWN: Final = 10
REPORT_GRACE: Final = timedelta(minutes=30)
"""How long after its window a run waits for outcomes that do not reach the records."""


def open_shard_work(
    ports: Ports,
    request: PatchRequest | AssessRequest,
    machines: Sequence[Machine],
    run_context: RunContext,
    failure_counter: FailureCounter,
    resume_state: ResumeState | None,
    save_outcome: Callable[[Outcome], None],
) -> "ShardWork | None":
    """Return the work by other runs, if this process can't carry all these machines out itself; else None.

    A run that is resumed goes on as it began.

    Raises:
        RequestError: other runs carry it out, and this process can't reach them.
    """
    if not isinstance(request, PatchRequest) or request.shard:
        return None
    entries = resume_state.journal.get("", ()) if resume_state is not None else ()
    own_entries = [entry for entry in entries if entry.act == SHARD_ACT]
    if not own_entries and resume_state is not None and resume_state.waves:
        return None
    site = find_site()
    if not own_entries and not needs_shards(machines, site, ports.shard_size):
        return None
    if ports.open_shard_runs is None:
        if own_entries:
            hint = "Resume it in Prefect, with its deployment resume-fleet."
            raise RequestError("the machines of this run are patched by runs at their sites", hint=hint)
        return None
    runs = ports.open_shard_runs()
    if not own_entries and not _may_be_served(runs, site):
        return None  # no worker would carry out its shards: this process patches the machines of its own site
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
    """Plans and patches machines by the runs of their shards.

    Args:
        entries: the journal of the run itself: what an earlier process has started.
        save_outcome: saves the outcome of a machine.

    Attributes:
        left_open: machines that a suspended run leaves open: their run was told to stop before they began.
    """

    def __init__(
        self,
        ports: Ports,
        runs: ShardRuns,
        request: PatchRequest,
        run_context: RunContext,
        failure_counter: FailureCounter,
        entries: Sequence[JournalEntry],
        save_outcome: Callable[[Outcome], None],
    ) -> None:
        self._ports, self._request, self._run_context = ports, request, run_context
        self._watch = ShardWatch(ports, runs, run_context.run.id, run_context.window, failure_counter)
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

    def refuse_connection(self, machine: Machine) -> NoReturn:
        """Refuse a connection: this process touches no machine, also none of its own site.

        Raises:
            OtherSite: always.
        """
        raise OtherSite("its machine is patched by the run of a shard", machine=machine.name)

    def describe_sites(self) -> tuple[str, ...]:
        """Return a note for each site, for the report: how many of its machines which runs have carried out."""
        entries = [entry for entry in self._begun if entry.wave != PLAN_WAVE or self._request.dry_run]
        notes = []
        for site in dict.fromkeys(entry.shard.site for entry in entries):
            at_site = [entry for entry in entries if entry.shard.site == site]
            names = {name for entry in at_site for name in entry.shard.machines}
            runs = join_first_names([entry.run_id for entry in at_site], _MAX_RUNS_SHOWN)
            notes.append(f"site {site}: {format_count(len(names), 'machine')} in {runs}")
        return tuple(notes)

    def list_begun_machines(self) -> frozenset[str]:
        """Return the machines that an earlier process has handed to a run that may change them."""
        return frozenset(name for entry in self._begun if entry.wave != PLAN_WAVE for name in entry.shard.machines)

    def plan(self, contexts: Sequence[MachineContext]) -> None:
        """Let the sites assess and plan machines, and give each its plan with its assessment, or the error.

        Raises:
            RecordsError: the journal can't be written. Nothing has begun.
        """
        self._contexts = {context.name: context for context in contexts}
        shards = self._begin(PLAN_WAVE, self._divide([context.state.machine for context in contexts]))
        self._watch.watch(shards, lambda _active, _outcomes: None, self._take_plans, self._run_context.window.end)

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
        budget = self._request.waves.to_wave_policy().budget
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
        shards, at_once = self._divide(fresh), self._request.waves.at_once
        for first in range(0, len(shards), at_once):
            if not self._watch.explain_stop():
                part = self._begin(wave, shards[first : first + at_once])
                self._watch.watch(part, take_outcomes, take_end, until)
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

    def _take_over(self, taken: _TakenOutcomes, outcome: Outcome) -> None:
        own = replace(outcome, run_id=self._run_id, wave=taken.wave)
        taken.outcomes[outcome.machine] = own
        self._failure_counter.add_outcome(own)
        self._save_outcome(own)
        self._ports.listener.on_step_finished(own.machine, Step.REPORT, own.state.value, own.reason)

    def _take_plans(self, active: ActiveShard, reason: str) -> None:
        """Give the machines of a shard that is over their plans. One without a plan gets the error."""
        report = self._watch.read_report(active)
        plans = {plan.machine: plan for plan in report.plans} if report else {}
        assessments = {assessment.machine: assessment for assessment in report.assessments} if report else {}
        errors = {outcome.machine: outcome.error for outcome in report.outcomes} if report else {}
        for name in active.entry.shard.machines:
            assessment, error = assessments.get(name), errors.get(name)
            if name not in plans and error is None:
                cause = active.remark if report is None and active.remark else reason or "its run does not say why"
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
        return divide_into_shards(machines, self._ports.shard_size, self._ports.inventory.sets)

    def _begin(self, wave: int, shards: Sequence[Shard]) -> list[ActiveShard]:
        """Write new shards into the journal, and return them. Their runs are started when they are first looked at.

        They share the number of machines that the run may patch at once.
        """
        window, shares = self._run_context.window, share_at_once(shards, self._request.waves.at_once)
        begun = []
        for shard, at_once in zip(shards, shares, strict=True):
            self._count += 1
            run_id, now = build_shard_run_id(self._run_id, self._count), self._ports.clock.now()
            request = build_shard_request(
                self._request, run_id, shard.machines, wave, window.start, self._may_fail, at_once
            )
            detail = {"wave": wave, "site": shard.site, "request": dump_shard_request(request)}
            self._watch.append(JournalMark.BEFORE, run_id, detail)
            self._begun.append(ShardEntry(run_id, shard, wave, now, request))
            begun.append(ActiveShard(self._begun[-1], set(shard.machines)))
        return begun
