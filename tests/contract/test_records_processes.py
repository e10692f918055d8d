"""Leases between real processes: they race, and one is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import LeaseHeld
from tasks.protocols.leases import LeaseHolder
from tasks.records.setup import open_records
from tasks.states import OperationState
from tests.support import builders as make
from tests.support.postgres import fresh_database

ROOT = Path(__file__).parents[2]
RUNS = 30
ME = LeaseHolder("token-me", "ctl-1", 1, "me")

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'records.db'}"
        return
    with fresh_database() as fresh:
        yield fresh


_RACE = f"""
import multiprocessing, os, sys
from tasks.errors import LeaseHeld
from tasks.records.setup import open_records
from tasks.protocols.leases import LeaseHolder

together = multiprocessing.get_context("fork").Barrier(3)

def race(number):
    me = LeaseHolder(f"token-{{number}}", "ctl", os.getpid(), "racer")
    won = []
    with open_records(sys.argv[1]) as records:
        for run in range({RUNS}):
            together.wait(60)  # so that they ask at the same moment, run by run
            try:
                records.leases.acquire(f"run-{{run}}", me, 600)
                won.append(f"run-{{run}}={{number}}\\n")
            except LeaseHeld as error:
                assert error.holder.id != me.id
    os.write(1, "".join(won).encode())

children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            race(number)
            status = 0
        finally:
            os._exit(status)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.parametrize("expired", [False, True], ids=["free", "expired"])
def test_of_processes_that_race_for_a_lease_exactly_one_gets_it(url: str, expired: bool) -> None:
    with open_records(url) as records:
        for run in range(RUNS if expired else 0):
            records.leases.acquire(f"run-{run}", LeaseHolder("token-dead", "ctl-0", 1, "dead"), 0.0)
    done = subprocess.run(
        [sys.executable, "-c", _RACE, url], capture_output=True, cwd=ROOT, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    won = dict(line.split("=") for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == RUNS == len(won)
    with open_records(url) as records:
        for run in range(RUNS):
            view = records.leases.find_lease(f"run-{run}")
            assert view is not None
            assert view.is_held
            assert view.holder is not None
            assert view.holder.id == f"token-{won[f'run-{run}']}"


_HOLD = """
import os, sys, time
from tasks.records.setup import open_records
from tasks.protocols.leases import LeaseHolder
from tasks.states import OperationState
from tests.support import builders as make
records = open_records(sys.argv[1])
me = LeaseHolder("token-killed", "ctl-9", os.getpid(), "victim")
records.leases.acquire(make.RUN_ID, me, 2.0)
records.save(make.make_run(state=OperationState.IN_PROGRESS))
print("held", flush=True)
for _ in range(600):
    time.sleep(0.1)
    assert records.leases.renew(make.RUN_ID, me, 2.0).is_kept
"""


def test_a_holder_that_is_killed_loses_its_run_when_its_time_is_over(url: str) -> None:
    open_records(url).close()
    with subprocess.Popen([sys.executable, "-c", _HOLD, url], stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with open_records(url) as records:
            time.sleep(2.5)  # longer than the lease: it is renewed
            assert records.leases.find_leaseless_runs() == ()
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait(30) == -signal.SIGKILL
            with pytest.raises(LeaseHeld) as caught:
                records.leases.acquire(make.RUN_ID, ME, 60)
            assert caught.value.holder.pid == child.pid
            patience = time.monotonic() + 30
            while not records.leases.find_leaseless_runs():
                assert time.monotonic() < patience
                time.sleep(0.1)
            (found,) = records.leases.find_leaseless_runs()
            assert (found.run_id, found.holder) == (make.RUN_ID, caught.value.holder)
            records.leases.acquire(make.RUN_ID, ME, 60)
            assert records.leases.find_leaseless_runs() == ()
            records.save(make.make_run(state=OperationState.SUCCEEDED))
            records.leases.release(make.RUN_ID, ME)
            assert records.leases.find_leaseless_runs() == ()


_LOOK = """
import sys
from tasks.records.queries.history import History
from tasks.records.setup import open_records

with open_records(sys.argv[1]) as records:
    print(" ".join(run.id for run in History(records).read_runs(9)))
"""


def _seen_by_another_process(url: str) -> set[str]:
    command = [sys.executable, "-c", _LOOK, url]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_opening_the_records_twice_in_a_process_keeps_the_locks_of_the_first(url: str) -> None:
    """A lock that went lost would let the next process that closes the file remove the journal under this one."""
    with open_records(url) as first:
        first.save(make.make_run(id="20260310-010000-aaaaaa"))
        open_records(url).close()
        assert _seen_by_another_process(url) == {"20260310-010000-aaaaaa"}

        first.save(make.make_run(id="20260310-020000-bbbbbb"))

        assert _seen_by_another_process(url) == {"20260310-010000-aaaaaa", "20260310-020000-bbbbbb"}
