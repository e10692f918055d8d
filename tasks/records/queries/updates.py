"""Reads the pending updates of the whole fleet, and what is known of one update or of one CVE, from columns.

A machine decides what its updates are called, and when they were published. So neither a publication nor one machine's
name for an update is what the fleet is measured by: the oldest update is the one that an assessment saw first, by the
controller's clock.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, case, distinct, func, select

from inventory.data_class import dataclass
from tasks.domain.model import SHARD_KIND
from tasks.domain.states import UpdateState
from tasks.records import schema
from tasks.records.page_schema import update_cves
from tasks.records.queries.shards import is_of_whole_run
from tasks.records.storage.database import Database

_PENDING, _RESULTS, _RUNS = schema.assessment_updates, schema.update_results, schema.runs
_CHUNK = 500  # numbers in one query


@dataclass(frozen=True, slots=True)
class PendingUpdateRow:
    """One pending update of one machine, for lists. ``assessment`` is the number of the assessment that saw it."""

    assessment: int
    machine: str
    name: str
    arch: str
    classification: str
    severity: str
    installed: str | None
    available: str
    kb: str
    held: bool
    blocked: str
    published: datetime | None
    title: str | None
    since: datetime | None
    update_id: str = ""


@dataclass(frozen=True, slots=True)
class LastResult:
    """What the last run with a result said about an update on a machine."""

    machine: str
    run_id: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class InstalledUpdate:
    """A run that installed an update on a machine. ``run_started_at`` is None if the run's row was deleted."""

    machine: str
    run_id: str
    version: str
    run_started_at: datetime | None


_ROW_COLUMNS = [_PENDING.c[name] for name in PendingUpdateRow.__slots__]


def read_pending_assessments(database: Database) -> dict[int, int]:
    """Return the assessments that have pending updates now, each with their number.

    A new assessment of a machine takes the place of its last one. Numbers of assessments are never used again, unlike
    those of the rows of pending updates on SQLite: so the result changes whenever pending updates change.
    """
    query = select(_PENDING.c.assessment, func.count()).group_by(_PENDING.c.assessment)
    return dict(database.read_rows("look for new assessments", query))


def read_pending_updates(database: Database, assessments: Collection[int] | None = None) -> Iterator[PendingUpdateRow]:
    """Yield the pending updates of some assessments; of all machines if no numbers are given."""
    for query in _build_pending_queries(assessments):
        with database.begin_read("read the pending updates") as connection:
            for row in connection.execute(query).tuples():
                yield PendingUpdateRow(*row)


def _build_pending_queries(assessments: Collection[int] | None) -> Iterator[Select[Any]]:
    if assessments is None:
        yield select(*_ROW_COLUMNS)
        return
    numbers = sorted(assessments)
    for start in range(0, len(numbers), _CHUNK):
        yield select(*_ROW_COLUMNS).where(_PENDING.c.assessment.in_(numbers[start : start + _CHUNK]))


def read_machines_lacking(database: Database, names: Collection[str]) -> tuple[PendingUpdateRow, ...]:
    """Return the machines on which updates of these names are pending, a row for each machine and update."""
    query = select(*_ROW_COLUMNS).where(_PENDING.c.name.in_(names)).order_by(_PENDING.c.machine, _PENDING.c.arch)
    return tuple(PendingUpdateRow(*row) for row in database.read_rows("read who lacks an update", query))


def count_update_cves(database: Database) -> int:
    """Return the number of rows of ``update_cves``: it changes when CVEs become known."""
    with database.begin_read("look for new CVEs") as connection:
        return connection.execute(select(func.count()).select_from(update_cves)).scalar_one()


def read_update_cves(database: Database) -> Sequence[tuple[str, str, str]]:
    """Return name, version and CVE of all updates whose CVEs are known."""
    query = select(update_cves.c.name, update_cves.c.version, update_cves.c.cve)
    return [(name, version, cve) for name, version, cve in database.read_rows("read the CVEs", query)]


def read_versions_with_cve(database: Database, cve: str) -> tuple[tuple[str, str], ...]:
    """Return name and version of all updates, pending or not, that are known to fix a CVE."""
    query = select(update_cves.c.name, update_cves.c.version).where(update_cves.c.cve == cve)
    query = query.order_by(update_cves.c.name, update_cves.c.version)
    return tuple((name, version) for name, version in database.read_rows("read which updates fix a CVE", query))


