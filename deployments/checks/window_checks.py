"""Checks of windows: their schedule, their freezes, when their runs start, and whether their machines fit into them."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from deployments.checks.finding import ConfigurationFinding, block, warn
from deployments.configuration.model import Configuration, Configurations, Inventories
from deployments.preview.upcoming_windows import WindowOverlap, find_overlaps
from deployments.preview.window_fit import estimate_fits
from deployments.preview.zone_schedules import build_zone_schedules, find_known_zones
from flows.freezes.time_values import MACHINE_ZONE
from inventory.name_lists import join_first_names
from tasks.records.measures import LearnedDurations
from tasks.reports.formatting import format_count
from tasks.rules.calendar.checks import check_schedule
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.local_time import format_duration, to_wall_time
from tasks.rules.calendar.schedule import Occurrence, Schedule, find_occurrences

CHECK_HORIZON = timedelta(days=366)
"""How far ahead the checks look. One year contains at least one window of every yearly schedule."""
_MAX_NAMES = 8


def check_windows(
    configuration: Configuration, inventories: Inventories, now: datetime
) -> Iterator[ConfigurationFinding]:
    """Yield the findings about a configuration's windows, for each zone of its machines."""
    for zone in find_known_zones(configuration, inventories):
        schedule = configuration.build_schedule(zone)
        zone_suffix = f" ({zone})" if configuration.zone == MACHINE_ZONE else ""
        for fault in check_schedule(schedule, now):
            yield ConfigurationFinding(
                configuration.name, fault.severity, "window", f"{fault.message}{zone_suffix}", fault.remedy
            )
        yield from _check_freezes(configuration, schedule, now)
        yield from _check_run_starts(configuration, schedule, now)
        yield from _check_hold(configuration, schedule, now)


def _check_hold(configuration: Configuration, schedule: Schedule, now: datetime) -> Iterator[ConfigurationFinding]:
    """Yield a finding if something may become pending that no window ends before the end of its last day."""
    form = configuration.form.maintenance
    if form is None:
        return
    freezes = configuration.build_freezes(schedule.zone)
    windows = [
        occurrence
        for occurrence in find_occurrences(schedule, now, now + CHECK_HORIZON)
        if find_freeze(occurrence, freezes) is None
    ]
    for window, following in pairwise(windows):
        if following.end - window.end > timedelta(minutes=form.hold):
            message = (
                f"after its window of {window.local_start:%Y-%m-%d %H:%M}, the next one that may open ends later than "
                f"the hold of {format_duration(form.hold * 60)}: what becomes pending in between is applied outside "
                "of its windows"
            )
            remedy = "Make `hold` longer, let windows recur more often, or end a freeze."
            yield warn(configuration.name, "maintenance", message, remedy)
            return


def _check_freezes(configuration: Configuration, schedule: Schedule, now: datetime) -> Iterator[ConfigurationFinding]:
    freezes = configuration.build_freezes(schedule.zone)
    windows = find_occurrences(schedule, now, now + CHECK_HORIZON) if freezes else ()
    if windows and freezes and all(find_freeze(window, freezes) for window in windows):
        reason = find_freeze(windows[0], freezes)
        named = f", the first of {reason.reason!r}" if reason and reason.reason else ""
        message = f"freezes cover all of its {format_count(len(windows), 'window')} of the coming year{named}"
        yield warn(configuration.name, "freezes", message, "Move the windows, or end the freezes.")


def _check_run_starts(
    configuration: Configuration, schedule: Schedule, now: datetime
) -> Iterator[ConfigurationFinding]:
    """Yield findings if a run or a download may start before the previous run ends."""
    freezes = configuration.build_freezes(schedule.zone)
    windows = [
        occurrence
        for occurrence in find_occurrences(schedule, now, now + CHECK_HORIZON)
        if find_freeze(occurrence, freezes) is None
    ]
    lead = timedelta(minutes=configuration.lead_minutes)
    for window, following in pairwise(windows):
        if lead and window.end <= following.start <= window.end + lead:
            run_minutes = configuration.lead_minutes + configuration.window_minutes
            period = following.start - window.start
            message = (
                f"a run takes {format_duration(run_minutes * 60)} (its lead and its window), and the next one is due "
                f"{format_duration(period.total_seconds())} after it: Prefect cancels the run of the window of "
                f"{following.local_start:%Y-%m-%d %H:%M}, because the earlier run is still active"
            )
            yield block(configuration.name, "lead", message, "Make `lead` or the window shorter.")
            break
    if configuration.stage_ahead_minutes is not None:
        yield from _check_staging(
            configuration, windows, timedelta(minutes=configuration.stage_ahead_minutes), schedule.zone
        )


def _check_staging(
    configuration: Configuration, windows: Sequence[Occurrence], ahead: timedelta, zone: str
) -> Iterator[ConfigurationFinding]:
    for number, window in enumerate(windows):
        starts, ends = window.start - ahead, window.start - ahead + (window.end - window.start)
        overlapping = next(
            (earlier for earlier in windows[:number] if earlier.start < ends and starts < earlier.end), None
        )
        if overlapping is not None:
            message = (
                f"the download for the window of {window.local_start:%Y-%m-%d %H:%M} may last from "
                f"{to_wall_time(starts, zone):%Y-%m-%d %H:%M} to {to_wall_time(ends, zone):%H:%M} and overlaps the "
                f"window of {overlapping.local_start:%Y-%m-%d %H:%M}: its run ends downloads that still go on"
            )
            yield warn(
                configuration.name,
                "stage_ahead",
                message,
                "Make `stage_ahead` shorter: begin the download after that window.",
            )
            return


def check_overlaps(
    configurations: Configurations, inventories: Inventories, now: datetime
) -> Iterator[ConfigurationFinding]:
    """Yield one finding for each configuration with overlaps. A finding for each pair could make thousands."""
    by_first: dict[str, list[WindowOverlap]] = {}
    for overlap in find_overlaps(build_zone_schedules(configurations, inventories), now, now + CHECK_HORIZON):
        by_first.setdefault(overlap.first, []).append(overlap)
    for name, overlaps in by_first.items():
        overlap = min(overlaps, key=lambda crossing: crossing.start)
        first_start = f"{overlap.start:%Y-%m-%d %H:%M} UTC"
        often = f" and {overlap.count - 1} more times within a year" if overlap.count > 1 else ""
        other_names = [repr(crossing.second) for crossing in overlaps if crossing is not overlap]
        machine_names = join_first_names(overlap.machines, 3)
        message = f"its windows overlap those of {overlap.second!r} on {machine_names}: at {first_start}{often}"
        message += f"; and those of {join_first_names(other_names, _MAX_NAMES)}" if other_names else ""
        remedy = "One run patches such a machine, the other skips it. Move one window, or separate the scopes."
        yield warn(name, "window", message, remedy)


def check_capacity(
    configurations: Configurations, inventories: Inventories, learned: LearnedDurations
) -> Iterator[ConfigurationFinding]:
    """Yield a warning for each enabled configuration whose machines don't fit into its window, in each zone."""
    schedules = build_zone_schedules(configurations, inventories)
    by_machine_zone = {
        schedule.configuration.name for schedule in schedules if schedule.configuration.zone == MACHINE_ZONE
    }
    for fit in estimate_fits(schedules, learned):
        if fit.message:
            zone = f" ({fit.zone})" if fit.configuration in by_machine_zone else ""
            yield warn(fit.configuration, "window", f"{fit.message}{zone}", fit.remedy)
