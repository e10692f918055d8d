"""Stores the snapshots that runs have taken: each before it is ordered, and what became of it."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, delete, select

from tasks.domain.model import SHARD_KIND, RunInfo
from tasks.domain.provided_machines import OPEN_SNAPSHOT_STATES, Consistency, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.undo import UndoSnapshot
from tasks.records import schema
from tasks.records.seals import Seals
from tasks.records.snapshot_schema import snapshots
from tasks.records.statements import UNFINISHED_STATES, select_shard_ids, upsert_row
from tasks.records.storage.database import Database

_COLUMNS: Final = tuple(field.name for field in fields(SnapshotRow))
_OPEN: Final = tuple(state.value for state in OPEN_SNAPSHOT_STATES)


class SqlSnapshots:
    """The snapshots, in the database of the records. All threads of a process may share an object.

    ``seals``: makes and checks the seals of rows.
    """

    def __init__(self, database: Database, seals: Seals) -> None:
        self._database, self._seals = database, seals

    def save(self, row: SnapshotRow) -> None:
        """Store a snapshot, or replace what is stored of it."""
        values = self._seals.seal(snapshots, {name: getattr(row, name) for name in _COLUMNS})
        with self._database.begin_write(f"store the snapshot of {row.machine}") as connection:
            upsert_row(connection, snapshots, values)

    def read_open(self, machine: str = "") -> tuple[SnapshotRow, ...]:
        """Return the snapshots that may exist, the oldest first; ``machine``: only those of it."""
        query = select(snapshots).where(snapshots.c.state.in_(_OPEN)).order_by(snapshots.c.ordered_at)
        return self._read(query.where(snapshots.c.machine == machine) if machine else query)

    def read_all(self) -> tuple[SnapshotRow, ...]:
        """Return all snapshots, the oldest first."""
        return self._read(select(snapshots).order_by(snapshots.c.ordered_at, snapshots.c.machine))

    def find_expired(self, now: datetime) -> tuple[SnapshotRow, ...]:
        """Return the snapshots that may exist, and whose time is over, the oldest first."""
        query = select(snapshots).where(snapshots.c.state.in_(_OPEN), snapshots.c.expires_at <= now)
        return self._read(query.order_by(snapshots.c.expires_at))

    def find_sealed(self, snapshot: str, machine: str) -> SnapshotRow | None:
        """Return a snapshot that a run has really taken, or None. Raise SealBroken or SealKeyMissing."""
        is_it = (snapshots.c.snapshot == snapshot) & (snapshots.c.machine == machine)
        with self._database.begin_read("read a snapshot") as connection:
            row = connection.execute(select(snapshots).where(is_it)).mappings().one_or_none()
        if row is None:
            return None
        self._seals.check(snapshots, row, f"the snapshot {snapshot} of {machine}")
        return _build_row(row)

    def find_of_run(self, run: RunInfo) -> dict[str, UndoSnapshot]:
        """Return the snapshots from before a run that may exist, by machine, with the runs that came later.

        Those of its shards are its own, once the shards are over.

        Raises:
            SealBroken: something else has written or changed a row.
        """
        takers = {run.id, *self._list_ended_shards(run.id)}
        rows = (row for row in self.read_open() if row.run_id in takers and row.state is not SnapshotState.UNKNOWN)
        sealed = (self.find_sealed(row.snapshot, row.machine) or row for row in rows)
        return {row.machine: UndoSnapshot(row, self._find_later_runs(row.machine, run)) for row in sealed}

    def _list_ended_shards(self, run_id: str) -> Sequence[str]:
        runs = schema.runs.c
        query = select(runs.id).where(runs.id.in_(select_shard_ids(run_id)), runs.state.not_in(UNFINISHED_STATES))
        with self._database.begin_read("look for shards") as connection:
            return connection.execute(query).scalars().all()

    def _find_later_runs(self, machine: str, run: RunInfo) -> tuple[str, ...]:
        outcomes, runs = schema.outcomes.c, schema.runs.c
        is_later = (runs.id == outcomes.run_id) & (runs.started_at > run.started_at)
        query = select(runs.id).where(
            is_later, outcomes.machine == machine, outcomes.updates_installed > 0, runs.kind != SHARD_KIND
        )
        with self._database.begin_read("look for later runs") as connection:
            return tuple(connection.execute(query.order_by(runs.started_at)).scalars())

    def prune(self, before: datetime) -> None:
        """Forget snapshots that are gone, and were last seen before a time. One that may exist is never forgotten."""
        is_over = snapshots.c.state.not_in(_OPEN)
        with self._database.begin_write("forget old snapshots") as connection:
            connection.execute(delete(snapshots).where(is_over, snapshots.c.changed_at < before))

    def _read(self, query: Select[Any]) -> tuple[SnapshotRow, ...]:
        with self._database.begin_read("read the snapshots") as connection:
            return tuple(_build_row(row) for row in connection.execute(query).mappings())


def _build_row(row: Any) -> SnapshotRow:  # noqa: ANN401 - a mapping of the database
    values = {name: row[name] for name in _COLUMNS}
    return SnapshotRow(
        **{**values, "state": SnapshotState(values["state"]), "consistency": Consistency(values["consistency"])}
    )
