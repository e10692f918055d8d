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
    sites = find_tagged_sites(tags)
    if not sites:
        return nullcontext()
    if len(sites) > 1:
        hint = "Nothing was touched. Start a flow run of the deployment of one site, without other tags."
        raise RequestError(f"this flow run has the tags of several sites: {', '.join(sites)}", hint=hint)
    process_site = find_environment_site()
    if process_site not in {"", sites[0]}:
        raise RequestError(
            f"this flow run belongs to the site {sites[0]}, and this worker to the site {process_site}",
            hint=f"Nothing was touched. Let the worker execute the runs of its own site's work pool, or correct "
            f"{SITE_VARIABLE} of the worker.",
        )
    return use_site(sites[0])


def use_tagged_fleet(tags: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context that uses the records of the fleet in a flow run's tags; without one, those of this process.

    Raises:
        RequestError: the flow run has several fleets, or one that this process does not serve.
    """
    fleets = find_tagged_fleets(tags)
    if not fleets:
        return nullcontext()
    if len(fleets) > 1:
        hint = "Nothing was touched. Start a flow run of the deployment of one fleet, without other tags."
        raise RequestError(f"this flow run has the tags of several fleets: {', '.join(fleets)}", hint=hint)
    process_fleet = find_environment_fleet()
    if process_fleet not in {"", fleets[0]}:
        raise RequestError(
            f"this flow run belongs to the fleet {fleets[0]}, and this worker serves the fleet {process_fleet} alone",
            hint=f"Nothing was touched. Give each fleet a work pool of its own (fleetpatch deploy --fleet … --pool …), "
            f"or correct {FLEET_VARIABLE} of the worker.",
        )
    return use_fleet(fleets[0])


def build_limit_name(deployment_id: UUID | str) -> str:
    """Return Prefect's name for the concurrency limit of one deployment."""
    return f"deployment:{deployment_id}"
