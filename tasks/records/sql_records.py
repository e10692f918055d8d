"""Implements the Records protocol on SQLite and PostgreSQL. tasks/records/setup.py creates the objects."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from hashlib import blake2b
from types import TracebackType
from typing import Self, cast

from sqlalchemy import Connection, Select, Table, bindparam, delete, insert, select, text

from inventory.data_class import dataclass
from tasks.domain.model import (
    Assessment,
    HookResult,
    JobOutput,
    MachinePlan,
    Outcome,
    RunInfo,
    RunReport,
    UpdateKey,
    Wave,
)
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalEntry
from tasks.records import schema, statements
from tasks.records.automatic.sightings import read_first_seen, save_first_seen
from tasks.records.encoding import row_encoding
from tasks.records.encoding.codec import decode, encode
from tasks.records.leases import SqlLeases, require_lease
from tasks.records.machine_states import (
    SavedUpdates,
    replace_pending_updates,
    save_last_run,
    save_machine_state,
    save_update_cves,
)
from tasks.records.measures import MAX_SAMPLES, build_samples_query, compute_measures, compute_weighted_mean
from tasks.records.seals import RUN_KEY, Seals
from tasks.records.statements import build_journal_insert
from tasks.records.storage.column_types import to_index_key
from tasks.records.storage.database import Database
from tasks.records.storage.write_group import WriteGroup

SavedItem = RunInfo | Assessment | Outcome | JobOutput | RunReport


@dataclass(frozen=True, slots=True)
class RunPlans:
    """The parts of a report that no other table holds."""

    run_id: str
    waves: tuple[Wave, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    notes: tuple[str, ...] = ()


_SavedPart = RunInfo | Assessment | Outcome | JobOutput | RunPlans
_CachedPart = Assessment | Outcome | MachinePlan
_GroupPart = Assessment | Outcome | JobOutput
_GroupItem = _GroupPart | row_encoding.RowValues
_CacheKey = tuple[type, str, str, datetime | None]
_BATCH_SIZE = 100


class SqlRecords:
    """Records in a database. All threads of one process may share an object.

    ``lease_holder``: a run id and a lease holder. If given, each write requires that this holder has the run lease.
    ``seals``: makes and checks seals; with the key of processes that execute runs by default.

    Attributes:
        database: the database of the records; tasks/records/queries/history.py reads from it.
        seals: makes and checks the seals of what a run does.
    """

    def __init__(
        self, database: Database, lease_holder: tuple[str, LeaseHolder] | None = None, seals: Seals | None = None
    ) -> None:
        self.database = database
        self.seals = seals or Seals(RUN_KEY, database.fleet)
        self._lease_holder = lease_holder
        self._saved_parts: dict[_CacheKey, _CachedPart] = {}
        self._updates_with_cves: SavedUpdates = set()
        self._first_seen: dict[UpdateKey, datetime] = {}
        self._group: WriteGroup[_GroupItem] = WriteGroup(self._write_group)

    @property
    def display_name(self) -> str:
        """The database's name for messages: a path, or a URL without the password."""
        return self.database.display_name

    @property
    def leases(self) -> SqlLeases:
        """The run leases in the same database."""
        return SqlLeases(self.database)

    def append_entry(self, entry: JournalEntry) -> None:
        """Store a journal entry. The entry is durable (survives a power cut) when this returns.

        An identical entry (same time too) is stored only once, so a caller can send it again after a lost answer.

        Raises:
            RecordsError: the entry cannot be stored. Then the caller must not change the machine.
        """
        self._store_in_group(self.seals.seal(schema.journal, row_encoding.encode_journal_entry(entry)))

    def read_entries(
        self, run_id: str, machine: str | None = None, *, require_seals: bool = True
    ) -> tuple[JournalEntry, ...]:
        """Return the journal of a run, or of one machine in it, oldest entry first.

        ``machine``: the machine's name; None: all.
        ``require_seals``: whether each entry must have its seal. Not for entries that are only shown.

        Raises:
            RecordsError: the journal cannot be read, or an entry was changed in the database.
        """
        query = _build_journal_query(of_machine=machine is not None)
        with self.database.begin_read("read the journal") as connection:
            rows = connection.execute(query, {"of_run": run_id, "of_machine": machine}).mappings().all()
        for row in rows if require_seals else ():
            self.seals.check(schema.journal, row, f"the journal of run {run_id}")
        return tuple(decode(JournalEntry, row["document"]) for row in rows)

    def save(self, item: SavedItem) -> None:
        """Store or replace a run, an assessment, an outcome, a job's output or a whole report.

        Only a report contains waves and plans. A report is stored in several transactions, the run row last: a reader
        that sees the run's final state sees the complete report. Parts that this object already stored and that did not
        change are not written again.

        Raises:
            RecordsError: the item cannot be stored.
        """
        match item:
            case RunInfo():
                with self._begin_write(f"save {_describe_item(item)}") as connection:
                    self._save_part(connection, item)
            case RunReport():
                for portion in _split_into_batches(item, self._is_changed):
                    self._write_parts(f"save {_describe_item(item)}", portion, run=item.run)
                self._save_run_and_plans(item)
            case _:
                self._store_in_group(item)

    def _store_in_group(self, item: _GroupItem) -> None:
        if not self._group.store(item, self.database.queue_seconds):
            raise self.database.build_queue_error(_describe_action(item))

    def _write_group(self, items: Sequence[_GroupItem]) -> None:
        """Store what several threads wait for. The journal comes last: its entries may say that the rest is stored."""
        parts = [item for item in items if not isinstance(item, dict)]
        actions = {_describe_action(item) for item in items}
        # A fixed order prevents deadlocks between two writers.
        self._write_parts(
            actions.pop() if len(actions) == 1 else f"save {len(items)} results and journal entries",
            sorted(parts, key=lambda part: part.machine),
            [item for item in items if isinstance(item, dict)],
        )

    def _write_parts(
        self,
        action: str,
        parts: Sequence[_GroupPart],
        journal: Sequence[row_encoding.RowValues] = (),
        run: RunInfo | None = None,
    ) -> None:
        assessments = [part for part in parts if isinstance(part, Assessment)]
        with self._begin_write(action) as connection:
            acquire_assessment_locks(connection, [assessment.machine for assessment in assessments])
            for part in parts:
                self._save_part(connection, part, run)
            stored = save_update_cves(connection, assessments, self._updates_with_cves)
            first_seen = save_first_seen(connection, assessments, self._first_seen)
            if journal:
                connection.execute(build_journal_insert(connection.dialect.name), journal)
        self._cache_parts(parts)
        self._updates_with_cves |= stored
        self._first_seen |= first_seen

    def _save_run_and_plans(self, report: RunReport) -> None:
        """Store the run, waves, hooks, notes and plans of a report in one transaction."""
        run_id, names = report.run.id, {plan.machine for plan in report.plans}
        changed = [plan for plan in report.plans if self._is_changed(_build_cache_key(plan, run_id), plan)]
        # Build the rows before the transaction: other writers wait for its end.
        plan_rows = [self.seals.seal(schema.machine_plans, row_encoding.encode_plan(run_id, plan)) for plan in changed]
        with self._begin_write(f"save {_describe_item(report)}") as connection:
            self._save_part(connection, RunPlans(run_id, report.waves, hooks=report.hooks, notes=report.notes))
            _save_plans(connection, run_id, plan_rows, names)
            self._save_part(connection, report.run)
        stored = tuple(self._saved_parts)  # a copy: other threads add keys meanwhile
        for key in [key for key in stored if key[:2] == (MachinePlan, run_id) and key[2] not in names]:
            self._saved_parts.pop(key, None)
        self._cache_parts(changed, run_id)

    def _is_changed(self, key: _CacheKey, part: _CachedPart) -> bool:
        """Return whether the part differs from what this object stored last."""
        return self._saved_parts.get(key) != part

    def _cache_parts(self, parts: Iterable[_SavedPart | MachinePlan], run_id: str = "") -> None:
        for part in parts:
            if isinstance(part, _CachedPart):
                self._saved_parts[_build_cache_key(part, run_id)] = part

    def read_measure(self, machine: str, measure: str) -> float | None:
        """Return the exponentially weighted mean of a measure over the machine's past runs (see measures.py).

        Raises:
            RecordsError: the history cannot be read.
        """
        parameters = {"of_machine": machine, "of_measure": measure}
        with self.database.begin_read("read what was learned") as connection:
            newest_first = connection.execute(build_samples_query(MAX_SAMPLES), parameters).scalars().all()
        return compute_weighted_mean(newest_first[::-1])

    def read_last_assessment(self, machine: str) -> Assessment | None:
        """Return the newest assessment of a machine that has an answer. See the Records protocol.

        Raises:
            RecordsError: the history cannot be read.
        """
        query = _build_last_assessment_query()
        with self.database.begin_read("read the last assessment") as connection:
            document = connection.execute(query, {"of_machine": machine}).scalar_one_or_none()
        return decode(Assessment, document) if document is not None else None

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        """See the Records protocol."""
        return read_first_seen(self.database, updates)

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "SqlRecords":
        """Return records that write only while this holder has the run lease. See the Records protocol."""
        return SqlRecords(self.database, (run_id, holder), self.seals)

    def _save_part(self, connection: Connection, item: _SavedPart, run: RunInfo | None = None) -> None:
        match item:
            case RunInfo():
                _upsert_row(
                    connection, schema.runs, self.seals.seal(schema.runs, row_encoding.encode_run(item)), ("id",)
                )
            case Assessment():
                row = self.seals.seal(schema.assessments, row_encoding.encode_assessment(item))
                number = cast("int", _upsert_row(connection, schema.assessments, row, ("machine", "at", "run_id")))
                if save_machine_state(connection, item):
                    replace_pending_updates(connection, item, number)
            case Outcome():
                _save_outcome(connection, item, run)
            case JobOutput():
                _upsert_row(
                    connection,
                    schema.job_outputs,
                    row_encoding.encode_job_output(item),
                    ("run_id", "machine", "job_id"),
                )
            case RunPlans():
                plans = self.seals.seal(schema.run_plans, {"run_id": item.run_id, "document": encode(item)})
                _upsert_row(connection, schema.run_plans, plans, ("run_id",))

    @contextmanager
    def _begin_write(self, action: str) -> Iterator[Connection]:
        with self.database.begin_write(action) as connection:
            if self._lease_holder is not None:
                require_lease(connection, *self._lease_holder)
            yield connection

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _describe_item(item: SavedItem) -> str:
    match item:
        case RunInfo():
            return f"run {item.id}"
        case RunReport():
            return f"the report of run {item.run.id}"
        case Assessment():
            return f"the assessment of {item.machine}"
        case Outcome():
            return f"the outcome of {item.machine}"
        case JobOutput():
            return f"the output of job {item.job_id}"


