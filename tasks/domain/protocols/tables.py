"""Tables of the records as rows of plain values, for programs that compute with them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from tasks.domain.rows import ColumnKind, list_kinds
from tasks.domain.rows.components import ComponentRow
from tasks.domain.rows.images import MachineImageUpgradeRow
from tasks.domain.rows.machines import AssignmentRow, MachineDayRow, MachineRow
from tasks.domain.rows.maintenance import HeldPackageRow
from tasks.domain.rows.runs import OutcomeRow, RunRow, UpdateResultRow
from tasks.domain.rows.scheduled_events import ScheduledEventRow
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.rows.updates import RecordedUpdateRow, UpdateCveRow
from tasks.domain.rows.windows import RecordedWindowRow

Columns = Mapping[str, ColumnKind]

TABLES: Final[Mapping[str, Columns]] = {
    "machines": list_kinds(MachineRow),
    "updates": list_kinds(RecordedUpdateRow),
    "update_cves": list_kinds(UpdateCveRow),
    "runs": list_kinds(RunRow),
    "outcomes": list_kinds(OutcomeRow),
    "update_results": list_kinds(UpdateResultRow),
    "windows": list_kinds(RecordedWindowRow),
    "machine_days": list_kinds(MachineDayRow),
    "scheduled_events": list_kinds(ScheduledEventRow),
    "assignments": list_kinds(AssignmentRow),
    "components": list_kinds(ComponentRow),
    "held_packages": list_kinds(HeldPackageRow),
    "snapshots": list_kinds(SnapshotRow),
    "image_upgrades": list_kinds(MachineImageUpgradeRow),
}
"""The tables that can be queried, and their columns. The names are part of the public interface."""

Batch = Sequence[Sequence[Any]]
"""Rows of a table, with their values in the order of its columns."""


class TableSource(Protocol):
    """Reads whole tables."""

    def read_table(self, name: str) -> Iterable[Batch]:
        """Return the rows of a table (a key of ``TABLES``), in batches.

        Raises:
            RecordsError: the records can't be read.
        """
