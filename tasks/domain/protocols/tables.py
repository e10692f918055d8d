"""Tables of the records as rows of plain values, for programs that compute with them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from tasks.domain.rows import ColumnKind, list_kinds
from tasks.domain.rows.machines import MachineRow
from tasks.domain.rows.updates import RecordedUpdateRow, UpdateCveRow

Columns = Mapping[str, ColumnKind]

TABLES: Final[Mapping[str, Columns]] = {
    "machines": list_kinds(MachineRow),
    "updates": list_kinds(RecordedUpdateRow),
    "update_cves": list_kinds(UpdateCveRow),
    "runs": {
        "id": "text",
        "kind": "text",
        "state": "text",
        "scope": "text",
        "configuration": "text",
        "started_by": "text",
        "started_at": "time",
        "ended_at": "time",
        "window_start": "time",
        "window_end": "time",
        "flow_run_id": "text",
        "message": "text",
    },
    "outcomes": {
        "run_id": "text",
        "machine": "text",
        "state": "text",
        "reason": "text",
        "reboot": "text",
        "wave": "integer",
        "started_at": "time",
        "ended_at": "time",
        "window_exceeded_seconds": "number",
        "updates_installed": "integer",
        "updates_failed": "integer",
        "updates_pending": "integer",
        "updates_setup_failed": "integer",
        "updates_blocked": "integer",
        "updates_excluded": "integer",
        "updates_not_selected": "integer",
        "error_kind": "text",
    },
    "update_results": {
        "run_id": "text",
        "machine": "text",
        "update_id": "text",
        "name": "text",
        "arch": "text",
        "classification": "text",
        "state": "text",
        "reason": "text",
        "installed": "text",
        "available": "text",
        "version_after": "text",
        "kb": "text",
    },
    "windows": {
        "configuration": "text",
        "starts_at": "time",
        "run_id": "text",
        "what": "text",
        "reason": "text",
        "recorded_at": "time",
    },
    "machine_days": {
        "day": "time",
        "machine": "text",
        "compliance": "text",
        "critical": "integer",
        "security": "integer",
        "other": "integer",
        "reboot": "text",
    },
    "assignments": {"machine": "text", "configuration": "text"},
}
"""The tables that can be queried, and their columns. The names are part of the public interface."""

Batch = Sequence[Sequence[Any]]
"""Rows of a table, with their values in the order of its columns."""


class TableSource(Protocol):
    """Reads whole tables."""

    def read_table(self, name: str) -> Iterable[Batch]:
        """Return the rows of a table, in batches.

        Args:
            name: a key of ``TABLES``.

        Raises:
            RecordsError: the records can't be read.
        """
        ...
