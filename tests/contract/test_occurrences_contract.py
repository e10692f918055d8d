"""Windows and the runs they belong to, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.domain.states import WindowStatus
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim
from tests.contract.records_subjects import BOTH, new_database

START = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
LATER = START + timedelta(minutes=7)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def windows(url: str) -> Iterator[SqlWindowClaims]:
    with open_records(url) as records:
        yield SqlWindowClaims(records.database)


def missed(starts_at: datetime = START, what: WindowStatus = WindowStatus.MISSED) -> WindowClaim:
    return WindowClaim("web", starts_at, what, "run-9", "it was late", LATER)


def test_the_first_gets_it_and_the_second_hears_who_did(windows: SqlWindowClaims) -> None:
    mine = windows.claim_window("web", START, "run-1", "flow-1", LATER)
    assert mine == WindowClaim("web", START, WindowStatus.CLAIMED, "run-1", "flow-1", LATER)
    assert windows.claim_window("web", START, "run-2", "flow-2", LATER + timedelta(hours=1)) == mine
    assert windows.find_claims_between(START, START + timedelta(microseconds=1), "web") == (mine,)


def test_the_same_one_that_comes_again_has_the_run_it_had(windows: SqlWindowClaims) -> None:
    first = windows.claim_window("web", START, "run-1", "flow-1", LATER)
    assert windows.claim_window("web", START, "run-2", "flow-1", LATER + timedelta(hours=1)) == first


def test_windows_and_configurations_are_told_apart(windows: SqlWindowClaims) -> None:
    windows.claim_window("web", START, "run-1", "flow-1", LATER)
    assert windows.claim_window("db", START, "run-2", "flow-2", LATER).run_id == "run-2"
    assert windows.claim_window("web", LATER, "run-3", "flow-3", LATER).run_id == "run-3"
    assert windows.find_claims_between(LATER, LATER + timedelta(microseconds=1), "db") == ()


def test_the_same_moment_in_another_zone_is_the_same_window(windows: SqlWindowClaims) -> None:
    first = windows.claim_window("web", START, "run-1", "flow-1", LATER)
    tokyo = START.astimezone(datetime.strptime("+0900", "%z").tzinfo)
    assert windows.claim_window("web", tokyo, "run-2", "flow-2", LATER) == first


@pytest.mark.parametrize("what", [WindowStatus.MISSED, WindowStatus.FROZEN])
def test_what_was_missed_or_frozen_may_be_claimed_by_who_looked_again(
    windows: SqlWindowClaims, what: WindowStatus
) -> None:
    assert windows.record_window_without_run(missed(what=what)) == missed(what=what)
    assert windows.claim_window("web", START, "run-1", "flow-1", LATER).run_id == "run-1"


def test_what_was_called_off_may_not(windows: SqlWindowClaims) -> None:
    windows.record_window_without_run(missed(what=WindowStatus.CANCELLED))
    assert windows.claim_window("web", START, "run-1", "flow-1", LATER).status is WindowStatus.CANCELLED


def test_a_run_keeps_what_it_has_and_the_first_word_stands(windows: SqlWindowClaims) -> None:
    mine = windows.claim_window("web", START, "run-1", "flow-1", LATER)
    assert windows.record_window_without_run(missed()) == mine
    windows.record_window_without_run(missed(LATER))
    assert windows.record_window_without_run(missed(LATER, WindowStatus.FROZEN)).status is WindowStatus.MISSED


def test_they_are_listed_by_time(windows: SqlWindowClaims) -> None:
    for hours in (2, 0, 1):
        windows.claim_window("web", START + timedelta(hours=hours), f"run-{hours}", f"flow-{hours}", LATER)
    windows.claim_window("db", START, "run-db", "flow-db", LATER)
    end = START + timedelta(hours=2)
    assert [each.run_id for each in windows.find_claims_between(START, end)] == ["run-db", "run-0", "run-1"]
    assert [each.run_id for each in windows.find_claims_between(START, end, "web")] == ["run-0", "run-1"]


def test_of_many_controllers_one_gets_it(url: str) -> None:
    def ask(number: int) -> WindowClaim:
        with open_records(url) as records:
            return SqlWindowClaims(records.database).claim_window(
                "web", START, f"run-{number}", f"flow-{number}", LATER
            )

    with ThreadPoolExecutor(8) as pool:
        stood = list(pool.map(ask, range(8)))
    assert len(set(stood)) == 1
    assert stood[0].run_id == f"run-{stood[0].reason.removeprefix('flow-')}"


def test_a_claim_that_came_to_nothing_gives_way_once(windows: SqlWindowClaims) -> None:
    claim = windows.claim_window("web", START, "run-1", "flow-1", LATER)
    assert windows.record_window_without_run(missed()).run_id == "run-1"
    assert windows.record_window_without_run(missed(), instead_of=claim) == missed()
    again = WindowClaim("web", START, WindowStatus.MISSED, "run-10", "it was late", LATER)
    assert windows.record_window_without_run(again, instead_of=claim) == missed()
    assert (
        windows.record_window_without_run(again, instead_of=windows.claim_window("db", START, "run-2", "flow-2", LATER))
        == missed()
    )
