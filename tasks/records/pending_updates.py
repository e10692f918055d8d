"""Keeps the pending updates of each machine, by its newest assessment with an answer, and since when they are pending.

"Since" is the first assessment that saw an update of this name, without an answer in between that did not: a newer
version of the same update does not change it, and it does not depend on automatic patching.
"""

from functools import cache

from sqlalchemy import Connection, Select, bindparam, insert, select

from tasks.domain.model import Assessment
from tasks.records import schema, statements
from tasks.records.encoding import rows
from tasks.records.storage.column_types import to_index_key

_PENDING = schema.assessment_updates


def replace_pending_updates(connection: Connection, assessment: Assessment, number: int) -> None:
    """Replace the pending updates of a machine.

    Args:
        connection: a connection in a transaction, with the lock of the machine's assessments.
        assessment: the machine's newest assessment with an answer.
        number: the number of its row.
    """
    of_machine = {"of": assessment.machine}
    since_by_name = dict(connection.execute(_build_since_query(), of_machine).tuples().all())
    connection.execute(statements.build_delete(_PENDING.c.machine), of_machine)
    update_rows = rows.build_pending_update_rows(assessment, number)
    for row in update_rows:
        row["since"] = since_by_name.get(to_index_key(row["name"])) or assessment.at
    if update_rows:
        connection.execute(insert(_PENDING), update_rows)


@cache
def _build_since_query() -> Select[tuple[str, object]]:
    return select(_PENDING.c.name, _PENDING.c.since).where(_PENDING.c.machine == bindparam("of"))
