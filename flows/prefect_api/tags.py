"""Tags and names of fleetpatch's objects in Prefect. By its tags a flow run uses the records of its fleet."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from uuid import UUID

from inventory.machine import DEFAULT_SITE
from inventory.sites import SITE_VARIABLE, find_environment_site, use_site
from tasks.domain.errors import RequestError
from tasks.records.fleets import DEFAULT_FLEET, FLEET_VARIABLE, find_environment_fleet, use_fleet

__all__ = [
    "AUTO_SCHEDULED_TAG",
    "DEFAULT_FLEET",
    "DISABLED_TAG",
    "FLEET_TAG_PREFIX",
    "MANAGED_TAG",
    "add_fleet_tag",
    "build_configuration_tag",
    "build_deployment_name",
    "build_fleet_tag",
    "build_limit_name",
    "build_run_tag",
    "build_shown_tag",
    "build_site_name",
    "build_site_tag",
    "find_tagged_fleets",
    "find_tagged_sites",
    "serves_fleet",
]

MANAGED_TAG = "fleetpatch"
"""The tag of every object that fleetpatch manages."""
DISABLED_TAG = f"{MANAGED_TAG}:disabled"
"""The tag of a deployment that `deploy` itself pauses: its configuration has `enabled: false`."""
AUTO_SCHEDULED_TAG = "auto-scheduled"
"""Prefect's own tag of a flow run that a schedule made."""
FLEET_TAG_PREFIX = f"{MANAGED_TAG}:fleet="
"""The prefix of a fleet's tag."""
SITE_TAG_PREFIX = f"{MANAGED_TAG}:site="
"""The prefix of a site's tag."""


def build_run_tag(run_id: str) -> str:
    """Return the tag of every flow run of a run: the first one, those that resume it, and those of its shards."""
    return f"{MANAGED_TAG}-run:{run_id}"


def build_fleet_tag(fleet: str) -> str:
    """Return the tag of all objects of one fleet (one set of configurations). A fleet may delete only its own."""
    return f"{FLEET_TAG_PREFIX}{fleet}"


def add_fleet_tag(tags: Sequence[str], fleet: str) -> list[str]:
    """Return tags that name a fleet: a deployment without a fleet serves every fleet, and its flow run serves one."""
    return [*tags] if find_tagged_fleets(tags) else [*tags, build_fleet_tag(fleet)]


def find_tagged_fleets(tags: Sequence[str]) -> list[str]:
    """Return the fleets that tags name, sorted."""
    return sorted({tag.removeprefix(FLEET_TAG_PREFIX) for tag in tags if tag.startswith(FLEET_TAG_PREFIX)})


def serves_fleet(tags: Sequence[str], fleet: str) -> bool:
    """Return whether a deployment with these tags is one of the fleet, or of every fleet."""
    return build_fleet_tag(fleet) in add_fleet_tag(tags, fleet)


def build_configuration_tag(name: str) -> str:
    """Return the tag of all objects of one configuration."""
    return f"{MANAGED_TAG}:configuration={name}"


def build_shown_tag(name: str) -> str:
    """Return the tag that shows people the configuration. No code looks for it.

    Prefect's UI sorts tags by name and shows only the first ones of a run. This one comes before ``fleetpatch…``.
    """
    return f"configuration: {name}"


def build_deployment_name(name: str, fleet: str) -> str:
    """Return the deployment's name in a fleet, so that fleets on one server each have their own deployment."""
    return name if fleet == DEFAULT_FLEET else f"{name}@{fleet}"


def build_site_tag(site: str) -> str:
    """Return the tag of the deployments whose runs a site executes."""
    return f"{SITE_TAG_PREFIX}{site}"


def find_tagged_sites(tags: Sequence[str]) -> list[str]:
    """Return the sites that tags name, sorted."""
    return sorted({tag.removeprefix(SITE_TAG_PREFIX) for tag in tags if tag.startswith(SITE_TAG_PREFIX)})


def build_site_name(name: str, site: str) -> str:
    """Return the name of a site's own work pool or deployment. Those of the default site have the name alone."""
    return name if site == DEFAULT_SITE else f"{name}-{site}"


def use_tagged_site(tags: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context that belongs to the site in a flow run's tags; without one, to that of this process.

    Raises:
        RequestError: the flow run has several sites, or one that this process does not belong to.
    """
    site = _require_own("site", find_tagged_sites(tags), find_environment_site(), SITE_VARIABLE)
    return use_site(site) if site else nullcontext()


def use_tagged_fleet(tags: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context that uses the records of the fleet in a flow run's tags; without one, those of this process.

    Raises:
        RequestError: the flow run has several fleets, or one that this process does not serve.
    """
    fleet = _require_own("fleet", find_tagged_fleets(tags), find_environment_fleet(), FLEET_VARIABLE)
    return use_fleet(fleet) if fleet else nullcontext()


def _require_own(kind: str, names: Sequence[str], own: str, variable: str) -> str:
    """Return the one of these names that a flow run has in its tags, "" if it has none, if this process may execute it.

    Args:
        kind: "site" or "fleet".
        names: of sites or fleets, in the tags.
        own: that of this process; "": any.
        variable: sets that of a worker.

    Raises:
        RequestError: it may not.
    """
    if len(names) > 1:
        raise RequestError(
            f"this flow run has the tags of several {kind}s: {', '.join(names)}",
            hint=f"Nothing was touched. Start a flow run of the deployment of one {kind}, without other tags.",
        )
    if names and own not in {"", names[0]}:
        raise RequestError(
            f"this flow run belongs to the {kind} {names[0]}, and this worker to the {kind} {own}",
            hint=f"Nothing was touched. Give each {kind} its own work pool and worker (fleetpatch deploy --pool), "
            f"or correct {variable} of the worker.",
        )
    return names[0] if names else ""


def build_limit_name(deployment_id: UUID | str) -> str:
    """Return Prefect's name for the concurrency limit of one deployment."""
    return f"deployment:{deployment_id}"
