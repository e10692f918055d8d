"""Freezes that were declared after a run was admitted: those in the present deployments of its configuration."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.sorting import DeploymentSort
from prefect.settings import get_current_settings
from pydantic import ValidationError

from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client
from flows.prefect_api.pagination import read_all_pages
from flows.prefect_api.tags import MANAGED_TAG, build_configuration_tag, serves_fleet
from flows.request.policies import FreezeRequest
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock
from tasks.records.fleets import find_fleet
from tasks.rules.calendar.freezes import Freeze

RETRY_INTERVAL = timedelta(minutes=1)
"""How long a server that did not answer is not asked again."""


class DeclaredFreezes:
    """The freezes in the present deployments of a configuration of this fleet.

    If the server does not answer, the run does not wait: it uses the known freezes and prints a message. It asks again
    only after an interval, because each call may take some seconds.

    Args:
        configuration: the configuration's name.
        zone: the IANA zone of times without an offset.
        print_message: gets a message if the server did not answer.
        clock: the clock for the next call.
    """

    def __init__(self, configuration: str, zone: str, print_message: Callable[[str], None], clock: Clock) -> None:
        self._tags, self._fleet = [MANAGED_TAG, build_configuration_tag(configuration)], find_fleet()
        self._zone, self._print_message, self._clock = zone, print_message, clock
        self._known_freezes: tuple[Freeze, ...] = ()
        self._retry_at: datetime | None = None

    def __call__(self) -> tuple[Freeze, ...]:
        """Return the freezes. Raises nothing, and takes some seconds at most."""
        if not get_current_settings().api.url:  # without a URL the client would start its own server
            return ()
        if self._retry_at is not None and self._clock.now() < self._retry_at:
            return self._known_freezes
        try:
            self._known_freezes, self._retry_at = self._read_from_prefect(), None
        except (*NO_ANSWER_ERRORS, RequestError, ValidationError) as error:
            self._retry_at = self._clock.now() + RETRY_INTERVAL
            reason = type(error).__name__
            self._print_message(f"Prefect did not return new freezes ({reason}); known freezes apply")
        return self._known_freezes

    def _read_from_prefect(self) -> tuple[Freeze, ...]:
        tags = DeploymentFilterTags(all_=self._tags)
        with open_fail_fast_client() as client:
            deployments = read_all_pages(
                lambda limit, offset: client.read_deployments(
                    deployment_filter=DeploymentFilter(tags=tags),
                    sort=DeploymentSort.CREATED_DESC,  # names are not unique: a configuration has several flows
                    limit=limit,
                    offset=offset,
                )
            )
            return tuple(
                freeze.to_freeze(self._zone)
                for deployment in deployments
                if serves_fleet(deployment.tags, self._fleet)
                for freeze in _parse_freezes(deployment.parameters)
            )


def _parse_freezes(parameters: Mapping[str, Any]) -> Iterator[FreezeRequest]:
    request = parameters.get("request")
    freezes = request.get("freezes") if isinstance(request, Mapping) else None
    for freeze in freezes or ():
        yield FreezeRequest.model_validate(freeze)
