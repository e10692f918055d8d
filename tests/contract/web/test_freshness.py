"""Pages show the fleet as it is now, or say how old it is and why."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from fleetpatch.access.login_admin import create_access_token
from fleetpatch.machines import fleet_reader
from fleetpatch.machines.fleet_reader import WAIT_SECONDS, FleetReader
from fleetpatch.machines.snapshot import count_fleet
from fleetpatch.settings import WebSettings
from tasks.domain.errors import RecordsUnavailable
from tasks.records.queries.machines import ChangeMarker, read_change_marker
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.database import Database
from tests.contract.records_subjects import opened
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
NIGHT = timedelta(hours=13)
FLEET = "machines:\n  - {name: web-1, address: 192.0.2.1}\n"
SAID = "The fleet is shown as it was at 23 Nov 2026 18:00:00 UTC, 13 h 00 min ago: "


class SlowRecords:
    """Holds up each reading of the change marker until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self._read = read_change_marker
        monkeypatch.setattr(fleet_reader, "read_change_marker", self._wait)

    def _wait(self, database: Database, since: int | None = None) -> ChangeMarker:
        if threading.current_thread().name == "fleet":
            self.go.wait(600)
            if self.error is not None:
                raise self.error
        return self._read(database, since)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with serve_site(tmp_path, clock=clock) as served:
        assert '<b class="good">0</b> compliant' in served.get("/").text
        yield served


@pytest.fixture
def slow(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowRecords]:
    made = SlowRecords(monkeypatch)
    yield made
    made.go.set()


def assess(site: Site) -> None:
    clean = make.make_package_state(updates=())
    site.records.save(make.make_assessment(machine="web-1", at=NOW + timedelta(hours=12), packages=clean))


def test_the_first_page_of_the_morning_waits_for_the_figures_of_the_night(
    site: Site, clock: FakeClock, slow: SlowRecords
) -> None:
    assess(site)
    clock.advance(NIGHT.total_seconds())
    slow.go.clear()
    site.context.fleet.wait_seconds = WAIT_SECONDS
    threading.Timer(1.0, slow.go.set).start()  # longer than a page waits for small news
    page = site.get("/").text
    assert '<b class="good">1</b> compliant' in page
    assert "The fleet is shown as it was" not in page


def test_what_takes_longer_is_shown_with_its_age(
    site: Site, clock: FakeClock, slow: SlowRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_reader, "OLD_WAIT_SECONDS", 0.2)
    site.context.fleet.wait_seconds = WAIT_SECONDS
    assess(site)
    clock.advance(NIGHT.total_seconds())
    slow.go.clear()
    for path in ("/", "/machines", "/machines/web-1", "/calendar", "/updates", "/assess", "/patch?scope=*"):
        assert SAID + "it takes long to read it. Load the page again." in site.get(path).text, path
    _, token = create_access_token(site.records, "bot", ["view"])
    answer = site.get("/api/v1/overview", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["problems"][0].startswith(SAID)
    assert "fleetpatch_problems 1.0" in site.get("/metrics").text


def test_records_that_cannot_be_read_are_the_reason_of_the_age(site: Site, clock: FakeClock, slow: SlowRecords) -> None:
    clock.advance(NIGHT.total_seconds())
    slow.error = RecordsUnavailable("can't read records.db: no space is left", hint="Free some space.")
    page = site.get("/machines").text
    assert SAID in page
    assert "no space is left" in page
    assert "Free some space." in page
    slow.error = None
    assert "The fleet is shown as it was" not in site.get("/machines").text


def test_an_inventory_with_a_fault_leaves_the_last_one_in_use_and_the_page_says_where_the_fault_is(
    site: Site, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET.replace("address:", "adress:"))
    clock.advance(NIGHT.total_seconds())
    page = site.get("/machines").text
    assert ">web-1</a>" in page
    for part in ("fleet.yaml:2", "adress", "Did you mean", "What was read before the fault stays in use."):
        assert part in page, part
    (tmp_path / "fleet.yaml").write_text(FLEET + "  - {name: web-2, address: 192.0.2.2}\n")
    clock.advance(NIGHT.total_seconds())
    page = site.get("/machines").text
    assert ">web-2</a>" in page
    assert "fault stays in use" not in page


@pytest.mark.postgres
def test_an_assessment_that_becomes_visible_after_one_with_a_higher_number_is_shown(tmp_path: Path) -> None:
    """PostgreSQL gives a number when a row is written, and others see the row when its transaction ends."""
    (tmp_path / "fleet.yaml").write_text(FLEET + "  - {name: web-2, address: 192.0.2.2}\n")
    settings = WebSettings(inventory=tmp_path / "fleet.yaml")

    def save(records: SqlRecords, machine: str, number: int) -> None:
        with records.database.begin_write("choose the number") as connection:
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence('assessments', 'number'), :n)"), {"n": number}
            )
        records.save(make.make_assessment(machine=machine, at=NOW, packages=make.make_package_state(updates=())))

    with opened("postgres", tmp_path) as records:
        save(records, "gone-1", 100)
        reader = FleetReader(settings, records.database, FakeClock(NOW))
        assert count_fleet(reader.read()).compliant == 0
        save(records, "web-2", 105)
        assert count_fleet(reader.read(30)).compliant == 1
        save(records, "web-1", 101)
        assert count_fleet(reader.read(30)).compliant == 2
        assert [day.compliant for day in reader.read_trends(1).values()] == [3]
