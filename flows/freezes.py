"""Freezes that were declared after a run was admitted: what its configuration's deployments have now."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.settings import get_current_settings

from flows.hearing import NO_ANSWER, impatient
from flows.policy_forms import FreezeRequest
from flows.tags import OURS, configuration_tag
from tasks.errors import RequestError
from tasks.rules.calendar.freezes import Freeze

_MOST = 200  # deployments of one configuration: one for each zone


def declared_freezes(configuration: str, zone: str, say: Callable[[str], None]) -> tuple[Freeze, ...]:
    """Return the freezes that a configuration has now, as it is deployed. Raises nothing, and waits for some seconds.

    A server that does not answer does not hold a run up: it goes on with the freezes that it knows, and says so.

    Args:
        configuration: its name.
        zone: IANA name; times without an offset are read in it.
        say: told when the server could not be asked.
    """
    if not get_current_settings().api.url:  # the client would start a server of its own
        return ()
    tags = DeploymentFilterTags(all_=[OURS, configuration_tag(configuration)])
    try:
        with impatient() as client:
            found = client.read_deployments(deployment_filter=DeploymentFilter(tags=tags), limit=_MOST)
        return tuple(each.read(zone) for deployment in found for each in _freezes(deployment.parameters))
    except (*NO_ANSWER, RequestError) as error:
        say(f"could not ask Prefect for new freezes ({type(error).__name__}); those that are known hold")
        return ()


def _freezes(parameters: Mapping[str, Any]) -> Iterator[FreezeRequest]:
    request = parameters.get("request")
    for each in request.get("freezes", ()) if isinstance(request, Mapping) else ():
        yield FreezeRequest.model_validate(each)
