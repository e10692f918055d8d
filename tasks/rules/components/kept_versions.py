"""The versions of a component in the journal of a run: its way back does not depend on the file. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter

from tasks.domain.components import Component, ComponentVersion
from tasks.domain.protocols.records import JournalEntry
from tasks.rules.components.versions import find_listed_version

VERSIONS_ACT: Final = "component-versions"
"""The act of the entry with the versions of a run's component. It is of no machine, and its key is the component."""


def build_versions_detail(component: Component) -> dict[str, object]:
    """Return the versions of a component for the journal."""
    return {"versions": TypeAdapter(tuple[ComponentVersion, ...]).dump_python(component.versions, mode="json")}


def add_kept_versions(
    component: Component, entries: Iterable[JournalEntry], wanted: Collection[str] | None = None
) -> Component:
    """Return a component with the versions that its file does not have, and journals do.

    Args:
        component: as its file has it.
        entries: of runs, those that count more first.
        wanted: the versions to add; None: all.
    """
    versions = component.versions
    for entry in entries:
        if (entry.act, entry.key) != (VERSIONS_ACT, component.name):
            continue
        kept = TypeAdapter(tuple[ComponentVersion, ...]).validate_python(entry.detail["versions"], strict=False)
        versions = (
            *(replace(version, is_kept=True) for version in kept if _is_missing(version.version, versions, wanted)),
            *versions,
        )
    return replace(component, versions=versions)


def _is_missing(text: str, versions: tuple[ComponentVersion, ...], wanted: Collection[str] | None) -> bool:
    return (wanted is None or text in wanted) and find_listed_version(versions, text) is None
