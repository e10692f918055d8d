"""Finds the packages that the chosen updates newly install, so that all that appears is in the report. Pure."""

import re
from collections.abc import Iterable, Mapping

from inventory.name_lists import join_first_names
from tasks.domain.model import PackageState, Update, UpdateResult
from tasks.domain.states import Classification, UpdateState

_REASON = "a new package that a chosen update needs"
_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]*")
"""The name of a package of any package manager, so that it can be asked for."""


def find_new_packages(changes: Mapping[str, str], packages: PackageState) -> tuple[UpdateResult, ...]:
    """Return the packages that come along and are no pending updates. They are not chosen, but may come.

    A metapackage's older version, for example, needs another kernel than the version that the assessment simulated.

    Args:
        changes: update id -> version after the installation, from the simulation of exactly the chosen updates.
        packages: the package state from which they were chosen.
    """
    update_ids = {update.id for update in packages.updates}
    archs = {update.arch for update in packages.updates} - {""}
    updates = (
        _build_new_package(update_id, version, archs)
        for update_id, version in sorted(changes.items())
        if update_id not in update_ids
    )
    return tuple(
        UpdateResult(update, UpdateState.NOT_SELECTED, _REASON)
        for update in updates
        if _NAME_PATTERN.fullmatch(update.name)
    )


def describe_new_packages(results: Iterable[UpdateResult]) -> tuple[str, ...]:
    """Return a note about new packages that come along; none without them."""
    names = [f"{result.update.name} {result.update.available}" for result in results]
    return (f"new packages that come along: {join_first_names(names)}",) if names else ()


def _build_new_package(update_id: str, version: str, archs: Iterable[str]) -> Update:
    """Return a new package as an update. Its id is its name, with its architecture only if that is a foreign one."""
    arch = next((arch for arch in archs if update_id.endswith((f":{arch}", f".{arch}"))), "")
    name = update_id[: -len(arch) - 1] if arch else update_id
    return Update(update_id, name, arch, None, version, Classification.OTHER)
