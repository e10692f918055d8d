"""Reading what was recorded: for the command, for reports, and for whoever asks why."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, func, select, tuple_

from tasks.errors import RecordsError
from tasks.model import Assessment, JobOutput, Outcome, RunInfo, RunReport, Update, UpdateResult, Wave
from tasks.records import schema
from tasks.records.codec import decode
from tasks.records.rows import unpacked
from tasks.records.sql import RunPlans, SqlRecords
from tasks.seams.records import JournalEntry
from tasks.states import UpdateState

T = TypeVar("T")

_AT_ONCE = 500  # names in one statement; databases have limits


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was seen of, or done to, one update on one machine, and why.

    Attributes:
        at: when it was so.
        run_id: the run that it comes from; "" for an assessment outside of any.
        reason: in words; never empty.
        assessed: whether it is about what was pending, and not about what a run did.
    """

    machine: str
    update: Update
    at: datetime | None
    run_id: str
    state: UpdateState
    reason: str
    assessed: bool = False


class History:
    """The read side of the records. Every method raises RecordsError when they can't be read."""

    def __init__(self, records: SqlRecords) -> None:
        self._records = records
        self._database = records.database

    def runs(self, limit: int = 20, *, kind: str | None = None) -> tuple[RunInfo, ...]:
        """Return the newest runs, newest first; of one kind ("patch", "stage", "assess", "plan") when it is given."""
        table = schema.runs
        query = select(table.c.document).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        with self._database.reading("list the runs") as connection:
            documents = connection.execute(query).scalars().all()
        return tuple(decode(RunInfo, document) for document in documents)

    def run(self, id_or_prefix: str) -> RunInfo:
        """Return a run by its id, or by a beginning of it that no other run has.

        Raises:
            RecordsError: there is none, or there are several.
        """
        table = schema.runs
        # LIKE would take "_" and "%" for wildcards, and on SQLite "a" for "A".
        begins = func.substr(table.c.id, 1, len(id_or_prefix)) == id_or_prefix
        query = select(table.c.id, table.c.document).where(begins).order_by(table.c.started_at.desc()).limit(6)
        with self._database.reading("look up a run") as connection:
            exact = _document(connection, schema.runs, table.c.id == id_or_prefix)
            found = connection.execute(query).all() if id_or_prefix and exact is None else []
        if exact is not None:
            return decode(RunInfo, exact)
        if len(found) == 1:
            return decode(RunInfo, found[0].document)
        if not found:
            raise RecordsError(f"there is no run {id_or_prefix!r}", hint="List the runs to see their ids.")
        names = ", ".join(row.id for row in found[:5]) + (" …" if len(found) > 5 else "")
        raise RecordsError(f"{id_or_prefix!r} may be any of several runs: {names}", hint="Give more of the id.")

    def run_of_flow(self, flow_run_id: str) -> RunInfo | None:
        """Return the newest run that a flow run of Prefect has begun; None when there is none.

        Args:
            flow_run_id: Prefect's id of it, whole.
        """
        table = schema.runs
        query = (
            select(table.c.document)
            .where(table.c.flow_run_id == flow_run_id)
            .order_by(table.c.started_at.desc(), table.c.id.desc())
            .limit(1)
        )
        with self._database.reading("look up the run of a flow run") as connection:
            document = connection.execute(query).scalar_one_or_none()
        return decode(RunInfo, document) if document is not None else None

    def report(self, run_id: str) -> RunReport:
        """Return a whole run, or what there is of it so far: its outcomes and assessments by machine.

        A machine's assessments stand in the order in which they were saved. Waves and plans are there once a report
        of the run was saved, which may be before anything is done. For a run that never came to that, waves are put
        together from its outcomes; which of them were canaries isn't known then.

        Args:
            run_id: the id, or an unambiguous beginning of it.

        Raises:
            RecordsError: there is no such run.
        """
        run = self.run(run_id)
        with self._database.reading("read a report") as connection:
            outcomes = _documents(connection, schema.outcomes, Outcome, run.id)
            assessments = _documents(connection, schema.assessments, Assessment, run.id)
            plans = _document(connection, schema.run_plans, schema.run_plans.c.run_id == run.id)
        kept = decode(RunPlans, plans) if plans is not None else RunPlans(run.id, waves_of(outcomes))
        return RunReport(run, outcomes, kept.waves, kept.plans, assessments, kept.hooks, kept.notes)

    def outcome(self, run_id: str, machine: str) -> Outcome:
        """Return what became of a machine in a run.

        Raises:
            RecordsError: nothing did, or there is no such run.
        """
        run = self.run(run_id)
        table = schema.outcomes
        with self._database.reading("read an outcome") as connection:
            document = _document(connection, table, and_(table.c.run_id == run.id, table.c.machine == machine))
        if document is None:
            raise RecordsError(
                f"run {run.id} has no outcome for it",
                machine=machine,
                hint="It was not in the run's scope, or the run has not come to it.",
            )
        return decode(Outcome, document)

    def assessment(self, run_id: str, machine: str, at: datetime | None = None) -> Assessment | None:
        """Return the assessment that a machine's plan was made from; None when the run has none of it.

        That is the one of the moment which the plan names: a run whose process died while it assessed has others from
        before. Where the plan names none it is the first which the run saved; one with an answer, when there is any.
        Saving order decides then and not time: the clock may have been set back before the machine was validated.

        Args:
            run_id: the id, or an unambiguous beginning of it.
            machine: its name.
            at: when it was made, as the plan says.

        Raises:
            RecordsError: there is no such run.
        """
        run = self.run(run_id)
        table = schema.assessments
        query = (
            select(table.c.document)
            .where(table.c.run_id == run.id, table.c.machine == machine)
            .order_by(*([(table.c.at == at).desc()] if at is not None else []), table.c.known.desc(), table.c.number)
            .limit(1)
        )
        with self._database.reading("read an assessment") as connection:
            document = connection.execute(query).scalar_one_or_none()
        return decode(Assessment, document) if document is not None else None

    def unfinished(self, run_id: str) -> tuple[str, ...]:
        """Return the machines of a run's waves and plans that have no outcome yet, in the order of the waves.

        Raises:
            RecordsError: there is no such run.
        """
        return unfinished_of(self.report(run_id))

    def latest_assessments(
        self, machines: Iterable[str] | None = None, *, answered: bool = False
    ) -> dict[str, Assessment]:
        """Return the newest assessment of each machine; machines without any are left out.

        Args:
            machines: their names; None for all that were ever assessed.
            answered: pass over assessments that came to nothing (the machine did not answer, say), so that what was
                last known of it is seen.
        """
        table = schema.assessments
        only = [table.c.known] if answered else []
        found: dict[str, Assessment] = {}
        with self._database.reading("read the newest assessments") as connection:
            for names in _portions(machines):
                named = only + ([table.c.machine.in_(names)] if names is not None else [])
                newest = select(table.c.machine, func.max(table.c.at)).where(*named).group_by(table.c.machine)
                query = (
                    select(table.c.document)
                    .where(tuple_(table.c.machine, table.c.at).in_(newest), *only)
                    .order_by(table.c.number)
                )
                for document in connection.execute(query).scalars():
                    assessment = decode(Assessment, document)
                    found[assessment.machine] = assessment
        return found

    def job_output(self, run_id: str, machine: str) -> tuple[JobOutput, ...]:
        """Return what a machine's jobs printed in a run, by job id. Untrusted: not to be printed raw to a terminal."""
        run = self.run(run_id)
        table = schema.job_outputs
        query = (
            select(table.c.job_id, table.c.body)
            .where(table.c.run_id == run.id, table.c.machine == machine)
            .order_by(table.c.job_id)
        )
        with self._database.reading("read a job's output") as connection:
            found = connection.execute(query).all()
        return tuple(JobOutput(run.id, machine, row.job_id, unpacked(row.body)) for row in found)

    def journal(self, run_id: str) -> tuple[JournalEntry, ...]:
        """Return a run's journal, oldest first; also of a run that died before it was saved, by its whole id."""
        return self._records.entries(run_id) or self._records.entries(self.run(run_id).id)

    def why(self, machine: str, update_mask: str = "*", *, runs: int = 5) -> tuple[Explanation, ...]:
        """Return what is known of a machine's updates: pending ones first, then what the latest runs did, newest first.

        Args:
            machine: its name.
            update_mask: shell-style, over an update's name, id and KB number.
            runs: how many of the machine's latest runs to look at.
        """
        table = schema.outcomes
        query = (
            select(table.c.document)
            .where(table.c.machine == machine)
            .order_by(func.coalesce(table.c.ended_at, table.c.started_at).desc(), table.c.number.desc())
            .limit(runs)
        )
        with self._database.reading("look up reasons") as connection:
            outcomes = [decode(Outcome, document) for document in connection.execute(query).scalars()]
        assessment = self.latest_assessments([machine], answered=True).get(machine)
        told = list(_of_assessment(assessment)) if assessment else []
        for outcome in outcomes:
            told += _of_outcome(outcome)
        return tuple(each for each in told if _named_by(update_mask, each.update))


