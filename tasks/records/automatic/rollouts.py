"""Stores rollouts of automatic patching, and reads what became of them. On SQLite and PostgreSQL.

That is the outcomes of machines in runs that install a rollout's updates, and for the report of a run, how far its
rollout is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from inventory.data_class import dataclass
from tasks.domain.errors import SealBroken, SealKeyMissing, Unreachable
from tasks.domain.model import Outcome, RunInfo, RunReport, UpdateKey
from tasks.domain.protocols.records import ROLLOUT_PREFIX
from tasks.domain.states import (
    FAILED_UPDATE_STATES,
    SUCCESSFUL_UPDATE_STATES,
    UNFINISHED_RUN_STATES,
    OperationState,
    UpdateState,
)
from tasks.records import schema
from tasks.records.automatic.automatic_runs import SqlAutomaticRuns
from tasks.records.decisions import Decision, DecisionKind, SqlDecisions
from tasks.records.encoding.codec import decode, encode
from tasks.records.encoding.row_encoding import DocumentReader, compress_text, decompress_text
from tasks.records.seals import RUN_KEY, Seals
from tasks.records.statements import build_row, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import Rollout, RolloutState, Try
from tasks.rules.automatic.progress import RolloutProgress, measure_recorded_rollout

_ROLLOUTS = schema.rollouts


@dataclass(frozen=True, slots=True)
class _FrozenUpdates:
    """The frozen set of a rollout: about 90 percent of it, so it has its own column, compressed."""

    updates: tuple[UpdateKey, ...]


class SqlRollouts:
    """Rollouts in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seals = Seals(RUN_KEY, database.fleet)
        self._decisions = SqlDecisions(database)

    def save(self, rollout: Rollout) -> bool:
        """Store a rollout or its new state. A rollout that is over is never changed again.

        A person may cancel a rollout while a decision about it is carried out: then the decision does not undo that.

        Returns:
            Whether it was stored.
        """
        row = build_row(
            _ROLLOUTS,
            rollout,
            document=encode(replace(rollout, updates=frozenset())),
            updates=compress_text(encode(_FrozenUpdates(tuple(sorted(rollout.updates))))),
        )
        row, is_over = self._seals.seal(_ROLLOUTS, row), rollout.state is not RolloutState.ROLLING_FORWARD
        with self._database.begin_write(f"save rollout {rollout.id}") as connection:
            is_going_on = _ROLLOUTS.c.state == RolloutState.ROLLING_FORWARD.value
            stored = upsert_row(connection, _ROLLOUTS, row, where=is_going_on)
            if stored and is_over:
                self._decisions.append(connection, DecisionKind.ROLLOUT, rollout.state.value, rollout.id)
        if stored and is_over:
            self._decisions.note_newest()
        return stored

    def find(self, rollout_id: str, *, require_seal: bool = False) -> Rollout | None:
        """Return the rollout with this id; None if there is none.

        ``require_seal``: whether it must have its seal. For what is installed, not for what is only shown.

        Raises:
            SealBroken: it was changed in the database, or an earlier state of it was put back.
            SealKeyMissing: another controller has sealed it.
        """
        decided = self._decisions.find_all(DecisionKind.ROLLOUT) if require_seal else {}
        with self._database.begin_read("look up a rollout") as connection:
            row = connection.execute(select(_ROLLOUTS).where(_ROLLOUTS.c.id == rollout_id)).one_or_none()
        if row is None:
            return None
        if require_seal:
            self._check_seal(row, decided)
        return _to_rollout(row)

    def find_newest(self) -> Rollout | None:
        """Return the newest rollout; None if there was none yet."""
        return next(iter(self.read_newest(1)), None)

    def read_newest(self, limit: int = 20, *, require_seals: bool = False) -> tuple[Rollout, ...]:
        """Return the newest rollouts, the newest last.

        ``require_seals``: whether each that is under way must have its seal, because it is changed and sealed again.
        One that is over is never changed.

        Raises:
            SealBroken: one that is under way was changed in the database, or was over before.
            SealKeyMissing: another controller has sealed one that is under way.
        """
        query = select(_ROLLOUTS)
        query = query.order_by(_ROLLOUTS.c.created_at.desc(), _ROLLOUTS.c.id.desc()).limit(limit)
        decided = self._decisions.find_all(DecisionKind.ROLLOUT) if require_seals else {}
        rows = self._database.read_rows("read the rollouts", query)
        rollouts = []
        for row in reversed(rows):
            rollout = _to_rollout(row)
            if require_seals and rollout.state is RolloutState.ROLLING_FORWARD:
                self._check_seal(row, decided)
            rollouts.append(rollout)
        return tuple(rollouts)

    def _check_seal(self, row: Row[Any], decided: Mapping[str, Decision]) -> None:
        try:
            self._seals.check(_ROLLOUTS, row._mapping, f"rollout {row.id}")  # noqa: SLF001 - SQLAlchemy's name
            newest = decided.get(row.id)
            if newest is not None and newest.text != row.state:
                raise SealBroken(f"rollout {row.id} was {newest.text}: an earlier state of it was put back")
        except (SealBroken, SealKeyMissing) as error:
            way = f"`fleetpatch automatic cancel {row.id}` ends it; the next rollout begins by itself."
            cause = "Find out who can write the database. " if isinstance(error, SealBroken) else ""
            raise type(error)(error.message, hint=f"Nothing of it starts. {cause}{way}") from error


