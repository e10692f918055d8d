"""The data of `fleetpatch calendar`: the next windows, long gaps, machines without windows, baselines of hotpatches."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Final

from deployments.configuration.model import Configurations, Inventories
from deployments.preview.upcoming_windows import SEARCH_HORIZON, UpcomingWindow, find_upcoming_windows
from deployments.preview.window_fit import WindowFit, estimate_fits
from deployments.preview.zone_schedules import ZoneSchedule, build_zone_schedules, is_all_over, list_over
from flows.freezes.time_values import MACHINE_ZONE
from flows.request.request_parts import FreezeRequest
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import PatchOwner
from tasks.records.measures import LearnedDurations
from tasks.rules.hotpatch import Baseline, BaselineCalendar

SHOWN_DAYS: Final = timedelta(days=190)
_PUBLICATION: Final = time(18, tzinfo=UTC)  # 10:00 in Redmond, in winter


@dataclass(frozen=True, slots=True)
class WindowBaseline:
    """The baseline that machines get in a window, with an expected reboot."""

    baseline: Baseline
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HotpatchForecast:
    """What is expected of hotpatches in the windows of a calendar.

    Attributes:
        windows: for each window of the calendar, in its order: its baseline, or None.
        days: the next days on which monthly updates are published, each with its baseline, or None for a hotpatch.
            Empty if no machine is enrolled.
        remark: why the forecast may be incomplete, or "".
    """

    windows: tuple[WindowBaseline | None, ...] = ()
    days: tuple[tuple[date, Baseline | None], ...] = ()
    remark: str = ""


def build_forecast(
    windows: Sequence[UpcomingWindow], builds: Mapping[str, str], calendar: BaselineCalendar, now: datetime
) -> HotpatchForecast:
    """Return what is expected of hotpatches in these windows.

    A machine gets a baseline in the first window after its publication that no freeze cancels.
    """
    if not builds:
        return HotpatchForecast()
    days = tuple(calendar.iterate(now.date(), (now + SHOWN_DAYS).date()))
    last_windows = dict.fromkeys(builds, now)
    baselines: dict[int, WindowBaseline] = {}
    order = sorted(range(len(windows)), key=lambda index: windows[index].window.start)
    for index in order:
        upcoming = windows[index]
        if upcoming.freeze is None:
            start = upcoming.window.start
            enrolled = [name for name in upcoming.zone_schedule.machines if name in builds]
            if expected := _find_expected(enrolled, builds, calendar, last_windows, start):
                baselines[index] = expected
            last_windows.update(dict.fromkeys(enrolled, max(start, now)))
    remark = calendar.describe_age(now.date())
    return HotpatchForecast(tuple(baselines.get(index) for index in range(len(windows))), days, remark)


def _find_expected(
    machines: Collection[str],
    builds: Mapping[str, str],
    calendar: BaselineCalendar,
    seen: Mapping[str, datetime],
    start: datetime,
) -> WindowBaseline | None:
    """Return the last baseline that was published since these machines' windows before, and who gets it."""
    due: dict[str, Baseline] = {}
    for name in machines:
        last = calendar.find_last(start.date(), builds[name])
        moment = datetime.combine(last.day, _PUBLICATION)
        if moment > start:
            last = calendar.find_last(start.date() - timedelta(days=1), builds[name])
            moment = datetime.combine(last.day, _PUBLICATION)
        if seen[name] < moment <= start:
            due[name] = last
    if not due:
        return None
    newest = max(due.values(), key=lambda each: each.day)
    return WindowBaseline(newest, tuple(sorted(due)))


_WHOLE_FLEET: Final = ""


@dataclass(frozen=True, slots=True)
class CalendarFreeze:
    """A freeze of some configurations. ``is_general``: of the whole fleet, or of all that the calendar has."""

    start: datetime
    end: datetime
    reason: str
    configurations: tuple[str, ...]
    is_general: bool


