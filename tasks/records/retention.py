"""Deletes history that is older than the retention.

A new history keeps assessments for months and runs that changed machines for years (DEFAULT_RETENTION).
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, exists, func, insert, or_, select

from inventory.data_class import dataclass
from tasks.domain.model import READ_ONLY_RUN_KINDS
from tasks.records import event_schema, page_schema, schema
from tasks.records.left_disks import find_left_disks
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.maintenance_schema import held_applications, held_groups, held_packages
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.records.statements import UNFINISHED_STATES, list_shard_ids
from tasks.rules.retention import Retention

_TABLES_BY_RUN = (
    schema.outcomes,
    schema.journal,
    schema.job_outputs,
    schema.run_plans,
    schema.machine_plans,
    schema.leases,
    schema.stop_requests,
    schema.approvals,
    event_schema.scheduled_events,
    page_schema.run_progress,
    page_schema.machine_last_runs,
)
_RUNS_KEY, _ASSESSMENTS_KEY = "runs", "assessments"
_BATCH_SIZE = 500  # assessments in one transaction: a larger one would delay journal entries
_APPLY_INTERVAL = timedelta(hours=20)
_KEPT_ROLLOUTS = 20  # as many as a decision reads


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Numbers of deleted runs and assessments."""

    runs: int = 0
    assessments: int = 0


def prune_history(records: SqlRecords, before: datetime) -> PruneResult:
    """Delete runs that began before a time, with all their data, and assessments made before it.

    Some data is kept at any age: each machine's newest assessment, its newest assessment with an answer, the measures,
    the audit log, runs whose lease is held, runs that have left an OS disk of before, unfinished runs that have a
    member of a machine set out of service, runs that applied a package which is still held, and which members are
    drained. Each run is deleted in one transaction.
    Other writers can write between transactions.

    ``before``: an aware datetime.

    Raises:
        RecordsError: the deletion stopped. Rows that are not yet deleted remain.
    """
    _prune_sessions(records, before)
    _prune_orders_and_snapshots(records, before)
    runs = _prune_runs(records, before, None, _always_continue)
    return PruneResult(runs, _prune_assessments(records, before, _always_continue))


def read_retention(records: SqlRecords) -> Retention:
    """Return the retention of this history. Raise RecordsError if the retention cannot be read."""
    table = schema.retention
    days = dict(records.database.read_rows("read how long history is kept", select(table.c.what, table.c.days)))
    return Retention(assessments_days=days.get(_ASSESSMENTS_KEY), runs_days=days.get(_RUNS_KEY))


def save_retention(records: SqlRecords, retention: Retention) -> None:
    """Store the retention of this history. It is applied when a run ends.

    Raises:
        RecordsError: the retention cannot be stored.
    """
    with records.database.begin_write("store how long history is kept") as connection:
        replace_retention_rows(connection, retention)


def replace_retention_rows(connection: Connection, retention: Retention) -> None:
    """Replace the rows of the retention table. This also clears ``applied_at``."""
    table = schema.retention
    connection.execute(delete(table))
    rows = [
        {"what": _ASSESSMENTS_KEY, "days": retention.assessments_days},
        {"what": _RUNS_KEY, "days": retention.runs_days},
    ]
    connection.execute(insert(table), rows)


