"""Prints the calendar, or returns it as JSON. Times are in the window's zone and in the reader's zone."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import zip_longest

from rich.text import Text

from deployments.preview.upcoming_windows import UpcomingWindow
from deployments.preview.window_calendar import (
    CalendarFreeze,
    HotpatchForecast,
    WindowBaseline,
    WindowCalendar,
    WindowGap,
)
from deployments.preview.window_fit import WindowFit
from fleetpatch.cli.runtime.output import (
    get_stdout_console,
    print_to_stderr,
    print_to_stdout,
    shorten_list,
    to_safe_text,
)
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from fleetpatch.cli.views.config import ALL_OVER, OVER, print_warning
from flows.freezes.time_values import MACHINE_ZONE
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.calendar.local_time import format_duration, get_time_zone

_WIDE_TERMINAL_COLUMNS = 100
_MAX_NAMES = 8
_MAX_FREEZES = 12
_BASELINE_MARK, _HOTPATCH_MARK = "■", "□"


def build_calendar_json(window_calendar: WindowCalendar, forecast: HotpatchForecast) -> dict[str, object]:
    """Return the calendar as JSON data."""
    return {
        "at": format_iso_utc(window_calendar.now),
        "machine": window_calendar.machine or None,
        "windows": [
            _build_window_json(gap, baseline, window_calendar.find_fit(gap))
            for gap, baseline in _with_baselines(window_calendar, forecast)
        ],
        "gaps": [
            {"name": gap.name, "start": format_iso_utc(gap.start), "end": format_iso_utc(gap.end)}
            for gap in window_calendar.gaps
        ],
        "machinesWithoutConfiguration": list(window_calendar.unassigned_machines),
        "switchedOff": list(window_calendar.disabled_configurations),
        "freezes": [
            {
                "start": format_iso_utc(gap.start),
                "end": format_iso_utc(gap.end),
                "reason": gap.reason,
                "configurations": list(gap.configurations),
                "wholeFleet": gap.is_general,
            }
            for gap in window_calendar.freezes
        ],
        "over": list(window_calendar.over_configurations),
        "unknown": list(window_calendar.unresolved_configurations),
        "inventoryFaults": list(window_calendar.inventory_errors),
        "hotpatchDays": [
            {
                "date": day.isoformat(),
                "baseline": baseline is not None,
                "unplannedReason": (baseline.reason or None) if baseline else None,
            }
            for day, baseline in forecast.days
        ],
        "hotpatchRemark": forecast.remark or None,
    }


def _with_baselines(
    window_calendar: WindowCalendar, forecast: HotpatchForecast
) -> Iterator[tuple[UpcomingWindow, WindowBaseline | None]]:
    return zip_longest(window_calendar.windows, forecast.windows)


def _build_window_json(
    upcoming: UpcomingWindow, expected: WindowBaseline | None, fit: WindowFit | None
) -> dict[str, object]:
    freeze = upcoming.freeze
    return {
        "configuration": upcoming.zone_schedule.configuration.name,
        "zone": upcoming.zone_schedule.schedule.zone,
        "start": format_iso_utc(upcoming.window.start),
        "end": format_iso_utc(upcoming.window.end),
        "localStart": _to_window_time(upcoming.window.start, upcoming).isoformat(),
        "runStart": format_iso_utc(upcoming.run_start),
        "startedByPrefect": upcoming.is_started_by_prefect,
        "machineCount": len(upcoming.zone_schedule.machines),
        "frozen": {"start": format_iso_utc(freeze.start), "end": format_iso_utc(freeze.end), "reason": freeze.reason}
        if freeze
        else None,
        "overlaps": list(upcoming.overlapping_configurations),
        "openNow": upcoming.is_open,
        "note": upcoming.window.note,
        "fit": _build_fit_json(fit) if fit is not None else None,
        "baseline": {"date": expected.baseline.day.isoformat(), "machineNames": list(expected.machines)}
        if expected
        else None,
    }


def _build_fit_json(fit: WindowFit) -> dict[str, object]:
    return {
        "machineCount": fit.capacity.machines,
        "fittingCount": fit.capacity.fitting,
        "atOnce": fit.at_once,
        "turnSeconds": round(fit.turn_seconds),
        "learnedCount": fit.learned,
        "neededAtOnce": fit.capacity.needed_at_once,
        "neededMinutes": fit.capacity.needed_minutes,
    }


def print_calendar(window_calendar: WindowCalendar, forecast: HotpatchForecast) -> None:
    """Print the calendar."""
    for fault in window_calendar.inventory_errors:
        print_to_stderr(Text.assemble(("machines are unknown: ", "yellow"), to_safe_text(fault)))
    if window_calendar.windows:
        _print_windows(window_calendar, forecast)
        _print_hotpatch_days(forecast)
    else:
        print_to_stdout(to_safe_text(f"no next window{_describe_machine(window_calendar)}"))
    if window_calendar.freezes:
        grid = build_table("freeze", "of")
        for freeze in window_calendar.freezes[:_MAX_FREEZES]:
            grid.add_row(*map(to_safe_text, _describe_freeze(freeze, window_calendar.only_zone)))
        print_to_stdout("", grid, "")
    if (more := len(window_calendar.freezes) - _MAX_FREEZES) > 0:
        print_to_stdout(f"and {format_count(more, 'more freeze')}: --json has all")
    for warning in _list_warnings(window_calendar):
        print_warning(warning)
    if window_calendar.disabled_configurations:
        print_to_stdout(
            Text.assemble("disabled: ", to_safe_text(", ".join(window_calendar.disabled_configurations)), style="dim")
        )


def _describe_freeze(freeze: CalendarFreeze, zone: str) -> tuple[str, str]:
    start, end = (moment.astimezone(get_time_zone(zone) if zone else None) for moment in (freeze.start, freeze.end))
    whom = "the whole fleet" if freeze.is_general else ", ".join(shorten_list(freeze.configurations, _MAX_NAMES))
    reason = f": {sanitize_to_one_line(freeze.reason, 80)}" if freeze.reason else ""
    return f"{start:%a %Y-%m-%d %H:%M} to {end:%a %Y-%m-%d %H:%M %Z}", f"{whom}{reason}"


def _list_warnings(window_calendar: WindowCalendar) -> Iterator[str]:
    for fit in window_calendar.fits.values():
        if fit.message:
            yield f"{fit.configuration}: {fit.message}. {fit.remedy}"
    for name in window_calendar.over_configurations:
        yield f"{name}: {OVER}"
    if window_calendar.is_over:
        yield ALL_OVER
    for gap in window_calendar.gaps:
        yield _describe_gap(gap)
    if window_calendar.unassigned_machines:
        names = ", ".join(shorten_list(window_calendar.unassigned_machines, _MAX_NAMES))
        yield f"machines without a configuration: {names}"
    for name in window_calendar.unresolved_configurations:
        yield f"{name} uses the time zones of its machines, and it has no machines"


def _print_hotpatch_days(forecast: HotpatchForecast) -> None:
    """Print the next days with hotpatches and baselines, as a line of months."""
    if forecast.days:
        parts = [
            Text.assemble(
                (_BASELINE_MARK if baseline else _HOTPATCH_MARK, "yellow" if baseline else "green"), f" {day:%d %b}"
            )
            for day, baseline in forecast.days
        ]
        legend = f"{_BASELINE_MARK} baseline with a reboot, {_HOTPATCH_MARK} hotpatch without one"
        print_to_stdout(Text.assemble("hotpatches: ", Text("  ").join(parts)), Text(legend, style="dim"))
        for day, baseline in forecast.days:
            if baseline is not None and baseline.reason:
                text = f"unplanned baseline of {day:%Y-%m-%d}: {sanitize_to_one_line(baseline.reason, 120)}"
                print_to_stdout(Text.assemble(("! ", "yellow"), to_safe_text(text)))
    if forecast.remark:
        print_to_stdout(Text.assemble(("! ", "yellow"), to_safe_text(forecast.remark)))


def _print_windows(window_calendar: WindowCalendar, forecast: HotpatchForecast) -> None:
    is_wide = get_stdout_console().width >= _WIDE_TERMINAL_COLUMNS
    zone_differs = [
        window.window.start.astimezone().replace(tzinfo=None)
        != _to_window_time(window.window.start, window).replace(tzinfo=None)
        for window in window_calendar.windows
    ]
    grid = build_table(
        build_unwrapped_column("window"),
        *([build_unwrapped_column("yours")] if any(zone_differs) else []),
        build_unwrapped_column("run starts"),
        "configuration",
    )
    for each, baseline in _with_baselines(window_calendar, forecast):
        style = "dim" if each.freeze else ""
        cells = [Text(_format_window(each), style=style)]
        if any(zone_differs):
            cells.append(Text(_format_local_start(each.window.start.astimezone(), each, is_wide), style=style))
        run = NO_FIGURE if each.freeze else _format_run_start(each)
        grid.add_row(
            *cells, Text(run, style=style), _render_configuration(each, baseline, style, window_calendar.find_fit(each))
        )
    print_to_stdout(grid, "")
    frozen = sum(window.freeze is not None for window in window_calendar.windows)
    overlapping = sum(bool(window.overlapping_configurations) for window in window_calendar.windows)
    parts = [format_count(len(window_calendar.windows), "window")]
    parts += [f"{frozen} frozen"] * bool(frozen) + [f"{overlapping} overlapping"] * bool(overlapping)
    print_to_stdout(
        to_safe_text(
            f"{', '.join(parts)}, from {window_calendar.now.astimezone():%Y-%m-%d %H:%M %Z} on"
            f"{_describe_machine(window_calendar)}"
        )
    )


def _describe_machine(window_calendar: WindowCalendar) -> str:
    return f", on {window_calendar.machine}" if window_calendar.machine else ""


def _format_window(upcoming: UpcomingWindow) -> str:
    start, end = (_to_window_time(moment, upcoming) for moment in (upcoming.window.start, upcoming.window.end))
    until = f"{end:%H:%M}" if end - start < timedelta(days=1) else f"{end:%d %b %H:%M}"
    zone = end.tzname() or ""
    zone = f"UTC{zone}" if zone.startswith(("+", "-")) else zone
    return f"{start:%a %Y-%m-%d %H:%M}–{until} {zone}"  # noqa: RUF001


def _format_local_start(moment: datetime, upcoming: UpcomingWindow, is_wide: bool) -> str:
    same_day = moment.date() == _to_window_time(upcoming.window.start, upcoming).date()
    shown = f"{moment:%H:%M}" if same_day else f"{moment:%a %H:%M}"
    return f"{shown} {moment:%Z}" if is_wide else shown  # a line below the table also names the reader's zone


def _format_run_start(upcoming: UpcomingWindow) -> str:
    """Return the start of the run in the window's zone. A remark in the table says whether Prefect starts the run."""
    if upcoming.run_start == upcoming.window.start:
        return "with it"
    start, run = (_to_window_time(moment, upcoming) for moment in (upcoming.window.start, upcoming.run_start))
    return f"{run:%H:%M}" if run.date() == start.date() else f"{run:%a %H:%M}"


