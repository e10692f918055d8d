"""Prints the upgrades of a group of images, and builds their JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped
from fleetpatch.cli.runtime.row_table import Shown, build_row_table
from flows.images.kept_disks import ExpiredDisk
from tasks.domain.images import KeptDiskState
from tasks.domain.rows.images import ImageUpgradeRow
from tasks.reports.export.tabular_formats import build_row_json

if TYPE_CHECKING:  # it loads an HTTP client
    from flows.images.fetching import FetchOrder, FoundImage, HostResult

_COLUMNS: Final = (
    "run_id",
    "state",
    "version",
    "successful",
    "failed",
    "in_progress",
    "pending",
    "started_by",
    "started_at",
    Shown("components", limit=300, wraps=True),
    Shown("message", limit=300, wraps=True),
)
_WORDS: Final = {
    KeptDiskState.DELETED: "was deleted",
    KeptDiskState.KEPT: "is still kept",
    KeptDiskState.WAY_BACK: "is kept",
    KeptDiskState.NOT_FOUND: "was not found",
    KeptDiskState.UNREAD: "is not known to be there or not",
}


def build_history_json(rows: Sequence[ImageUpgradeRow]) -> dict[str, object]:
    """Return the upgrades as JSON data."""
    return {"upgrades": [build_row_json(row) for row in rows]}


def build_disks_json(disks: Sequence[ExpiredDisk]) -> dict[str, object]:
    """Return what became of replaced OS disks as JSON data."""
    return {
        "disks": [
            {
                "machineName": disk.machine,
                "maintenanceRunId": disk.run_id,
                "diskId": disk.order_id,
                "state": disk.state.value,
                "deleted": disk.state is KeptDiskState.DELETED,
                "message": disk.problem or None,
            }
            for disk in disks
        ]
    }


def print_disks(disks: Sequence[ExpiredDisk]) -> None:
    """Print what became of replaced OS disks, a line each."""
    if not disks:
        print_to_stdout("No replaced OS disk is due.")
    for disk in disks:
        print_to_stdout(f"{disk.machine}: {disk.order_id} {_WORDS[disk.state]}{disk.problem and f': {disk.problem}'}")


def build_fetch_json(order: "FetchOrder", found: "FoundImage", results: "Sequence[HostResult]") -> dict[str, object]:
    """Return an image of a publisher, and what became of it on hosts, as JSON data."""
    hosts = [{"machineName": one.host, "state": one.state, "message": one.message or None} for one in results]
    image = {"version": found.version, "name": found.name, "digest": found.digest, "url": found.url}
    return {**image, "bytes": found.size, "isSignatureChecked": order.index.keyring is not None, "hosts": hosts}


def print_fetch(order: "FetchOrder", found: "FoundImage", results: "Sequence[HostResult]") -> None:
    """Print an image of a publisher, and what became of it on hosts."""
    signed = "its list has a good signature" if order.index.keyring else "nobody's signature was checked: no `keyring`"
    print_unwrapped(f"{found.version}: {found.name}, {found.size} bytes, {found.digest}; {signed}")
    for result in results:
        print_unwrapped(f"{result.host}: {result.state}{result.message and f': {result.message}'}")


def print_history(rows: Sequence[ImageUpgradeRow]) -> None:
    """Print the upgrades as a table, the newest first."""
    if not rows:
        print_to_stdout("No run has upgraded this group in the last two months.")
        return
    print_to_stdout(build_row_table(ImageUpgradeRow, rows, _COLUMNS))