def _describe_action(item: _GroupItem) -> str:
    return "write the journal" if isinstance(item, dict) else f"save {_describe_item(item)}"


def _build_cache_key(part: _CachedPart, run_id: str = "") -> _CacheKey:
    """Return the cache key of a part. ``run_id`` is for plans, which do not contain their run id."""
    of_run = run_id if isinstance(part, MachinePlan) else part.run_id
    return type(part), of_run, part.machine, part.at if isinstance(part, Assessment) else None


def _split_into_batches(
    item: RunReport, is_changed: Callable[[_CacheKey, _CachedPart], bool]
) -> Iterator[Sequence[_GroupPart]]:
    """Yield the parts of one transaction at a time. A large report must not block other writers' journal entries."""
    # A fixed order prevents deadlocks between two writers.
    assessments = sorted(item.assessments, key=lambda assessment: (assessment.machine, assessment.at))
    reported: list[Assessment | Outcome] = [
        *assessments,
        *sorted(item.outcomes, key=lambda assessment: assessment.machine),
    ]
    parts = [assessment for assessment in reported if is_changed(_build_cache_key(assessment), assessment)]
    for start in range(0, len(parts), _BATCH_SIZE):
        yield parts[start : start + _BATCH_SIZE]


def _save_plans(
    connection: Connection, run_id: str, changed: Sequence[row_encoding.RowValues], names: set[str]
) -> None:
    """Store new and changed plans. Delete the plans of machines that have no plan now."""
    table = schema.machine_plans
    stored = connection.execute(select(table.c.machine).where(table.c.run_id == run_id)).scalars()
    replaced, unchanged = {to_index_key(row["machine"]) for row in changed}, {to_index_key(name) for name in names}
    old = [name for name in stored if name in replaced or name not in unchanged]
    if old:
        drop = delete(table).where(table.c.run_id == run_id, table.c.machine == bindparam("old"))
        connection.execute(drop, [{"old": name} for name in old])
    _insert_rows(connection, table, changed)