def _render_configuration(
    upcoming: UpcomingWindow, expected: WindowBaseline | None, style: str, fit: WindowFit | None
) -> Text:
    configuration = upcoming.zone_schedule.configuration
    name = configuration.name
    # A style of the whole text would also apply to the text after it.
    text = Text.assemble(to_safe_text(name, style=style or "bold"))
    if configuration.zone == MACHINE_ZONE:
        text.append_text(Text.assemble(" ", to_safe_text(f"({upcoming.zone_schedule.schedule.zone})", style="dim")))
    if upcoming.zone_schedule.machines:
        text.append_text(Text(f", {format_count(len(upcoming.zone_schedule.machines), 'machine')}", style="dim"))
    for line, colour in (*_iterate_remarks(upcoming), *_describe_fit(upcoming, fit), *_describe_baseline(expected)):
        text.append_text(Text.assemble("\n", to_safe_text(line, style=colour)))
    return text


def _describe_fit(upcoming: UpcomingWindow, fit: WindowFit | None) -> Iterator[tuple[str, str]]:
    if fit is not None and not fit.capacity.fits and not upcoming.freeze:
        yield f"about {fit.capacity.fitting} of {format_count(fit.capacity.machines, 'machine')} fit into it", "yellow"


def _describe_baseline(expected: WindowBaseline | None) -> Iterator[tuple[str, str]]:
    if expected is not None:
        count = format_count(len(expected.machines), "machine")
        yield f"baseline of {expected.baseline.day:%Y-%m-%d}: a reboot is expected on {count} with hotpatches", "yellow"


