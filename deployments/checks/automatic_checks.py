"""Checks of automatic patching that find errors before the first night. They read no files."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from math import ceil

from deployments.checks.finding import ConfigurationFinding, block, warn
from deployments.configuration.model import Configurations, Inventories
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from flows.request.automatic_request import AUTOMATIC_INTERVAL_SECONDS, AutomaticRequest
from flows.request.patch_request import PatchRequest
from inventory.errors import EmptyScopeError, InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine, PatchOwner
from inventory.name_lists import format_count, join_first_names
from inventory.scope import Scope
from tasks.domain.states import NotificationOccasion
from tasks.rules.calendar.local_time import format_duration

_MAX_NAMES = 5
_REBOOT_RESERVE_MINUTES: float = PatchRequest.model_fields["reboot_reserve_minutes"].default


def check_automatic(configurations: Configurations, inventories: Inventories) -> Iterator[ConfigurationFinding]:
    """Yield the findings about automatic patching."""
    request = configurations.automatic
    if request is None:
        return
    yield from _check_hours(request)
    yield from _check_rules(request)
    inventory = inventories.by_path.get(request.inventory)
    if inventory is not None:
        yield from _check_machines(request, inventory)


def _check_hours(request: AutomaticRequest) -> Iterator[ConfigurationFinding]:
    hours, window = compute_off_peak_minutes(request), request.off_peak.window_minutes
    off_peak = f"{request.off_peak.start:%H:%M} to {request.off_peak.end:%H:%M}"
    if min(hours, window) <= _REBOOT_RESERVE_MINUTES:
        reserve = format_duration(_REBOOT_RESERVE_MINUTES * 60)
        message = (
            f"a window has at most {format_duration(min(hours, window) * 60)}, and a reboot may need {reserve} of it"
        )
        yield block(AUTOMATIC_NAME, "off_peak", message, "Make `window_minutes` and the off-peak hours longer.")
    elif hours < window:
        message = (
            f"the off-peak hours ({off_peak}) have {format_duration(hours * 60)}: no window gets its "
            f"{format_duration(window * 60)}"
        )
        yield warn(AUTOMATIC_NAME, "off_peak", message, "Make `window_minutes` smaller, or the off-peak hours longer.")


def compute_off_peak_minutes(request: AutomaticRequest) -> float:
    """Return the length of the off-peak hours of an ordinary day. The same start and end: all day."""
    day = date(2026, 1, 1)
    start, end = (datetime.combine(day, time_of_day) for time_of_day in (request.off_peak.start, request.off_peak.end))
    return ((end - start) % timedelta(days=1) or timedelta(days=1)).total_seconds() / 60


def _check_rules(request: AutomaticRequest) -> Iterator[ConfigurationFinding]:
    needing = [
        number
        for number, rule in enumerate(request.risk_rules, 1)
        if rule.known_exploited or rule.epss is not None or rule.cvss is not None
    ]
    if needing and request.feeds is None:
        message = f"{'rule' if len(needing) == 1 else 'rules'} {', '.join(map(str, needing))} never applies: no `feeds`"
        yield warn(AUTOMATIC_NAME, "risk_rules", message, "Name the folder of the feed files under `feeds`.")
    for number, rule in enumerate(request.risk_rules, 1):
        if rule.due_days >= request.due_days:
            message = (
                f"rule {number} has no effect: every update is due after {format_count(request.due_days, 'day')} anyway"
            )
            yield warn(AUTOMATIC_NAME, "risk_rules", message, "Make its `due_days` smaller.")
    if request.notify and not any(NotificationOccasion.FAILED.value in target.on for target in request.notify):
        message = "nobody is told what automatic patching can't do: no entry has the event `failed`"
        yield warn(AUTOMATIC_NAME, "notify", message, "Add `failed` to `on`.")


def _check_machines(request: AutomaticRequest, inventory: Inventory) -> Iterator[ConfigurationFinding]:
    try:
        machines = Scope.parse(request.scope).select_machines(inventory)
    except EmptyScopeError as error:
        yield warn(AUTOMATIC_NAME, "scope", error.message, error.hint)
        return
    except InventoryError as error:
        yield block(AUTOMATIC_NAME, "scope", error.message, error.hint)
        return
    managed = [machine for machine in machines if machine.owner is PatchOwner.MANAGED]
    if not managed:
        message = f"none of its machines ({len(machines)}) has the owner `managed`: nothing is patched automatically"
        yield warn(
            AUTOMATIC_NAME, "scope", message, "Write `owner: managed` in the inventory, for machines or as a default."
        )
        return
    yield from _check_assessments(request, len(managed))
    yield from _check_locations(request, managed)


def _check_assessments(request: AutomaticRequest, machines: int) -> Iterator[ConfigurationFinding]:
    ticks = request.max_assessment_age_hours * 3600 / AUTOMATIC_INTERVAL_SECONDS
    if machines > request.max_assessments * ticks:
        age = format_duration(request.max_assessment_age_hours * 3600)
        message = (
            f"{machines} machines are too many to be assessed every {age}: at most {request.max_assessments} "
            f"begin every {AUTOMATIC_INTERVAL_SECONDS // 60} minutes"
        )
        yield warn(AUTOMATIC_NAME, "max_assessments", message, f"Make it at least {ceil(machines / ticks)}.")


def _check_locations(request: AutomaticRequest, managed: list[Machine]) -> Iterator[ConfigurationFinding]:
    locations = sorted({machine.location for machine in managed})
    without = [machine.name for machine in managed if not machine.location]
    if without and len(locations) > 1:
        names = join_first_names(without, _MAX_NAMES)
        message = f"managed machines have no `location`, so together they count as one location: {names}"
        yield warn(AUTOMATIC_NAME, "phases", message, "Write their `location` in the inventory.")
    for name in request.phases.canary_locations:
        if name not in locations:
            message = f"no managed machine is in the canary location {name!r}: it protects no other location"
            remedy = f"{did_you_mean(name, locations)}Correct the name, or remove it."
            yield warn(AUTOMATIC_NAME, "phases", message, remedy)
    if set(request.phases.canary_locations) >= set(locations) and len(locations) > 1:
        message = "all locations are canary locations: they protect no other location"
        yield warn(AUTOMATIC_NAME, "phases", message, "Leave one of them out of `canary_locations`.")
    for name in dict.fromkeys(name for group in request.phases.paired_locations for name in group):
        if name not in locations:
            remedy = f"{did_you_mean(name, locations)}Correct the name, or remove it."
            yield warn(AUTOMATIC_NAME, "phases", f"no managed machine is in the paired location {name!r}", remedy)
