"""Reads the machines of one run: all of them from columns, and the documents of a few."""

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select

from inventory.data_class import dataclass
from tasks.domain.model import HookResult, MachinePlan, Outcome, StepRecord, Wave
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.rows import list_kinds
from tasks.domain.rows.runs import MachineResultRow
from tasks.domain.states import OperationState, RebootState
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.encoding.row_encoding import DocumentReader
from tasks.records.sql_records import RunPlans
from tasks.records.storage.database import Database

_CHECKPOINT_ACT = "step"  # as in tasks/steps/checkpoint.py, whose layer is above this one
_STEPS = TypeAdapter(tuple[StepRecord, ...])


@dataclass(frozen=True, slots=True)
class RunParts:
    """What belongs to the run as a whole."""

    waves: tuple[Wave, ...]
    hooks: tuple[HookResult, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordedMachine:
    """What the run recorded of one machine, with its updates."""

    outcome: Outcome | None
    plan: MachinePlan | None
    steps: tuple[StepRecord, ...] = ()  # steps that have ended; of a machine in progress those before the present one


_RESULT_NAMES = tuple(list_kinds(MachineResultRow))


def read_machine_results(database: Database, run_id: str) -> dict[str, MachineResultRow]:
    """Return the results of all machines that have one, by name, sorted by name."""
    table = schema.outcomes
    query = select(*(table.c[name] for name in _RESULT_NAMES)).where(table.c.run_id == run_id).order_by(table.c.machine)
    rows = database.read_rows("read the results of a run", query)
    return {row[1]: MachineResultRow(**dict(zip(_RESULT_NAMES, row, strict=True))) for row in rows}


def read_assessed_machines(database: Database, run_id: str) -> dict[str, MachineResultRow]:
    """Return the assessments of a run as results, for runs that have recorded no results; sorted by name."""
    table = schema.assessments
    columns = (table.c.machine, table.c.known, table.c.error_message, table.c.at, table.c.urgent, table.c.other)
    query = select(*columns).where(table.c.run_id == run_id).order_by(table.c.machine, table.c.number)
    results: dict[str, MachineResultRow] = {}
    with database.begin_read("read the assessments of a run") as connection:
        for machine, is_known, error, at, urgent, other in connection.execute(query).tuples():
            state = OperationState.SUCCEEDED if is_known else OperationState.FAILED
            reason = f"pending updates: {urgent} critical or security, {other} other" if is_known else error
            results[machine] = MachineResultRow(
                run_id=run_id,
                machine=machine,
                state=state.value,
                reason=reason,
                reboot=RebootState.UNKNOWN.value,
                wave=None,
                started_at=at,
                ended_at=None,
                window_exceeded_seconds=0.0,
                updates_installed=0,
                updates_failed=0,
            )
    return results


def read_run_parts(database: Database, run_id: str) -> RunParts | None:
    """Return waves, hooks and notes; None if none are recorded yet."""
    table = schema.run_plans
    with database.begin_read("read the waves of a run") as connection:
        query = select(table.c.document).where(table.c.run_id == run_id)
        document = connection.execute(query).scalar_one_or_none()
    if document is None:
        return None
    run_plans = decode(RunPlans, document)
    return RunParts(run_plans.waves, run_plans.hooks, run_plans.notes)


def read_machine_details(database: Database, run_id: str, names: Sequence[str]) -> Mapping[str, RecordedMachine]:
    """Return the details of a few machines, not more than some hundred."""
    reader = DocumentReader()
    journal = schema.journal
    newest = (
        select(func.max(journal.c.number))
        .where(journal.c.run_id == run_id, journal.c.machine.in_(names))
        .where(journal.c.act == _CHECKPOINT_ACT, journal.c.mark == JournalMark.AFTER.value)
        .group_by(journal.c.machine)
    )
    with database.begin_read("read the machines of a run") as connection:
        of_outcomes, of_plans = (
            connection.execute(
                select(table.c.document, table.c.updates).where(table.c.run_id == run_id, table.c.machine.in_(names))
            ).all()
            for table in (schema.outcomes, schema.machine_plans)
        )
        outcomes = {outcome.machine: outcome for outcome in (reader.decode_outcome(*row) for row in of_outcomes)}
        plans = {plan.machine: plan for plan in (reader.decode_plan(*row) for row in of_plans)}
        documents = (
            connection.execute(select(journal.c.document).where(journal.c.number.in_(newest))).scalars().all()
            if set(names) - set(outcomes)
            else []
        )
    steps = {entry.machine: _parse_steps(entry) for entry in (decode(JournalEntry, document) for document in documents)}
    return {
        name: RecordedMachine(
            outcomes.get(name), plans.get(name), outcomes[name].steps if name in outcomes else steps.get(name, ())
        )
        for name in names
    }


def _parse_steps(entry: JournalEntry) -> tuple[StepRecord, ...]:
    """Return the steps of a checkpoint. One that can't be read has none: they are only shown."""
    try:
        return _STEPS.validate_python(entry.detail.get("steps", ()))
    except ValidationError:
        return ()
