"""What changed in a deployment after its flow run was made: its schedules, its parameters, and its freezes.

Prefect copies a deployment's parameters into each flow run when it creates the flow run. A flow run that waits for a
worker keeps them, even if the deployment changes.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule, RRuleSchedule
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import ValidationError

from flows.prefect_api.api_client import NO_ANSWER_ERRORS, open_fail_fast_client, read_all_pages
from flows.prefect_api.tags import MANAGED_TAG, build_configuration_tag, serves_fleet
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import FreezeRequest
from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.retry import retry
from tasks.records.fleets import find_fleet
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind, iterate_prefect_starts

RETRY_TIMEOUT_SECONDS = 62.0  # for all attempts; the last one begins after a minute
RETRY_SECONDS = 2.0
_ONE_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ActiveSchedule:
    """A schedule that is active."""

    prefect_schedule: PrefectSchedule | None  # its dates; None if they are unknown, because a person created it by hand
    # Its own parameters, which override those of the deployment.
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def has_occurrence_at(self, due: datetime) -> bool:
        """Return whether it starts a run at this time."""
        if self.prefect_schedule is None:
            return True
        try:
            return next(iterate_prefect_starts(self.prefect_schedule, due, due + _ONE_SECOND), None) is not None
        except (ValueError, TypeError):  # dateutil raises these for a rule that it can't parse
            return False


def find_outdated_reason(
    made: Mapping[str, Any],
    due: datetime,
    asked: Mapping[str, Any],
    schedules: Sequence[ActiveSchedule],
    *,
    paused: bool,
) -> str:
    """Return why the deployment's schedules would not create this flow run now; "" if they would.

    ``made`` are the parameters of the flow run, which is ``due`` at its scheduled time; ``asked`` are those of the
    deployment.
    """
    if paused:
        return "its deployment is switched off"
    coming = [schedule for schedule in schedules if schedule.has_occurrence_at(due)]
    if not coming:
        return f"no schedule starts a run at {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC any more"
    differences = [find_changed_fields(made, {**asked, **schedule.parameters}) for schedule in coming]
    return "" if not all(differences) else f"its deployment has other parameters now ({', '.join(differences[0])})"


def find_changed_fields(made: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of parameters that differ between two sets. For a request, return its fields that differ."""
    if made == asked:
        return ()
    made_request, asked_request = _dump_request(made), _dump_request(asked)
    if made_request is None or asked_request is None:
        return tuple(_find_different_keys(made, asked))
    other_parameters = [
        {key: value for key, value in parameters.items() if key != "request"} for parameters in (made, asked)
    ]
    return (*_find_different_keys(made_request, asked_request), *_find_different_keys(*other_parameters))


def _find_different_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    missing = object()
    return [key for key in sorted({*one, *other}) if one.get(key, missing) != other.get(key, missing)]


def _dump_request(parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a request with all its fields, because releases may omit different default values."""
    try:
        return PatchRequest.model_validate(parameters.get("request")).model_dump(mode="json")
    except ValidationError:
        return None


def read_outdated_reason(run: FlowRun, print_message: Callable[[str], None], clock: Clock | None = None) -> str:
    """Ask Prefect whether a scheduled flow run is outdated. Return the reason; "" if it is not.

    If the server does not answer, ask again for a minute. Then the run uses its own parameters, and prints a message.
    """
    if run.deployment_id is None or run.expected_start_time is None:
        return "its deployment was removed"
    clock = clock or SystemClock()
    try:
        now = retry(
            functools.partial(_read_deployment, run.deployment_id),
            NO_ANSWER_ERRORS,
            clock=clock,
            deadline=Deadline.after(clock, RETRY_TIMEOUT_SECONDS),
            wait=RETRY_SECONDS,
        )
    except ObjectNotFound:
        return "its deployment was removed"
    except NO_ANSWER_ERRORS as error:
        reason = type(error).__name__
        print_message(f"Prefect did not say whether the configuration changed ({reason}): the run uses its own request")
        return ""
    due = to_utc_datetime(run.expected_start_time)
    active_schedules = [
        ActiveSchedule(parse_prefect_schedule(schedule.schedule), schedule.parameters)
        for schedule in now.schedules
        if schedule.active
    ]
    return find_outdated_reason(run.parameters, due, now.parameters, active_schedules, paused=now.paused)


def _read_deployment(deployment_id: UUID) -> DeploymentResponse:
    with open_fail_fast_client() as client:
        return client.read_deployment(deployment_id)


def parse_prefect_schedule(schedule: Any) -> PrefectSchedule | None:  # noqa: ANN401 - one of Prefect's kinds of schedules
    """Convert a schedule of Prefect; return None for kinds that fleetpatch never creates."""
    zone = schedule.timezone or "UTC"
    match schedule:
        case RRuleSchedule():
            return PrefectSchedule(PrefectScheduleKind.RRULE, schedule.rrule, zone, None)
        case IntervalSchedule():
            anchor = to_utc_datetime(schedule.anchor_date)
            return PrefectSchedule(PrefectScheduleKind.INTERVAL, "", zone, None, schedule.interval, anchor)
        case _:
            return None


def to_utc_datetime(moment: datetime) -> datetime:
    """Return a plain datetime. Arithmetic with Prefect's datetime type loses the zone."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


RETRY_INTERVAL = timedelta(minutes=1)
"""How long a server that did not answer is not asked again."""


class DeclaredFreezes:
    """The freezes in the present deployments of a configuration of this fleet.

    If the server does not answer, the run does not wait: it uses the known freezes and prints a message. It asks again
    only after an interval, because each call may take some seconds.

    Times without an offset are in ``zone`` (IANA).
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
