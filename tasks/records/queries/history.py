"""Reads the records: for the command, for reports, and to explain the state of updates."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, Select, Table, func, select

from tasks.domain.errors import RecordsError, RunNotFound
from tasks.domain.model import SHARD_KIND, Assessment, JobOutput, MachinePlan, RunInfo, RunReport
from tasks.domain.protocols.records import JournalEntry
from tasks.records import page_schema, schema
from tasks.records.encoding.codec import decode
from tasks.records.encoding.row_encoding import DocumentReader, decompress_text
from tasks.records.queries.explanations import Explanation, explain_assessment, explain_outcome
from tasks.records.queries.other_fleets import build_run_not_found
from tasks.records.queries.run_summary import (
    RunSummary,
    find_machines_without_outcome,
    read_recorded_machines,
    read_run_summary,
    rebuild_waves,
)
from tasks.records.queries.shards import belongs_to_run, is_of_whole_run
from tasks.records.seals import Seals
from tasks.records.sql_records import RunPlans, SqlRecords
from tasks.records.statements import UNFINISHED_STATES
from tasks.rules.updates.selection import matches_update

_MAX_NAMES_PER_QUERY = 500  # names in one statement: databases limit the number of parameters


class JobLogs(Mapping[str, str]):
    """A mapping from each machine with a job in a run to its job output. An output is read on access.

    If an output cannot be read, its value is a line that says so, so that a report can be written without it.
    ``require_readable`` raises that error later.

    ``read``: a function that reads a machine's outputs. It raises RecordsError.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Sequence[JobOutput]]) -> None:
        self._names = dict.fromkeys(names)
        self._read = read
        self._error: RecordsError | None = None

    def require_readable(self) -> None:
        """Raise RecordsError, the first error of a read, if an accessed output could not be read."""
        if self._error is not None:
            raise self._error

    def __getitem__(self, machine: str) -> str:
        """Read a machine's output."""
        if machine not in self._names:
            raise KeyError(machine)
        try:
            return "\n".join(part.text for part in self._read(machine))
        except RecordsError as error:
            self._error = self._error or error
            return f"[fleetpatch cannot read this output: {error.message}]"

    def __contains__(self, machine: object) -> bool:
        """Return whether the machine had a job. Reads no output."""
        return machine in self._names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the machines' names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of machines."""
        return len(self._names)