def _save_outcome(connection: Connection, outcome: Outcome, run: RunInfo | None) -> None:
    results = schema.update_results
    number = cast(
        "int", _upsert_row(connection, schema.outcomes, row_encoding.encode_outcome(outcome), ("run_id", "machine"))
    )
    connection.execute(statements.build_delete(results.c.outcome), {"of": number})
    _insert_rows(connection, results, row_encoding.encode_update_results(outcome, number))
    _save_measures(connection, outcome)
    save_last_run(connection, outcome, run)


def _save_measures(connection: Connection, outcome: Outcome) -> None:
    moment: datetime | None = outcome.ended_at or outcome.started_at
    if moment is None:
        return
    for measure, value in compute_measures(outcome).items():
        row = {"run_id": outcome.run_id, "machine": outcome.machine, "measure": measure, "at": moment, "value": value}
        _upsert_row(connection, schema.measures, row, ("run_id", "machine", "measure"))


def _upsert_row(connection: Connection, table: Table, row: row_encoding.RowValues, key: tuple[str, ...]) -> object:
    """Insert a row or replace the row with the same key. Return the first column of its primary key."""
    return connection.execute(statements.build_upsert(connection.dialect.name, table, key), row).scalar_one()


def _insert_rows(connection: Connection, table: Table, all_rows: Iterable[row_encoding.RowValues]) -> None:
    listed = list(all_rows)
    if listed:
        connection.execute(insert(table), listed)