def apply_retention(records: SqlRecords, now: datetime, may_continue: Callable[[], bool]) -> PruneResult:
    """Delete history that is older than the retention. Do nothing if the last time was less than 20 hours ago.

    Logins of browsers that are over are deleted with any retention. The audit log is never deleted.

    ``may_continue``: called before each run and each batch of assessments. False stops the deletion; a later call
    deletes the rest.

    Raises:
        RecordsError: the deletion stopped. Rows that are not yet deleted remain.
    """
    retention, table = read_retention(records), schema.retention
    with records.database.begin_read("read when history was last tidied") as connection:
        applied = connection.execute(select(func.max(table.c.applied_at))).scalar_one()
    if applied is not None and now - applied < _APPLY_INTERVAL:
        return PruneResult()
    _prune_sessions(records, now)  # also if history is kept forever: they are no history
    if retention.is_forever:
        return PruneResult()
    runs = assessments = 0
    if retention.runs_days is not None:
        before = now - timedelta(days=retention.runs_days)
        _prune_orders_and_snapshots(records, before)
        runs += _prune_runs(records, before, None, may_continue)
    if retention.assessments_days is not None:
        before = now - timedelta(days=retention.assessments_days)
        runs += _prune_runs(records, before, READ_ONLY_RUN_KINDS, may_continue)
        assessments += _prune_assessments(records, before, may_continue)
    if may_continue():
        with records.database.begin_write("record that history was tidied") as connection:
            connection.execute(table.update().values(applied_at=now))
    return PruneResult(runs, assessments)


def _prune_orders_and_snapshots(records: SqlRecords, before: datetime) -> None:
    SqlMachineOrders(records.database).prune(before)
    SqlSnapshots(records.database, records.seals).prune(before)


def _always_continue() -> bool:
    return True


def _prune_runs(
    records: SqlRecords, before: datetime, kinds: Collection[str] | None, may_continue: Callable[[], bool]
) -> int:
    runs, windows, slots = schema.runs, schema.occurrences, schema.set_slots
    old = select(runs.c.id).where(runs.c.started_at < before).order_by(runs.c.started_at)
    # Without its run a slot would end, and the next run would take another member of that set out of service.
    holds_slots = runs.c.state.in_(UNFINISHED_STATES) & exists().where(slots.c.run_id == runs.c.id)
    # Without its run the application of a package would count as one that never began, and be begun again.
    held, applied = held_packages, held_applications
    applies_package = exists().where(
        (applied.c.run_id == runs.c.id)
        | ((applied.c.flow_run_id != "") & (applied.c.flow_run_id == runs.c.flow_run_id)),
        held.c.group_name == applied.c.group_name,
        held.c.number == applied.c.number,
        held.c.ended_at.is_(None),
    )
    old = old.where(~holds_slots, ~applies_package)
    if kinds is not None:
        old = old.where(runs.c.kind.in_(kinds))
    with records.database.begin_read("look for old runs") as connection:
        run_ids = connection.execute(old).scalars().all()
    deleted = 0
    holding_disks = {disk.run_id for disk in find_left_disks(records.database, also_unfinished=True)}
    for run_id in run_ids:
        if not may_continue():
            return deleted
        if run_id in holding_disks:  # without its run nobody would know whose way back the disk is
            continue
        lease = records.leases.find_lease(run_id)
        # A process still works on it: it finalizes an old run, or the run waits for its window.
        if lease is not None and lease.is_held:
            continue
        with records.database.begin_write("forget an old run") as connection:
            run_and_shards = [run_id, *list_shard_ids(connection, run_id)]
            events, told = event_schema.scheduled_events, event_schema.event_machines
            own_events = select(events.c.id).where(events.c.run_id.in_(run_and_shards))
            connection.execute(delete(told).where(told.c.event_id.in_(own_events)))
            for table in _TABLES_BY_RUN:
                connection.execute(delete(table).where(table.c.run_id.in_(run_and_shards)))
            # A drained member is out of service until it is brought back, whatever becomes of its run.
            connection.execute(delete(slots).where(slots.c.run_id.in_(run_and_shards), ~slots.c.drained))
            deleted += connection.execute(delete(runs).where(runs.c.id.in_(run_and_shards))).rowcount
    if kinds is None:
        with records.database.begin_write("forget old windows") as connection:
            connection.execute(delete(windows).where(windows.c.starts_at < before))
        _prune_automatic_patching(records, before)
        _prune_held_packages(records, before)
        _prune_days(records, before)
        # who asked for a run through the pages: the run itself names that person, and is as old
        requested = page_schema.requested_runs
        with records.database.begin_write("forget old requests") as connection:
            connection.execute(delete(requested).where(requested.c.at < before))
    return deleted


