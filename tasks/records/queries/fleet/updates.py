"""Reads the pending updates of the whole fleet, and what is known of one update or of one CVE, from columns."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, and_, func, select

from tasks.domain.states import UpdateState
from tasks.records import schema
from tasks.records.page_tables import update_cves
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


@dataclass(frozen=True, slots=True)
class HeldVersion:
    """A version of an update that automatic patching holds, because it failed."""

    version: str
    reason: str
    at: datetime
    rollout_id: str


_ROW_COLUMNS = [_PENDING.c[name] for name in PendingUpdateRow.__slots__]


def read_pending_assessments(database: Database) -> dict[int, int]:
    """Return the assessments that have pending updates now, each with their number.

    A new assessment of a machine takes the place of its last one. Numbers of assessments are never used again, unlike
    those of the rows of pending updates on SQLite: so the result changes whenever pending updates change.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(_PENDING.c.assessment, func.count()).group_by(_PENDING.c.assessment)
    with database.begin_read("look for new assessments") as connection:
        return dict(connection.execute(query).tuples().all())


def read_pending_updates(database: Database, assessments: Collection[int] | None = None) -> Iterator[PendingUpdateRow]:
    """Yield the pending updates of some assessments; of all machines if no numbers are given.

    Raises:
        RecordsError: the records can't be read.
    """
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
    """Return the machines on which updates of these names are pending, a row for each machine and update.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(*_ROW_COLUMNS).where(_PENDING.c.name.in_(names)).order_by(_PENDING.c.machine, _PENDING.c.arch)
    with database.begin_read("read who lacks an update") as connection:
        return tuple(PendingUpdateRow(*row) for row in connection.execute(query).tuples())


def count_cve_rows(database: Database) -> int:
    """Return the number of rows of ``update_cves``: it changes when CVEs become known.

    Raises:
        RecordsError: the records can't be read.
    """
    with database.begin_read("look for new CVEs") as connection:
        return connection.execute(select(func.count()).select_from(update_cves)).scalar_one()


def read_update_cves(database: Database) -> Sequence[tuple[str, str, str]]:
    """Return name, version and CVE of all updates whose CVEs are known.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(update_cves.c.name, update_cves.c.version, update_cves.c.cve)
    with database.begin_read("read the CVEs") as connection:
        return [(name, version, cve) for name, version, cve in connection.execute(query).tuples()]


def read_versions_with_cve(database: Database, cve: str) -> tuple[tuple[str, str], ...]:
    """Return name and version of all updates, pending or not, that are known to fix a CVE.

    Raises:
        RecordsError: the records can't be read.
    """
    query = select(update_cves.c.name, update_cves.c.version).where(update_cves.c.cve == cve)
    query = query.order_by(update_cves.c.name, update_cves.c.version)
    with database.begin_read("read which updates fix a CVE") as connection:
        return tuple((name, version) for name, version in connection.execute(query).tuples())


def read_last_results(database: Database, name: str) -> dict[str, LastResult]:
    """Return the last result of an update on each machine, by machine.

    Raises:
        RecordsError: the records can't be read.
    """
    newest = select(func.max(_RESULTS.c.number)).where(_RESULTS.c.name == name).group_by(_RESULTS.c.machine)
    query = select(_RESULTS.c.machine, _RESULTS.c.run_id, _RESULTS.c.state, _RESULTS.c.reason)
    query = query.where(_RESULTS.c.number.in_(newest))
    with database.begin_read("read the last results of an update") as connection:
        return {row[0]: LastResult(*row) for row in connection.execute(query).tuples()}


def read_installations(database: Database, name: str, limit: int = 200) -> tuple[InstalledUpdate, ...]:
    """Return the newest installations of an update, newest first.

    Raises:
        RecordsError: the records can't be read.
    """
    table = _RESULTS
    query = (
        select(
            table.c.machine, table.c.run_id, func.coalesce(table.c.version_after, table.c.available), _RUNS.c.started_at
        )
        .join_from(table, _RUNS, table.c.run_id == _RUNS.c.id, isouter=True)
        .where(and_(table.c.name == name, table.c.state == UpdateState.INSTALLED.value))
        .order_by(table.c.number.desc())
        .limit(limit)
    )
    with database.begin_read("read where an update was installed") as connection:
        installations = [InstalledUpdate(*row) for row in connection.execute(query).tuples()]
    # results are numbered as they are saved: those of two runs at once are mixed
    return tuple(
        sorted(installations, key=lambda each: each.run_started_at or datetime.min.replace(tzinfo=UTC), reverse=True)
    )


def read_held_reasons(database: Database) -> dict[tuple[str, str], str]:
    """Return why automatic patching holds updates now, by name and version.

    Raises:
        RecordsError: the records can't be read.
    """
    held = schema.held_updates
    query = select(held.c.name, held.c.version, held.c.reason).where(held.c.released_at.is_(None))
    with database.begin_read("read the held updates") as connection:
        return {(row[0], row[1]): row[2] for row in connection.execute(query).tuples()}


def read_held_versions(database: Database, name: str) -> tuple[HeldVersion, ...]:
    """Return the versions of an update that automatic patching holds now.

    Raises:
        RecordsError: the records can't be read.
    """
    held = schema.held_updates
    query = select(held.c.version, held.c.reason, held.c.at, held.c.rollout_id)
    query = query.where(held.c.name == name, held.c.released_at.is_(None)).order_by(held.c.at)
    with database.begin_read("read the held updates") as connection:
        return tuple(HeldVersion(*row) for row in connection.execute(query).tuples())
