"""What comes after a deployment: the next window of each configuration, and those that Prefect starts no run for.

Prefect's scheduler makes no runs in the past. A window whose run should have started before it was deployed gets none,
although it may be open for hours yet: somebody has to start that run, and is told how.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from deployments.configuration.model import Configuration, Configurations, ScheduledRequest
from flows.patch import patch_fleet
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.model import Window
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.schedule import Occurrence, iterate_occurrences
from tasks.rules.timing.admission import compute_last_start

SCHEDULER_DELAY = timedelta(seconds=20)
"""A run that is due so soon may be missed by a scheduler that looks for new deployments every few seconds."""


@dataclass(frozen=True, slots=True)
class NextWindows:
    """What is ahead of one deployment of windows.

    Attributes:
        deployment: full name in Prefect.
        configuration: whose windows they are.
        zone: by whose clocks they open.
        machine_count: how many it is for now.
        due_window: the window whose run should have started, or starts within seconds, and that still holds something.
        next_window: the next one after it; None: none comes.
        start_command: the command that starts the run of ``due_window``.
    """

    deployment: str
    configuration: Configuration
    zone: str
    machine_count: int
    due_window: Occurrence | None
    next_window: Occurrence | None
    start_command: str = ""

    @property
    def lead(self) -> timedelta:
        """How long before its window a run starts."""
        return timedelta(minutes=self.configuration.lead_minutes)


def find_next_windows(
    configurations: Configurations,
    inventories: Mapping[str, Inventory],
    scheduled_requests: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> tuple[NextWindows, ...]:
    """Return what is ahead of the configurations that are switched on, the earliest window first.

    Args:
        configurations: all of them.
        inventories: their machines, by a configuration's name.
        scheduled_requests: what a run is asked, by its deployment's full name.
        now: aware.
    """
    next_windows = [
        _build_next_windows(configuration, opening, inventories[configuration.name], scheduled_requests, now)
        for configuration in configurations.enabled_configurations
        for opening in configuration.build_scheduled_requests(inventories[configuration.name])
    ]
    never = datetime.max.replace(tzinfo=UTC)
    return tuple(
        sorted(
            next_windows, key=lambda each: window.start if (window := each.due_window or each.next_window) else never
        )
    )


def _build_next_windows(
    configuration: Configuration,
    scheduled_request: ScheduledRequest,
    inventory: Inventory,
    scheduled_requests: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> NextWindows:
    name = f"{patch_fleet.name}/{scheduled_request.slug}"
    lead = timedelta(minutes=configuration.lead_minutes)
    due_windows, next_window = [], None
    for window in islice(_iterate_windows(configuration, scheduled_request, now), 1000):
        if window.start - lead > now + SCHEDULER_DELAY:
            next_window = window
            break
        if _has_time_left(scheduled_request, window, now):
            due_windows.append(window)
    due_window = due_windows[0] if due_windows else None
    return NextWindows(
        deployment=name,
        configuration=configuration,
        zone=scheduled_request.zone,
        machine_count=len(Scope.parse(scheduled_request.request.scope).select_machines(inventory)),
        due_window=due_window,
        next_window=next_window,
        start_command=_build_start_command(name, scheduled_requests.get(name, {}), due_window)
        if due_window is not None
        else "",
    )


def _iterate_windows(
    configuration: Configuration, scheduled_request: ScheduledRequest, now: datetime
) -> Iterator[Occurrence]:
    """Give the windows that are not over, freezes taken into account."""
    freezes = configuration.build_freezes(scheduled_request.zone)
    length = timedelta(minutes=scheduled_request.schedule.minutes)
    for window in iterate_occurrences(scheduled_request.schedule, now - length):
        if window.end > now and find_freeze(window, freezes) is None:
            yield window


def _has_time_left(scheduled_request: ScheduledRequest, window: Occurrence, now: datetime) -> bool:
    request = scheduled_request.request
    whole = Window(window.start, window.end, scheduled_request.zone)
    return now < compute_last_start(whole, request.reboot, request.reboot_reserve_minutes * 60)


def _build_start_command(deployment: str, request_values: Mapping[str, object], window: Occurrence) -> str:
    """Return how a person starts the run of a window: within that window, as its configuration says."""
    request: dict[str, Any] = dict(json.loads(json.dumps(request_values)))
    request["window"] = {**request.get("window", {}), "start": window.start.isoformat()}
    parameters = json.dumps({"request": request}, separators=(",", ":"), ensure_ascii=False)
    return shlex.join(["prefect", "deployment", "run", deployment, "--params", parameters])
