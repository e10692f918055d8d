"""Tags of fleetpatch's objects in Prefect: their fleet and their configuration."""

MANAGED_TAG = "fleetpatch"
"""The tag of every object that fleetpatch manages."""
FLEET_TAG_PREFIX = f"{MANAGED_TAG}:fleet="
"""The prefix of a fleet's tag."""


def build_fleet_tag(fleet: str) -> str:
    """Return the tag of all objects of one fleet (one set of configurations). A fleet may delete only its own."""
    return f"{FLEET_TAG_PREFIX}{fleet}"


def build_configuration_tag(name: str) -> str:
    """Return the tag of all objects of one configuration."""
    return f"{MANAGED_TAG}:configuration={name}"


def build_shown_tag(name: str) -> str:
    """Return the tag that shows people the configuration. No code looks for it.

    Prefect's UI sorts tags by name and shows only the first ones of a run. This one comes before ``fleetpatch…``.
    """
    return f"configuration: {name}"


DEFAULT_FLEET = "default"


def build_deployment_name(name: str, fleet: str) -> str:
    """Return the deployment's name in a fleet, so that fleets on one server each have their own deployment."""
    return name if fleet == DEFAULT_FLEET else f"{name}@{fleet}"
