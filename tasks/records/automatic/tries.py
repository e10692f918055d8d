"""Reads what became of rollouts: the outcomes of machines in runs that install a rollout's updates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, or_, select

from tasks.domain.errors import Unreachable
from tasks.domain.model import Outcome, RunInfo, UpdateResult
from tasks.domain.states import (
    FAILED_UPDATE_STATES,
    SUCCESSFUL_UPDATE_STATES,
    UNFINISHED_RUN_STATES,
    OperationState,
    UpdateState,
)
from tasks.records import schema
from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.encoding.codec import decode
from tasks.records.encoding.rows import DocumentReader
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import Rollout, Try

ROLLOUT_PREFIX = "rollout:"
"""Begins the name of a rollout in a request's ``updates.as_in_run``."""

_RUNS, _OUTCOMES = schema.runs, schema.outcomes


def find_rollout_id(run: RunInfo) -> str:
    """Return the id of the rollout whose updates a run installs; "" for another run."""
    updates = run.request.get("updates")
    source = str(updates.get("as_in_run") or "") if isinstance(updates, dict) else ""
    return source.removeprefix(ROLLOUT_PREFIX) if source.startswith(ROLLOUT_PREFIX) else ""


@dataclass(frozen=True, slots=True)
class RolloutResults:
    """What became of rollouts.

    Attributes:
        tries: oldest first.
        last_outcomes: the last outcome of each machine that had its turn, by machine.
    """

    tries: tuple[Try, ...] = ()
    last_outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def read_rollout_results(
    database: Database, rollouts: Sequence[Rollout], *, only_failed: bool = False
) -> RolloutResults:
    """Return what became of these rollouts: the outcomes of runs that have ended.

    Runs that a person started with the updates of a rollout count, too.

    Args:
        database: the database of the records.
        rollouts: the rollouts.
        only_failed: read only machines that failed.

    Raises:
        RecordsError: the records can't be read.
    """
    if not rollouts:
        return RolloutResults()
    by_id = {each.id: each for each in rollouts}
    named = [_RUNS.c.document.contains(f'"{ROLLOUT_PREFIX}{each}"', autoescape=True) for each in by_id]
    since = min(each.created_at for each in rollouts)
    query = select(_RUNS.c.document).where(_RUNS.c.started_at >= since, _RUNS.c.kind == "patch", or_(*named))
    # Where a run was started matters only for phases, so not if only failures are asked for.
    started = SqlAutomaticRuns(database).read_of_rollouts([] if only_failed else list(by_id))
    places = {
        each.run.flow_run_id: each.run.plan.location for each in started if each.run.plan and each.run.flow_run_id
    }
    tries: list[Try] = []
    last_outcomes: dict[str, Outcome] = {}
    with database.begin_read("read the runs of rollouts") as connection:
        runs = [decode(RunInfo, scalar) for scalar in connection.execute(query.order_by(_RUNS.c.started_at)).scalars()]
        for run in runs:
            rollout = by_id.get(find_rollout_id(run))
            if rollout is None or run.state in UNFINISHED_RUN_STATES:
                continue
            for outcome in _read_outcomes(connection, run.id, only_failed=only_failed):
                attempt = build_try(rollout, run, outcome, places.get(run.flow_run_id))
                tries.append(attempt)
                if attempt.began:
                    last_outcomes[outcome.machine] = outcome
    return RolloutResults(tuple(tries), last_outcomes)


def _read_outcomes(connection: Connection, run_id: str, *, only_failed: bool) -> Iterator[Outcome]:
    reader = DocumentReader()
    query = select(_OUTCOMES.c.document, _OUTCOMES.c.updates).where(_OUTCOMES.c.run_id == run_id)
    if only_failed:
        query = query.where(_OUTCOMES.c.state == OperationState.FAILED.value)
    for document, updates in connection.execute(query.order_by(_OUTCOMES.c.machine)).tuples():
        yield reader.decode_outcome(document, updates)


def build_try(rollout: Rollout, run: RunInfo, outcome: Outcome, location: str | None = None) -> Try:
    """Return what became of a machine in a run of a rollout; ``location`` is that of the run's plan. Pure."""
    return Try(
        rollout_id=rollout.id,
        run_id=run.id,
        machine=outcome.machine,
        state=outcome.state,
        ended_at=outcome.ended_at or run.ended_at or run.started_at,
        began=_has_begun(outcome),
        installed=tuple(
            key
            for result in outcome.updates
            if result.state in SUCCESSFUL_UPDATE_STATES
            and (key := (result.update.name, result.version_after or result.update.available)) in rollout.updates
        ),
        failed_updates=tuple(
            (result.update.name, result.update.available, result.reason)
            for result in outcome.updates
            if result.state in FAILED_UPDATE_STATES or _broke_off(outcome, result)
        ),
        reason=outcome.reason,
        location=location,
    )


def _broke_off(outcome: Outcome, result: UpdateResult) -> bool:
    """Return whether the installation of an update was begun, and its end was not seen: the update may be the reason.

    A machine that is lost while it installs can't say what it has installed.
    """
    is_lost = outcome.state is OperationState.FAILED and outcome.install is not None
    return is_lost and result.state is UpdateState.PENDING


def _has_begun(outcome: Outcome) -> bool:
    """Return whether the machine had its turn. One that did not answer before anything was installed had none."""
    if outcome.state is OperationState.NOT_STARTED:
        return False
    return outcome.install is not None or outcome.error is None or not outcome.error.is_a(Unreachable)