def _document(connection: Connection, table: Table, where: ColumnElement[bool]) -> str | None:
    return connection.execute(select(table.c.document).where(where)).scalar_one_or_none()


def _documents(connection: Connection, table: Table, kind: type[T], run_id: str) -> tuple[T, ...]:
    query = select(table.c.document).where(table.c.run_id == run_id).order_by(table.c.machine, table.c.number)
    return tuple(decode(kind, document) for document in connection.execute(query).scalars())


def _named_by(mask: str, update: Update) -> bool:
    return any(fnmatchcase(name, mask) for name in (update.name, update.id, update.kb) if name)


def _of_assessment(assessment: Assessment) -> Iterator[Explanation]:
    packages = assessment.packages
    if packages is None:
        return
    for update in packages.updates:
        reason = "pending"
        if update.held or update.name in packages.held:
            reason = "pending; held on the machine by its administrator"
        elif update.blocked:
            reason = f"pending; the machine can't install it as it stands: {update.blocked}"
        yield Explanation(
            assessment.machine, update, assessment.at, assessment.run_id, UpdateState.PENDING, reason, assessed=True
        )


def _of_outcome(outcome: Outcome) -> Iterator[Explanation]:
    at = outcome.ended_at or outcome.started_at
    for result in outcome.updates:
        reason = result.reason or _in_words(result)
        yield Explanation(outcome.machine, result.update, at, outcome.run_id, result.state, reason)


