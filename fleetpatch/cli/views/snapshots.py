"""Shows snapshots of machines, and what became of those that were deleted: as tables or JSON."""

from collections.abc import Sequence
from typing import Final

from fleetpatch.cli.runtime.output import print_json, print_to_stdout, print_unwrapped
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table, build_row_table
from flows.snapshots import Handled, SeenSnapshot
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.reports.formatting import format_second_utc, format_size

_SEEN: Final[Sequence[Fact[SeenSnapshot]]] = (
    Fact("machineName", lambda seen: seen.machine, "machine"),
    Fact("snapshotId", lambda seen: seen.id or None, "snapshot"),
    Fact("status", lambda seen: seen.standing, "state"),
    Fact("takenDateTime", lambda seen: seen.taken_at, "taken", lambda seen: format_second_utc(seen.taken_at)),
    Fact(
        "expirationDateTime",
        lambda seen: seen.row.expires_at if seen.row else None,
        "expires",
        lambda seen: format_second_utc(seen.row.expires_at if seen.row else None),
    ),
    Fact("usedBytes", lambda seen: seen.used_bytes, "size", lambda seen: format_size(seen.used_bytes)),
    Fact("assessmentActivityId", lambda seen: seen.row.run_id if seen.row else None, "run"),
    Fact("message", lambda seen: seen.message or (seen.row.note if seen.row else "") or None, "message", wraps=True),
    Fact("remedy", lambda seen: seen.remedy or None),
)
_RESULTS: Final[Sequence[Fact[Handled]]] = (
    Fact("machineName", lambda result: result.machine, "machine"),
    Fact("snapshotId", lambda result: result.id or None, "snapshot"),
    Fact("status", lambda result: result.state, "state"),
    Fact(
        "message",
        lambda result: result.message or None,
        "message",
        lambda result: _split(result)[0] or None,
        wraps=True,
    ),
)


def build_snapshots_json(seen: Sequence[SeenSnapshot]) -> dict[str, object]:
    """Return snapshots as JSON data."""
    return {"snapshots": build_list_json(_SEEN, seen)}


def print_snapshots(seen: Sequence[SeenSnapshot]) -> None:
    """Print the snapshots of machines."""
    print_to_stdout(build_list_table(_SEEN, seen) if seen else "No machine has a snapshot.")
    for snapshot in seen:
        if snapshot.remedy:
            for line in (f"{snapshot.machine}: {snapshot.message}", *snapshot.remedy.splitlines()):
                print_unwrapped(line)


def print_rows(rows: Sequence[SnapshotRow]) -> None:
    """Print what the records have of snapshots."""
    columns = ["machine", "snapshot", "state", "ordered_at", "expires_at", "used_bytes", "note"]
    print_to_stdout(
        build_row_table(SnapshotRow, rows, columns) if rows else "There is no such snapshot in the records."
    )


def print_results(results: Sequence[Handled], *, as_json: bool) -> None:
    """Print what became of snapshots."""
    if as_json:
        print_json({"snapshots": build_list_json(_RESULTS, results)})
    else:
        print_to_stdout(build_list_table(_RESULTS, results) if results else "There is nothing to do.")
        for line in (line for result in results for line in _split(result)[1:]):
            print_unwrapped(line)


def _split(result: Handled) -> Sequence[str]:
    """Return what happened, and the lines of the way back, if there are any: a table would break its commands."""
    return result.message.splitlines() or [""]