class History:
    """Read access to the records.

    ``require_seals``: whether ``find_run``, ``read_report``, ``read_planned_assessment`` and ``read_journal`` return
    only what has its seal. They raise SealBroken for what was changed in the database, and SealKeyMissing for what
    another controller sealed. For what is executed; not for what is only shown. Outcomes have no seals.

    Attributes:
        database: the database of the records.
    """

    def __init__(self, records: SqlRecords, *, require_seals: bool = False) -> None:
        self._records = records
        self._seals = records.seals if require_seals else None
        self.database = self._database = records.database

    def read_runs(self, limit: int = 20, *, kind: str | None = None, offset: int = 0) -> tuple[RunInfo, ...]:
        """Return the newest runs, newest first.

        ``kind``: "patch", "stage", "assess", "plan", "shard", or None for all but shards.
        ``offset``: how many of the newest are left out.
        """
        table = schema.runs
        newest_first = (table.c.started_at.desc(), table.c.id.desc())
        query = select(table.c.document).order_by(*newest_first).limit(limit).offset(offset)
        query = query.where(table.c.kind == kind if kind is not None else table.c.kind != SHARD_KIND)
        return self._read_run_list(query, "list the runs")

    def read_unfinished_runs(self) -> tuple[RunInfo, ...]:
        """Return the runs that the records show as unfinished, newest first; not those of shards."""
        table = schema.runs
        query = select(table.c.document).where(table.c.state.in_(UNFINISHED_STATES), table.c.kind != SHARD_KIND)
        query = query.order_by(table.c.started_at.desc())
        return self._read_run_list(query, "list the runs")

    def _read_run_list(self, query: Select[tuple[str]], action: str) -> tuple[RunInfo, ...]:
        with self._database.begin_read(action) as connection:
            documents = connection.execute(query).scalars().all()
        return tuple(decode(RunInfo, document) for document in documents)

    def find_oldest_run(self) -> RunInfo | None:
        """Return the run with the earliest start; None if there is no run."""
        query = select(schema.runs.c.document).order_by(schema.runs.c.started_at).limit(1)
        return next(iter(self._read_run_list(query, "look up the oldest run")), None)

    def is_unchanged(self, run: RunInfo) -> bool:
        """Return whether the records still say the same of how a run is, or has ended."""
        recorded = self.find_run(run.id)
        return (recorded.state, recorded.ended_at) == (run.state, run.ended_at)

    def find_run(self, id_or_prefix: str) -> RunInfo:
        """Return a run by its id or by an unambiguous prefix of its id; that of a shard by its id only.

        Raises:
            RunNotFound: no run matches, or several runs match.
        """
        table = schema.runs
        # Not LIKE: "_" and "%" are its wildcards, and on SQLite it ignores case.
        begins = func.substr(table.c.id, 1, len(id_or_prefix)) == id_or_prefix
        columns = select(table.c.id, table.c.document, table.c.seal)
        query = columns.where(begins, table.c.kind != SHARD_KIND).order_by(table.c.started_at.desc()).limit(6)
        with self._database.begin_read("look up a run") as connection:
            rows = connection.execute(columns.where(table.c.id == id_or_prefix)).all()
            if not rows and id_or_prefix:
                rows = connection.execute(query).all()
        if len(rows) == 1:
            if self._seals is not None:
                self._seals.check(table, rows[0]._mapping, f"run {rows[0].id}")  # noqa: SLF001 - SQLAlchemy's name
            return decode(RunInfo, rows[0].document)
        if not rows:
            raise build_run_not_found(self._database, id_or_prefix)
        names = ", ".join(row.id for row in rows[:5]) + (" …" if len(rows) > 5 else "")
        raise RunNotFound(f"{id_or_prefix!r} may be any of several runs: {names}", hint="Give more of the id.")

    def find_run_by_flow_run(self, flow_run_id: str) -> RunInfo | None:
        """Return the newest run of a Prefect flow run; None if there is none.

        Args:
            flow_run_id: the flow run's complete id.
        """
        table = schema.runs
        query = (
            select(table.c.document)
            .where(table.c.flow_run_id == flow_run_id)
            .order_by(table.c.started_at.desc(), table.c.id.desc())
            .limit(1)
        )
        return next(iter(self._read_run_list(query, "look up the run of a flow run")), None)

    def read_report(self, run_id: str, machine: str | None = None, reader: DocumentReader | None = None) -> RunReport:
        """Return the report of a run, or its recorded parts if the run is not over. Outcomes are sorted by machine.

        Assessments are sorted by machine and then by the order in which they were saved. Waves and plans exist after
        the first report of the run was saved, which may be before any change. If no report was saved, the waves are
        rebuilt from the outcomes; then no wave is marked as a canary wave.

        Args:
            run_id: the id, or an unambiguous prefix of it.
            machine: read only this machine's outcome, assessments and plan. Waves and hooks are those of the whole run.
            reader: of several reports that are kept: they share equal lists of updates. None: a new one.

        Raises:
            RecordsError: the run does not exist.
        """
        run, reader = self.find_run(run_id), reader or DocumentReader()
        with self._database.begin_read("read a report") as connection:
            outcomes = tuple(
                reader.decode_outcome(row["document"], row["updates"])
                for row in _read_rows(connection, schema.outcomes, run.id, machine)
            )
            assessment_rows = _read_rows(connection, schema.assessments, run.id, machine, self._seals)
            assessments = tuple(reader.decode_assessment(row["document"], row["updates"]) for row in assessment_rows)
            run_plans, plans = _read_plans(connection, reader, run.id, machine, self._seals)
        if run_plans is None:
            run_plans = RunPlans(run.id, rebuild_waves(outcomes))
        return RunReport(run, outcomes, run_plans.waves, plans, assessments, run_plans.hooks, run_plans.notes)

    def read_summary(self, run_id: str) -> RunSummary:
        """Return the summary of a run: without plans, and with counts instead of updates.

        Args:
            run_id: the id, or an unambiguous prefix of it.

        Raises:
            RecordsError: the run does not exist.
        """
        run = self.find_run(run_id)
        with self._database.begin_read("read a run") as connection:
            return read_run_summary(connection, run)

    def read_machine_names(self, run_id: str) -> tuple[str, ...]:
        """Return the names of the machines that have an outcome or an assessment in a run, sorted."""
        run = self.find_run(run_id)
        with self._database.begin_read("list a run's machines") as connection:
            return read_recorded_machines(connection, run.id)

    def read_known_machines(self) -> tuple[str, ...]:
        """Return the names of all machines that were ever assessed or patched, sorted."""
        names = page_schema.machine_states.c.machine
        with self._database.begin_read("list the machines") as connection:
            return tuple(connection.execute(select(names).order_by(names)).scalars())

    def read_planned_assessment(self, run_id: str, machine: str, at: datetime | None = None) -> Assessment | None:
        """Return the assessment from which a machine's plan was made; None if the run has none of the machine.

        The plan gives the time of its assessment. The time is necessary because a resumed run can have older
        assessments of the machine. Without a time, return the first saved assessment with an answer, or else the first
        saved one. The order of saving counts, not the time: the clock may have been set back before validation.

        ``run_id``: the id, or an unambiguous prefix of it.
        ``at``: the time of the assessment, from the plan.

        Raises:
            RecordsError: the run does not exist.
        """
        run = self.find_run(run_id)
        table = schema.assessments
        query = (
            select(table.c.run_id, table.c.machine, table.c.document, table.c.updates, table.c.seal)
            .where(belongs_to_run(table.c.run_id, run.id), table.c.machine == machine)
            .order_by(*([(table.c.at == at).desc()] if at is not None else []), table.c.known.desc(), table.c.number)
            .limit(1)
        )
        with self._database.begin_read("read an assessment") as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        if self._seals is not None:
            self._seals.check(table, row, f"the assessment of {machine} in run {run.id}")
        return DocumentReader().decode_assessment(row["document"], row["updates"])

    def find_unfinished_machines(self, run_id: str) -> tuple[str, ...]:
        """Return the machines of a run's waves and plans that have no outcome, in wave order.

        Raises:
            RecordsError: the run does not exist.
        """
        return find_machines_without_outcome(self.read_report(run_id))

    def read_latest_assessments(
        self, machines: Iterable[str] | None = None, *, answered: bool = False
    ) -> dict[str, Assessment]:
        """Return the newest assessment of each machine, without machines that have none.

        Args:
            machines: the machines' names. None: all machines that have an assessment.
            answered: ignore assessments without an answer (for example, the machine was unreachable). Then the result
                has the last known state.
        """
        assessments: dict[str, Assessment] = {}
        reader = DocumentReader()
        with self._database.begin_read("read the newest assessments") as connection:
            for names in _split_names(machines):
                for row in connection.execute(_build_latest_assessments_query(names, answered=answered)).tuples():
                    assessment = reader.decode_assessment(*row)
                    assessments[assessment.machine] = assessment
        return assessments

    def _read_job_output(self, run_id: str, machine: str) -> tuple[JobOutput, ...]:
        """Return the output of a machine's jobs in a run, in the order in which the jobs began. It is untrusted."""
        table, journal = schema.job_outputs, schema.journal
        begun = select(func.min(journal.c.number)).where(
            journal.c.run_id == table.c.run_id, journal.c.machine == table.c.machine, journal.c.key == table.c.job_id
        )
        query = (
            select(table.c.job_id, table.c.body)
            .where(belongs_to_run(table.c.run_id, run_id), table.c.machine == machine)
            .order_by(func.coalesce(begun.scalar_subquery(), 0), table.c.job_id)
        )
        rows = self._database.read_rows("read a job's output", query)
        return tuple(JobOutput(run_id, machine, row.job_id, decompress_text(row.body)) for row in rows)

    def open_job_logs(self, run_id: str, machine: str | None = None) -> JobLogs:
        """Return the job logs of a run, or of one machine in it. Each log is read on access."""
        run, table = self.find_run(run_id), schema.job_outputs
        query = (
            select(table.c.machine).distinct().where(belongs_to_run(table.c.run_id, run.id)).order_by(table.c.machine)
        )
        if machine is not None:
            query = query.where(table.c.machine == machine)
        with self._database.begin_read("list jobs' outputs") as connection:
            names = connection.execute(query).scalars().all()
        return JobLogs(names, lambda name: self._read_job_output(run.id, name))

    def read_journal(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """Return the journal of a run, or of one machine in it, oldest entry first.

        ``run_id``: the id, or an unambiguous prefix of it. If the run died before it was saved, only the complete id
        works.
        """
        require_seals = self._seals is not None
        return self._records.read_entries(run_id, machine, require_seals=require_seals) or self._records.read_entries(
            self.find_run(run_id).id, machine, require_seals=require_seals
        )

    def explain_updates(self, machine: str, update_mask: str = "*", *, runs: int = 5) -> tuple[Explanation, ...]:
        """Return explanations of a machine's updates: pending updates, then the results of runs, newest run first.

        ``update_mask``: a shell-style mask for the update's id, or a mask as in requests (name, number or title).
        ``runs``: how many of the machine's latest runs to read, without runs that only assessed it.
        """
        table, of_run = schema.outcomes, schema.runs
        looked = select(of_run.c.id).where(of_run.c.id == table.c.run_id, of_run.c.kind == "assess").exists()
        query = (
            select(table.c.document, table.c.updates)
            .where(table.c.machine == machine, ~looked, is_of_whole_run(table.c.run_id))
            .order_by(func.coalesce(table.c.ended_at, table.c.started_at).desc(), table.c.number.desc())
            .limit(runs)
        )
        outcomes = [DocumentReader().decode_outcome(*row) for row in self._database.read_rows("look up reasons", query)]
        assessment = self.read_latest_assessments([machine], answered=True).get(machine)
        explanations = list(explain_assessment(assessment)) if assessment else []
        for outcome in outcomes:
            explanations += explain_outcome(outcome)
        return tuple(explanation for explanation in explanations if matches_update(update_mask, explanation.update))


def _read_rows(
    connection: Connection, table: Table, run_id: str, machine: str | None, seals: Seals | None = None
) -> Sequence[RowMapping]:
    """Return the rows of a run, or of one machine in it. With ``seals``, each must have its seal."""
    names = ["run_id", "document", *(name for name in ("machine", "updates", "seal") if name in table.c)]
    query = select(*(table.c[name] for name in names)).where(table.c.run_id == run_id)
    if machine is not None:
        query = query.where(table.c.machine == machine)
    query = query.order_by(*(table.c[name] for name in ("machine", "number") if name in table.c))
    rows = connection.execute(query).mappings().all()
    if seals is not None:
        for row in rows:
            seals.check(table, row, f"{table.name.replace('_', ' ')} of run {run_id}")
    return rows


def _read_plans(
    connection: Connection, reader: DocumentReader, run_id: str, machine: str | None, seals: Seals | None
) -> tuple[RunPlans | None, tuple[MachinePlan, ...]]:
    """Return the saved RunPlans of a run (None if none is saved), and its plans in wave order."""
    saved = _read_rows(connection, schema.run_plans, run_id, None, seals)
    if not saved:
        return None, ()
    run_plans = decode(RunPlans, saved[0]["document"])
    decoded = [
        reader.decode_plan(row["document"], row["updates"])
        for row in _read_rows(connection, schema.machine_plans, run_id, machine, seals)
    ]
    plans = {plan.machine: plan for plan in decoded}
    order = [name for wave in run_plans.waves for name in wave.machines if name in plans]
    return run_plans, tuple(plans[name] for name in dict.fromkeys([*order, *plans]))


def _build_latest_assessments_query(names: Sequence[str] | None, *, answered: bool) -> Select[tuple[str, bytes | None]]:
    """Return a query for each machine's newest assessment. It does one index lookup per machine."""
    table = schema.assessments
    every = select(table.c.machine).distinct()
    newest_numbers = (every if names is None else every.where(table.c.machine.in_(names))).subquery("wanted")
    own = table.alias("own")
    newest = select(own.c.number).where(own.c.machine == newest_numbers.c.machine, *([own.c.known] if answered else []))
    number = newest.order_by(own.c.at.desc(), own.c.number.desc()).limit(1).correlate(newest_numbers).scalar_subquery()
    numbers = select(number).select_from(newest_numbers)
    return select(table.c.document, table.c.updates).where(table.c.number.in_(numbers))


def _split_names(machines: Iterable[str] | None) -> Iterator[list[str] | None]:
    if machines is None:
        yield None
        return
    names = list(dict.fromkeys(machines))
    for start in range(0, len(names), _MAX_NAMES_PER_QUERY):
        yield names[start : start + _MAX_NAMES_PER_QUERY]
