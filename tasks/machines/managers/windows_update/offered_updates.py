"""What the Windows Update Agent offers: classes of updates, which ones others stand in for, and their order. Pure.

By default, the Windows Update Agent leaves out what another update of the same search supersedes, whoever may install
that one: https://learn.microsoft.com/windows/win32/api/wuapi/nf-wuapi-iupdatesearcher-get_includepotentiallysupersededupdates
A preview that nobody selects would hide the security update of the month. So the scripts ask for all of them, and this
module decides which ones are left out.

The servicing stack is first: other updates may need the new one. Then come updates that must be installed alone. The
cumulative update of the system is last: after it, Windows may refuse to install anything before the reboot.
The agent installs each update by itself, in a transaction of its own. The planner keeps this order among updates of the
same urgency that both need a reboot, or both do not.

The ids of the categories are the same in every language of Windows. Their names are not, so nothing here reads names.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Set
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from pydantic import Field

from tasks.domain.states import Classification
from tasks.machines.managers.windows_update.records import Count, Epoch, Guid, Record, Size, Text, Texts

UPGRADE_CATEGORY: Final = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5"
UPGRADE_REASON: Final = (
    "fleetpatch does not install upgrades to another version of Windows: the reboot would undo them without "
    "IUpdateInstaller4.Commit, which scripts can't call on every Windows"
)
"""Why an upgrade is not installed. Microsoft requires that call just before the reboot, once. PowerShell reaches COM
objects by name, and whether the agent offers that name differs."""

_DRIVER_CATEGORY: Final = "ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0"
_CLASSIFICATIONS: Final[Mapping[str, Classification]] = {
    "e6cf1350-c01b-414d-a61f-263d14d133b4": Classification.CRITICAL,
    "0fa1201d-4330-4fa8-8ae9-b877473b6441": Classification.SECURITY,
    "28bc880e-0592-4cbf-8f95-c79b17911d5f": Classification.UPDATE_ROLLUP,
    "68c5b0a3-d1a6-4553-ae49-01d3a7827828": Classification.SERVICE_PACK,
    "b54e7d24-7add-428f-8b75-90a396fa584f": Classification.FEATURE_PACK,
    "e0789628-ce08-4437-be74-2495b842f43b": Classification.DEFINITION,
    "b4832bd8-e735-4761-8daf-37f882276dab": Classification.TOOLS,
    "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83": Classification.UPDATES,
    UPGRADE_CATEGORY: Classification.OTHER,
    _DRIVER_CATEGORY: Classification.OTHER,
    "e140075d-8433-45c3-ad87-e72345b36078": Classification.OTHER,  # developer kits
}
"""The most urgent first: an update in several classes has the first of them."""
_URGENCY: Final = tuple(dict.fromkeys((*_CLASSIFICATIONS.values(), Classification.UNCLASSIFIED)))
_MAX_BELIEVED_BYTES: Final = 5 * 2**30
"""The largest download of an update that is believed."""
_DRIVER_TYPE: Final = 2
_EXCLUSIVE_IMPACT: Final = 2
_STACK_PATTERN: Final = re.compile(r"\bservicing stack update\b", re.IGNORECASE)
_CUMULATIVE_PATTERN: Final = re.compile(
    r"(?<!dynamic )\bcumulative update (?:preview )?for (?:windows|microsoft server|azure)\b(?!.*\.net)", re.IGNORECASE
)
"""Edge, .NET and the setup of Windows ("Dynamic Cumulative Update") have cumulative updates of their own."""
_BUILD_PATTERN: Final = re.compile(r"\(KB\d+\)\s*\((\d{4,5})\.(\d{1,6})\)\s*$", re.IGNORECASE)
"""Since late 2025, titles end with the build that results: "2025-11 Security Update (KB5068861) (26200.7171)"."""
_OTHERS_WITH_BUILD_PATTERN: Final = re.compile(r"\.net\b|\bdynamic update\b|\bdriver\b|\bcomponent\b", re.IGNORECASE)
_HOTPATCH_PATTERN: Final = re.compile(r"\bhotpatch\b", re.IGNORECASE)


class OfferedUpdate(Record):
    """An update that the agent knows: record "update"."""

    id: Guid
    revision: Count
    title: Text = ""
    kbs: Texts = Field(default=[])  # numbers of its articles, without "KB"
    categories: Texts = Field(default=[])
    severity: Text = ""
    cves: Texts = Field(default=[])
    bulletins: Texts = Field(default=[])
    superseded: Texts = Field(default=[])
    type: int = 1  # 1 software, 2 driver
    installed: bool = False
    hidden: bool = False  # an administrator has hidden it
    downloaded: bool = False
    browse_only: bool = False  # its publisher offers it only to those who look for it: previews, optional updates
    reboot_required: bool = False  # it is installed, and a reboot completes it
    eula_accepted: bool = True
    max_bytes: Size = None
    published: Epoch = None  # seconds since the epoch
    impact: int | None = None  # 0 normal, 1 minor, 2 it must be installed alone; None when unknown
    reboot_behavior: int | None = None  # 0 never reboots, 1 always, 2 can ask for it; None when unknown
    user_input: bool | None = None
    deadline: Epoch = None  # its server's: from then on Windows installs it by itself, and restarts

    @property
    def version(self) -> str:
        """Its revision, as ``Update.available`` has it."""
        return format_update_revision(self.revision)

    @property
    def name(self) -> str:
        """The numbers of its articles, or its title when it has none."""
        numbers = [number.upper().removeprefix("KB") for number in self.kbs[:5]]
        return "+".join(f"KB{number}" for number in numbers if number.isalnum()) or self.title or self.id

    @property
    def category_ids(self) -> frozenset[str]:
        """The ids of its categories, in lower case without braces."""
        return frozenset(category.strip("{}").lower() for category in self.categories)

    @property
    def classification(self) -> Classification:
        """The most urgent class of its categories; UNCLASSIFIED if none of them is a class."""
        category_ids = self.category_ids
        classes = (value for category, value in _CLASSIFICATIONS.items() if category in category_ids)
        return next(classes, Classification.UNCLASSIFIED)

    @property
    def is_upgrade(self) -> bool:
        """Whether it installs another version of Windows."""
        return UPGRADE_CATEGORY in self.category_ids

    @property
    def is_driver(self) -> bool:
        """Whether it is a driver."""
        return self.type == _DRIVER_TYPE or _DRIVER_CATEGORY in self.category_ids

    @property
    def optional(self) -> str:
        """Why only an include mask selects it: it is a driver, an upgrade or a preview. "" otherwise."""
        if self.is_driver:
            return "a driver"
        if self.is_upgrade:
            return "an upgrade to another version of Windows"
        return "an optional update or a preview" if self.browse_only else ""

    @property
    def download_bytes(self) -> int | None:
        """The size of its download at most; None when unknown.

        For a cumulative update, many systems add up all files of all languages and earlier versions: 22 GB for one of
        4 GB. Such a number says nothing about time or room.
        """
        return None if self.max_bytes is None or self.max_bytes > _MAX_BELIEVED_BYTES else self.max_bytes

    @property
    def published_at(self) -> datetime | None:
        """When it was published, or last changed by its publisher."""
        return datetime.fromtimestamp(self.published, UTC) if self.published else None

    @property
    def deadline_at(self) -> datetime | None:
        """From when on Windows installs it by itself, and restarts; None: its server does not say that."""
        return datetime.fromtimestamp(self.deadline, UTC) if self.deadline else None

    @property
    def is_servicing_stack(self) -> bool:
        """Whether it replaces what installs updates. It is known by its English title only."""
        return bool(_STACK_PATTERN.search(self.title)) and not is_cumulative_title(self.title)


def format_update_revision(revision: int) -> str:
    """Return the version of an update: "rev 200"."""
    return f"rev {revision}"


def is_cumulative_title(title: str) -> bool:
    """Return whether a title is that of the system's cumulative update, which needs a reboot. A hotpatch is not."""
    leads_to_build = _BUILD_PATTERN.search(title) and not (
        _STACK_PATTERN.search(title) or _OTHERS_WITH_BUILD_PATTERN.search(title)
    )
    return bool(_CUMULATIVE_PATTERN.search(title) or leads_to_build) and not is_hotpatch_title(title)


