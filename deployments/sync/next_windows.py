"""Finds the next window of each configuration after a deploy, and windows for which Prefect starts no run.

Prefect's scheduler creates no runs in the past. If the run of a window should have started before the deploy, Prefect
starts none, even if the window stays open for hours. A person must start that run; the output shows the command.
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
from inventory.errors import InventoryError
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.domain.model import Window
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.schedule import Occurrence, has_window_left, iterate_occurrences
from tasks.rules.timing.admission import compute_last_start

SCHEDULER_DELAY = timedelta(seconds=20)
"""A run that is due within this time may be missed: the scheduler looks for new deployments every few seconds."""


@dataclass(frozen=True, slots=True)
class NextWindows:
    """The next windows of one deployment.

    Attributes:
        deployment: full name in Prefect.
        configuration: the configuration.
        zone: the zone of the windows.
        machine_count: number of machines now.
        due_window: a window whose run is due or starts within seconds, and that still has enough time left for changes.
        next_window: the window after it; None: there is none.
        start_command: the command that starts the run of ``due_window``.
        is_over: its last window has ended: it patches nothing any more.
    """

    deployment: str
    configuration: Configuration
    zone: str
    machine_count: int
    due_window: Occurrence | None
    next_window: Occurrence | None
    start_command: str = ""
    is_over: bool = False

    @property
    def lead(self) -> timedelta:
        """The time from the start of a run to its window."""
        return timedelta(minutes=self.configuration.lead_minutes)


def find_next_windows(
    configurations: Configurations,
    inventories: Mapping[str, Inventory],
    scheduled_requests: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> tuple[NextWindows, ...]:
    """Return the next windows of the enabled configurations, sorted by start.

    Args:
        configurations: all configurations.
        inventories: inventories by the name of the configuration.
        scheduled_requests: the request of each run, by full name of the deployment.
        now: the present time, aware.
    """
    next_windows = [
        _build_next_windows(configuration, opening, inventories[configuration.name], scheduled_requests, now)
        for configuration in configurations.enabled_configurations
        for opening in configuration.build_remaining_requests(inventories[configuration.name], now)
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
        machine_count=_count_machines(scheduled_request, inventory),
        due_window=due_window,
        next_window=next_window,
        start_command=_build_start_command(name, scheduled_requests.get(name, {}), due_window)
        if due_window is not None
        else "",
        is_over=not has_window_left(scheduled_request.schedule, now),
    )


def _count_machines(scheduled_request: ScheduledRequest, inventory: Inventory) -> int:
    try:
        return len(Scope.parse(scheduled_request.request.scope).select_machines(inventory))
    except InventoryError:  # the checks of the configuration report it
        return 0


def _iterate_windows(
    configuration: Configuration, scheduled_request: ScheduledRequest, now: datetime
) -> Iterator[Occurrence]:
    """Yield the windows that are not over. Windows in a freeze are skipped."""
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
    """Return the command that starts the run of a window, with the request of its configuration."""
    request: dict[str, Any] = dict(json.loads(json.dumps(request_values)))
    request["window"] = {**request.get("window", {}), "start": window.start.isoformat()}
    parameters = json.dumps({"request": request}, separators=(",", ":"), ensure_ascii=False)
    return shlex.join(["prefect", "deployment", "run", deployment, "--params", parameters])