def list_freezes(
    zone_schedules: Sequence[ZoneSchedule],
    since: datetime,
    until: datetime,
    common: Iterable[FreezeRequest] = (),
    zones: Iterable[str] = (),
) -> tuple[CalendarFreeze, ...]:
    """Return the freezes between two moments, with the configurations that have them.

    A freeze without an offset is another time in each zone: those of one reason that overlap are shown as one.

    ``until`` is excluded. ``common`` are the freezes of the whole fleet, ``zones`` the zones of its machines (IANA
    names), for these.
    """
    everybody = {zone_schedule.configuration.name for zone_schedule in zone_schedules}
    clocks = {*zones, *(zone_schedule.schedule.zone for zone_schedule in zone_schedules)} or {"UTC"}
    general = {(freeze, _WHOLE_FLEET) for freeze_form in common for freeze in map(freeze_form.to_freeze, clocks)}
    own_freezes = {
        (freeze, zone_schedule.configuration.name)
        for zone_schedule in zone_schedules
        for freeze in zone_schedule.freezes
    }
    spans = sorted(
        (freeze.reason, freeze.start, freeze.end, name)
        for freeze, name in (*general, *own_freezes)
        if freeze.start < until and freeze.end > since
    )
    calendar_freezes: list[CalendarFreeze] = []
    names: set[str] = set()
    for reason, start, end, name in spans:
        last = calendar_freezes[-1] if calendar_freezes else None
        if last is not None and last.reason == reason and start <= last.end:
            names.add(name)
            begins, ends = last.start, max(last.end, end)
            calendar_freezes.pop()
        else:
            names, begins, ends = {name}, start, end
        is_general = _WHOLE_FLEET in names or names == everybody
        calendar_freezes.append(CalendarFreeze(begins, ends, reason, tuple(sorted(names - {_WHOLE_FLEET})), is_general))
    return tuple(
        sorted(calendar_freezes, key=lambda freeze_form: (freeze_form.start, freeze_form.end, freeze_form.reason))
    )


NOTHING_LEARNED = LearnedDurations()
FREEZES_AHEAD = timedelta(days=366)
LONG_GAP = timedelta(days=35)
"""A machine without a window for this time gets updates too late: vendors publish them each month."""


@dataclass(frozen=True, slots=True)
class WindowGap:
    """A long time without a window."""

    name: str
    start: datetime  # in UTC
    end: datetime | None  # in UTC; None if no later window is known


@dataclass(frozen=True, slots=True)
class WindowCalendar:
    """The calendar of the next windows."""

    now: datetime
    machine: str  # the only machine of the calendar, or "" for all
    windows: tuple[UpcomingWindow, ...]
    gaps: tuple[WindowGap, ...]
    unassigned_machines: tuple[str, ...]  # machines that fleetpatch owns and no configuration selects
    disabled_configurations: tuple[str, ...]  # names of configurations whose windows do not open
    # Names of configurations with unknown windows, because their machines are unknown.
    unresolved_configurations: tuple[str, ...]
    inventory_errors: tuple[str, ...]
    over_configurations: tuple[str, ...] = ()  # names of enabled configurations whose last window has ended
    is_over: bool = False  # whether that is so for all, so that no schedule patches anything any more
    freezes: tuple[CalendarFreeze, ...] = ()  # those of the coming year, also where no window would open anyway
    only_zone: str = ""  # the zone of all windows and machines; "" if they have several
    # Whether machines fit into their windows, by configuration and zone.
    fits: Mapping[tuple[str, str], WindowFit] = field(default_factory=dict)

    def find_fit(self, upcoming: UpcomingWindow) -> WindowFit | None:
        """Return whether the machines of a window fit into it; None if they are unknown."""
        schedule = upcoming.zone_schedule
        return self.fits.get((schedule.configuration.name, schedule.schedule.zone))


