"""Reads the states of runs by their ids."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.storage.database import Database


def read_run_states(database: Database, runs: Sequence[str]) -> Mapping[str, OperationState]:
    """Return the state of each of these runs that the records have.

    Raises:
        RecordsError: they can't be read.
    """
    table = schema.runs.c
    with database.begin_read("read the states of runs") as connection:
        rows = connection.execute(select(table.id, table.state).where(table.id.in_(runs))).tuples()
        return {run: OperationState(state) for run, state in rows}
