"""Names of deployments and schedules in Prefect, and the reserved names that `fleetpatch deploy` uses itself.

Prefect identifies deployments by name, and fleetpatch identifies schedules by slug. Both come from the name of the
configuration, so each name may exist only once.
"""

from flows.request.automatic_request import AUTOMATIC_CONFIGURATION

ON_DEMAND_NAME = "on-demand"
"""Name of deployments that people start by hand."""
SCHEDULED_NAME = "scheduled"
"""Name of scheduled deployments that need no configuration."""
ASSESSMENT_QUEUE = "assessments"
"""Queue of a work pool for runs that neither keep a window nor change a machine. All others are in the default queue.

Workers take the runs of the default queue first.
"""
RECONCILE_SLUG = "reconcile"
ASSESS_SLUG = "assess"
REFRESH_SLUG = "refresh"
CONTROL_SLUG = "control"
COMPONENTS_SLUG = "component-upgrades"
AUTOMATIC_NAME = AUTOMATIC_CONFIGURATION
"""Slugs of the schedules of these deployments. The last one is the name of its deployment as well."""

RESERVED_NAMES = frozenset(
    {
        ON_DEMAND_NAME,
        SCHEDULED_NAME,
        RECONCILE_SLUG,
        ASSESS_SLUG,
        REFRESH_SLUG,
        CONTROL_SLUG,
        COMPONENTS_SLUG,
        AUTOMATIC_NAME,
    }
)
"""Names that a configuration may not have."""

STAGE_SUFFIX = "-stage"
"""Suffix of the slug of a download's schedule."""


def build_slug(name: str, zone: str = "") -> str:
    """Return the slug of a configuration's windows in Prefect.

    ``zone`` (an IANA name) is given if the windows use each machine's own zone. The separator before it can't be in a
    name of a configuration.
    """
    return f"{name}@{zone.lower().replace('/', '-').replace('_', '-')}" if zone else name


def build_stage_slug(slug: str) -> str:
    """Return the slug of the downloads before these windows."""
    return f"{slug}{STAGE_SUFFIX}"
