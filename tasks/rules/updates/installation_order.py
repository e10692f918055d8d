"""The order of installation: first and last updates, urgent updates, and groups that stay together. Pure."""

from collections.abc import Iterable

from tasks.domain.model import Update
from tasks.domain.states import URGENT_CLASSIFICATIONS, Classification


def must_install_last(update: Update) -> bool:
    """Return whether an update is installed after the others: it changes what is booted, or needs a reboot."""
    return update.requires_reboot is True or update.changes_boot


def rank_place(unit: Iterable[Update], *, manager_first: bool = True) -> int:
    """Return the place of a unit: 0 with an update of the package manager itself, 2 if it must be last, else 1.

    A new package manager may know what the old one does not, so it has to install the rest. SUSE's own tool has this
    rule for its update stack.

    Args:
        unit: updates that stay together.
        manager_first: whether that is so also for an update of it that is neither critical nor security.
    """
    unit = tuple(unit)
    if any(update.updates_manager and (manager_first or is_urgent(update)) for update in unit):
        return 0
    return 2 if any(must_install_last(update) for update in unit) else 1


def is_urgent(update: Update) -> bool:
    """Return whether an update is a critical or security update."""
    return update.classification in URGENT_CLASSIFICATIONS


def rank_urgency(update: Update) -> int:
    """Return the rank of an update: 0 for critical, 1 for security, 2 for others. Lower ranks get time first."""
    if update.classification is Classification.CRITICAL:
        return 0
    return 1 if is_urgent(update) else 2


def group_updates(updates: Iterable[Update]) -> list[list[Update]]:
    """Return the inseparable units: each group as one list, each update without a group alone. Keep the order."""
    units: dict[str, list[Update]] = {}
    for update in updates:
        key = f"group {update.group}" if update.group else f"alone {update.id}"
        units.setdefault(key, []).append(update)
    return list(units.values())
