"""What stays although records are restored: decisions and entries of the audit log that are newer than the backup.

Both are chains to which entries are only added. Where the backup has the beginning of the present chain, the rest is
put behind it. So a token that was removed since stays removed, a rollout that was cancelled stays cancelled, and the
audit log has no gap.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, func, insert, inspect, select

from inventory.data_class import dataclass
from tasks.records import page_schema, schema

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Carried:
    """What was put behind the restored chains."""

    # How many decisions; None: the present chain does not go on from that of the backup, or is not there.
    decisions: int | None = None
    audit_entries: int | None = None  # the same of the audit log


def carry_chains(old: Connection, new: Connection, old_schema: str | None = None) -> Carried:
    """Put what the replaced chains have behind the restored ones.

    Args:
        old: a connection to the replaced records.
        new: one to the restored records, in a transaction.
        old_schema: the schema of the replaced records; None: that of the connection.
    """

    def read(table: Table, *where: Any) -> Sequence[Mapping[str, Any]]:  # noqa: ANN401 - SQLAlchemy's conditions
        query = select(table).where(*where).order_by(table.c.number)
        options = {"schema_translate_map": {None: old_schema}}
        return [dict(row) for row in old.execute(query, execution_options=options).mappings()]

    there = set(inspect(old).get_table_names(old_schema))

    def is_alike(table: Table) -> bool:
        if table.name not in there:
            return False
        columns = {column["name"] for column in inspect(old).get_columns(table.name, old_schema)}
        return columns == {column.name for column in table.columns}

    return Carried(
        _carry_decisions(read, new) if is_alike(schema.decisions) else None,
        _carry_audit_log(read, new) if is_alike(page_schema.audit_log) else None,
    )


_Reader = Callable[..., Sequence[Mapping[str, Any]]]


def _carry_decisions(read: _Reader, new: Connection) -> int | None:
    table = schema.decisions
    newest = select(table.c.key_id, func.max(table.c.number)).group_by(table.c.key_id)
    ends: dict[str, int] = dict(new.execute(newest).tuples().all())
    added: list[Mapping[str, Any]] = []
    for key_id in {row["key_id"] for row in read(table)} | set(ends):
        end = ends.get(key_id, 0)
        if end and not _is_same(read, new, table, and_(table.c.key_id == key_id, table.c.number == end)):
            return None
        added += read(table, table.c.key_id == key_id, table.c.number > end)
    _insert(new, table, added)
    return len(added)


def _carry_audit_log(read: _Reader, new: Connection) -> int | None:
    table = page_schema.audit_log
    end = new.execute(select(func.max(table.c.number))).scalar() or 0
    if end and not _is_same(read, new, table, table.c.number == end):
        return None
    added = read(table, table.c.number > end)
    _insert(new, table, added)
    if added and new.dialect.name == "postgresql":
        column = func.pg_get_serial_sequence(table.name, "number")
        new.execute(select(func.setval(column, added[-1]["number"])))
    return len(added)


def _is_same(read: _Reader, new: Connection, table: Table, where: Any) -> bool:  # noqa: ANN401 - SQLAlchemy's conditions
    """Return whether both have the same entry there: all before it are the same then."""
    before = [row["seal"] for row in read(table, where)]
    return before == list(new.execute(select(table.c.seal).where(where)).scalars())


def _insert(new: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(rows), _BATCH):
        new.execute(insert(table), list(rows[start : start + _BATCH]))
