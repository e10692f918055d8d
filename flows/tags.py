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


DEFAULT_FLEET = "default"


def standing_name(name: str, fleet: str) -> str:
    """Return what a deployment that every fleet has is called: two fleets on one server each have their own."""
    return name if fleet == DEFAULT_FLEET else f"{name}@{fleet}"
