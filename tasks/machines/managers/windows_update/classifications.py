"""The classifications of Windows updates. Pure.

The ids of the categories are the same in every language of Windows. Their names are not, so nothing here reads names.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from tasks.domain.states import Classification

DEFINITION_CATEGORY: Final = "e0789628-ce08-4437-be74-2495b842f43b"
DRIVER_CATEGORY: Final = "ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0"
UPGRADE_CATEGORY: Final = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5"
UPGRADE_REASON: Final = (
    "fleetpatch does not install upgrades to another version of Windows: the reboot would undo them without "
    "IUpdateInstaller4.Commit, which scripts can't call on every Windows"
)
"""Why an upgrade is not installed. Microsoft requires that call just before the reboot, once. PowerShell reaches COM
objects by name, and whether the agent offers that name differs."""

_CLASSIFICATIONS: Final[Mapping[str, Classification]] = {
    "e6cf1350-c01b-414d-a61f-263d14d133b4": Classification.CRITICAL,
    "0fa1201d-4330-4fa8-8ae9-b877473b6441": Classification.SECURITY,
    "28bc880e-0592-4cbf-8f95-c79b17911d5f": Classification.UPDATE_ROLLUP,
    "68c5b0a3-d1a6-4553-ae49-01d3a7827828": Classification.SERVICE_PACK,
    "b54e7d24-7add-428f-8b75-90a396fa584f": Classification.FEATURE_PACK,
    DEFINITION_CATEGORY: Classification.DEFINITION,
    "b4832bd8-e735-4761-8daf-37f882276dab": Classification.TOOLS,
    "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83": Classification.UPDATES,
    UPGRADE_CATEGORY: Classification.OTHER,
    DRIVER_CATEGORY: Classification.OTHER,
    "e140075d-8433-45c3-ad87-e72345b36078": Classification.OTHER,  # developer kits
}
"""The most urgent first: an update in several classes has the first of them."""


def classify(categories: Iterable[str]) -> Classification:
    """Return the classification by the ids of an update's categories; UNCLASSIFIED when none of them is a class."""
    category_ids = {category.strip("{}").lower() for category in categories}
    return next(
        (classification for category, classification in _CLASSIFICATIONS.items() if category in category_ids),
        Classification.UNCLASSIFIED,
    )


def rank_classification(classification: Classification) -> int:
    """Return the place of a classification among those of Windows, the most urgent first."""
    order = tuple(dict.fromkeys(_CLASSIFICATIONS.values()))
    return order.index(classification) if classification in order else len(order)


def explain_optional(categories: Iterable[str], *, is_driver: bool, is_browse_only: bool) -> str:
    """Return why only an include mask selects an update, or "".

    Args:
        categories: ids of its categories.
        is_driver: whether its type is "driver".
        is_browse_only: whether its publisher offers it only to those who look for it: previews, optional updates.
    """
    category_ids = {category.strip("{}").lower() for category in categories}
    if is_driver or DRIVER_CATEGORY in category_ids:
        return "a driver"
    if is_upgrade(categories):
        return "an upgrade to another version of Windows"
    return "an optional update or a preview" if is_browse_only else ""


def is_upgrade(categories: Iterable[str]) -> bool:
    """Return whether an update installs another version of Windows, by the ids of its categories."""
    return UPGRADE_CATEGORY in {category.strip("{}").lower() for category in categories}
