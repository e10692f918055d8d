"""Tags of what this project puts into Prefect: whose it is, and what it is about."""

OURS = "fleetpatch"
"""Tag of everything that is ours."""
FLEET = f"{OURS}:fleet="
"""What the tag of a fleet begins with."""


def fleet_tag(fleet: str) -> str:
    """Return the tag of everything that one set of configurations has put there, and may remove again."""
    return f"{FLEET}{fleet}"


def configuration_tag(name: str) -> str:
    """Return the tag of what belongs to one configuration."""
    return f"{OURS}:configuration={name}"
