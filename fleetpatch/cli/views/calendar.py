"""Prints the calendar, or returns it as JSON. Times are in the window's zone and in the reader's zone."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

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
    print_unwrapped,
    print_warning,
    shorten_list,
    to_safe_text,
)
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.config import ALL_OVER, OVER
from flows.freezes.time_values import MACHINE_ZONE
from inventory.data_class import dataclass
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.calendar.local_time import format_duration, get_time_zone

_WIDE_TERMINAL_COLUMNS = 100
_MAX_NAMES = 8
_MAX_FREEZES = 12
_BASELINE_MARK, _HOTPATCH_MARK = "■", "□"


FIT_FACTS: Final[Sequence[Fact[WindowFit]]] = (
    Fact("machineCount", lambda fit: fit.capacity.machines),
    Fact("fittingCount", lambda fit: fit.capacity.fitting),
    Fact("atOnce", lambda fit: fit.at_once),
    Fact("turnSeconds", lambda fit: round(fit.turn_seconds)),
    Fact("learnedCount", lambda fit: fit.learned),
    Fact("neededAtOnce", lambda fit: fit.capacity.needed_at_once),
    Fact("neededMinutes", lambda fit: fit.capacity.needed_minutes),
)
GAP_FACTS: Final[Sequence[Fact[WindowGap]]] = (
    Fact("name", lambda gap: gap.name),
    Fact("start", lambda gap: gap.start),
    Fact("end", lambda gap: gap.end),
)


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """A window, with the baseline that is expected in it and how many machines fit into it."""

    upcoming: UpcomingWindow
    baseline: WindowBaseline | None
    fit: WindowFit | None

    @property
    def style(self) -> str:
        """The style of its cells: a window in a freeze does not open."""
        return "dim" if self.upcoming.freeze else ""

    def to_window_time(self, moment: datetime) -> datetime:
        """Return a time by the window's clock."""
        return moment.astimezone(get_time_zone(self.upcoming.zone_schedule.schedule.zone))

    def render_window(self) -> Text:
        """Return the window by its own clock."""
        start, end = (self.to_window_time(at) for at in (self.upcoming.window.start, self.upcoming.window.end))
        until = f"{end:%H:%M}" if end - start < timedelta(days=1) else f"{end:%d %b %H:%M}"
        zone = end.tzname() or ""
        zone = f"UTC{zone}" if zone.startswith(("+", "-")) else zone
        return Text(f"{start:%a %Y-%m-%d %H:%M}–{until} {zone}", style=self.style)  # noqa: RUF001

    def render_local_start(self) -> Text:
        """Return its start by the reader's clock. A line below a narrow table also names the reader's zone."""
        moment = self.upcoming.window.start.astimezone()
        same_day = moment.date() == self.to_window_time(moment).date()
        local_start = f"{moment:%H:%M}" if same_day else f"{moment:%a %H:%M}"
        is_wide = get_stdout_console().width >= _WIDE_TERMINAL_COLUMNS
        return Text(f"{local_start} {moment:%Z}" if is_wide else local_start, style=self.style)

    def render_run_start(self) -> Text:
        """Return the start of its run by its clock. A remark in the table says whether Prefect starts the run."""
        start, run = (self.to_window_time(at) for at in (self.upcoming.window.start, self.upcoming.run_start))
        text = f"{run:%H:%M}" if run.date() == start.date() else f"{run:%a %H:%M}"
        text = "with it" if run == start else text
        return Text(NO_FIGURE if self.upcoming.freeze else text, style=self.style)

    def render_configuration(self) -> Text:
        """Return the configuration, its machines, and remarks on further lines."""
        schedule = self.upcoming.zone_schedule
        # A style of the whole text would also apply to the text after it.
        text = Text.assemble(to_safe_text(schedule.configuration.name, style=self.style or "bold"))
        if schedule.configuration.zone == MACHINE_ZONE:
            text.append_text(Text.assemble(" ", to_safe_text(f"({schedule.schedule.zone})", style="dim")))
        if schedule.machines:
            text.append_text(Text(f", {format_count(len(schedule.machines), 'machine')}", style="dim"))
        for line, colour in self._iterate_remarks():
            text.append_text(Text.assemble("\n", to_safe_text(line, style=colour)))
        return text

    def build_freeze_json(self) -> dict[str, object] | None:
        """Return the freeze that cancels it as JSON data."""
        freeze = self.upcoming.freeze
        if freeze is None:
            return None
        return {"start": format_iso_utc(freeze.start), "end": format_iso_utc(freeze.end), "reason": freeze.reason}

    def build_baseline_json(self) -> dict[str, object] | None:
        """Return the expected baseline as JSON data."""
        if self.baseline is None:
            return None
        return {"date": self.baseline.baseline.day.isoformat(), "machineNames": list(self.baseline.machines)}

    def _iterate_remarks(self) -> Iterator[tuple[str, str]]:
        upcoming, fit, freeze = self.upcoming, self.fit, self.upcoming.freeze
        if freeze:
            reason = f" ({sanitize_to_one_line(freeze.reason, 80)})" if freeze.reason else ""
            yield f"frozen until {self.to_window_time(freeze.end):%Y-%m-%d %H:%M}{reason}", "cyan"
        else:
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
            if fit is not None and not fit.capacity.fits:
                machines = format_count(fit.capacity.machines, "machine")
                yield f"about {fit.capacity.fitting} of {machines} fit into it", "yellow"
        if self.baseline is not None:
            count, day = format_count(len(self.baseline.machines), "machine"), self.baseline.baseline.day
            yield f"baseline of {day:%Y-%m-%d}: a reboot is expected on {count} with hotpatches", "yellow"