def _prune_sessions(records: SqlRecords, before: datetime) -> None:
    """Delete logins of browsers that ended before a time. Nobody can use them any more."""
    table = page_schema.web_sessions
    with records.database.begin_write("forget old logins") as connection:
        connection.execute(delete(table).where(table.c.expires_at < before))


def _prune_days(records: SqlRecords, before: datetime) -> None:
    """Delete the past days of machines, which are kept as long as runs, and CVEs that nothing refers to.

    An update of which runs have results, or which machines lack, keeps its CVEs.
    """
    days, cves = page_schema.machine_days, page_schema.update_cves
    pending, results = schema.assessment_updates, schema.update_results
    is_pending = exists().where(pending.c.name == cves.c.name, pending.c.available == cves.c.version)
    is_result = exists().where(results.c.name == cves.c.name, results.c.available == cves.c.version)
    with records.database.begin_write("forget old days") as connection:
        connection.execute(delete(days).where(days.c.day < before.astimezone(UTC).date()))
        connection.execute(delete(cves).where(~is_pending, ~is_result))


def _prune_automatic_patching(records: SqlRecords, before: datetime) -> None:
    """Delete what automatic patching no longer needs. The newest rollouts are kept: they give the next one its number.

    The first sight of an update is kept while any machine lacks a fix of its name, on Windows of its id: deadlines and
    limits count from it.
    """
    rollouts, sightings, opt_outs = schema.rollouts, schema.update_sightings, schema.opt_outs
    newest = select(rollouts.c.id).order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc()).limit(_KEPT_ROLLOUTS)
    missing, pending = schema.missing_fixes, schema.assessment_updates
    is_missing = or_(*(exists().where(table.c.name == sightings.c.name) for table in (missing, pending)))
    has_id = sightings.c.version.like("________-____-____-____-____________")
    is_missing = or_(exists().where(pending.c.update_id == sightings.c.version), ~has_id & is_missing)
    with records.database.begin_write("forget old automatic patching") as connection:
        for table in (schema.announcements, schema.automatic_runs):
            connection.execute(delete(table).where(table.c.at < before))
        connection.execute(delete(opt_outs).where(opt_outs.c.until < before))
        connection.execute(delete(sightings).where(sightings.c.first_seen < before, ~is_missing))
        connection.execute(delete(rollouts).where(rollouts.c.ended_at < before, rollouts.c.id.not_in(newest)))


def _prune_held_packages(records: SqlRecords, before: datetime) -> None:
    """Delete packages that ended before a time, what applied them, and groups that were removed before."""
    groups, packages, applications = held_groups, held_packages, held_applications
    same = (packages.c.group_name == applications.c.group_name, packages.c.number == applications.c.number)
    with records.database.begin_write("forget old packages") as connection:
        connection.execute(delete(packages).where(packages.c.ended_at < before))
        connection.execute(delete(applications).where(applications.c.at < before, ~exists().where(*same)))
        connection.execute(delete(groups).where(groups.c.removed_at < before))


def _prune_assessments(records: SqlRecords, before: datetime, may_continue: Callable[[], bool]) -> int:
    table = schema.assessments
    same = table.alias("same")
    newest = select(func.max(same.c.at)).where(same.c.machine == table.c.machine)
    superseded = (
        (table.c.at < before)
        & (table.c.at < newest.scalar_subquery())
        & (table.c.at != func.coalesce(newest.where(same.c.known).scalar_subquery(), before))
    )
    with records.database.begin_read("look for old assessments") as connection:
        all_numbers = (
            connection.execute(select(table.c.number).where(superseded).order_by(table.c.number)).scalars().all()
        )
    deleted = 0
    for start in range(0, len(all_numbers), _BATCH_SIZE):
        if not may_continue():
            break
        numbers = all_numbers[start : start + _BATCH_SIZE]
        with records.database.begin_write("forget old assessments") as connection:
            deleted += connection.execute(delete(table).where(table.c.number.in_(numbers))).rowcount
    return deleted
