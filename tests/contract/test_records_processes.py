"""Leases between real processes: they race, and one is killed."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.setup import open_records
from tests.contract.records_processes import hold_lease, race_for_leases, read_run_ids
from tests.contract.records_subjects import BOTH, new_database
from tests.support import builders as make
from tests.support.forked_calls import begin_call, make_barrier

RUNS = 30
ME = LeaseHolder("token-me", "ctl-1", 1, "me")

pytestmark = pytest.mark.slow


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.mark.parametrize("expired", [False, True], ids=["free", "expired"])
def test_of_processes_that_race_for_a_lease_exactly_one_gets_it(url: str, expired: bool) -> None:
    with open_records(url) as records:
        for run in range(RUNS if expired else 0):
            records.leases.acquire(f"run-{run}", LeaseHolder("token-dead", "ctl-0", 1, "dead"), 0.0)
    together = make_barrier(3)
    calls = [begin_call(race_for_leases, url, number, RUNS, together) for number in range(3)]
    won = [(run, number) for number, call in enumerate(calls) for run in call.receive()]
    assert [call.end() for call in calls] == [0, 0, 0]
    assert sorted(run for run, _ in won) == sorted(f"run-{run}" for run in range(RUNS))
    winners = dict(won)
    with open_records(url) as records:
        for run in range(RUNS):
            view = records.leases.find_lease(f"run-{run}")
            assert view is not None
            assert view.is_held
            assert view.holder is not None
            assert view.holder.id == f"token-{winners[f'run-{run}']}"


def test_a_holder_that_is_killed_loses_its_run_when_its_time_is_over(url: str) -> None:
    call = begin_call(hold_lease, url)
    assert call.receive() == "held"
    with open_records(url) as records:
        time.sleep(2.5)  # longer than the lease: it is renewed
        assert records.leases.find_leaseless_runs() == ()
        call.process.kill()
        assert call.end() == -signal.SIGKILL
        with pytest.raises(LeaseHeld) as caught:
            records.leases.acquire(make.RUN_ID, ME, 60)
        assert caught.value.holder.pid == call.process.pid
        assert records.leases.find_leaseless_runs() == ()
        with records.database.begin_write("a minute") as connection:
            connection.execute(update(schema.leases).values(until=datetime.now(UTC) - timedelta(seconds=1)))
        (found,) = records.leases.find_leaseless_runs()
        assert (found.run_id, found.holder) == (make.RUN_ID, caught.value.holder)
        records.leases.acquire(make.RUN_ID, ME, 60)
        assert records.leases.find_leaseless_runs() == ()
        records.save(make.make_run(state=OperationState.SUCCEEDED))
        records.leases.release(make.RUN_ID, ME)
        assert records.leases.find_leaseless_runs() == ()


def _seen_by_another_process(url: str) -> object:
    call = begin_call(read_run_ids, url)
    seen = call.receive()
    assert call.end() == 0
    return seen


def test_opening_the_records_twice_in_a_process_keeps_the_locks_of_the_first(url: str) -> None:
    """A lock that went lost would let the next process that closes the file remove the journal under this one."""
    with open_records(url) as first:
        first.save(make.make_run(id="20260310-010000-aaaaaa"))
        open_records(url).close()
        assert _seen_by_another_process(url) == {"20260310-010000-aaaaaa"}

        first.save(make.make_run(id="20260310-020000-bbbbbb"))

        assert _seen_by_another_process(url) == {"20260310-010000-aaaaaa", "20260310-020000-bbbbbb"}
