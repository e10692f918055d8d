"""`fleetpatch calendar`, the page, the feed and the API have the same windows, over clock changes and freezes."""

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from icalendar import Calendar

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.preview.window_calendar import build_calendar
from fleetpatch.access.login_admin import create_access_token
from tests.contract.web.test_calendar import is_freeze
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

AUTUMN, SPRING = datetime(2026, 9, 27, 10, tzinfo=UTC), datetime(2027, 2, 27, 10, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "UTC")
MOST = 1000
RECURRENCES = (
    "Day", "3Days", "Week Saturday,Sunday", "2Weeks Sunday", "Month day1,day15", "Month day-1", "Month day31",
    "Month Second Tuesday Offset4", "6Hours", "25Hours", "Once", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
)  # fmt: skip

Window = tuple[str, datetime, datetime, bool]
"""Configuration, start, end, and whether a freeze cancels it."""


@st.composite
def freezes(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.datetimes(datetime(2026, 9, 20), datetime(2027, 4, 10)))  # noqa: DTZ001 - a wall time
    end = start + timedelta(hours=draw(st.integers(1, 300)))
    return {"start": f"{start:%Y-%m-%d %H:%M}", "end": f"{end:%Y-%m-%d %H:%M}", "reason": "sale"}


@st.composite
def configurations(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        start = draw(st.datetimes(datetime(2026, 9, 1), datetime(2026, 11, 5)))  # noqa: DTZ001 - a wall time
        window = {
            "start": f"{start:%Y-%m-%d} {draw(st.sampled_from(['01:30', '02:00', '02:30', '03:00', '23:30']))}",
            "length": draw(st.sampled_from(["1h", "2h", "5h"])),
            "zone": draw(st.sampled_from(ZONES)),
            "recurrence": draw(st.sampled_from(RECURRENCES)),
        }
        mine = draw(st.lists(freezes(), max_size=2))
        found.append({"name": f"c{number}", "scope": "*", "window": window, "freezes": mine})
    return found


def ask_command(place: Path, now: datetime) -> list[Window]:
    """Return the windows of `fleetpatch calendar`."""
    loaded = load_configurations(place / "configurations", now.date())
    calendar = build_calendar(loaded, load_inventories(loaded, place / "fleet.yaml"), now, MOST)
    return sorted(
        (each.zone_schedule.configuration.name, each.window.start, each.window.end, each.freeze is not None)
        for each in calendar.windows
    )


def ask_feed(site: Site) -> list[Window]:
    events = Calendar.from_ical(site.get("/calendar.ics").content).walk("VEVENT")
    return sorted(
        (
            str(each["SUMMARY"]).rpartition("Patching ")[2],
            each.decoded("DTSTART"),
            each.decoded("DTEND"),
            str(each["STATUS"]) == "CANCELLED",
        )
        for each in events
        if not is_freeze(each)
    )


def ask_api(site: Site, since: datetime, until: datetime) -> list[Window]:
    _, token = create_access_token(site.records, "bot", ["view"], clock=FakeClock(since))
    headers, found = {"Authorization": f"Bearer {token}"}, []
    for page in range(1, 100):
        query: dict[str, str | int] = {"since": since.isoformat(), "until": until.isoformat(), "page": page}
        part = site.client.get("/api/v1/windows", params=query, headers=headers).json()
        for each in part["items"]:
            moments = (datetime.fromisoformat(each[name]) for name in ("startDateTime", "endDateTime"))
            found.append((each["configuration"], *moments, each["status"] == "frozen"))
        if not part["next"]:
            break
    return sorted(found)


def ask_page(site: Site, month: str, zone: str) -> list[tuple[str, str, str, bool]]:
    """Return configuration, day, hours and whether it is frozen, as the list below the grid shows them."""
    page = site.get(f"/calendar?month={month}&zone={zone}").text
    found = []
    for body in re.findall(r"<tbody>\s*(<tr class=\"day.*?)</tbody>", page, re.DOTALL):
        day = re.search(r'colspan="5">(\w+ \d+ \w+)', body)
        assert day is not None
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
            cells = [re.sub(r"<[^>]+>", " ", each) for each in re.split(r"</t[hd]>", row)]
            hours, name, state = html.unescape(cells[0]).split()[0], cells[1].split()[0], cells[3].strip()
            found.append((name, day[1], hours.replace("\N{EN DASH}", "-"), state == "frozen"))
    return sorted(found)


def show(windows: Sequence[Window], month: str, zone: str) -> list[tuple[str, str, str, bool]]:
    """Return the windows of a month as the page shows them."""
    found = []
    for name, start, end, is_frozen in windows:
        begin, stop = start.astimezone(ZoneInfo(zone)), end.astimezone(ZoneInfo(zone))
        if f"{begin:%Y-%m}" == month:
            found.append((name, f"{begin:%A %d %B}", f"{begin:%H:%M}-{stop:%H:%M}", is_frozen))
    return sorted(found)


@pytest.mark.slow
@settings(max_examples=settings().max_examples // 2, suppress_health_check=[HealthCheck.too_slow])
@given(listed=configurations(), now=st.sampled_from([AUTUMN, SPRING]), zone=st.sampled_from(ZONES))
def test_the_command_the_page_the_feed_and_the_api_agree(
    listed: list[dict[str, Any]], now: datetime, zone: str
) -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "fleet.yaml").write_text("machines: [{name: web-1, address: 192.0.2.1}]\n")
        (place / "configurations").mkdir()
        (place / "configurations" / "all.yaml").write_text(yaml.safe_dump({"configurations": listed}))
        wanted = ask_command(place, now)
        until = now + timedelta(days=90)
        if len(wanted) == MOST:
            until = min(until, max(start for _, start, _, _ in wanted))
        coming = [each for each in wanted if now <= each[1] < until]
        with serve_site(place, clock=FakeClock(now)) as site:
            assert [each for each in ask_feed(site) if now <= each[1] < until] == coming
            assert ask_api(site, now, until) == coming
            assert until > now + timedelta(days=75)
            for month in {f"{now + timedelta(days=each):%Y-%m}" for each in (20, 45)}:
                assert ask_page(site, month, zone) == show(wanted, month, zone)
