"""The Records seam on SQLite and PostgreSQL. Made by tasks/records/opening.py."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self, cast

from sqlalchemy import Connection, Table, bindparam, delete, insert, select

from tasks.model import Assessment, HookResult, JobOutput, Outcome, Plan, RunInfo, RunReport, Wave
from tasks.records import rows, schema, statements
from tasks.records.codec import decode, encode
from tasks.records.columns import as_key
from tasks.records.database import Database
from tasks.records.learning import SAMPLES, measures_from, weighted_mean
from tasks.records.leases import SqlLeases, must_hold
from tasks.records.turns import take_turns
from tasks.seams.leases import Holder
from tasks.seams.records import JournalEntry

Saved = RunInfo | Assessment | Outcome | JobOutput | RunReport


@dataclass(frozen=True, slots=True)
class RunPlans:
    """What of a report no other table holds. Plans stand there in records of before only."""

    run_id: str
    waves: tuple[Wave, ...] = ()
    plans: tuple[Plan, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    notes: tuple[str, ...] = ()


_Part = RunInfo | Assessment | Outcome | JobOutput | RunPlans
_Remembered = Assessment | Outcome | Plan
_Key = tuple[type, str, str, datetime | None]
_PORTION = 100


class SqlRecords:
    """Records in a database. For all threads of one process.

    Args:
        database: where they are.
        held: a run and the holder without whose lease on it nothing is written.

    Attributes:
        database: where they are; tasks/records/history.py reads from it.
    """

    def __init__(self, database: Database, held: tuple[str, Holder] | None = None) -> None:
        self.database = database
        self._held = held
        self._stored: dict[_Key, _Remembered] = {}

    @property
    def place(self) -> str:
        """The database as it may be shown: a path, or a URL without its password."""
        return self.database.place

    @property
    def leases(self) -> SqlLeases:
        """Who carries the runs out."""
        return SqlLeases(self.database)

    def append(self, entry: JournalEntry) -> None:
        """Store a journal entry; returns once it would survive a power cut.

        The very same entry, its time included, is stored once: it may be sent again when an answer was lost.

        Raises:
            RecordsError: it can't be stored; nothing may be done then.
        """
        statement = statements.insert_once(self.database.engine.dialect.name)
        with self._writing("write the journal") as connection:
            connection.execute(statement, rows.journal_row(entry))

    def entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """Return a run's journal (or one machine's part of it), oldest first.

        Raises:
            RecordsError: it can't be read.
        """
        query = statements.journal_of(of_machine=machine is not None)
        with self.database.reading("read the journal") as connection:
            documents = connection.execute(query, {"of_run": run_id, "of_machine": machine}).scalars().all()
        return tuple(decode(JournalEntry, document) for document in documents)

    def save(self, item: Saved) -> None:
        """Store or replace a run, an assessment, an outcome or a job's output; or a whole report.

        A report brings its waves and plans along, which are kept nowhere else. It is stored in portions, the run
        itself last: whoever sees the run in its final state sees all of it. What of it was stored from here before,
        and is the same, is not written again.

        Raises:
            RecordsError: it can't be stored.
        """
        for portion in _portions(item, self._is_new):
            with self._writing(f"save {_described(item)}") as connection:
                take_turns(connection, [part.machine for part in portion if isinstance(part, Assessment)])
                for part in portion:
                    _save(connection, part)
            self._remember(portion)
        if isinstance(item, RunReport):
            self._save_whole(item)

    def _save_whole(self, report: RunReport) -> None:
        """Store what of a report is no machine's outcome: all of it, or nothing."""
        run_id, names = report.run.id, {plan.machine for plan in report.plans}
        changed = [plan for plan in report.plans if self._is_new(_key(plan, run_id), plan)]
        plan_rows = [rows.plan_row(run_id, plan) for plan in changed]  # made first: others wait for the transaction
        with self._writing(f"save {_described(report)}") as connection:
            _save(connection, RunPlans(run_id, report.waves, hooks=report.hooks, notes=report.notes))
            _save_plans(connection, run_id, plan_rows, names)
            _save(connection, report.run)
        stored = tuple(self._stored)  # in one go: other threads add to it meanwhile
        for key in [key for key in stored if key[:2] == (Plan, run_id) and key[2] not in names]:
            self._stored.pop(key, None)
        self._remember(changed, run_id)

    def _is_new(self, key: _Key, part: _Remembered) -> bool:
        """Whether this was not stored from here already, just as it is."""
        return self._stored.get(key) != part

    def _remember(self, parts: Iterable[_Part | Plan], run_id: str = "") -> None:
        for part in parts:
            if isinstance(part, _Remembered):
                self._stored[_key(part, run_id)] = part

    def learned(self, machine: str, measure: str) -> float | None:
        """Return the exponentially weighted mean of a measure of this machine's past runs (see learning.py).

        Raises:
            RecordsError: history can't be read.
        """
        wanted = {"of_machine": machine, "of_measure": measure}
        with self.database.reading("read what was learned") as connection:
            newest_first = connection.execute(statements.samples(SAMPLES), wanted).scalars().all()
        return weighted_mean(newest_first[::-1])

    def held(self, run_id: str, holder: Holder) -> "SqlRecords":
        """Return the same records, which write only as long as a run's lease is this holder's. See Records."""
        return SqlRecords(self.database, (run_id, holder))

    @contextmanager
    def _writing(self, doing: str) -> Iterator[Connection]:
        with self.database.writing(doing) as connection:
            if self._held is not None:
                must_hold(connection, *self._held)
            yield connection

    def close(self) -> None:
        """Give the connections up. A later call opens them anew."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _described(item: Saved) -> str:
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


def _key(part: _Remembered, run_id: str = "") -> _Key:
    """Return what tells a part of a run from its others; a plan does not say of which run it is."""
    of_run = run_id if isinstance(part, Plan) else part.run_id
    return type(part), of_run, part.machine, part.at if isinstance(part, Assessment) else None


def _portions(item: Saved, is_new: Callable[[_Key, _Remembered], bool]) -> Iterator[Sequence[_Part]]:
    """Give what is saved in one transaction each: a large report must not keep other writers from the journal."""
    if not isinstance(item, RunReport):
        yield (item,)
        return
    # In one order, so that two writers never wait for each other in a circle.
    assessments = sorted(item.assessments, key=lambda each: (each.machine, each.at))
    reported: list[Assessment | Outcome] = [*assessments, *sorted(item.outcomes, key=lambda each: each.machine)]
    parts = [each for each in reported if is_new(_key(each), each)]
    for start in range(0, len(parts), _PORTION):
        yield parts[start : start + _PORTION]


def _save(connection: Connection, item: _Part) -> None:
    match item:
        case RunInfo():
            _put(connection, schema.runs, rows.run_row(item), ("id",))
        case Assessment():
            _save_assessment(connection, item)
        case Outcome():
            _save_outcome(connection, item)
        case JobOutput():
            _put(connection, schema.job_outputs, rows.output_row(item), ("run_id", "machine", "job_id"))
        case RunPlans():
            _put(connection, schema.run_plans, {"run_id": item.run_id, "document": encode(item)}, ("run_id",))


def _save_plans(connection: Connection, run_id: str, changed: Sequence[rows.Row], names: set[str]) -> None:
    """Store plans that are new or others than before, and drop those of machines that have none any more."""
    table = schema.machine_plans
    stored = connection.execute(select(table.c.machine).where(table.c.run_id == run_id)).scalars()
    replaced, kept = {as_key(row["machine"]) for row in changed}, {as_key(name) for name in names}
    old = [name for name in stored if name in replaced or name not in kept]
    if old:
        drop = delete(table).where(table.c.run_id == run_id, table.c.machine == bindparam("old"))
        connection.execute(drop, [{"old": name} for name in old])
    _insert_all(connection, table, changed)


def _save_assessment(connection: Connection, assessment: Assessment) -> None:
    table, pending = schema.assessments, schema.assessment_updates
    number = cast("int", _put(connection, table, rows.assessment_row(assessment), ("machine", "at", "run_id")))
    if assessment.packages is None:
        return
    named = {"of_machine": assessment.machine, "after": assessment.at}
    if connection.execute(statements.has_newer_answer(), named).scalar_one():
        return
    connection.execute(statements.clear(pending.c.machine), {"of": assessment.machine})
    _insert_all(connection, pending, rows.pending_rows(assessment, number))


def _save_outcome(connection: Connection, outcome: Outcome) -> None:
    results = schema.update_results
    number = cast("int", _put(connection, schema.outcomes, rows.outcome_row(outcome), ("run_id", "machine")))
    connection.execute(statements.clear(results.c.outcome), {"of": number})
    _insert_all(connection, results, rows.result_rows(outcome, number))
    _learn(connection, outcome)


def _learn(connection: Connection, outcome: Outcome) -> None:
    moment: datetime | None = outcome.ended_at or outcome.started_at
    if moment is None:
        return
    for measure, value in measures_from(outcome).items():
        row = {
            "run_id": outcome.run_id,
            "machine": outcome.machine,
            "measure": measure,
            "at": moment,
            "value": value,
        }
        _put(connection, schema.measures, row, ("run_id", "machine", "measure"))


def _put(connection: Connection, table: Table, row: rows.Row, key: tuple[str, ...]) -> object:
    """Insert a row, or replace the one with the same key. Returns the first column of its primary key."""
    return connection.execute(statements.upsert(connection.dialect.name, table, key), row).scalar_one()


def _insert_all(connection: Connection, table: Table, all_rows: Iterable[rows.Row]) -> None:
    listed = list(all_rows)
    if listed:
        connection.execute(insert(table), listed)
