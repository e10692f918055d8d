"""Counts the results of updates in a run, by update."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from tasks.records import schema
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class UpdateResultCounts:
    """How many machines have each state of an update in a run."""

    installed: int = 0
    failed: int = 0
    other: int = 0


def count_update_results(database: Database, run_id: str) -> Mapping[tuple[str, str], UpdateResultCounts]:
    """Return the counts of a run by name and available version of updates.

    Raises:
        RecordsError: the records can't be read.
    """
    table, of_run = schema.update_results, schema.outcomes
    query = (
        select(table.c.name, table.c.available, table.c.state, func.count())
        .select_from(table.join(of_run, of_run.c.number == table.c.outcome))
        .where(of_run.c.run_id == run_id)
        .group_by(table.c.name, table.c.available, table.c.state)
    )
    found: dict[tuple[str, str], list[int]] = {}
    with database.begin_read("count the updates of a run") as connection:
        for name, available, state, number in connection.execute(query).tuples():
            counts = found.setdefault((name, available), [0, 0, 0])
            counts[0 if state in {"Installed", "Repaired"} else 1 if state == "Failed" else 2] += number
    return {key: UpdateResultCounts(*counts) for key, counts in found.items()}
