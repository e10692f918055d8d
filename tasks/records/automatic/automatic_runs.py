"""Stores which runs automatic patching has started, or is about to start, on SQLite and PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update

from inventory.data_class import dataclass
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records import schema
from tasks.records.encoding.codec import decode, encode
from tasks.records.statements import UNFINISHED_STATES, build_row, insert_missing
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import RunPlan

_RUNS, _OF_RUN = schema.automatic_runs, schema.runs


@dataclass(frozen=True, slots=True)
class AutomaticRun:
    """A run that automatic patching has started, or is about to start."""

    key: str  # the idempotency key. The same key is also that of the flow run in Prefect.
    machines: tuple[str, ...]  # the machines that it patches or assesses
    window_start: datetime  # when it may begin
    window_end: datetime  # from when on it can't begin any more
    at: datetime  # when it was decided
    plan: RunPlan | None = None  # None: it only assesses machines
    flow_run_id: str = ""  # "": Prefect may not have it yet
    # Why it has not begun and never will, e.g. "its flow run was cancelled"; "": nothing is known of it. Of an
    # assessment also how its process ended, if it did not end itself.
    never_began: str = ""

    @property
    def rollout_id(self) -> str:
        """The rollout whose updates it installs; "": none."""
        return self.plan.rollout_id if self.plan is not None else ""


@dataclass(frozen=True, slots=True)
class AutomaticRunStatus:
    """An automatic run with the run that came of it."""

    run: AutomaticRun
    run_id: str = ""  # the id of that run; "": it has not begun
    state: OperationState | None = None  # the state of that run; None: it has not begun

    def is_open(self, now: datetime) -> bool:
        """Return whether it is under way, or may still begin.

        Nothing records the end of an assessment whose process was killed: what Prefect said of it counts.
        """
        may_count = not self.run.never_began and now < self.run.window_end
        if self.state is None:
            return may_count
        return self.state in UNFINISHED_RUN_STATES and (may_count or self.run.plan is not None)


class SqlAutomaticRuns:
    """Automatic runs in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: AutomaticRun) -> bool:
        """Store a run that is about to start, unless its key is stored already.

        If several callers ask at the same time, exactly one adds it.

        Returns:
            Whether this call has added it.
        """
        with self._database.begin_write(f"record the automatic run {run.key}") as connection:
            return insert_missing(connection, _RUNS, build_row(_RUNS, run, document=encode(run)))

    def set_flow_run(self, key: str, flow_run_id: str) -> None:
        """Record the flow run of a run."""
        self._change(key, flow_run_id=flow_run_id)

    def set_never_began(self, key: str, reason: str) -> None:
        """Record that a run has not begun and never will, with the reason."""
        self._change(key, never_began=reason)

    def _change(self, key: str, **values: str) -> None:
        with self._database.begin_write(f"record the automatic run {key}") as connection:
            where = _RUNS.c.key == key
            document = connection.execute(select(_RUNS.c.document).where(where).with_for_update()).scalar_one()
            run = replace(decode(AutomaticRun, document), **values)  # type: ignore[arg-type]  # both are texts
            connection.execute(update(_RUNS).where(where).values(flow_run_id=run.flow_run_id, document=encode(run)))

    def read_open(self, now: datetime) -> tuple[AutomaticRunStatus, ...]:
        """Return the runs that are under way, or may still begin, oldest first."""
        other = _OF_RUN.alias("other")  # the query itself joins the table as well
        unfinished = select(other.c.flow_run_id).where(other.c.state.in_(UNFINISHED_STATES), other.c.flow_run_id != "")
        runs = self._read(
            "read the open automatic runs", or_(_RUNS.c.window_end > now, _RUNS.c.flow_run_id.in_(unfinished))
        )
        return tuple(run for run in runs if run.is_open(now))

    def read_since(self, since: datetime) -> tuple[AutomaticRunStatus, ...]:
        """Return the runs that were decided from this time on, oldest first."""
        return self._read("read the automatic runs", _RUNS.c.at >= since)

    def read_of_rollouts(self, rollout_ids: Sequence[str]) -> tuple[AutomaticRunStatus, ...]:
        """Return the runs of these rollouts, oldest first."""
        return self._read("read the runs of a rollout", _RUNS.c.rollout_id.in_(rollout_ids))

    def find(self, key: str) -> AutomaticRun | None:
        """Return the run with this key; None if there is none."""
        return next((row.run for row in self._read("look up an automatic run", _RUNS.c.key == key)), None)

    def _read(self, action: str, where: ColumnElement[bool]) -> tuple[AutomaticRunStatus, ...]:
        began = (_OF_RUN.c.flow_run_id == _RUNS.c.flow_run_id) & (_RUNS.c.flow_run_id != "")
        query = (
            select(_RUNS.c.key, _RUNS.c.document, _OF_RUN.c.id, _OF_RUN.c.state)
            .select_from(_RUNS.outerjoin(_OF_RUN, began))
            .where(where)
            # The newest run of a flow run comes last, and counts.
            .order_by(_RUNS.c.at, _RUNS.c.key, _OF_RUN.c.started_at, _OF_RUN.c.id)
        )
        statuses = {
            row.key: AutomaticRunStatus(
                decode(AutomaticRun, row.document),
                row.id or "",
                OperationState(row.state) if row.state is not None else None,
            )
            for row in self._database.read_rows(action, query)
        }
        return tuple(statuses.values())
