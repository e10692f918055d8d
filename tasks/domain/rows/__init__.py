"""The rows that people and programs read: each column is described once. See ``columns`` for how."""

from tasks.domain.rows.columns import Column, ColumnKind, ColumnUnit, Field, list_fields, row

__all__ = ["Column", "ColumnKind", "ColumnUnit", "Field", "list_fields", "row"]
