"""Reads a run for lists: all machines, with counts of updates. Does not read lists of updates."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, select, union

from inventory.data_class import dataclass
from tasks.domain.model import Assessment, Outcome, RunInfo, RunReport, Wave
from tasks.domain.states import Compliance, UpdateState
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.encoding.row_encoding import DocumentReader
from tasks.records.sql_records import RunPlans
from tasks.records.storage.database import Database
from tasks.rules.runs.figures import UpdateCounts, count_pending


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run with counts of updates instead of updates.

    Attributes:
        report: the report without plans, and with the newest assessment of each machine only. Its outcomes and
            assessments have no updates.
        results: counts of the outcomes' updates, by machine.
        pending: counts of the pending updates in the newest assessments, by machine. A machine whose newest assessment
            has no answer is missing.
    """

    report: RunReport
    results: Mapping[str, UpdateCounts]
    pending: Mapping[str, UpdateCounts]


def read_run_summary(connection: Connection, run: RunInfo) -> RunSummary:
    """Return the summary of a run. Raise RecordsError if a document cannot be decoded."""
    outcomes, results = _read_outcomes(connection, run.id)
    assessments, pending = _read_assessments(connection, run.id)
    table = schema.run_plans
    document = connection.execute(select(table.c.document).where(table.c.run_id == run.id)).scalar_one_or_none()
    run_plans = decode(RunPlans, document) if document is not None else RunPlans(run.id, rebuild_waves(outcomes))
    report = RunReport(run, outcomes, run_plans.waves, (), assessments, run_plans.hooks, run_plans.notes)
    return RunSummary(report, results, pending)


def read_recorded_machines(connection: Connection, run_id: str) -> tuple[str, ...]:
    """Return the names of the machines that have an outcome or an assessment in a run, sorted."""
    tables = (schema.outcomes, schema.assessments)
    names = union(*(select(table.c.machine).where(table.c.run_id == run_id) for table in tables))
    return tuple(sorted(connection.execute(names).scalars()))


def read_new_outcomes(
    database: Database, run_id: str, known: Collection[str], reader: DocumentReader
) -> tuple[Outcome, ...]:
    """Return the complete outcomes of a run, without those of these machines."""
    table = schema.outcomes
    with database.begin_read("read the outcomes of a run") as connection:
        names = connection.execute(select(table.c.machine).where(table.c.run_id == run_id)).scalars().all()
        new = [name for name in names if name not in known]
        query = select(table.c.document, table.c.updates).where(table.c.run_id == run_id, table.c.machine.in_(new))
        rows = connection.execute(query).all() if new else ()
    return tuple(reader.decode_outcome(document, updates) for document, updates in rows)


def _read_outcomes(connection: Connection, run_id: str) -> tuple[tuple[Outcome, ...], dict[str, UpdateCounts]]:
    table = schema.outcomes
    query = select(table.c.document, table.c.counts).where(table.c.run_id == run_id).order_by(table.c.machine)
    outcomes: list[Outcome] = []
    results: dict[str, UpdateCounts] = {}
    for document, counts in connection.execute(query).tuples():
        outcome = decode(Outcome, document)
        results[outcome.machine] = decode(UpdateCounts, counts)
        outcomes.append(outcome)
    return tuple(outcomes), results


def _read_assessments(connection: Connection, run_id: str) -> tuple[tuple[Assessment, ...], dict[str, UpdateCounts]]:
    table = schema.assessments
    columns = (table.c.machine, table.c.document, table.c.urgent, table.c.other, table.c.compliance)
    query = select(*columns).where(table.c.run_id == run_id).order_by(table.c.machine, table.c.number)
    # the newest assessment replaces older ones
    newest = {row[0]: row[1:] for row in connection.execute(query).tuples()}
    assessments: list[Assessment] = []
    pending: dict[str, UpdateCounts] = {}
    for document, urgent, other, compliance in newest.values():
        assessment = decode(Assessment, document)
        if assessment.packages is not None:
            is_unclear = compliance == Compliance.NOT_ASSESSED
            counts = UpdateCounts({UpdateState.PENDING: urgent + other}, urgent, int(is_unclear))
            pending[assessment.machine] = counts
        assessments.append(assessment)
    return tuple(assessments), pending


def rebuild_waves(outcomes: Sequence[Outcome]) -> tuple[Wave, ...]:
    """Return the waves, rebuilt from outcomes. No wave is marked as a canary wave: outcomes do not have that. Pure."""
    numbers = sorted({outcome.wave for outcome in outcomes if outcome.wave is not None})
    return tuple(Wave(n, tuple(outcome.machine for outcome in outcomes if outcome.wave == n)) for n in numbers)


def count_pending_updates(report: RunReport) -> dict[str, UpdateCounts]:
    """Return the counts of pending updates in a report's newest assessments, by machine. Pure."""
    newest = {assessment.machine: assessment for assessment in report.assessments}
    return {name: count_pending(assessment) for name, assessment in newest.items() if assessment.packages is not None}


def find_machines_without_outcome(report: RunReport) -> tuple[str, ...]:
    """Return the machines of a report's waves and plans that have no outcome, in wave order. Pure."""
    finished = {outcome.machine for outcome in report.outcomes}
    waves = sorted(report.waves, key=lambda wave: wave.number)
    names = [name for wave in waves for name in wave.machines] + [plan.machine for plan in report.plans]
    return tuple(name for name in dict.fromkeys(names) if name not in finished)
