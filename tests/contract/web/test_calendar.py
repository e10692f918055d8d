"""The calendar page and its feed, over real configurations and records."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from icalendar import Calendar, Component

from deployments.preview import upcoming_windows
from fleetpatch.pages import calendar
from tasks.domain.states import OperationState, WindowStatus
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.timing.admission import WindowClaim
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOSTILE = "</td><script>alert(1)</script>;,\\n"
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo")
CONFIGURATIONS: list[dict[str, Any]] = [
    {
        "name": "weekly",
        "scope": "env=prod",
        "window": {
            "start": "2026-11-03 22:00",
            "length": "2h",
            "zone": "Europe/Berlin",
            "recurrence": "Week Tuesday",
        },
    },
    {
        "name": "databases",
        "scope": "name=db-1",
        "window": {"start": "2026-11-24 23:00", "length": "3h", "zone": "Europe/Berlin", "recurrence": "Once"},
    },
    {
        "name": "branches",
        "scope": "env=branch",
        "window": {"start": "2026-11-01 03:30", "length": "2h", "zone": "machine", "recurrence": "Week Sunday"},
    },
    {
        "name": "off",
        "enabled": False,
        "scope": "*",
        "window": {"start": "2026-11-01 03:30", "length": "2h", "zone": "UTC", "recurrence": "1Day"},
    },
]
FREEZES = [{"start": "2026-11-28", "end": "2026-11-30", "reason": HOSTILE}]


def write_fleet(place: Path, configurations: list[dict[str, Any]] | None = None) -> None:
    machines = [
        {"name": "web-1", "address": "192.0.2.1", "environment": "prod"},
        {"name": "db-1", "address": "192.0.2.2", "environment": "prod"},
        *(
            {"name": f"branch-{number}", "address": f"192.0.2.{number + 10}", "environment": "branch", "zone": zone}
            for number, zone in enumerate(ZONES)
        ),
    ]
    (place / "fleet.yaml").write_text(yaml.safe_dump({"machines": machines}))
    (place / "configurations").mkdir(exist_ok=True)
    content = {"configurations": configurations or CONFIGURATIONS, "freezes": FREEZES}
    (place / "configurations" / "all.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_fleet(tmp_path)
    with serve_site(tmp_path, clock=FakeClock(NOW), zone="Europe/Berlin", fleet="shop") as served:
        yield served


def claim(site: Site, starts_at: str, status: WindowStatus, reason: str = "", configuration: str = "weekly") -> None:
    moment = datetime.fromisoformat(starts_at)
    found = WindowClaim(configuration, moment, status, make.RUN_ID, reason, NOW)
    SqlWindowClaims(site.records.database).record_window_without_run(found)


def is_freeze(event: Any) -> bool:
    """Whether an event of the feed is a freeze."""
    return bool(event["CATEGORIES"].cats == ["Freeze"])


def day_of(text: str, day: int) -> str:
    """The cell of a day of the month that is shown."""
    grid = text[text.index('<table class="grid">') : text.index('aria-label="Colours"')]
    found = re.findall(r'<td class="([^"]*)".*?</span>(.*?)</td>', grid, re.DOTALL)
    numbers = re.findall(r'<td class="([^"]*)"[^>]*>\s*<span class="number">(?:<a [^>]*>)?(\d+)', grid)
    assert len(found) == len(numbers)
    (cell,) = [
        content
        for (_, content), (kind, number) in zip(found, numbers, strict=True)
        if number == str(day) and "other" not in kind
    ]
    return " ".join(re.sub(r"<[^>]+>", " ", cell).replace("\N{EN DASH}", "-").split())


class TestTheMonth:
    def test_windows_are_on_their_days_with_hours_and_machines(self, site: Site) -> None:
        page = site.get("/calendar?month=2026-11").text
        assert "<h1>November 2026</h1>" in page
        assert day_of(page, 10) == "22:00-00:00 +1 2 weekly no run recorded"
        assert day_of(page, 11) == ""
        assert "?month=2026-10" in page
        assert "?month=2026-12" in page

    def test_in_another_zone_they_are_on_other_days(self, site: Site) -> None:
        page = site.get("/calendar?month=2026-12&zone=Asia/Tokyo").text
        assert day_of(page, 8) == ""
        assert day_of(page, 9) == "06:00-08:00 2 weekly"

    def test_a_zone_that_does_not_exist_is_explained(self, site: Site) -> None:
        page = site.get("/calendar?zone=No/Where")
        assert page.status_code == 200
        assert "No/Where" in page.text
        assert "in Europe/Berlin." in page.text

    @pytest.mark.parametrize("month", ["", "2026-13", "99999", "0000-01", "x", "2026-1"])
    def test_a_month_that_does_not_exist_is_the_present_one(self, site: Site, month: str) -> None:
        assert "<h1>November 2026</h1>" in site.get("/calendar", params={"month": month}).text

    def test_one_configuration(self, site: Site) -> None:
        page = site.get("/calendar?month=2026-11&configuration=databases").text
        assert day_of(page, 10) == ""
        assert day_of(page, 24).startswith("23:00-02:00 +1 1 databases")

    def test_overlaps_on_the_same_machines_are_marked(self, site: Site) -> None:
        page = site.get("/calendar?month=2026-11").text
        assert day_of(page, 24) == (
            "22:00-00:00 +1 2 weekly overlaps databases 23:00-02:00 +1 1 databases overlaps weekly"
        )
        assert "overlaps" not in day_of(page, 17)

    def test_windows_at_the_same_time_on_other_machines_are_no_overlap(self, tmp_path: Path) -> None:
        """Both configurations share a machine in Berlin, and none in Tokyo."""
        window = {"start": "2026-11-07 19:30", "length": "1h", "zone": "Europe/Berlin", "recurrence": "8Hours"}
        write_fleet(tmp_path, [CONFIGURATIONS[2], {"name": "often", "scope": "name=branch-0", "window": window}])
        with serve_site(tmp_path, clock=FakeClock(NOW), zone="Europe/Berlin") as served:
            page = served.get("/calendar?month=2026-11").text
        saturday = "19:30-21:30 1 branches no run recorded 19:30-20:30 1 often no run recorded"
        assert day_of(page, 7) == saturday
        assert "branches 2 zones no run recorded overlaps often" in day_of(page, 8)

    def test_a_window_that_is_too_short_for_its_machines_is_told(self, tmp_path: Path) -> None:
        window = {"start": "2026-11-24 23:00", "length": "22m", "zone": "UTC", "recurrence": "Day"}
        short = {"name": "short", "scope": "env=prod", "window": window}
        write_fleet(tmp_path, [short, {**short, "name": "long", "window": {**window, "length": "2h"}}])
        with serve_site(tmp_path, clock=FakeClock(NOW), zone="UTC") as served:
            page = served.get("/calendar?month=2026-11").text
        assert "about 1 of 2 machines fit" in page
        assert "More machines at once are not enough." in page  # the two are in two waves
        assert page.count("2 machines fit</summary>") == page.count("fit into its window of 22 min")

    def test_windows_of_machines_own_zones_are_one_entry_for_each_day(self, site: Site) -> None:
        text = day_of(site.get("/calendar?month=2026-11").text, 8)
        assert text == "03:30-11:30 2 branches 2 zones no run recorded"  # that in Tokyo is on Saturday in Berlin

    def test_freezes_have_their_reason_and_strike_what_they_cancel(self, site: Site) -> None:
        page = site.get("/calendar?month=2026-11").text
        text = day_of(page, 29)
        assert text.startswith("Freeze: &lt;/td&gt;&lt;script&gt;")
        assert "frozen: &lt;/td&gt;" in text
        assert "<s>branches</s>" in page
        assert "<script>alert" not in page
        assert "Freeze" not in day_of(page, 26)

    @pytest.mark.parametrize(
        ("status", "text"),
        [
            (WindowStatus.MISSED, "missed"),
            (WindowStatus.CANCELLED, "cancelled: by anna"),
            (WindowStatus.FROZEN, "frozen: by anna"),
        ],
    )
    def test_what_became_of_past_windows(self, site: Site, status: WindowStatus, text: str) -> None:
        claim(site, "2026-11-10T21:00:00+00:00", status, "by anna")
        page = site.get("/calendar?month=2026-11").text
        assert day_of(page, 10).endswith(f"2 weekly {text}")
        assert "by anna" in page

    def test_a_window_with_a_run_leads_to_it(self, site: Site) -> None:
        site.records.save(make.make_run(state=OperationState.FAILED))
        claim(site, "2026-11-10T21:00:00+00:00", WindowStatus.CLAIMED, "some flow run")
        page = site.get("/calendar?month=2026-11").text
        assert day_of(page, 10).endswith("weekly Failed")
        assert f'<a href="/runs/{make.RUN_ID}">weekly</a>' in page
        assert "some flow run" not in page

    def test_a_window_that_the_configuration_no_longer_has_keeps_its_record(self, site: Site) -> None:
        claim(site, "2026-11-11T03:00:00+00:00", WindowStatus.MISSED, "the worker was down")
        assert day_of(site.get("/calendar?month=2026-11").text, 11) == "04:00 - weekly missed"

    def test_a_disabled_configuration_keeps_its_past_and_opens_no_window(self, site: Site) -> None:
        site.records.save(make.make_run(state=OperationState.FAILED))
        claim(site, "2026-11-10T03:30:00+00:00", WindowStatus.CLAIMED, configuration="off")
        claim(site, "2026-11-11T03:30:00+00:00", WindowStatus.MISSED, "no worker", configuration="off")
        claim(
            site, "2026-11-12T09:00:00+00:00", WindowStatus.MISSED, "no worker", configuration="off"
        )  # before a change
        claim(site, "2026-11-25T03:30:00+00:00", WindowStatus.CANCELLED, "by anna", configuration="off")
        page = site.get("/calendar?month=2026-11&zone=UTC").text
        assert day_of(page, 9) == ""
        assert day_of(page, 10) == "03:30-05:30 5 off Failed 21:00-23:00 2 weekly no run recorded"
        assert day_of(page, 11) == "03:30-05:30 5 off missed"
        assert day_of(page, 12) == "09:00 - off missed"
        assert day_of(page, 25) == ""
        assert f'<a href="/runs/{make.RUN_ID}">off</a>' in page
        assert "Disabled, so no window opens: off." in page
        only = site.get("/calendar?month=2026-11&zone=UTC&configuration=off").text
        assert "<option selected>off</option>" in only
        assert day_of(only, 10) == "03:30-05:30 5 off Failed"
        feed = Calendar.from_ical(site.get("/calendar.ics?configuration=off").content).walk("VEVENT")
        assert len([each for each in feed if not is_freeze(each)]) == 3

    def test_the_number_of_machines_leads_to_a_list_of_just_these(self, site: Site) -> None:
        """The window of the machine in Tokyo was missed, those of the others were not noticed."""
        claim(site, "2026-11-07T18:30:00+00:00", WindowStatus.MISSED, "no worker", configuration="branches")
        page = site.get("/calendar?month=2026-11").text
        links = re.findall(r'<a href="(/machines\?scope=[^"]*)">(\d+)</a>', page)
        assert {int(count) for _, count in links} == {1, 2}
        for link, count in links:
            listed = site.get(link.replace("&amp;", "&")).text
            assert listed.count('<th scope="row">') == int(count), link

    def test_machines_of_another_inventory_lead_to_no_list_of_others(self, tmp_path: Path) -> None:
        names = ["web-1", *(f"far-{number}" for number in range(1 + len(ZONES)))]  # as many as in the other inventory
        other = {
            "machines": [{"name": each, "address": f"far{number}.example.net"} for number, each in enumerate(names)]
        }
        window = {"start": "2026-11-07 19:30", "length": "1h", "zone": "UTC", "recurrence": "1Day"}
        write_fleet(tmp_path, [{"name": "far", "scope": "*", "inventory": "../far.yaml", "window": window}])
        (tmp_path / "far.yaml").write_text(yaml.safe_dump(other))
        with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
            page = served.get("/calendar?month=2026-11").text
        assert day_of(page, 7) == f"19:30-20:30 {len(names)} far no run recorded"
        assert "/machines?scope=" not in page

    def test_what_is_over_is_said_on_the_calendar_and_the_overview(self, tmp_path: Path) -> None:
        window = {"start": "2026-11-20 01:00", "length": "1h", "zone": "UTC"}
        write_fleet(tmp_path, [{"name": "practice", "scope": "env=prod", "window": window}])
        with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
            for path in ("/calendar", "/"):
                assert (
                    "Over: the last window has ended, so nothing more is patched in practice." in served.get(path).text
                )

    def test_a_freeze_is_shown_where_no_window_is(self, tmp_path: Path) -> None:
        write_fleet(tmp_path, [])
        with serve_site(tmp_path, clock=FakeClock(NOW), zone="UTC") as served:
            assert day_of(served.get("/calendar?month=2026-11").text, 29).startswith("Freeze: ")

    def test_without_configurations_it_says_so(self, tmp_path: Path) -> None:
        with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
            page = served.get("/calendar")
            assert page.status_code == 200
            assert "no enabled configurations" in page.text

    def test_many_configurations_stay_readable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[int] = []
        find = upcoming_windows.find_overlap_starts

        def count(ours: list[Occurrence], theirs: list[Occurrence]) -> Iterator[datetime]:
            looks.append(len(ours))
            return find(ours, theirs)

        monkeypatch.setattr(upcoming_windows, "find_overlap_starts", count)
        window = {"start": "2026-11-01 01:00", "length": "1h", "zone": "UTC", "recurrence": "1Day"}
        many = [{"name": f"night-{number:03}", "scope": "name=web-1", "window": window} for number in range(200)]
        write_fleet(tmp_path, many)
        with serve_site(tmp_path, clock=FakeClock(NOW)) as served:
            page = served.get("/calendar?month=2026-11")
            assert len(page.content) < 1_000_000
            assert "+196 more" in page.text
            assert "night-199" in page.text
            assert len(looks) == 1  # they have the same times: pair by pair, it takes seconds
            other = served.get("/calendar?month=2026-11&day=2026-11-10").text
            assert "Tuesday 10 November" in other
            assert "Wednesday 11 November" not in other


class TestTheFeed:
    def events(self, site: Site, query: str = "") -> list[Component]:
        answer = site.get(f"/calendar.ics{query}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
        return list(Calendar.from_ical(answer.content).walk("VEVENT"))

    def test_it_has_the_windows_of_30_days_before_and_180_after(self, site: Site) -> None:
        found = [each for each in self.events(site, "?configuration=weekly") if not is_freeze(each)]
        starts = [each.decoded("DTSTART") for each in found]
        first = datetime(2026, 11, 3, 21, tzinfo=UTC)
        # 22:00 in Berlin is an hour earlier in UTC from the end of March on.
        expected = [first + timedelta(days=7 * number) for number in range(30)]
        expected = [each - timedelta(hours=each >= datetime(2027, 3, 28, tzinfo=UTC)) for each in expected]
        assert starts == [each for each in expected if each < NOW + timedelta(days=180)]
        assert all(each.decoded("DTEND") - each.decoded("DTSTART") == timedelta(hours=2) for each in found)
        assert {str(each["SUMMARY"]) for each in found} == {"Patching weekly"}
        assert "2 machines" in str(found[0]["DESCRIPTION"])

    def test_a_frozen_window_is_cancelled_and_the_freeze_is_an_event(self, site: Site) -> None:
        events = self.events(site)
        (frozen, *_) = [each for each in events if str(each["SUMMARY"]).startswith("Frozen: Patching branches")]
        assert str(frozen["STATUS"]) == "CANCELLED"
        assert "</td><script>" in str(frozen["DESCRIPTION"])  # a calendar is not HTML; its own characters are escaped
        (freeze,) = [each for each in events if is_freeze(each)]
        assert freeze.decoded("DTSTART") <= datetime(2026, 11, 28, tzinfo=UTC)
        assert str(freeze["SUMMARY"]).startswith("No patching: ")

    def test_identities_stay_and_changes_count_up(self, site: Site) -> None:
        before = {str(each["UID"]): each for each in self.events(site)}
        assert len(before) == len(self.events(site))
        assert {str(each["UID"]) for each in self.events(site)} == before.keys()
        claim(site, "2026-11-24T21:00:00+00:00", WindowStatus.CANCELLED, "anna")
        after = {str(each["UID"]): each for each in self.events(site)}
        assert after.keys() == before.keys()
        changed = [uid for uid in after if str(after[uid]["STATUS"]) != str(before[uid]["STATUS"])]
        (uid,) = changed
        assert after[uid].decoded("SEQUENCE") >= before[uid].decoded("SEQUENCE")
        assert str(after[uid]["STATUS"]) == "CANCELLED"

    def test_its_scope(self, site: Site) -> None:
        found = self.events(site, "?scope=name%3Ddb-1")
        assert {str(each["SUMMARY"]) for each in found if "Patching w" in str(each["SUMMARY"])} == {"Patching weekly"}
        assert not [each for each in found if "branches" in str(each["SUMMARY"])]
        weekly = next(each for each in found if str(each["SUMMARY"]) == "Patching weekly")
        assert "1 machine," in str(weekly["DESCRIPTION"])
        assert site.get("/calendar.ics?scope=%28").status_code == 400

    def test_configurations_that_cannot_be_read_are_no_empty_calendar(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "configurations" / "all.yaml").write_text("configurations: nonsense")
        site.context.clock.advance(60)  # type: ignore[attr-defined]
        assert site.get("/calendar.ics").status_code == 503
        assert "nonsense" in site.get("/calendar").text or "problem" in site.get("/calendar").text

    def test_too_many_windows_are_refused_instead_of_cut(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calendar, "MAX_WINDOWS", 40)
        answer = site.get("/calendar.ics")
        assert answer.status_code == 413
        assert "?configuration=" in answer.text
        assert self.events(site, "?configuration=databases")

    def test_lines_are_of_75_octets_and_end_as_the_format_says(self, site: Site) -> None:
        body = site.get("/calendar.ics").content
        lines = body.split(b"\r\n")
        assert lines[0] == b"BEGIN:VCALENDAR"
        assert all(len(line) <= 75 for line in lines)
        assert b"\n" not in body.replace(b"\r\n", b"")
