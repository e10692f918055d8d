"""Deletes what runs have left at the providers of machines: snapshots whose time is over, and copies of rehearsals."""

from collections.abc import Callable

from flows.ports.caller import Caller
from flows.rehearsal_copies import delete_left_copies
from flows.snapshots import DeletionState, Handled, delete_expired_snapshots, open_snapshots
from inventory.machine import DEFAULT_SITE
from inventory.sites import find_site
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import SystemClock
from tasks.records.queries.copies import find_left_copies
from tasks.records.setup import open_records


def delete_leftovers(caller: Caller, tell: Callable[[str], None]) -> bool:
    """Delete what is left, and tell what became of each. Return whether nothing failed.

    What failed is tried again at the next call. At another site than the default one, nothing is done: there is one
    list of all machines' snapshots, and its providers may be reached from the default site only.
    """
    if find_site() != DEFAULT_SITE:
        return True
    results = [
        _delete(caller, tell, "snapshot", delete_expired_snapshots),
        _delete(caller, tell, "copy", delete_left_copies),
    ]
    return all(results)


def _delete(
    caller: Caller, tell: Callable[[str], None], noun: str, delete: Callable[[Caller], tuple[Handled, ...]]
) -> bool:
    try:
        deletions = delete(caller)
    except FleetpatchError as error:
        tell(f"no {noun} could be deleted: {error.message}")
        return False
    for deletion in deletions:
        reason = f": {deletion.message}" if deletion.message else ""
        tell(f"{deletion.machine}: {noun} {deletion.id}: {deletion.state}{reason}")
    return all(deletion.state is not DeletionState.FAILED for deletion in deletions)


def tell_leftovers(caller: Caller, tell: Callable[[str], None]) -> None:
    """Tell what ``delete_leftovers`` would delete. Raise RecordsError if the records can't be read."""
    if find_site() != DEFAULT_SITE:
        return
    with open_records(caller.records_url) as records:
        for row in open_snapshots(records).find_expired(SystemClock().now()):
            tell(f"{row.machine}: snapshot {row.snapshot}: would be deleted")
        for copy in find_left_copies(records.database):
            tell(f"{copy.machine}: copy {copy.id}: would be deleted")
