"""Builds the answer of a package manager that was asked what an installation would do. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult

_MAX_ERRORS: Final = 5


def build_simulation_result(
    wanted: Iterable[Update],
    *,
    changes: Mapping[str, str],
    removals: tuple[str, ...],
    unknown: Collection[str],
    errors: Sequence[str],
    named: Iterable[str],
    downloads: Mapping[str, int] | None,
) -> SimulationResult:
    """Return the answer for a set of updates.

    Args:
        wanted: the set.
        changes: update id -> version that would be installed.
        removals: names of packages that would be removed.
        unknown: ids of updates that the package manager does not know, in that version.
        errors: why it refuses the set, in its own words; empty when it accepts the set.
        named: packages that these words name.
        downloads: file -> bytes, for files that are not downloaded yet; None when unknown.
    """
    return SimulationResult(
        changes={} if errors else dict(changes),
        removals=() if errors else removals,
        refused={
            update.id: f"the repositories do not have {update.name} {update.available} (any more): "
            "they changed since the assessment"
            for update in wanted
            if update.id in unknown
        },
        refusal="; ".join(errors[:_MAX_ERRORS]),
        named=frozenset(named),
        download_bytes=None if downloads is None else sum(downloads.values()),
        download_count=None if downloads is None else len(downloads),
    )
