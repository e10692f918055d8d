"""Reads the tables of the records as plain rows, for queries in SQL and for frames."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any, Final

from sqlalchemy import Select, and_, select

from inventory.machine import Inventory
from tasks.domain.model import SHARD_KIND
from tasks.domain.protocols.tables import TABLES, Batch
from tasks.domain.rows import list_kinds, read_columns
from tasks.domain.rows.components import ComponentRow
from tasks.domain.rows.images import MachineImageUpgradeRow
from tasks.domain.rows.machines import MachineRow
from tasks.domain.rows.maintenance import HeldPackageRow
from tasks.domain.rows.runs import MachineResultRow
from tasks.domain.rows.scheduled_events import ScheduledEventRow
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.records import page_schema, schema
from tasks.records.components import SqlComponents
from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.machine_rows import build_machine_row
from tasks.records.maintenance import SqlMaintenance
from tasks.records.maintenance_rows import build_held_row
from tasks.records.queries.history import History
from tasks.records.queries.machines import read_last_runs, read_machine_states
from tasks.records.queries.runs import parse_run, select_runs
from tasks.records.queries.shards import is_of_whole_run
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.rules.hotpatch import BaselineCalendar
from tasks.rules.images.history import build_machine_rows, build_upgrade_row
from tasks.rules.scheduled_events import build_event_row

BATCH_ROWS: Final = 20_000


class QueryTables:
    """The tables of the records. Each read gives the present rows.

    Args:
        records: the records, open.
        since: runs that began before it are left out, with their results; windows and days as well. None: all are read.
        inventory: the machines' environments, locations and tags; None: these stay unknown.
        assignments: which configurations select which machines, as (machine, configuration).
        now: the present time; None: that of this machine. What a machine said too long ago does not say what it is.
        baselines: the days that need a reboot of machines with hotpatches; None: these stay unknown.
        list_components: returns the rows of components, if a question asks for them.
    """

    def __init__(
        self,
        records: SqlRecords,
        since: datetime | None = None,
        inventory: Inventory | None = None,
        assignments: Sequence[tuple[str, str]] = (),
        *,
        now: datetime | None = None,
        baselines: BaselineCalendar | None = None,
        list_components: Callable[[], Iterable[ComponentRow]] = tuple,
    ) -> None:
        self._list_components = list_components
        self._database, self._seals, self._history = records.database, records.seals, History(records)
        self._since = since
        self._now = now or datetime.now(UTC)
        self._inventory = inventory
        self._baselines = baselines
        self._assignments = tuple(assignments)
        self._readers: Mapping[str, Callable[[], Iterable[Batch]]] = {
            "machines": self._read_machines,
            "updates": lambda: self._stream("read the pending updates", _select_updates()),
            "update_cves": lambda: self._stream("read the CVEs", select(page_schema.update_cves)),
            "runs": self._read_runs,
            "outcomes": self._read_outcomes,
            "update_results": self._read_update_results,
            "windows": self._read_windows,
            "machine_days": self._read_days,
            "scheduled_events": self._read_events,
            "assignments": lambda: [self._assignments],
            "components": lambda: [_build_batch(ComponentRow, list(self._list_components()))],
            "held_packages": self._read_held_packages,
            "snapshots": lambda: [_build_batch(SnapshotRow, SqlSnapshots(self._database, self._seals).read_all())],
            "image_upgrades": self._read_image_upgrades,
        }

    def read_table(self, name: str) -> Iterable[Batch]:
        """Return the rows of a table, in batches.

        Args:
            name: a key of ``tasks.domain.protocols.tables.TABLES``.
        """
        return self._readers[name]()

    def _stream(self, action: str, query: Select[Any]) -> Iterator[Batch]:
        with self._database.begin_read(action) as connection:
            rows = connection.execution_options(yield_per=BATCH_ROWS).execute(query)
            yield from rows.partitions()

    def _read_machines(self) -> Iterable[Batch]:
        states, last_runs = read_machine_states(self._database), read_last_runs(self._database)
        enrolments = SqlHotpatchEnrolments(self._database).read_requests(
            [name for name, state in states.items() if state.details.get("hotpatch")]
        )
        switches = SqlMachineOrders(self._database).read_switches()
        machines = (
            {machine.name: machine for machine in self._inventory.machines} if self._inventory is not None else {}
        )
        rows = [
            build_machine_row(
                name,
                machines.get(name),
                states.get(name),
                self._now,
                plans=None,
                last_run=last_runs.get(name),
                enrolment_request=enrolments.get(name),
                updater_request=switches.get(name),
                baselines=self._baselines,
                has_inventory=self._inventory is not None,
            )
            for name in dict.fromkeys((*machines, *states))
        ]
        columns = []
        for _, field, values in read_columns(MachineRow, rows):
            is_map = field.kind == "map"  # Arrow wants pairs
            columns.append([None if tags is None else list(tags.items()) for tags in values] if is_map else values)
        yield list(zip(*columns, strict=True))

    def _read_runs(self) -> Iterator[Batch]:
        table, windows = schema.runs, schema.occurrences
        of_run = and_(windows.c.run_id == table.c.id, windows.c.what == "run")
        query = select_runs(self._database).add_columns(windows.c.configuration)
        query = query.select_from(table.outerjoin(windows, of_run)).where(table.c.kind != SHARD_KIND)
        query = query.order_by(table.c.started_at)
        if self._since is not None:
            query = query.where(table.c.started_at >= self._since)
        for batch in self._stream("read the runs", query):
            # The configuration of the window that was claimed; that of the request if none was.
            yield [
                (*row[:4], configuration or row[4], *row[5:])
                for *run, configuration in batch
                for row in [parse_run(run)]
            ]

    def _read_outcomes(self) -> Iterator[Batch]:
        table, names = schema.outcomes, list(list_kinds(MachineResultRow))
        columns = (*(table.c[name] for name in names), table.c.counts, table.c.error_kind)
        for batch in self._stream(
            "read the results of machines", self._limit_to_runs(select(*columns), table.c.run_id)
        ):
            yield [(*values, *_read_counts(counts), error_kind) for *values, counts, error_kind in batch]

    def _read_update_results(self) -> Iterator[Batch]:
        table = schema.update_results
        query = select(*(table.c[name] for name in TABLES["update_results"]))
        return self._stream("read the results of updates", self._limit_to_runs(query, table.c.run_id))

    def _limit_to_runs(self, query: Select[Any], run_id: Any) -> Select[Any]:  # noqa: ANN401 - a column
        query = query.where(is_of_whole_run(run_id))
        if self._since is None:
            return query
        recent = select(schema.runs.c.id).where(schema.runs.c.started_at >= self._since)
        return query.where(run_id.in_(recent))

    def _read_windows(self) -> Iterator[Batch]:
        table = schema.occurrences
        query = select(
            table.c.configuration, table.c.starts_at, table.c.run_id, table.c.what, table.c.reason, table.c.at
        ).order_by(table.c.starts_at, table.c.configuration)
        if self._since is not None:
            query = query.where(table.c.starts_at >= self._since)
        return self._stream("read the windows", query)

    def _read_held_packages(self) -> Iterable[Batch]:
        records = SqlMaintenance(self._database).read_groups().values()
        yield _build_batch(
            HeldPackageRow, [build_held_row(record, self._now) for record in records if record.removed_at is None]
        )

    def _read_image_upgrades(self) -> Iterator[Batch]:
        since = self._since or datetime.fromtimestamp(0, UTC)
        for run_id in SqlComponents(self._database).read_image_run_ids(since):
            report = self._history.read_report(run_id)
            yield _build_batch(
                MachineImageUpgradeRow, list(build_machine_rows(report, build_upgrade_row(report, ()).error))
            )

    def _read_days(self) -> Iterator[Batch]:
        table = page_schema.machine_days
        query = select(*(table.c[name] for name in TABLES["machine_days"])).order_by(table.c.day, table.c.machine)
        if self._since is not None:
            query = query.where(table.c.day >= self._since.astimezone(UTC).date())
        for batch in self._stream("read the days of machines", query):
            yield [(datetime.combine(row[0], time(), UTC), *row[1:]) for row in batch]

    def _read_events(self) -> Iterator[Batch]:
        events = SqlScheduledEvents(self._database).find_newest(None, only_open=False, since=self._since)
        yield _build_batch(ScheduledEventRow, [build_event_row(event) for event in events])


def _build_batch(kind: type, rows: Sequence[object]) -> Batch:
    """Return rows as plain values: an enum as its value."""
    columns = [[getattr(value, "value", value) for value in values] for _, _, values in read_columns(kind, rows)]
    return list(zip(*columns, strict=True))


def _select_updates() -> Select[Any]:
    table, states, missing = schema.assessment_updates, page_schema.machine_states, schema.missing_fixes
    names = list(TABLES["updates"])[:-2]
    joined = table.outerjoin(states, states.c.machine == table.c.machine).outerjoin(
        missing, and_(missing.c.machine == table.c.machine, missing.c.name == table.c.name)
    )
    return select(*(table.c[name] for name in names), states.c.answered_at, missing.c.since).select_from(joined)


def _read_counts(document: str) -> tuple[int, ...]:
    """Return the numbers of updates by the columns from ``updates_pending`` on."""
    states = json.loads(document).get("states", {})
    others = ("SetupFailed", "Blocked", "Excluded", "NotSelected")
    return states.get("Pending", 0) + states.get("NotAttempted", 0), *(states.get(state, 0) for state in others)