def find_title_build(title: str) -> tuple[int, int]:
    """Return the build and its revision (UBR) to which the cumulative update of a title leads; zeros: it tells none."""
    build = _BUILD_PATTERN.search(title) if is_cumulative_title(title) else None
    return (int(build[1]), int(build[2])) if build else (0, 0)


def is_hotpatch_title(title: str) -> bool:
    """Return whether a title is that of a hotpatch, which changes the running system without a reboot."""
    return bool(_HOTPATCH_PATTERN.search(title))


class _Place(IntEnum):
    """The place of an update in the order of installation."""

    SERVICING_STACK = 0
    ALONE = 1
    USUAL = 2
    MAY_REBOOT = 3
    CUMULATIVE = 4


def order_updates(updates: Iterable[OfferedUpdate]) -> tuple[OfferedUpdate, ...]:
    """Return the updates in the order of installation.

    Of those that may reboot, the largest is last: in other languages, titles do not show the cumulative update.
    """

    def rank(update: OfferedUpdate) -> tuple[int, int, str, str]:
        position = _Place.MAY_REBOOT if update.reboot_behavior else _Place.USUAL
        if update.is_servicing_stack:
            position = _Place.SERVICING_STACK
        elif is_cumulative_title(update.title):
            position = _Place.CUMULATIVE
        elif update.impact == _EXCLUSIVE_IMPACT:
            position = _Place.ALONE
        return position, (update.max_bytes or 0) if position is _Place.MAY_REBOOT else 0, update.name, update.id

    return tuple(sorted(updates, key=rank))