def read_last_update_results(database: Database, name: str) -> dict[str, LastResult]:
    """Return the last result of an update on each machine, by machine."""
    newest = select(func.max(_RESULTS.c.number)).where(_RESULTS.c.name == name, is_of_whole_run(_RESULTS.c.run_id))
    newest = newest.group_by(_RESULTS.c.machine)
    query = select(_RESULTS.c.machine, _RESULTS.c.run_id, _RESULTS.c.state, _RESULTS.c.reason)
    query = query.where(_RESULTS.c.number.in_(newest))
    return {row[0]: LastResult(*row) for row in database.read_rows("read the last results of an update", query)}


def read_installations(database: Database, name: str, limit: int = 200) -> tuple[InstalledUpdate, ...]:
    """Return the newest installations of an update, newest first."""
    table = _RESULTS
    query = (
        select(
            table.c.machine, table.c.run_id, func.coalesce(table.c.version_after, table.c.available), _RUNS.c.started_at
        )
        .join_from(table, _RUNS, table.c.run_id == _RUNS.c.id, isouter=True)
        .where(table.c.name == name, table.c.state == UpdateState.INSTALLED.value)
        .where(func.coalesce(_RUNS.c.kind, "") != SHARD_KIND)
        .order_by(table.c.number.desc())
        .limit(limit)
    )
    installations = [InstalledUpdate(*row) for row in database.read_rows("read where an update was installed", query)]
    # results are numbered as they are saved: those of two runs at once are mixed
    return tuple(
        sorted(
            installations,
            key=lambda installation: installation.run_started_at or datetime.min.replace(tzinfo=UTC),
            reverse=True,
        )
    )


_MISSING = schema.missing_fixes


@dataclass(frozen=True, slots=True)
class OldUpdate:
    """An update that a machine lacks."""

    machine: str
    name: str
    # Since when fleetpatch has known that the machine lacks it. What automatic patching knows to be installed meanwhile
    # does not count.
    since: datetime
    machines: int  # how many machines lack an update of this name


def find_oldest_update(database: Database, counts: Callable[[str], bool]) -> OldUpdate | None:
    """Return the update that any machine has lacked for the longest time, as far as the records know.

    Of several that are as old, it is one that most machines lack.

    ``counts``: returns whether a machine counts, by its name.
    """
    # A publication may be in _MISSING.since: it never makes an update older than its first sight on the machine.
    since = case((_MISSING.c.since > _PENDING.c.since, _MISSING.c.since), else_=_PENDING.c.since)
    is_missing = (_PENDING.c.machine == _MISSING.c.machine) & (_PENDING.c.name == _MISSING.c.name)
    source = _PENDING.outerjoin(_MISSING, is_missing)
    by_machine = select(_PENDING.c.machine, func.min(since, type_=_PENDING.c.since.type)).select_from(source)
    by_machine = by_machine.where(_PENDING.c.since.is_not(None)).group_by(_PENDING.c.machine)
    with database.begin_read("look for the oldest missing update") as connection:
        rows = [(at, machine) for machine, at in connection.execute(by_machine).tuples() if counts(machine)]
        if not rows:
            return None
        at = min(rows)[0]
        oldest = sorted(machine for moment, machine in rows if moment == at)[:_MAX_MACHINES]
        of_name = select(_PENDING.c.name, _PENDING.c.machine).distinct().select_from(source)
        of_name = of_name.where(_PENDING.c.machine.in_(oldest), since == at)
        holders: dict[str, list[str]] = {}
        for name, machine in connection.execute(of_name).tuples():
            holders.setdefault(name, []).append(machine)
        name = min(holders, key=lambda update: (-len(holders[update]), update))
        lacking = connection.execute(select(distinct(_PENDING.c.machine)).where(_PENDING.c.name == name)).scalars()
        return OldUpdate(min(holders[name]), name, at, sum(map(counts, lacking)))


_MAX_MACHINES = 500
"""Of so many of the machines that have lacked an update longest, the updates are compared."""
