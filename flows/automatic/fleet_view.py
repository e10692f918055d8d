"""Everything that a decision of automatic patching depends on, read from the records and the inventory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from datetime import datetime, timedelta

from flows.automatic.pending_updates import MissingFixes, PendingRow, PendingUpdateFinder, compute_missing_fixes
from flows.engine.pinned_updates import find_machines_opted_out
from flows.request.request_parts import FreezeRequest
from inventory.data_class import dataclass
from inventory.errors import EmptyScopeError
from inventory.machine import Inventory, Machine, PatchOwner
from inventory.scope import Scope
from tasks.domain.model import Assessment, Outcome
from tasks.domain.states import OperationState, Step
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.automatic.automatic_runs import AutomaticRunStatus, SqlAutomaticRuns
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import RolloutResults, SqlRollouts, read_rollout_results
from tasks.records.automatic.sightings import read_first_seen, read_missing_fixes
from tasks.records.queries.history import History
from tasks.records.queries.newest_assessments import NewestAssessments, find_later_assessments, read_newest_assessments
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.fleet_index import CLOCK_TOLERANCE
from tasks.rules.automatic.model import (
    ActiveRun,
    AutomaticPolicy,
    CveRisk,
    DueUpdate,
    FleetView,
    MachineView,
    Rollout,
    RolloutState,
    Try,
)
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.runs.run_machines import find_machines_of_run


def judge_health(*, answers: bool, assessment: Assessment | None, outcome: Outcome | None) -> bool | None:
    """Return whether a machine is healthy; None if that is unknown. Pure.

    An assessment reads a machine and does not run its probes. So what is known is: whether the machine answers, which
    of its services have failed, and how the validation of its last patch run ended (with its probes).

    - A machine that does not answer may only be off: its health is unknown, and ``last_seen`` tells the rest.
    - A machine whose last run failed at the reboot or the validation is not healthy until it was assessed again and
      none of its services has failed. Then it is unknown: only a run's pre-check tries its probes again.
    - A machine with a service that has failed since its last run is not healthy: the update may be the reason.

    Args:
        answers: whether its newest assessment has an answer.
        assessment: its newest assessment with an answer; None: it never answered.
        outcome: its last outcome in a run that changed machines; None: it has none.
    """
    if assessment is None or not answers:
        return False if outcome is not None and _failed_after_change(outcome) else None
    failed_services = frozenset(assessment.facts.services.failed) if assessment.facts is not None else frozenset()
    if outcome is None:
        return True
    if _failed_after_change(outcome):
        is_later = outcome.ended_at is not None and assessment.at > outcome.ended_at
        return None if is_later and not failed_services else False
    before = frozenset(outcome.facts.services.failed) if outcome.facts is not None else failed_services
    return not failed_services - before


def _failed_after_change(outcome: Outcome) -> bool:
    """Return whether a machine was changed, and then did not come back or failed its validation."""
    if outcome.state is not OperationState.FAILED:
        return False
    return any(
        record.step in {Step.REBOOT, Step.VALIDATE} and record.state is OperationState.FAILED
        for record in outcome.steps
    )


RECENT_TURNS = timedelta(days=2)
"""Turns of rollouts that ended in this time are read completely."""


@dataclass(frozen=True, slots=True)
class AssessedFleet:
    """What the newest assessments say of the machines that automatic patching takes care of."""

    machines: tuple[Machine, ...]  # in the order of the inventory
    newest: Mapping[str, NewestAssessments]  # by machine, without machines that were never assessed
    rows: Mapping[str, tuple[PendingRow, ...]]
    missing: MissingFixes  # since when they are missing
    # Machines with assessments that are later than now, which were left out, and the time of the newest one.
    later: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def cves(self) -> frozenset[str]:
        """The CVEs that pending updates fix: those that feeds are asked about."""
        return frozenset(cve for machine_rows in self.rows.values() for row in machine_rows for cve in row.cves)


def read_snapshot(records: SqlRecords, inventory: Inventory, policy: AutomaticPolicy, now: datetime) -> AssessedFleet:
    """Read the newest assessments of the machines in the policy's scope. This changes nothing.

    Raises:
        InventoryError: the scope of the policy can't be parsed.
        RecordsError: the records can't be read.
    """
    machines = select_managed_machines(policy.scope, inventory)
    names = [machine.name for machine in machines]
    limit = now + CLOCK_TOLERANCE
    newest = read_newest_assessments(records.database, names, limit)
    later = find_later_assessments(records.database, names, limit)
    reader, stored = PendingUpdateFinder(policy), read_missing_fixes(records.database, names)
    rows = {
        name: reader.list_pending(assessments.answered)
        for name, assessments in newest.items()
        if assessments.answered is not None
    }
    missing = compute_missing_fixes(rows, read_first_seen(records.database), stored, rows, now)
    return AssessedFleet(machines, newest, rows, missing, later)


def build_fleet_view(
    records: SqlRecords,
    inventory: Inventory,
    policy: AutomaticPolicy,
    now: datetime,
    risks: Mapping[str, CveRisk] | None = None,
    *,
    freezes: Sequence[FreezeRequest] = (),
    snapshot: AssessedFleet | None = None,
    require_seals: bool = False,
) -> FleetView:
    """Return what is known of the machines that automatic patching takes care of. This changes nothing.

    Args:
        records: the records.
        inventory: all machines and sets.
        policy: its scope selects the machines; of these, those whose owner is ``managed`` count.
        now: the present time, aware.
        risks: what feeds say of vulnerabilities, by CVE id.
        freezes: times in which nothing is changed. Without an offset a freeze holds in every zone of the machines.
        snapshot: what ``read_snapshot`` returned a moment ago; None: it is read now.
        require_seals: whether a rollout that is under way must have its seal. For a view that decides, which changes
            that rollout; not for one that is only shown.

    Raises:
        InventoryError: the scope of the policy can't be parsed.
        RecordsError: the records can't be read.
        RequestError: a freeze is not valid.
        SealBroken: the rollout was changed in the database.
        SealKeyMissing: another controller has sealed the rollout.
    """
    snapshot = snapshot or read_snapshot(records, inventory, policy, now)
    rollouts = SqlRollouts(records.database).read_newest(require_seals=require_seals)
    current = _select_current(rollouts, now)
    rollout_results = read_rollout_results(records.database, current)
    limit = now + CLOCK_TOLERANCE
    results = drop_later_results(rollout_results, limit)
    earlier = [rollout for rollout in rollouts if rollout not in current]
    failures = drop_later_results(read_rollout_results(records.database, earlier, only_failed=True), limit)
    lost = tuple(_list_lost_turns(records, current, rollout_results, now))
    open_runs = SqlAutomaticRuns(records.database).read_open(now)
    return FleetView(
        machines=_build_machine_views(snapshot, inventory, SqlOptOuts(records.database).read_active(now), results),
        rollouts=rollouts,
        tries=(*failures.tries, *results.tries, *(rollout for rollout in lost if rollout.ended_at <= limit)),
        active_runs=_read_active_runs(records, inventory, open_runs),
        assessing=frozenset(name for rollout in open_runs if rollout.run.plan is None for name in rollout.run.machines),
        held_updates=SqlHeldUpdates(records.database).read_held(),
        freezes=convert_freezes(freezes, {machine.zone for machine in snapshot.machines}),
        announced=SqlAnnouncements(records.database).read_keys(),
        set_sizes={machine_set.name: len(machine_set.members) for machine_set in inventory.sets},
        risks=dict(risks or {}),
        later_records=find_later_records(snapshot.later, rollout_results.tries, limit),
    )


def select_managed_machines(scope: str, inventory: Inventory) -> tuple[Machine, ...]:
    """Return the machines of a scope whose owner is ``managed``; none is no error.

    Raises:
        InventoryError: the scope can't be parsed.
    """
    parsed = Scope.parse(scope)
    with suppress(EmptyScopeError):
        return tuple(m for m in parsed.select_machines(inventory) if m.owner is PatchOwner.MANAGED)
    return ()


def convert_freezes(freezes: Sequence[FreezeRequest], zones: set[str]) -> tuple[Freeze, ...]:
    """Return freezes as instants. One without an offset becomes one freeze for each zone.

    Raises:
        RequestError: a freeze is not valid.
    """
    instants = (freeze.to_freeze(zone) for freeze in freezes for zone in sorted(zones or {"UTC"}))
    return tuple(dict.fromkeys(instants))


def _select_current(rollouts: Sequence[Rollout], now: datetime) -> tuple[Rollout, ...]:
    """Return the rollouts that are not over or ended lately, the last one, and the last one that is complete.

    One that ended lately had turns of this night: a machine has one turn in a night, whatever rollout it was for. Of
    all others, a decision needs only which machines have failed how often.
    """
    complete = [rollout for rollout in rollouts if rollout.state is RolloutState.COMPLETED]
    chosen = {rollout.id for rollout in (*complete[-1:], *rollouts[-1:])}
    since = now - RECENT_TURNS
    return tuple(
        rollout for rollout in rollouts if rollout.ended_at is None or rollout.ended_at > since or rollout.id in chosen
    )


def _list_lost_turns(
    records: SqlRecords, rollouts: Sequence[Rollout], results: RolloutResults, now: datetime
) -> Iterator[Try]:
    """Yield a turn of each machine whose run is over and has no outcome of it: the run never began, or was refused.

    Without these, a rollout would wait for ever for machines whose runs can't begin.
    """
    known_tries = {(phase_try.run_id, phase_try.machine) for phase_try in results.tries}
    for of_rollout in SqlAutomaticRuns(records.database).read_of_rollouts([rollout.id for rollout in rollouts]):
        plan = of_rollout.run.plan
        if plan is None or of_rollout.is_open(now):
            continue
        run_id, reason = (
            of_rollout.run_id or of_rollout.run.key,
            of_rollout.run.never_began or "its run ended before its turn",
        )
        for name in of_rollout.run.machines:
            if (run_id, name) not in known_tries:
                rollout, at, location = of_rollout.run.rollout_id, of_rollout.run.window_start, plan.location
                state = OperationState.NOT_STARTED
                yield Try(rollout, run_id, name, state, at, began=False, reason=reason, location=location)


def _build_machine_views(
    snapshot: AssessedFleet, inventory: Inventory, opt_outs: Sequence[OptOut], results: RolloutResults
) -> tuple[MachineView, ...]:
    paused, sets = find_machines_opted_out(snapshot.machines, opt_outs), defaultdict[str, list[str]](list)
    for machine_set in inventory.sets:
        for name in machine_set.members:
            sets[name].append(machine_set.name)
    return tuple(
        MachineView(
            name=machine.name,
            location=machine.location,
            availability_zone=machine.availability_zone,
            zone=machine.zone,
            sets=tuple(sets.get(machine.name, ())),
            opted_out=paused.get(machine.name, ""),
            last_seen=newest.assessed_at if (newest := snapshot.newest.get(machine.name)) is not None else None,
            assessed_at=newest.assessed_at if newest is not None else None,
            asked_at=newest.asked_at if newest is not None else None,
            is_healthy=judge_health(
                answers=newest is not None and not newest.error_kind,
                assessment=newest.answered if newest is not None else None,
                outcome=results.last_outcomes.get(machine.name),
            ),
            pending=tuple(
                DueUpdate(
                    row.name,
                    row.version,
                    row.classification,
                    snapshot.missing.since[machine.name, row.name],
                    row.severity,
                    row.cves,
                    row.held,
                )
                for row in snapshot.rows.get(machine.name, ())
            ),
            can_wake=machine.wake is not None,
        )
        for machine in snapshot.machines
    )


def _read_active_runs(
    records: SqlRecords, inventory: Inventory, open_runs: Sequence[AutomaticRunStatus]
) -> tuple[ActiveRun, ...]:
    """Return runs of automatic patching that are under way or may still begin, and all other unfinished runs."""
    automatic_runs = [
        ActiveRun(run.run_id or run.run.key, run.run.machines, run.run.plan)
        for run in open_runs
        if run.run.plan is not None
    ]
    run_ids = {automatic_run.run_id for automatic_run in automatic_runs}
    other_runs = [
        ActiveRun(run.id, find_machines_of_run(run, inventory))
        for run in History(records).read_unfinished_runs()
        if run.may_change_machines and run.id not in run_ids
    ]
    return (*automatic_runs, *other_runs)


def drop_later_results(results: RolloutResults, limit: datetime) -> RolloutResults:
    """Return the results until a time."""
    outcomes = {
        name: outcome
        for name, outcome in results.last_outcomes.items()
        if outcome.ended_at is None or outcome.ended_at <= limit
    }
    return RolloutResults(tuple(outcome for outcome in results.tries if outcome.ended_at <= limit), outcomes)


def find_later_records(
    assessments: Mapping[str, datetime], tries: Iterable[Try], limit: datetime
) -> dict[str, datetime]:
    """Return the machines with assessments or tries after a time, with the latest time of each."""
    later_assessments = {name: at for name, at in assessments.items() if at > limit}
    for phase_try in tries:
        if phase_try.ended_at > limit:
            later_assessments[phase_try.machine] = max(
                phase_try.ended_at, later_assessments.get(phase_try.machine, phase_try.ended_at)
            )
    return later_assessments