def _to_rollout(row: Row[Any]) -> Rollout:
    frozen = decode(_FrozenUpdates, decompress_text(row.updates, "frozen set of a rollout"))
    return replace(decode(Rollout, row.document), updates=frozenset(frozen.updates))


_RUNS, _OUTCOMES = schema.runs, schema.outcomes


def find_rollout_id(run: RunInfo) -> str:
    """Return the id of the rollout whose updates a run installs; "" for another run."""
    updates = run.request.get("updates")
    source = str(updates.get("as_in_run") or "") if isinstance(updates, dict) else ""
    return source.removeprefix(ROLLOUT_PREFIX) if source.startswith(ROLLOUT_PREFIX) else ""


@dataclass(frozen=True, slots=True)
class RolloutResults:
    """What became of rollouts."""

    tries: tuple[Try, ...] = ()  # oldest first
    # The last outcome of each machine that had its turn, by machine.
    last_outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def read_rollout_results(
    database: Database, rollouts: Sequence[Rollout], *, only_failed: bool = False
) -> RolloutResults:
    """Return what became of these rollouts: the outcomes of runs that have ended.

    Runs that a person started with the updates of a rollout count, too.
    """
    if not rollouts:
        return RolloutResults()
    by_id = {rollout.id: rollout for rollout in rollouts}
    named = [_RUNS.c.document.contains(f'"{ROLLOUT_PREFIX}{rollout_id}"', autoescape=True) for rollout_id in by_id]
    since = min(rollout.created_at for rollout in rollouts)
    query = select(_RUNS.c.document).where(_RUNS.c.started_at >= since, _RUNS.c.kind == "patch", or_(*named))
    # Where a run was started matters only for phases, so not if only failures are asked for.
    started = SqlAutomaticRuns(database).read_of_rollouts([] if only_failed else list(by_id))
    locations = {
        status.run.flow_run_id: status.run.plan.location
        for status in started
        if status.run.plan and status.run.flow_run_id
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
                attempt = build_try(rollout, run, outcome, locations.get(run.flow_run_id))
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
    """Return what became of a machine in a run of a rollout; ``location`` is that of the run's plan. Pure.

    A machine that did not answer before anything was installed had no turn. One that is lost while it installs can't
    say what it has installed: what is pending may be the reason.
    """
    error, has_installed = outcome.error, outcome.install is not None
    failed = FAILED_UPDATE_STATES
    if has_installed and outcome.state is OperationState.FAILED:
        failed |= {UpdateState.PENDING}
    return Try(
        rollout_id=rollout.id,
        run_id=run.id,
        machine=outcome.machine,
        state=outcome.state,
        ended_at=outcome.ended_at or run.ended_at or run.started_at,
        began=outcome.state is not OperationState.NOT_STARTED
        and (has_installed or error is None or not error.is_a(Unreachable)),
        installed=tuple(
            result.key
            for result in outcome.updates
            if result.state in SUCCESSFUL_UPDATE_STATES and result.key in rollout.updates
        ),
        failed_updates=tuple(
            (*result.update.key, result.reason) for result in outcome.updates if result.state in failed
        ),
        reason=outcome.reason,
        location=location,
    )


def read_rollout_progress(database: Database, report: RunReport, now: datetime) -> RolloutProgress | None:
    """Return how far the rollout is; None: the run belongs to none, or these records do not know it.

    Only machines that were in a run of the rollout are counted: the records know no inventory.

    ``report``: the report of the run. Its outcomes count even if its end is not in the records yet.
    """
    rollout_id = find_rollout_id(report.run)
    rollout = SqlRollouts(database).find(rollout_id) if rollout_id else None
    if rollout is None:
        return None
    statuses = SqlAutomaticRuns(database).read_of_rollouts([rollout_id])
    plans = {name: status.run.plan for status in statuses if status.run.plan for name in status.run.plan.machines}
    recorded = (
        phase_try for phase_try in read_rollout_results(database, [rollout]).tries if phase_try.run_id != report.run.id
    )
    ended = [outcome for outcome in report.outcomes if outcome.state is not OperationState.IN_PROGRESS]
    own = (build_try(rollout, report.run, outcome) for outcome in ended)
    running = {name for status in statuses if status.is_open(now) for name in status.run.machines}
    running -= {outcome.machine for outcome in ended}
    return measure_recorded_rollout(rollout, (*recorded, *own), plans, running, now)
