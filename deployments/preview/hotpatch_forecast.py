"""Baselines of hotpatches in the calendar: in which windows enrolled machines expect a reboot for them. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from deployments.preview.upcoming_windows import UpcomingWindow
from tasks.rules.hotpatch.baselines import Baseline, BaselineCalendar

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
