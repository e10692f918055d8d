"""A freeze is the same instants to everybody: who deploys, shows, checks, counts ahead, and keeps to it at the door."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.configuration.loader import InvalidConfigurations, load_configurations
from deployments.configuration.model import Configuration, Configurations
from deployments.preview.upcoming_windows import find_upcoming_windows
from deployments.preview.zone_schedules import build_zone_schedules
from deployments.sync.desired_state import build_window_schedule
from flows.admission import RefusedRun, admit_run
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from inventory.machine import Inventory
from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind, iterate_prefect_starts
from tasks.rules.calendar.schedule import iterate_occurrences
from tests.support.fake_clock import FakeClock
from tests.unit.config.folder import FLEETS, Folder

SPRING, AUTUMN = "2026-03-29", "2026-10-25"
NIGHTS = [
    # a freeze's start and end, the window's wall time that day, whether it is frozen
    ("Europe/Berlin", f"{SPRING} 02:30", f"{SPRING} 02:45", "01:40", True),  # 00:40Z: the jump is at 01:00Z
    ("Europe/Berlin", f"{SPRING} 02:30", f"{SPRING} 06:00", "01:40", True),
    ("Europe/Berlin", f"{SPRING} 02:30", f"{SPRING} 06:00", "01:10", False),
    ("Europe/Berlin", f"{SPRING} 00:00", f"{SPRING} 02:30", "03:10", True),  # its end may be 01:30Z, 03:30 there
    ("Europe/Berlin", f"{SPRING} 00:00", f"{SPRING} 02:30", "03:40", False),
    ("Europe/Berlin", f"{AUTUMN} 00:00", f"{AUTUMN} 02:30", "02:10", True),
    (
        "Europe/Berlin",
        f"{AUTUMN} 00:00",
        f"{AUTUMN} 02:30",
        "02:40",
        True,
    ),  # it ends at the second 02:30
    ("Europe/Berlin", f"{AUTUMN} 00:00", f"{AUTUMN} 02:30", "03:00", False),
    ("Europe/Berlin", f"{AUTUMN} 02:30", f"{AUTUMN} 05:00", "02:40", True),
    ("Europe/Berlin", f"{AUTUMN} 02:30", f"{AUTUMN} 05:00", "02:00", False),
    ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-04 04:00", "01:50", True),  # half an hour is jumped over
    ("America/Santiago", "2026-09-06", "2026-09-07", "23:30", True),  # of the day before: the 6th has no midnight
]


def read(folder: Folder, zone: str, start: str, end: str, opens: str) -> tuple[Configurations, datetime]:
    day = datetime.fromisoformat(start).date()
    if zone == "America/Santiago":
        day -= timedelta(days=1)
    first = datetime.combine(day - timedelta(days=1), datetime.min.time())
    text = (
        f"name: a\nscope: web\nreboot: Never\nfreezes: [{{start: {start}, end: {end}}}]\n"
        f"window: {{start: {first:%Y-%m-%d} {opens}, length: 10, zone: {zone}, recurrence: 1Day}}\n"
    )
    now = datetime.combine(day, datetime.min.time(), UTC) - timedelta(hours=14)
    return folder.read(text), now


def of_that_day(one: Configuration) -> datetime:
    """The instant at which the window of the day in question opens: the second one."""
    (opening,) = one.build_scheduled_requests(Inventory(()))
    _, second = iterate_occurrences(opening.schedule, datetime(2026, 1, 1, tzinfo=UTC), limit=2)
    return second.start


def by_deploy(one: Configuration, at: datetime, now: datetime) -> bool:
    (opening,) = one.build_scheduled_requests(Inventory(()))
    said = build_window_schedule(one, opening, now, None, slug="a", lead=timedelta())
    assert said is not None
    told = PrefectSchedule(PrefectScheduleKind.RRULE, said.rule, said.zone, None)
    return at not in set(iterate_prefect_starts(told, now, at + timedelta(days=1)))


def by_calendar(configurations: Configurations, at: datetime, now: datetime) -> bool:
    (found,) = [
        each
        for each in find_upcoming_windows(build_zone_schedules(configurations, FLEETS), now, 5)
        if each.window.start == at
    ]
    return found.freeze is not None


def by_ahead(configurations: Configurations, at: datetime) -> bool:
    (lane,) = build_zone_schedules(configurations, FLEETS)
    return at not in [each.start for each in lane.find_windows(at, at + timedelta(minutes=1))]


def at_the_door(one: Configuration, at: datetime, who: Caller) -> bool:
    (opening,) = one.build_scheduled_requests(Inventory(()))
    return isinstance(admit_run(opening.request, who, FlowRunOrigin("flow-1", at, "a"), FakeClock(at)), RefusedRun)


@pytest.mark.parametrize(("zone", "start", "end", "opens", "frozen"), NIGHTS)
def test_everybody_reads_a_freeze_alike(
    folder: Folder, tmp_path: Path, empty_records: Path, zone: str, start: str, end: str, opens: str, frozen: bool
) -> None:
    configurations, now = read(folder, zone, start, end, opens)
    (one,) = configurations.all_configurations
    at = of_that_day(one)
    who = Caller(name="anne", records_url=f"sqlite:///{shutil.copy(empty_records, tmp_path)}")

    answers = {
        "calendar": by_calendar(configurations, at, now),
        "lane": by_ahead(configurations, at),
        "door": at_the_door(one, at, who),
        "deploy": by_deploy(one, at, now),
    }

    assert answers == dict.fromkeys(answers, frozen), f"window {at.isoformat()}"


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("[2026-12-24]", "Write {date: 2026-12-24}, {start: 2026-12-19, end: 2027-01-06}, or {file: closing.ics}."),
        ("[christmas]", "Write {date: 2026-12-24},"),
        ("[[2026-12-24]]", "Write {date: 2026-12-24},"),
        ("[{reason: x}]", "Write {date: 2026-12-24},"),
    ],
)
def test_what_is_no_freeze_is_answered_with_one(folder: Folder, written: str, hint: str) -> None:
    path = folder.write({"web.yaml": f"freezes: {written}\n"})
    with pytest.raises(InvalidConfigurations) as refused:
        load_configurations(path, datetime(2026, 11, 20, tzinfo=UTC).date())
    (problem,) = refused.value.problems
    assert "this is no freeze" in problem.message
    assert problem.hint.startswith(hint)