_LOCK_NAMESPACE = 0x666C6565
"""The first of the two keys of fleetpatch's advisory locks on PostgreSQL."""
_LOCK_COUNT = 256
"""Small enough that a transaction cannot fill the server's lock table. Machines with the same lock wait a little."""
_LOCK_STATEMENT = text("SELECT pg_advisory_xact_lock(:ours, turn) FROM unnest(CAST(:turns AS integer[])) AS turn")


def acquire_assessment_locks(connection: Connection, machines: Iterable[str]) -> None:
    """Lock the assessments of some machines for other writers until the transaction ends.

    Two assessments of one machine are two rows, so row locks do not separate their writers: each writer would replace
    only the pending updates that it sees. All locks are taken in one statement, in a fixed order and before any row
    changes, which prevents deadlocks. SQLite needs no locks here: only one transaction writes at a time.

    ``connection``: a connection in a transaction that has changed nothing yet.
    """
    digests = {blake2b(to_index_key(name).encode(), digest_size=4).digest() for name in machines}
    lock_numbers = sorted({int.from_bytes(digest) % _LOCK_COUNT for digest in digests})
    if lock_numbers and connection.dialect.name == "postgresql":
        connection.execute(_LOCK_STATEMENT, {"ours": _LOCK_NAMESPACE, "turns": lock_numbers})


@cache
def _build_journal_query(*, of_machine: bool) -> Select[tuple[str, str, str, str | None]]:
    """Return a query for the journal of run ``of_run``, or only of its machine ``of_machine``, oldest entry first."""
    table = schema.journal
    query = select(table.c.run_id, table.c.machine, table.c.document, table.c.seal)
    query = query.where(table.c.run_id == bindparam("of_run")).order_by(table.c.number)
    return query.where(table.c.machine == bindparam("of_machine")) if of_machine else query


@cache
def _build_last_assessment_query() -> Select[tuple[str]]:
    """Return a query for the newest assessment of ``of_machine`` that has an answer, without its pending updates."""
    table = schema.assessments
    answered = select(table.c.document).where(table.c.machine == bindparam("of_machine"), table.c.known)
    return answered.order_by(table.c.at.desc(), table.c.number.desc()).limit(1)