def find_superseded(updates: Collection[OfferedUpdate]) -> Mapping[str, Set[str]]:
    """Return the ids of the updates that each one supersedes, directly or by others between them, by its id."""
    ids = {update.id for update in updates}
    direct = {update.id: frozenset(map(str.lower, update.superseded)) & ids for update in updates}

    def find_all_older(newest: str) -> set[str]:
        older: set[str] = set()
        unread = [newest]
        while unread:
            fresh = direct[unread.pop()] - older
            older |= fresh
            unread += fresh
        return older

    return {update_id: find_all_older(update_id) for update_id in direct}


def drop_superseded(updates: Iterable[OfferedUpdate]) -> tuple[OfferedUpdate, ...]:
    """Return the updates for which no other one stands in.

    One stands in for those that it supersedes, directly or by others between them, in two cases. It is installed and
    waits for a reboot. Or a usual run installs it: it is at least as urgent, it is not hidden, it asks no person
    anything, and it is no preview, no driver and no upgrade. ``updates`` is all that is offered or waits for a reboot.
    """
    updates_by_id = {update.id: update for update in updates}
    older = find_superseded(updates_by_id.values())
    replaced = {
        old
        for newer, update in updates_by_id.items()
        for old in older[newer]
        if newer not in older[old] and _stands_in(update, updates_by_id[old])  # of a circle, all are kept
    }
    return tuple(update for update in updates_by_id.values() if update.id not in replaced)


def _stands_in(newer: OfferedUpdate, older: OfferedUpdate) -> bool:
    if older.reboot_required or newer.reboot_required:
        return not older.reboot_required
    if newer.hidden or newer.user_input or newer.optional:
        return False
    return _URGENCY.index(newer.classification) <= _URGENCY.index(older.classification)
