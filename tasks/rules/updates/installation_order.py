"""The order of installation: urgent updates, last updates, and groups that stay together. Pure."""

from collections.abc import Iterable

from tasks.model import Update
from tasks.states import URGENT_CLASSIFICATIONS, Classification


def must_install_last(update: Update) -> bool:
    """Return whether an update is installed after the others: it changes what is booted, or needs a reboot."""
    return update.requires_reboot is True or update.changes_boot


def rank_urgency(update: Update) -> int:
    """Return the rank of an update: 0 for critical, 1 for security, 2 for others. Lower ranks get time first."""
    if update.classification is Classification.CRITICAL:
        return 0
    return 1 if update.classification in URGENT_CLASSIFICATIONS else 2


def group_updates(updates: Iterable[Update]) -> list[list[Update]]:
    """Return the inseparable units: each group as one list, each update without a group alone. Keep the order."""
    units: dict[str, list[Update]] = {}
    for update in updates:
        key = f"group {update.group}" if update.group else f"alone {update.id}"
        units.setdefault(key, []).append(update)
    return list(units.values())
