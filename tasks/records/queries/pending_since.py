"""Reads since when machines lack updates, whatever became of newer versions of them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from tasks.records.schema import assessment_updates
from tasks.records.statements import iterate_batches
from tasks.records.storage.column_types import to_index_key
from tasks.records.storage.database import Database


def read_pending_since(database: Database, machines: Sequence[str]) -> dict[tuple[str, str], datetime]:
    """Return when an assessment first saw each pending update of these machines, by machine and name."""
    table = assessment_updates
    since: dict[tuple[str, str], datetime] = {}
    name_by_key = {to_index_key(name): name for name in machines}
    with database.begin_read("read since when updates are pending") as connection:
        for names in iterate_batches(list(name_by_key)):
            query = (
                select(table.c.machine, table.c.name, func.min(table.c.since))
                .where(table.c.machine.in_(names), table.c.since.is_not(None))
                .group_by(table.c.machine, table.c.name)
            )
            rows = connection.execute(query).tuples()
            since.update(((name_by_key[machine], name), at) for machine, name, at in rows)
    return since
