"""Finds the next window of each configuration after a deploy, and windows for which Prefect starts no run.

Prefect's scheduler creates no runs in the past. If the run of a window should have started before the deploy, Prefect
starts none, even if the window stays open for hours. A person must start that run; the output shows the command.
"""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import StateType

from deployments.configuration.model import Configuration, Configurations, ScheduledRequest
from flows.patch import patch_fleet
from flows.prefect_api.api_client import read_all_pages
from inventory.data_class import dataclass
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
    """The next windows of one deployment."""

    deployment: str  # full name in Prefect
    configuration: Configuration
    zone: str
    machine_count: int
    # A window whose run is due or starts within seconds, and that still has enough time left for changes.
    due_window: Occurrence | None
    next_window: Occurrence | None  # the window after it; None: there is none
    start_command: str = ""  # the command that starts the run of ``due_window``
    is_over: bool = False  # its last window has ended: it patches nothing any more

    @property
    def lead(self) -> timedelta:
        """The time from the start of a run to its window."""
        return timedelta(minutes=self.configuration.lead_minutes)

    @property
    def run_start(self) -> datetime:
        """When the run of ``due_window`` should start. Only with such a window."""
        assert self.due_window is not None  # noqa: S101 - for the type checker
        return self.due_window.start - self.lead


def find_next_windows(
    configurations: Configurations,
    inventories: Mapping[str, Inventory],
    scheduled_requests: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> tuple[NextWindows, ...]:
    """Return the next windows of the enabled configurations, sorted by start."""
    next_windows = [
        _build_next_windows(configuration, opening, inventories[configuration.name], scheduled_requests, now)
        for configuration in configurations.enabled_configurations
        for opening in configuration.build_remaining_requests(inventories[configuration.name], now)
    ]

    def find_start(windows: NextWindows) -> datetime:
        window = windows.due_window or windows.next_window
        return window.start if window is not None else datetime.max.replace(tzinfo=UTC)

    return tuple(sorted(next_windows, key=find_start))


def _build_next_windows(
    configuration: Configuration,
    scheduled_request: ScheduledRequest,
    inventory: Inventory,
    scheduled_requests: Mapping[str, Mapping[str, object]],
    now: datetime,
) -> NextWindows:
    name = f"{patch_fleet.name}/{scheduled_request.slug}"
    lead = timedelta(minutes=configuration.lead_minutes)
    freezes = configuration.build_freezes(scheduled_request.zone)
    length = timedelta(minutes=scheduled_request.schedule.minutes)
    windows_left = (
        window
        for window in iterate_occurrences(scheduled_request.schedule, now - length)
        if window.end > now and find_freeze(window, freezes) is None
    )
    due_windows, next_window = [], None
    for window in islice(windows_left, 1000):
        if window.start - lead > now + SCHEDULER_DELAY:
            next_window = window
            break
        request = scheduled_request.request
        patch_window = Window(window.start, window.end, scheduled_request.zone)
        if now < compute_last_start(patch_window, request.reboot, request.reboot_reserve_minutes * 60):
            due_windows.append(window)
    due_window = due_windows[0] if due_windows else None
    return NextWindows(
        deployment=name,
        configuration=configuration,
        zone=scheduled_request.zone,
        machine_count=_count_machines(scheduled_request, inventory),
        due_window=due_window,
        next_window=next_window,
        start_command=_build_start_command(name, scheduled_requests.get(name, {}), due_window) if due_window else "",
        is_over=not has_window_left(scheduled_request.schedule, now),
    )


def _count_machines(scheduled_request: ScheduledRequest, inventory: Inventory) -> int:
    try:
        return len(Scope.parse(scheduled_request.request.scope).select_machines(inventory))
    except InventoryError:  # the checks of the configuration report it
        return 0


def _build_start_command(deployment: str, request_values: Mapping[str, object], window: Occurrence) -> str:
    """Return the command that starts the run of a window, with the request of its configuration."""
    request: dict[str, Any] = dict(json.loads(json.dumps(request_values)))
    request["window"] = {**request.get("window", {}), "start": window.start.isoformat()}
    parameters = json.dumps({"request": request}, separators=(",", ":"), ensure_ascii=False)
    return shlex.join(["prefect", "deployment", "run", deployment, "--params", parameters])


POLL_SECONDS = 1.0
_NOT_STARTED_STATES = frozenset({StateType.SCHEDULED, StateType.PENDING, StateType.CANCELLED})


class WindowRunStatus(StrEnum):
    """The status of the run of a window."""

    NONE = "none"  # there is no run, or it was cancelled before it started
    WAITING = "waits"  # no worker has started it
    STARTED = "begun"


def find_run_statuses(
    client: SyncPrefectClient,
    next_windows: Sequence[NextWindows],
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, WindowRunStatus]:
    """Return the status of the run of each due window, by deployment. If a run is due within seconds, wait for it."""
    deadline = clock() + SCHEDULER_DELAY
    statuses = {
        window.deployment: _find_run_status(client, window) for window in next_windows if window.due_window is not None
    }
    while clock() < deadline:
        missing = [
            window
            for window in next_windows
            if statuses.get(window.deployment) is WindowRunStatus.NONE and window.run_start > clock() - SCHEDULER_DELAY
        ]
        if not missing:
            break
        sleep(POLL_SECONDS)
        statuses |= {next_window.deployment: _find_run_status(client, next_window) for next_window in missing}
    return statuses


def _find_run_status(client: SyncPrefectClient, next_windows: NextWindows) -> WindowRunStatus:
    """Return the status of the runs that a schedule or a person made since the window's run was due."""
    deployment = client.read_deployment_by_name(next_windows.deployment)
    assert next_windows.due_window is not None  # noqa: S101 - for the type checker
    last = next_windows.due_window.end
    if next_windows.next_window is not None:
        # A run from that time on belongs to the next window.
        last = min(last, next_windows.next_window.start - next_windows.lead - timedelta(seconds=1))
    span = FlowRunFilterExpectedStartTime.model_validate(
        {"after_": next_windows.run_start - timedelta(seconds=1), "before_": last}
    )
    runs = list(
        read_all_pages(
            lambda limit, offset: client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
                flow_run_filter=FlowRunFilter(expected_start_time=span),
                limit=limit,
                offset=offset,
            )
        )
    )
    # The start time proves nothing: Prefect also sets it when a run ends without a start.
    if any(run.run_count or run.state_type not in _NOT_STARTED_STATES for run in runs):
        return WindowRunStatus.STARTED
    is_waiting = any(run.state_type is not StateType.CANCELLED for run in runs)
    return WindowRunStatus.WAITING if is_waiting else WindowRunStatus.NONE
