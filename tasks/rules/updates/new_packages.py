"""Packages that come along with the chosen updates, and are no pending updates."""

import re
from collections.abc import Iterable, Mapping

from inventory.name_lists import join_first_names
from tasks.domain.model import PackageState, Update, UpdateResult
from tasks.domain.states import Classification, UpdateState

_NEW = "a new package that a chosen update needs"
_ASKABLE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]*")
"""The name of a package of any package manager, so that it can be asked for."""


def find_new_packages(changes: Mapping[str, str], packages: PackageState) -> tuple[UpdateResult, ...]:
    """Return the packages that come along and are no pending updates. They are not chosen, but may come.

    A metapackage's older version, for example, needs another kernel than the version that the assessment simulated.
    A package that is half installed, or that another process was changing during the assessment, has no pending update
    either. It is not called new. ``changes`` (id -> version) are those of the simulation of exactly the chosen updates.
    """
    update_ids = {update.id for update in packages.updates}
    unfinished = {package.id: package.status for package in packages.unfinished}
    unchecked = (
        f"a chosen update needs it; packages were being changed by {packages.at_work}, so it is not known as new"
    )
    archs = {update.arch for update in packages.updates} - {""}
    results = []
    for update_id, version in sorted(changes.items()):
        # its id is its name, with its architecture only if that is a foreign one
        arch = next((arch for arch in archs if update_id.endswith((f":{arch}", f".{arch}"))), "")
        name = update_id[: -len(arch) - 1] if arch else update_id
        if update_id not in update_ids and _ASKABLE_NAME_PATTERN.fullmatch(name):
            update = Update(update_id, name, arch, None, version, Classification.OTHER)
            reason = unchecked if packages.at_work else _NEW
            if update_id in unfinished:
                reason = f"a chosen update needs it; it was {unfinished[update_id]}"
            results.append(UpdateResult(update, UpdateState.NOT_SELECTED, reason))
    return tuple(results)


def describe_new_packages(results: Iterable[UpdateResult]) -> tuple[str, ...]:
    """Return a note about new packages that come along; none without them."""
    names = [f"{result.update.name} {result.update.available}" for result in results if result.reason == _NEW]
    return (f"new packages that come along: {join_first_names(names)}",) if names else ()
