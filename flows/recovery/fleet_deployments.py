"""Finds a built-in deployment of the fleet to which the present flow run belongs."""

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from flows.prefect_api.tags import FLEET_TAG_PREFIX, build_deployment_name
from flows.recovery.missed_windows import filter_fleet_tags, read_own_fleet_tags


def find_fleet_deployment(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    """Return the deployment of this name in this fleet. A deployment without a fleet tag serves every fleet.

    Args:
        client: the client of Prefect's server.
        full_name: names of the flow and of the deployment, as in a fleet of the default name: "patch-fleet/on-demand".

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    own_fleet_tags = read_own_fleet_tags()
    names = [build_deployment_name(full_name, tag.removeprefix(FLEET_TAG_PREFIX)) for tag in sorted(own_fleet_tags)]
    for name in dict.fromkeys((*names, full_name)):
        with suppress(ObjectNotFound):
            found = client.read_deployment_by_name(name)
            theirs = filter_fleet_tags(found.tags)
            if not own_fleet_tags or not theirs or theirs & own_fleet_tags:
                return found
    return None
