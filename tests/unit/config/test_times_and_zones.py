"""Lengths, wall clock times and zones, as people and Azure write them."""

from datetime import UTC, datetime
from importlib import resources
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from flows.freezes.time_values import (
    MACHINE_ZONE,
    WINDOWS_ZONES,
    parse_end_time,
    parse_local_time,
    parse_minutes,
    parse_time_zone,
)
from tests.unit.config.folder import wall


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *[("01:55", 115), ("3:00", 180), ("90", 90), (90, 90), (1.5, 1.5), ("1.5h", 90), ("2h", 120), ("1h 30m", 90)],
        *[("1h30min", 90), ("45 min", 45), ("1d", 1440), ("1d 2h 3m", 1563), (" 2H ", 120), ("0", 0), ("99:00", 5940)],
    ],
)
def test_lengths(text: object, minutes: float) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize(
    "text", ["", " ", "h", "1:60", "two hours", "2 weeks", "-5", True, None, [], "1e3", "2h 1d", "nan"]
)
def test_no_lengths(text: object) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        parse_minutes(text)
    assert "no length of time" in str(caught.value)


@given(st.integers(0, 999), st.integers(0, 59))
def test_a_length_means_the_same_in_all_its_spellings(hours: int, minutes: int) -> None:
    assert parse_minutes(f"{hours:02}:{minutes:02}") == parse_minutes(f"{hours}h {minutes}m") == hours * 60 + minutes


@given(st.datetimes(wall("0001-01-01"), wall("9999-12-31")))
def test_times_are_read_as_written(moment: datetime) -> None:
    whole = moment.replace(second=0, microsecond=0)
    assert parse_local_time(whole.isoformat(" ", "minutes")) == parse_local_time(whole.isoformat()) == whole


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("2026-12-05 22:00Z", "Leave the offset out"),
        ("2026-12-05T22:00+01:00", "Leave the offset out"),
        ("2026-12-05 22:00:30", "Write it as"),
        ("tomorrow", "Write it as"),
        ("2026-02-30", "Correct the day"),
        ("2026-12-05 24:30", "Correct the day"),
        ("1700000000", "Write it as"),
        (5, "Write it as"),
        (datetime(2026, 1, 1, tzinfo=UTC), "Write it as"),
    ],
)
def test_no_times(text: object, remedy: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        parse_local_time(text)
    assert remedy in str((caught.value.context or {})["hint"])


def test_a_date_is_its_first_moment_or_its_last() -> None:
    assert parse_local_time("2026-12-31") == wall("2026-12-31")
    assert parse_end_time("2026-12-31") == wall("2027-01-01")
    assert parse_end_time("2026-12-31 00:00") == wall("2026-12-31")
    assert parse_end_time("9999-12-31") == wall("9999-12-31")


def test_every_windows_zone_exists() -> None:
    assert set(WINDOWS_ZONES.values()) <= available_timezones()
    assert len(WINDOWS_ZONES) > 135
    assert {parse_time_zone(name) for name in WINDOWS_ZONES} == set(WINDOWS_ZONES.values())


def test_windows_zones_have_the_present_names_of_the_tz_database() -> None:
    table = resources.files("tzdata.zoneinfo").joinpath("zone.tab").read_text(encoding="utf-8")
    names = {line.split("\t")[2] for line in table.splitlines() if not line.startswith("#")}
    assert {name for name in WINDOWS_ZONES.values() if not name.startswith("Etc/")} <= {*names, "UTC"}


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("UTC", "UTC"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("pacific  standard time", "America/Los_Angeles"),
        ("Korea Standard Time", "Asia/Seoul"),
        ("Cen. Australia Standard Time", "Australia/Adelaide"),
        ("India Standard Time", "Asia/Kolkata"),
        (MACHINE_ZONE, MACHINE_ZONE),
    ],
)
def test_zones(text: str, zone: str) -> None:
    assert parse_time_zone(text) == zone


@pytest.mark.parametrize(
    ("text", "near"), [("Europe/Berlim", "'Europe/Berlin'"), ("Pacific Standart Time", "'Pacific Standard Time'")]
)
def test_no_zones(text: str, near: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        parse_time_zone(text)
    assert f"Did you mean {near}?" in str((caught.value.context or {})["hint"])
