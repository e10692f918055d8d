"""Baselines in the calendar: which window brings an enrolled machine the reboot of a baseline."""

import json
from datetime import date

import pytest

from deployments.preview.window_calendar import HotpatchForecast, WindowCalendar, build_calendar, build_forecast
from fleetpatch.cli.runtime.output import get_stdout_console
from fleetpatch.cli.views.calendar import build_calendar_json, print_calendar
from tasks.rules.hotpatch import Baseline, BaselineCalendar
from tests.unit.config.folder import FLEETS, NOW, Folder

WEB = "name: web\nscope: web\nwindow: {start: 2026-12-12 22:00, length: 3h, zone: UTC, recurrence: Week Saturday}\n"
FROZEN = WEB + "freezes: [{start: 2027-01-14, end: 2027-01-18, reason: closing}]\n"
BUILDS = {"web-1": "20348"}
UNPLANNED = BaselineCalendar((Baseline(date(2026, 12, 8), "a zero-day"),), as_of=date(2026, 12, 1))


def forecast(
    folder: Folder, text: str = WEB, calendar: BaselineCalendar = UNPLANNED, builds: dict[str, str] = BUILDS
) -> tuple[WindowCalendar, HotpatchForecast]:
    agenda = build_calendar(folder.read(text), FLEETS, NOW, 20)
    return agenda, build_forecast(agenda.windows, builds, calendar, NOW)


def reboots(agenda: WindowCalendar, found: HotpatchForecast) -> list[tuple[date, date, tuple[str, ...]]]:
    pairs = zip(agenda.windows, found.windows, strict=True)
    return [(each.window.start.date(), it.baseline.day, it.machines) for each, it in pairs if it is not None]


def test_the_first_window_after_each_baseline_brings_its_reboot(folder: Folder) -> None:
    assert reboots(*forecast(folder)) == [
        (date(2026, 12, 12), date(2026, 12, 8), ("web-1",)),
        (date(2027, 1, 16), date(2027, 1, 12), ("web-1",)),
        (date(2027, 4, 17), date(2027, 4, 13), ("web-1",)),
    ]
    assert reboots(*forecast(folder, calendar=BaselineCalendar()))[0][1] == date(2027, 1, 12)


def test_a_window_that_a_freeze_cancels_leaves_it_to_the_next(folder: Folder) -> None:
    assert reboots(*forecast(folder, FROZEN))[1][:2] == (date(2027, 1, 23), date(2027, 1, 12))


def test_a_window_before_the_publication_of_the_day_is_too_early(folder: Folder) -> None:
    early = "name: web\nscope: web\nwindow: {start: 2027-01-12 05:00, length: 3h, zone: UTC, recurrence: Day}\n"
    assert reboots(*forecast(folder, early, BaselineCalendar()))[0][0] == date(2027, 1, 13)


def test_without_enrolled_machines_nothing_is_shown(folder: Folder) -> None:
    _, found = forecast(folder, builds={})
    assert found == HotpatchForecast()


def test_the_calendar_shows_it(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    get_stdout_console.cache_clear()
    agenda, found = forecast(folder)
    print_calendar(agenda, found)
    get_stdout_console.cache_clear()
    out = capsys.readouterr().out
    assert "baseline of 2026-12-08: a reboot is expected on 1 machine with hotpatches" in out
    assert "■ 08 Dec  ■ 12 Jan  □ 09 Feb" in out
    assert "unplanned baseline of 2026-12-08: a zero-day" in out
    document = build_calendar_json(agenda, found)
    json.dumps(document)
    windows = document["windows"]
    assert isinstance(windows, list)
    shown = [each["baseline"] for each in windows if each["baseline"]]
    assert shown[0] == {"date": "2026-12-08", "machineNames": ["web-1"]}