def build_calendar(
    configurations: Configurations,
    inventories: Inventories,
    now: datetime,
    count: int,
    machine: str | None = None,
    learned: LearnedDurations = NOTHING_LEARNED,
) -> WindowCalendar:
    """Build the calendar of at most ``count`` windows, or of those of one machine.

    Raises:
        InventoryError: there is no such machine, or no inventory that could contain it.
    """
    zone_schedules = build_zone_schedules(configurations, inventories)
    if machine:
        _require_machine(inventories, machine)
        zone_schedules = tuple(zone_schedule for zone_schedule in zone_schedules if machine in zone_schedule.machines)
    over = list_over(configurations, inventories, now)
    zones = {member.zone for member in inventories.iterate_machines() if not machine or member.name == machine}
    zones |= {zone_schedule.schedule.zone for zone_schedule in zone_schedules}
    assigned_names = {name for zone_schedule in zone_schedules for name in zone_schedule.machines}
    groups = [(schedule.configuration.name, [schedule]) for schedule in zone_schedules]
    gaps = [
        gap
        for name, schedules in ([(machine, list(zone_schedules))] if machine else groups)
        for gap in find_window_gaps(schedules, name, now)
    ]
    resolved_names = {zone_schedule.configuration.name for zone_schedule in zone_schedules}
    return WindowCalendar(
        now=now,
        machine=machine or "",
        windows=find_upcoming_windows(zone_schedules, now, count),
        gaps=tuple(gap for gap in gaps if gap.name not in over),
        unassigned_machines=tuple(
            member.name
            for member in (() if machine else inventories.iterate_machines())
            if member.owner is PatchOwner.FLEETPATCH and member.name not in assigned_names
        ),
        disabled_configurations=tuple(
            configuration.name for configuration in configurations.all_configurations if not configuration.is_enabled
        ),
        unresolved_configurations=tuple(
            configuration.name
            for configuration in configurations.enabled_configurations
            if configuration.zone == MACHINE_ZONE and configuration.name not in {*resolved_names, *over} and not machine
        ),
        inventory_errors=tuple(error.message for error in inventories.errors.values()),
        over_configurations=tuple(name for name in over if not machine or name in resolved_names),
        is_over=is_all_over(configurations, over),
        freezes=list_freezes(zone_schedules, now, now + FREEZES_AHEAD, configurations.common_freezes, zones),
        only_zone=next(iter(zones), "UTC") if len(zones) <= 1 else "",
        fits={(fit.configuration, fit.zone): fit for fit in estimate_fits(zone_schedules, learned)},
    )


def find_window_gaps(zone_schedules: Sequence[ZoneSchedule], name: str, now: datetime) -> tuple[WindowGap, ...]:
    """Return the long gaps of the next year in which nothing has a window. Windows in a freeze do not count."""
    now = now.astimezone(UTC)
    until = now + timedelta(days=366)
    longest = timedelta(minutes=max((zone_schedule.schedule.minutes for zone_schedule in zone_schedules), default=0))
    windows = sorted(
        (w.start, w.end)
        for zone_schedule in zone_schedules
        for w in zone_schedule.find_windows(now - longest, until + LONG_GAP)
    )
    spans = [(now, now), *windows]
    gaps = [
        WindowGap(name, end, start)
        for (_, end), (start, _) in pairwise(spans)
        if start - end >= LONG_GAP and end < until
    ]
    if until - spans[-1][1] >= LONG_GAP:
        later = (zone_schedule.find_windows(until, until + SEARCH_HORIZON) for zone_schedule in zone_schedules)
        next_start = min((windows[0].start for windows in later if windows), default=None)
        gaps.append(WindowGap(name, spans[-1][1], next_start))
    return tuple(gaps)


def _require_machine(inventories: Inventories, machine: str) -> None:
    names = [member.name for member in inventories.iterate_machines()]
    if machine in names:
        return
    if inventories.errors and not names:
        error = next(iter(inventories.errors.values()))
        raise InventoryError(error.message, hint=error.hint)
    raise InventoryError(
        f"there is no machine {machine!r} in the inventory",
        hint=f"{did_you_mean(machine, names)}`fleetpatch inventory list` has all.",
    )
