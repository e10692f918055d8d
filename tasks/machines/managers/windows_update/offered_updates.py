"""Which of the offered Windows updates others stand in for, and the order in which they are installed. Pure.

By default, the Windows Update Agent leaves out what another update of the same search supersedes, whoever may install
that one: https://learn.microsoft.com/windows/win32/api/wuapi/nf-wuapi-iupdatesearcher-get_includepotentiallysupersededupdates
A preview that nobody selects would hide the security update of the month. So the scripts ask for all of them, and this
module decides which ones are left out.

The servicing stack is first: other updates may need the new one. Then come updates that must be installed alone. The
cumulative update of the system is last: after it, Windows may refuse to install anything before the reboot.
The agent installs each update by itself, in a transaction of its own. The planner keeps this order among updates of the
same urgency that both need a reboot, or both do not.
"""

import re
from collections.abc import Iterable, Mapping, Set
from enum import IntEnum
from typing import Final

from tasks.machines.managers.windows_update.records import OfferedUpdate, rank_classification

EXCLUSIVE_IMPACT: Final = 2
_STACK_PATTERN: Final = re.compile(r"\bservicing stack update\b", re.IGNORECASE)
_CUMULATIVE_PATTERN: Final = re.compile(r"\bcumulative update (?:preview )?for (?!.*\.net)", re.IGNORECASE)
_BUILD_PATTERN: Final = re.compile(r"\(KB\d+\)\s*\(\d{5}\.\d{1,6}\)\s*$", re.IGNORECASE)
"""Since late 2025, titles end with the build that results: "2025-11 Security Update (KB5068861) (26200.7171)"."""
_OTHERS_WITH_BUILD_PATTERN: Final = re.compile(r"\.net\b|\bdynamic update\b|\bdriver\b|\bcomponent\b", re.IGNORECASE)
_HOTPATCH_PATTERN: Final = re.compile(r"\bhotpatch\b", re.IGNORECASE)


class Place(IntEnum):
    """The place of an update in the order."""

    SERVICING_STACK = 0
    ALONE = 1
    USUAL = 2
    MAY_REBOOT = 3
    CUMULATIVE = 4


def is_servicing_stack(update: OfferedUpdate) -> bool:
    """Return whether it replaces what installs updates. It is known by its English title only."""
    return bool(_STACK_PATTERN.search(update.title)) and not is_cumulative(update)


def is_cumulative(update: OfferedUpdate) -> bool:
    """Return whether it is the cumulative update of the system, which needs a reboot. A hotpatch is not."""
    return is_cumulative_title(update.title)


def is_cumulative_title(title: str) -> bool:
    """Return whether a title is that of the cumulative update of the system."""
    leads_to_build = _BUILD_PATTERN.search(title) and not (
        _STACK_PATTERN.search(title) or _OTHERS_WITH_BUILD_PATTERN.search(title)
    )
    return bool(_CUMULATIVE_PATTERN.search(title) or leads_to_build) and not is_hotpatch(title)


def is_hotpatch(title: str) -> bool:
    """Return whether a title is that of a hotpatch, which changes the running system without a reboot."""
    return bool(_HOTPATCH_PATTERN.search(title))


def find_place(update: OfferedUpdate) -> Place:
    """Return the place of an update."""
    if is_servicing_stack(update):
        return Place.SERVICING_STACK
    if is_cumulative(update):
        return Place.CUMULATIVE
    if update.impact == EXCLUSIVE_IMPACT:
        return Place.ALONE
    return Place.MAY_REBOOT if update.reboot_behavior else Place.USUAL


def order_updates(updates: Iterable[OfferedUpdate]) -> tuple[OfferedUpdate, ...]:
    """Return the updates in the order of installation.

    Of those that may reboot, the largest is last: in other languages, titles do not show the cumulative update.
    """
    return tuple(sorted(updates, key=_rank))


def _rank(update: OfferedUpdate) -> tuple[int, int, str, str]:
    position = find_place(update)
    size = (update.max_bytes or 0) if position is Place.MAY_REBOOT else 0
    return position, size, update.name, update.id


def drop_superseded(updates: Iterable[OfferedUpdate]) -> tuple[OfferedUpdate, ...]:
    """Return the updates for which no other one stands in.

    One stands in for those that it supersedes, directly or by others between them, if it is installed and waits for a
    reboot, or if a usual run installs it: its class is theirs or a more urgent one, it is not hidden, it asks nobody,
    and it is no preview, no driver and no upgrade. ``updates`` is all that is offered or waits for a reboot.
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
