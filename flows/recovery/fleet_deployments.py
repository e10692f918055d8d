"""Finds a built-in deployment of the fleet to which the present flow run belongs."""

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from flows.prefect_api.tags import build_deployment_name, serves_fleet
from tasks.records.fleets import find_fleet


def find_fleet_deployment(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    """Return the deployment of this name in this fleet. A deployment without a fleet tag serves every fleet.

    Args:
        client: the client of Prefect's server.
        full_name: names of the flow and of the deployment, as in a fleet of the default name: "patch-fleet/on-demand".

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    fleet = find_fleet()
    for name in dict.fromkeys((build_deployment_name(full_name, fleet), full_name)):
        with suppress(ObjectNotFound):
            deployment = client.read_deployment_by_name(name)
            if serves_fleet(deployment.tags, fleet):
                return deployment
    return None