WINDOW_FACTS: Final[Sequence[Fact[CalendarRow]]] = (
    Fact("", CalendarRow.render_window, "window"),
    Fact("", CalendarRow.render_local_start, "yours"),
    Fact("", CalendarRow.render_run_start, "run starts"),
    Fact("", CalendarRow.render_configuration, "configuration", wraps=True),
    Fact("configuration", lambda row: row.upcoming.zone_schedule.configuration.name),
    Fact("zone", lambda row: row.upcoming.zone_schedule.schedule.zone),
    Fact("start", lambda row: row.upcoming.window.start),
    Fact("end", lambda row: row.upcoming.window.end),
    Fact("localStart", lambda row: row.to_window_time(row.upcoming.window.start).isoformat()),
    Fact("runStart", lambda row: row.upcoming.run_start),
    Fact("startedByPrefect", lambda row: row.upcoming.is_started_by_prefect),
    Fact("machineCount", lambda row: len(row.upcoming.zone_schedule.machines)),
    Fact("frozen", CalendarRow.build_freeze_json),
    Fact("overlaps", lambda row: row.upcoming.overlapping_configurations),
    Fact("openNow", lambda row: row.upcoming.is_open),
    Fact("note", lambda row: row.upcoming.window.note),
    Fact("fit", lambda row: build_list_json(FIT_FACTS, [row.fit])[0] if row.fit else None),
    Fact("baseline", CalendarRow.build_baseline_json),
)


def _build_rows(window_calendar: WindowCalendar, forecast: HotpatchForecast) -> list[CalendarRow]:
    windows = zip_longest(window_calendar.windows, forecast.windows)
    return [CalendarRow(upcoming, baseline, window_calendar.find_fit(upcoming)) for upcoming, baseline in windows]


