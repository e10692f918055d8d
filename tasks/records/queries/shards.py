"""Conditions about the runs of shards: what belongs to a whole run, and what is counted there already."""

from typing import Any

from sqlalchemy import ColumnElement, or_, select

from tasks.domain.model import SHARD_KIND
from tasks.domain.protocols.records import SHARD_ACT
from tasks.records import schema


def is_of_whole_run(run_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a row is not of a shard's run: the whole run has the same result."""
    runs = schema.runs
    return ~select(runs.c.id).where(runs.c.id == run_id, runs.c.kind == SHARD_KIND).exists()


def belongs_to_run(column: ColumnElement[Any], run_id: str) -> ColumnElement[bool]:
    """Return the condition that a row is of a run or of one of its shards."""
    journal = schema.journal
    shards = select(journal.c.key).where(
        journal.c.run_id == run_id, journal.c.machine == "", journal.c.act == SHARD_ACT
    )
    return or_(column == run_id, column.in_(shards))
