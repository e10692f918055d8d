"""The last windows of the overview: what became of each, also of one that nobody has noticed."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.domain.states import OperationState, WindowStatus
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.automatic.model import Phase, Rollout
from tasks.rules.timing.admission import WindowClaim
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)
CONFIGURATIONS = """
configurations:
  - name: daily
    scope: "*"
    window: {start: 2026-01-01 10:00, length: 2h, zone: UTC, recurrence: Day}
  - name: monthly
    scope: "*"
    window: {start: 2026-01-01 22:00, length: 2h, zone: UTC, recurrence: Month day1}
"""
AUTOMATIC = "automatic: {scope: '*'}\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve(tmp_path, CONFIGURATIONS) as made:
        yield made


def serve(
    place: Path, configurations: str, now: datetime = NOW, clock: FakeClock | None = None
) -> AbstractContextManager[Site]:
    (place / "fleet.yaml").write_text("machines: [{name: a, address: 10.0.0.1, location: fra, owner: managed}]\n")
    (place / "configurations").mkdir()
    (place / "configurations" / "all.yaml").write_text(configurations)
    return serve_site(place, clock=clock or FakeClock(now))


def save_run(records: SqlRecords, run_id: str, at: datetime, state: OperationState) -> None:
    records.save(make.make_report(run=make.make_run(id=run_id, started_at=at, ended_at=at, state=state)))


def read_rows(site: Site) -> list[list[str]]:
    """Return the texts of the rows: configuration, time, what became of it."""
    page = site.get("/").text
    part = page[page.index('id="last"') : page.index('id="next"')]
    rows = re.findall(r"<tr>(.*?)</tr>", part.partition("<tbody>")[2], re.DOTALL)
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.split(r"</t[hd]>", row)[:3]] for row in rows
    ]


def test_each_last_window_says_what_became_of_it(site: Site) -> None:
    claims = SqlWindowClaims(site.records.database)
    today = NOW.replace(hour=10, minute=0)
    save_run(site.records, "run-old", today - 60 * DAY, OperationState.SUCCEEDED)
    save_run(site.records, "run-1", today - DAY, OperationState.FAILED)
    claims.claim_window("daily", today - DAY, "run-1", "flow-1", today)
    late = "the worker was down"
    for name, at, status in (
        ("daily", today - 2 * DAY, WindowStatus.MISSED),
        ("monthly", datetime(2026, 11, 1, 22, tzinfo=UTC), WindowStatus.CANCELLED),
        ("gone", today - DAY, WindowStatus.MISSED),  # no such configuration any more
        ("monthly", datetime(2026, 10, 1, 22, tzinfo=UTC), WindowStatus.MISSED),  # more than 35 days ago
    ):
        claims.record_window_without_run(WindowClaim(name, at, status, "run-0", late, at))

    rows = read_rows(site)

    assert rows[0] == ["daily", "23 Nov 10:00 UTC", "no run recorded"]  # over for half an hour
    assert rows[1] == ["daily", "22 Nov 10:00 UTC", "Failed run-1"]
    assert rows[2] == ["daily", "21 Nov 10:00 UTC", f"missed {late}"]
    assert [row[2] for row in rows[3:7]] == ["no run recorded"] * 4
    assert rows[7] == ["daily", "16 Nov 10:00 UTC", "no run recorded"]
    assert len(rows) == 8


def test_a_monthly_window_is_among_the_last_ones(tmp_path: Path) -> None:
    monthly = (
        CONFIGURATIONS.partition("  - name: daily")[0] + "  - name: monthly" + CONFIGURATIONS.partition("monthly")[2]
    )
    with serve(tmp_path, monthly) as site:
        at = datetime(2026, 11, 1, 22, tzinfo=UTC)
        save_run(site.records, "run-m", at, OperationState.SUCCEEDED)
        SqlWindowClaims(site.records.database).claim_window("monthly", at, "run-m", "flow-1", at)
        assert read_rows(site) == [["monthly", "01 Nov 22:00", "Succeeded run-m"]]


def test_windows_before_the_first_run_are_not_missing(site: Site) -> None:
    assert read_rows(site) == []
    assert "No window has been yet." in site.get("/").text
    save_run(site.records, "first", NOW - 2 * DAY, OperationState.SUCCEEDED)
    assert [row[1] for row in read_rows(site)] == ["23 Nov 10:00 UTC", "22 Nov 10:00 UTC"]


def test_a_window_that_is_open_is_among_the_next_ones(tmp_path: Path) -> None:
    with serve(tmp_path, CONFIGURATIONS, NOW - timedelta(hours=1)) as site:
        save_run(site.records, "first", NOW - 2 * DAY, OperationState.SUCCEEDED)
        assert [row[1] for row in read_rows(site)] == ["22 Nov 10:00 UTC"]
        assert "open now" in site.get("/").text


def test_automatic_patching_shows_its_rollout_and_phases(tmp_path: Path) -> None:
    with serve(tmp_path, AUTOMATIC + CONFIGURATIONS) as site:
        assert "It has begun no rollout yet." in site.get("/").text
        phases = (
            Phase(1, ("fra",), NOW - DAY, NOW - DAY / 2),
            Phase(2, ("ber", "<b>x"), NOW - DAY / 4),
            Phase(3, ("",)),
        )
        rollout = Rollout("r-7", NOW - DAY, frozenset({("a", "1"), ("b", "2")}), phases)
        SqlRollouts(site.records.database).save(rollout)
        page = site.get("/").text

    part = page[page.index('id="automatic"') : page.index('id="runs"')]
    text = " ".join(re.sub(r"<[^>]+>", " ", part).split())
    assert "1 machine, 22:00 to 06:00 by each machine&#39;s clock" in text
    assert "RollingForward Rollout r-7 with 2 updates" in text
    assert "2 of 3 now ber, &lt;b&gt;x 23 Nov 06:30" in text
    assert "3 of 3 no location not yet" in text


def test_without_automatic_patching_there_is_no_word_of_it(site: Site) -> None:
    assert "Automatic patching" not in site.get("/").text


def test_an_open_window_whose_run_has_ended_is_no_next_window(tmp_path: Path) -> None:
    opened = NOW.replace(hour=10, minute=0)
    clock = FakeClock(opened + timedelta(hours=1))
    fleet = CONFIGURATIONS.split("  - name: monthly", maxsplit=1)[0]
    with serve(tmp_path, fleet, clock=clock) as site:
        (tmp_path / "fleet.yaml").write_text("machines: [{name: a, address: 10.0.0.1}]\n")
        next_windows = site.get("/").text.partition('id="next"')[2]
        assert "open now" in next_windows
        save_run(site.records, "run-1", opened, OperationState.SUCCEEDED)
        SqlWindowClaims(site.records.database).claim_window("daily", opened, "run-1", "flow-1", opened)
        clock.advance(120)
        next_windows = site.get("/").text.partition('id="next"')[2]
        assert "open now" not in next_windows
        assert "24 Nov" in next_windows
        machine = site.get("/machines/a").text
        assert "23 Nov 2026 10:00" not in machine.partition('id="next"')[2].partition("</section>")[0]
