"""Names in Prefect, and those that are reserved: `fleetpatch deploy` uses them itself.

Prefect tells deployments apart by their names, and fleetpatch tells schedules apart by their slugs. A configuration
gives its name to both: the same name twice would be one thing with two meanings.
"""

from collections.abc import Collection

ON_DEMAND_NAME = "on-demand"
"""Name of deployments that people start."""
SCHEDULED_NAME = "scheduled"
"""Name of deployments with a schedule that do not depend on configurations."""
RECONCILE_SLUG = "reconcile"
ASSESS_SLUG = "assess"
REFRESH_SLUG = "refresh"
"""Slugs of the schedules of those."""

RESERVED_NAMES = frozenset({ON_DEMAND_NAME, SCHEDULED_NAME, RECONCILE_SLUG, ASSESS_SLUG, REFRESH_SLUG})
"""Names that no configuration may have."""

STAGE_SUFFIX = "-stage"
"""Tells the slug of a download's schedule from that of its run."""


def build_slug(name: str, zone: str = "") -> str:
    """Return what the windows of a configuration are called in Prefect.

    Args:
        name: the configuration's.
        zone: IANA name, where they open by each machine's own clocks. No name of a configuration holds the sign
            before it.
    """
    return f"{name}@{zone.lower().replace('/', '-').replace('_', '-')}" if zone else name


def build_stage_slug(slug: str) -> str:
    """Return what the downloads ahead of windows are called."""
    return f"{slug}{STAGE_SUFFIX}"


def find_name_conflict(name: str, staging: Collection[str]) -> str | None:
    """Return the configuration whose downloads have the name of another one, or None.

    Args:
        name: the other one's.
        staging: names of configurations that download ahead of their windows.
    """
    return next((each for each in staging if build_stage_slug(each) == name), None)