def _in_words(result: UpdateResult) -> str:
    """Return a reason for a result that carries none."""
    if result.state is UpdateState.INSTALLED:
        return (
            f"installed: {result.update.installed or 'not there'} -> {result.version_after or result.update.available}"
        )
    return f"{result.state.value}; no reason was recorded"


def waves_of(outcomes: Sequence[Outcome]) -> tuple[Wave, ...]:
    """Return the waves as outcomes tell them; which of them were canaries isn't known. Pure."""
    numbers = sorted({outcome.wave for outcome in outcomes if outcome.wave is not None})
    return tuple(Wave(n, tuple(outcome.machine for outcome in outcomes if outcome.wave == n)) for n in numbers)


def unfinished_of(report: RunReport) -> tuple[str, ...]:
    """Return the machines of a report's waves and plans that have no outcome, in the order of the waves. Pure."""
    finished = {outcome.machine for outcome in report.outcomes}
    waves = sorted(report.waves, key=lambda wave: wave.number)
    names = [name for wave in waves for name in wave.machines] + [plan.machine for plan in report.plans]
    return tuple(name for name in dict.fromkeys(names) if name not in finished)


def _portions(machines: Iterable[str] | None) -> Iterator[list[str] | None]:
    if machines is None:
        yield None
        return
    names = list(dict.fromkeys(machines))
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
