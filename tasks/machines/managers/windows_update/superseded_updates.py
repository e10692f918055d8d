"""Which pending updates another pending update stands in for. Pure.

By default, the Windows Update Agent leaves out what another update of the same search supersedes, whoever may install
that one: https://learn.microsoft.com/windows/win32/api/wuapi/nf-wuapi-iupdatesearcher-get_includepotentiallysupersededupdates
A preview that nobody selects would hide the security update of the month. So the scripts ask for all of them, and this
module decides which ones are left out.
"""

from collections.abc import Iterable, Mapping, Set

from tasks.machines.managers.windows_update.classifications import rank_classification
from tasks.machines.managers.windows_update.records import OfferedUpdate


def drop_superseded(updates: Iterable[OfferedUpdate]) -> tuple[OfferedUpdate, ...]:
    """Return the updates for which no other one stands in.

    One stands in for those that it supersedes, directly or by others between them, if it is installed and waits for a
    reboot, or if a usual run installs it: its class is theirs or a more urgent one, it is not hidden, it asks nobody,
    and it is no preview, no driver and no upgrade.

    Args:
        updates: all that is offered or waits for a reboot.
    """
    updates_by_id = {update.id: update for update in updates}
    direct = {
        update_id: frozenset(map(str.lower, update.superseded)) & updates_by_id.keys()
        for update_id, update in updates_by_id.items()
    }
    older = {update_id: _find_all_older(update_id, direct) for update_id in updates_by_id}
    replaced = {
        old
        for newer, update in updates_by_id.items()
        for old in older[newer]
        if newer not in older[old] and _stands_in(update, updates_by_id[old])  # of a circle, all are kept
    }
    return tuple(update for update in updates_by_id.values() if update.id not in replaced)


def _find_all_older(newest: str, direct: Mapping[str, Set[str]]) -> Set[str]:
    older: set[str] = set()
    unread = [newest]
    while unread:
        fresh = direct[unread.pop()] - older
        older |= fresh
        unread += fresh
    return older


def _stands_in(newer: OfferedUpdate, older: OfferedUpdate) -> bool:
    if older.reboot_required or newer.reboot_required:
        return not older.reboot_required
    if newer.hidden or newer.user_input or newer.optional:
        return False
    return rank_classification(newer.classification) <= rank_classification(older.classification)
