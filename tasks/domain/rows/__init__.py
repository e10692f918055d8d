"""The rows that people and programs read: each column is described once. See ``columns`` for how."""

from tasks.domain.rows.columns import (
    Column,
    ColumnKind,
    ColumnUnit,
    Field,
    copy_row,
    iterate_flat_fields,
    list_fields,
    list_kinds,
    read_columns,
    row,
)

__all__ = [
    "Column",
    "ColumnKind",
    "ColumnUnit",
    "Field",
    "copy_row",
    "iterate_flat_fields",
    "list_fields",
    "list_kinds",
    "read_columns",
    "row",
]