def build_calendar_json(window_calendar: WindowCalendar, forecast: HotpatchForecast) -> dict[str, object]:
    """Return the calendar as JSON data."""
    return {
        "at": format_iso_utc(window_calendar.now),
        "machine": window_calendar.machine or None,
        "windows": build_list_json(WINDOW_FACTS, _build_rows(window_calendar, forecast)),
        "gaps": build_list_json(GAP_FACTS, window_calendar.gaps),
        "machinesWithoutConfiguration": list(window_calendar.unassigned_machines),
        "switchedOff": list(window_calendar.disabled_configurations),
        "freezes": build_list_json(_list_freeze_facts(window_calendar.only_zone), window_calendar.freezes),
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


def _list_freeze_facts(zone: str) -> Sequence[Fact[CalendarFreeze]]:
    """Return the facts about each freeze. ``zone``: of all windows; "": theirs differ, so times are the reader's."""

    def describe_times(freeze: CalendarFreeze) -> str:
        start, end = (at.astimezone(get_time_zone(zone) if zone else None) for at in (freeze.start, freeze.end))
        return f"{start:%a %Y-%m-%d %H:%M} to {end:%a %Y-%m-%d %H:%M %Z}"

    def describe_scope(freeze: CalendarFreeze) -> str:
        whom = "the whole fleet" if freeze.is_general else ", ".join(shorten_list(freeze.configurations, _MAX_NAMES))
        return f"{whom}{f': {sanitize_to_one_line(freeze.reason, 80)}' if freeze.reason else ''}"

    return (
        Fact("", describe_times, "freeze", wraps=True),
        Fact("start", lambda freeze: freeze.start),
        Fact("end", lambda freeze: freeze.end),
        Fact("reason", lambda freeze: freeze.reason),
        Fact("configurations", lambda freeze: freeze.configurations, "of", describe_scope, wraps=True),
        Fact("wholeFleet", lambda freeze: freeze.is_general),
    )


def print_calendar(window_calendar: WindowCalendar, forecast: HotpatchForecast) -> None:
    """Print the calendar."""
    on_machine = f", on {window_calendar.machine}" if window_calendar.machine else ""
    for fault in window_calendar.inventory_errors:
        print_to_stderr(Text.assemble(("machines are unknown: ", "yellow"), to_safe_text(fault)))
    if window_calendar.windows:
        rows = _build_rows(window_calendar, forecast)
        starts = [row.upcoming.window.start for row in rows]
        zones_differ = any(
            start.astimezone().replace(tzinfo=None) != row.to_window_time(start).replace(tzinfo=None)
            for row, start in zip(rows, starts, strict=True)
        )
        print_to_stdout(build_list_table(WINDOW_FACTS, rows, without=[] if zones_differ else ["yours"]), "")
        frozen = sum(row.upcoming.freeze is not None for row in rows)
        overlapping = sum(bool(row.upcoming.overlapping_configurations) for row in rows)
        parts = [format_count(len(rows), "window")]
        parts += [f"{frozen} frozen"] * bool(frozen) + [f"{overlapping} overlapping"] * bool(overlapping)
        print_unwrapped(f"{', '.join(parts)}, from {window_calendar.now.astimezone():%Y-%m-%d %H:%M %Z} on{on_machine}")
        _print_hotpatch_days(forecast)
    else:
        print_unwrapped(f"no next window{on_machine}")
    if freezes := window_calendar.freezes:
        table = build_list_table(_list_freeze_facts(window_calendar.only_zone), freezes[:_MAX_FREEZES])
        print_to_stdout("", table, "")
    if (more := len(freezes) - _MAX_FREEZES) > 0:
        print_to_stdout(f"and {format_count(more, 'more freeze')}: --json has all")
    for warning in _list_warnings(window_calendar):
        print_warning(warning)
    if window_calendar.disabled_configurations:
        print_to_stdout(to_safe_text(f"disabled: {', '.join(window_calendar.disabled_configurations)}", "dim"))


def _list_warnings(window_calendar: WindowCalendar) -> Iterator[str]:
    for fit in window_calendar.fits.values():
        if fit.message:
            yield f"{fit.configuration}: {fit.message}. {fit.remedy}"
    for name in window_calendar.over_configurations:
        yield f"{name}: {OVER}"
    if window_calendar.is_over:
        yield ALL_OVER
    for gap in window_calendar.gaps:
        if gap.end is None:
            yield f"{gap.name} has no window after {gap.start.astimezone():%Y-%m-%d %H:%M}"
        else:
            length = format_duration((gap.end - gap.start).total_seconds())
            days = f"{gap.start.astimezone():%Y-%m-%d} to {gap.end.astimezone():%Y-%m-%d}"
            yield f"{gap.name} has no window for {length}: {days}"
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
                reason = sanitize_to_one_line(baseline.reason, 120)
                print_warning(f"unplanned baseline of {day:%Y-%m-%d}: {reason}")
    if forecast.remark:
        print_warning(forecast.remark)
