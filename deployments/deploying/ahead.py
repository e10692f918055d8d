"""What comes after a deployment: the next window of each configuration, and those that Prefect starts no run for.

Prefect's scheduler makes no runs in the past. A window whose run should have started before it was deployed gets none,
although it may be open for hours yet: somebody has to start that run, and is told how.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import StateType

from deployments.config.configuration import Configuration, Configurations, Opening
from flows.patch import patch_fleet
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.model import Window
from tasks.rules.admission import last_moment
from tasks.rules.calendar.freezes import frozen
from tasks.rules.calendar.schedule import Occurrence, occurrences

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SOON = timedelta(seconds=20)
"""A run that is due so soon may be missed by a scheduler that looks for new deployments every few seconds."""
PAUSE_SECONDS = 1.0
_NOT_BEGUN = frozenset({StateType.SCHEDULED, StateType.PENDING, StateType.CANCELLED})


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is ahead of one deployment of windows.

    Attributes:
        deployment: full name in Prefect.
        configuration: whose windows they are.
        zone: by whose clocks they open.
        machines: how many it is for now.
        current: the window whose run should have started, or starts within seconds, and that still holds something.
        coming: the next one after it; None: none comes.
        by_hand: the command that starts the run of ``current``.
    """

    deployment: str
    configuration: Configuration
    zone: str
    machines: int
    current: Occurrence | None
    coming: Occurrence | None
    by_hand: str = ""

    @property
    def lead(self) -> timedelta:
        """How long before its window a run starts."""
        return timedelta(minutes=self.configuration.lead_minutes)


def ahead(
    configurations: Configurations,
    inventories: Mapping[str, Inventory],
    asked: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> tuple[Ahead, ...]:
    """Return what is ahead of the configurations that are switched on, the earliest window first.

    Args:
        configurations: all of them.
        inventories: their machines, by a configuration's name.
        asked: what a run is asked, by its deployment's full name.
        now: aware.
    """
    made = [
        _of(configuration, opening, inventories[configuration.name], asked, now)
        for configuration in configurations.enabled
        for opening in configuration.openings(inventories[configuration.name])
    ]
    never = datetime.max.replace(tzinfo=UTC)
    return tuple(sorted(made, key=lambda each: window.start if (window := each.current or each.coming) else never))


def _of(
    configuration: Configuration,
    opening: Opening,
    inventory: Inventory,
    asked: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> Ahead:
    name = f"{patch_fleet.name}/{opening.slug}"
    lead = timedelta(minutes=configuration.lead_minutes)
    due, later = [], None
    for window in islice(_windows(configuration, opening, now), 1000):
        if window.start - lead > now + SOON:
            later = window
            break
        if _holds(opening, window, now):
            due.append(window)
    current = due[0] if due else None
    return Ahead(
        deployment=name,
        configuration=configuration,
        zone=opening.zone,
        machines=len(Scope.parse(opening.request.scope).select(inventory)),
        current=current,
        coming=later,
        by_hand=_command(name, asked.get(name, {}), current) if current is not None else "",
    )


def _windows(configuration: Configuration, opening: Opening, now: datetime) -> Iterator[Occurrence]:
    """Give the windows that are not over, freezes taken into account."""
    freezes = configuration.frozen_times(opening.zone)
    length = timedelta(minutes=opening.schedule.minutes)
    for window in occurrences(opening.schedule, now - length):
        if window.end > now and frozen(window, freezes) is None:
            yield window


def _holds(opening: Opening, window: Occurrence, now: datetime) -> bool:
    asked = opening.request
    whole = Window(window.start, window.end, opening.zone)
    return now < last_moment(whole, asked.reboot, asked.reboot_reserve_minutes * 60)


def _command(deployment: str, asked: Mapping[str, object], window: Occurrence) -> str:
    """Return how a person starts the run of a window: within that window, as its configuration says."""
    request: dict[str, Any] = dict(json.loads(json.dumps(asked)))
    request["window"] = {**request.get("window", {}), "start": window.start.isoformat()}
    words = json.dumps({"request": request}, separators=(",", ":"), ensure_ascii=False)
    return shlex.join(["prefect", "deployment", "run", deployment, "--params", words])


class Standing(StrEnum):
    """How far the run of a window has come."""

    NONE = "none"  # there is none, or it was cancelled before it began
    WAITS = "waits"  # no worker has taken it
    BEGUN = "begun"


def standings(
    client: "SyncPrefectClient",
    found: Sequence[Ahead],
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Standing]:
    """Return how far the run of each current window has come, by deployment.

    Args:
        client: of the server, where the deployments stand.
        found: what is ahead.
        clock: tells the present; of a run that is due within seconds it is waited whether the scheduler makes it.
        sleep: waits.
    """
    until = clock() + SOON
    known = {each.deployment: _standing(client, each) for each in found if each.current is not None}
    while clock() < until:
        left = [each for each in found if known.get(each.deployment) is Standing.NONE and _due(each) > clock() - SOON]
        if not left:
            break
        sleep(PAUSE_SECONDS)
        known |= {each.deployment: _standing(client, each) for each in left}
    return known


def _due(each: Ahead) -> datetime:
    assert each.current is not None  # noqa: S101 - for the type checker
    return each.current.start - each.lead


def _standing(client: "SyncPrefectClient", each: Ahead) -> Standing:
    """Return how far the runs are that a schedule or a person has made since the window's run was due."""
    deployment = client.read_deployment_by_name(each.deployment)
    assert each.current is not None  # noqa: S101 - for the type checker
    last = each.current.end
    if each.coming is not None:
        last = min(last, each.coming.start - each.lead - timedelta(seconds=1))  # that run is the next window's
    span = FlowRunFilterExpectedStartTime.model_validate({"after_": _due(each) - timedelta(seconds=1), "before_": last})
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(expected_start_time=span),
    )
    # Its start time is no sign: Prefect sets one when a run ends that never began.
    if any(run.run_count or run.state_type not in _NOT_BEGUN for run in runs):
        return Standing.BEGUN
    waits = any(run.state_type is not StateType.CANCELLED for run in runs)
    return Standing.WAITS if waits else Standing.NONE
