"""Tags of what this project puts into Prefect: whose it is, and what it is about."""

MANAGED_TAG = "fleetpatch"
"""Tag of everything that is ours."""
FLEET_TAG_PREFIX = f"{MANAGED_TAG}:fleet="
"""What the tag of a fleet begins with."""


def build_fleet_tag(fleet: str) -> str:
    """Return the tag of everything that one set of configurations has put there, and may remove again."""
    return f"{FLEET_TAG_PREFIX}{fleet}"


def build_configuration_tag(name: str) -> str:
    """Return the tag of what belongs to one configuration."""
    return f"{MANAGED_TAG}:configuration={name}"


DEFAULT_FLEET = "default"


def build_deployment_name(name: str, fleet: str) -> str:
    """Return what a deployment that every fleet has is called: two fleets on one server each have their own."""
    return name if fleet == DEFAULT_FLEET else f"{name}@{fleet}"