def _iterate_remarks(upcoming: UpcomingWindow) -> Iterator[tuple[str, str]]:
    if upcoming.freeze:
        reason = f" ({sanitize_to_one_line(upcoming.freeze.reason, 80)})" if upcoming.freeze.reason else ""
        yield f"frozen until {_to_window_time(upcoming.freeze.end, upcoming):%Y-%m-%d %H:%M}{reason}", "cyan"
        return
    if upcoming.is_open:
        yield "open now", "green"
    if upcoming.overlapping_configurations:
        yield f"overlaps {', '.join(upcoming.overlapping_configurations)}", "yellow"
    if upcoming.is_start_past:
        yield "its run has started, or Prefect no longer starts one", "yellow"
    elif not upcoming.is_started_by_prefect:
        yield "Prefect has no date for it yet: run `fleetpatch deploy` before it", "yellow"
    if upcoming.window.note:
        yield upcoming.window.note, "yellow"


def _describe_gap(gap: WindowGap) -> str:
    if gap.end is None:
        return f"{gap.name} has no window after {gap.start.astimezone():%Y-%m-%d %H:%M}"
    length = format_duration((gap.end - gap.start).total_seconds())
    return (
        f"{gap.name} has no window for {length}: {gap.start.astimezone():%Y-%m-%d} to {gap.end.astimezone():%Y-%m-%d}"
    )


def _to_window_time(moment: datetime, upcoming: UpcomingWindow) -> datetime:
    return moment.astimezone(get_time_zone(upcoming.zone_schedule.schedule.zone))
