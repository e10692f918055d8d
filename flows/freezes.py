"""Freezes that were declared after a run was admitted: what its configuration's deployments have now."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.settings import get_current_settings
from pydantic import ValidationError

from flows.hearing import NO_ANSWER, impatient
from flows.policy_forms import FreezeRequest
from flows.tags import OURS, configuration_tag
from tasks.errors import RequestError
from tasks.rules.calendar.freezes import Freeze
from tasks.seams.clock import Clock

ASK_AGAIN = timedelta(minutes=1)
"""How long a server that gave no answer is not asked again."""
_MOST = 200  # deployments of one configuration: one for each zone


class DeclaredFreezes:
    """The freezes that a configuration has now, as it is deployed.

    A server that does not answer does not hold a run up: it goes on with the freezes that it knows, says so, and asks
    again after a while only, for each question may take some seconds.

    Args:
        configuration: its name.
        zone: IANA name; times without an offset are read in it.
        say: told when the server could not be asked.
        clock: tells when to ask again.
    """

    def __init__(self, configuration: str, zone: str, say: Callable[[str], None], clock: Clock) -> None:
        self._configuration, self._zone, self._say, self._clock = configuration, zone, say, clock
        self._known: tuple[Freeze, ...] = ()
        self._not_before: datetime | None = None

    def __call__(self) -> tuple[Freeze, ...]:
        """Return them. Raises nothing, and takes some seconds at most."""
        if not get_current_settings().api.url:  # the client would start a server of its own
            return ()
        if self._not_before is not None and self._clock.now() < self._not_before:
            return self._known
        try:
            self._known, self._not_before = self._ask(), None
        except (*NO_ANSWER, RequestError, ValidationError) as error:
            self._not_before = self._clock.now() + ASK_AGAIN
            why = type(error).__name__
            self._say(f"could not ask Prefect for new freezes ({why}); those that are known hold")
        return self._known

    def _ask(self) -> tuple[Freeze, ...]:
        tags = DeploymentFilterTags(all_=[OURS, configuration_tag(self._configuration)])
        with impatient() as client:
            found = client.read_deployments(deployment_filter=DeploymentFilter(tags=tags), limit=_MOST)
        return tuple(each.read(self._zone) for deployment in found for each in _freezes(deployment.parameters))


def _freezes(parameters: Mapping[str, Any]) -> Iterator[FreezeRequest]:
    request = parameters.get("request")
    freezes = request.get("freezes") if isinstance(request, Mapping) else None
    for each in freezes or ():
        yield FreezeRequest.model_validate(each)
