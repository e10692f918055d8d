"""Conditions about the runs of shards: what belongs to a whole run, and what is counted there already."""

from typing import Any

from sqlalchemy import ColumnElement, or_, select

from tasks.domain.model import SHARD_KIND
from tasks.records import schema
from tasks.records.statements import select_shard_ids


def is_of_whole_run(run_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a row is not of a shard's run: the whole run has the same result."""
    runs = schema.runs
    return ~select(runs.c.id).where(runs.c.id == run_id, runs.c.kind == SHARD_KIND).exists()


def belongs_to_run(column: ColumnElement[Any], run_id: str) -> ColumnElement[bool]:
    """Return the condition that a row is of a run or of one of its shards."""
    return or_(column == run_id, column.in_(select_shard_ids(run_id)))
