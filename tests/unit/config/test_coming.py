"""The next windows: in order, each once, with what is in their way, and just when Prefect starts their runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.configuration.model import Inventories
from deployments.preview.upcoming_windows import find_overlap_starts, find_upcoming_windows
from deployments.preview.window_calendar import build_calendar, find_window_gaps
from deployments.preview.zone_schedules import build_zone_schedules
from inventory.errors import InventoryError
from tasks.rules.calendar.schedule import Occurrence
from tests.unit.config.folder import FLEETS, NOW, WEEKLY, Folder

SEVERAL = """\
configurations:
- {name: web, scope: web, lead: 8h,
   window: {start: 2026-12-12 22:00, length: "03:55", zone: Europe/Berlin, recurrence: Month Second Tuesday Offset4}}
- {name: db, scope: db, machines: [web-1], lead: 40,
   window: {start: 2026-12-13 00:30, length: 3h, zone: Europe/Berlin, recurrence: Week Sunday}}
- {name: shops, scope: env=shop, window: {start: 2026-12-06 03:30, length: 2h, zone: machine, recurrence: Week Sunday}}
- {name: off, enabled: false, scope: "*", window: {start: 2026-12-06 03:30, length: 2h, zone: UTC, recurrence: Day}}
freezes: [{start: 2026-12-19, end: 2027-01-06, reason: closing}]
"""


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_the_next_windows(folder: Folder) -> None:
    found = find_upcoming_windows(build_zone_schedules(folder.read(SEVERAL), FLEETS), NOW, 9)
    shown = [
        (each.zone_schedule.configuration.name, each.zone_schedule.schedule.zone[:4], each.window.start)
        for each in found
    ]
    assert shown == [
        ("shops", "Asia", at(2026, 12, 5, 18, 30)),
        ("shops", "Amer", at(2026, 12, 6, 8, 30)),
        ("shops", "Asia", at(2026, 12, 12, 18, 30)),
        ("web", "Euro", at(2026, 12, 12, 21)),
        ("db", "Euro", at(2026, 12, 12, 23, 30)),
        ("shops", "Amer", at(2026, 12, 13, 8, 30)),
        ("shops", "Asia", at(2026, 12, 19, 18, 30)),
        ("db", "Euro", at(2026, 12, 19, 23, 30)),
        ("shops", "Amer", at(2026, 12, 20, 8, 30)),
    ]
    assert [each.freeze is not None for each in found] == [False] * 6 + [True] * 3
    assert [each.overlapping_configurations for each in found] == [(), (), (), ("db",), ("web",), (), (), (), ()]
    assert [each.zone_schedule.machines for each in found][3:5] == [("web-1", "web-2"), ("web-1", "db-1")]
    assert found[3].run_start == at(2026, 12, 12, 13)
    assert found[4].run_start == at(2026, 12, 12, 22, 50)
    assert [each.is_started_by_prefect for each in found] == [True] * 6 + [False] * 3, (
        "Prefect isn't told of what is frozen"
    )


def test_what_is_open_now_comes_first_and_prefect_starts_no_run_for_it(folder: Folder) -> None:
    lanes = build_zone_schedules(folder.read(f"name: a\nscope: web\nlead: 1h\n{WEEKLY}\n"), FLEETS)
    for moment, first, now, by_schedule in (
        (at(2026, 12, 6, 19, 59), at(2026, 12, 6, 21), False, True),
        (at(2026, 12, 6, 20, 0), at(2026, 12, 6, 21), False, True),
        (at(2026, 12, 6, 20, 1), at(2026, 12, 6, 21), False, False),
        (at(2026, 12, 6, 21, 0), at(2026, 12, 6, 21), True, False),
        (at(2026, 12, 6, 22, 59), at(2026, 12, 6, 21), True, False),
        (at(2026, 12, 6, 23, 0), at(2026, 12, 13, 21), False, True),
    ):
        one, _ = find_upcoming_windows(lanes, moment, 2)
        assert (one.window.start, one.is_open, one.is_started_by_prefect) == (first, now, by_schedule), moment
        assert one.is_start_past is not by_schedule


def test_what_prefect_can_only_be_told_later(folder: Folder) -> None:
    """Dates that the clocks shift are listed one by one, and there is an end to what a list holds."""
    window = "{start: 2026-12-06 02:30, length: 2h, zone: Europe/Berlin, recurrence: Day}"
    found = find_upcoming_windows(
        build_zone_schedules(folder.read(f"name: a\nscope: web\nwindow: {window}\n"), FLEETS), NOW, 400
    )
    told = [each.is_started_by_prefect for each in found]
    assert told == sorted(told, reverse=True), "first those that Prefect knows, then those that it can't know yet"
    assert (told[0], told[-1]) == (True, False)
    assert not any(each.is_start_past for each in found)


def test_an_end_of_all_windows(folder: Folder) -> None:
    lanes = build_zone_schedules(
        folder.read("name: a\nscope: web\nwindow: {start: 2026-12-06, length: 2h, zone: UTC}\n"), FLEETS
    )
    assert len(find_upcoming_windows(lanes, NOW, 5)) == 1
    (gap,) = find_window_gaps(lanes, "a", NOW)
    assert (gap.start, gap.end) == (at(2026, 12, 6, 2), None)


def test_long_times_without_a_window(folder: Folder) -> None:
    text = f"name: a\nscope: web\nfreezes: [{{start: 2026-12-20, end: 2027-02-10}}]\n{WEEKLY}\n"
    (gap,) = find_window_gaps(build_zone_schedules(folder.read(text), FLEETS), "a", NOW)
    assert (gap.start, gap.end) == (at(2026, 12, 13, 23), at(2027, 2, 14, 21))


def test_a_year_between_windows_names_the_next(folder: Folder) -> None:
    text = "name: a\nscope: web\nwindow: {start: 2026-12-06, length: 2h, zone: UTC, recurrence: FREQ=YEARLY}\n"
    (gap,) = find_window_gaps(build_zone_schedules(folder.read(text), FLEETS), "a", NOW)
    assert (gap.start, gap.end) == (at(2026, 12, 6, 2), at(2027, 12, 6))


def test_an_agenda_of_all(folder: Folder) -> None:
    agenda = build_calendar(folder.read(SEVERAL), FLEETS, NOW, 24)
    assert len(agenda.windows) == 24
    assert agenda.unassigned_machines == (), "db-1, web and shops are in some, and old-1 isn't ours"
    assert agenda.disabled_configurations == ("off",)
    assert agenda.unresolved_configurations == ()
    alone = build_calendar(folder.read(f"name: a\nscope: db\n{WEEKLY}\n"), FLEETS, NOW, 1)
    assert alone.unassigned_machines == ("web-1", "web-2", "nyc-1", "tok-1")


def test_an_agenda_of_one_machine(folder: Folder) -> None:
    agenda = build_calendar(folder.read(SEVERAL), FLEETS, NOW, 3, "tok-1")
    assert {each.zone_schedule.schedule.zone for each in agenda.windows} == {"Asia/Tokyo"}
    both = build_calendar(folder.read(SEVERAL), FLEETS, NOW, 30, "web-1")
    assert {each.zone_schedule.configuration.name for each in both.windows} == {"web", "db"}
    assert build_calendar(folder.read(SEVERAL), FLEETS, NOW, 3, "old-1").windows == ()


def test_a_machine_that_is_not_there(folder: Folder) -> None:
    with pytest.raises(InventoryError, match="no machine 'web-3'") as caught:
        build_calendar(folder.read(SEVERAL), FLEETS, NOW, 3, "web-3")
    assert "Did you mean 'web-" in caught.value.hint
    with pytest.raises(InventoryError, match="unreadable"):
        build_calendar(folder.read(SEVERAL), Inventories({}, {None: InventoryError("unreadable")}), NOW, 3, "web-1")


def test_without_machines_fixed_zones_are_still_shown(folder: Folder) -> None:
    agenda = build_calendar(folder.read(SEVERAL), Inventories({}, {None: InventoryError("unreadable")}), NOW, 5)
    assert {each.zone_schedule.configuration.name for each in agenda.windows} == {"web", "db"}
    assert (agenda.unresolved_configurations, agenda.inventory_errors) == (("shops",), ("unreadable",))


SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20)), max_size=12)


@given(SPANS, SPANS)
def test_meetings_are_all_pairs_that_overlap(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
    def windows(spans: list[tuple[int, int]]) -> list[Occurrence]:
        length = spans[0][1] if spans else 1  # the windows of a schedule are equally long
        starts = sorted({start for start, _ in spans})
        moments = [(NOW + timedelta(minutes=start), NOW + timedelta(minutes=start + length)) for start in starts]
        return [Occurrence(start, end, start.replace(tzinfo=None)) for start, end in moments]

    one, other = windows(ours), windows(theirs)
    pairs = [max(a.start, b.start) for a in one for b in other if a.start < b.end and b.start < a.end]
    assert sorted(find_overlap_starts(one, other)) == sorted(pairs)
