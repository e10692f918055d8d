"""Two runs of two controllers meet in one set, over one file of records: never more than allowed, and both end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tasks.steps.context.run_control import StopToken
from tests.support.fake_clock import START, FakeClock
from tests.support.set_fleet import Messages, SetFleet

FASTER = 300.0


class FastClock(FakeClock):
    """Time that passes by itself, for several controllers alike, much faster than the true one."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def now(self) -> datetime:
        return START + timedelta(seconds=(time.monotonic() - self._began) * FASTER)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds) / FASTER)

    def advance(self, seconds: float) -> None:
        self.sleep(seconds)


class Together(Messages):
    """Lets both runs begin their wave at the same moment: then both have assessed machines that nobody has touched."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self._barrier = barrier

    def on_message(self, message: str) -> None:
        super().on_message(message)
        if message.startswith("wave 1 "):
            self._barrier.wait(60)


class Watch:
    """Notes how many members are out of service at once: from their drain to the end of their undrain."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: set[str] = set()
        self.most = 0

    def note(self, story: list[str]) -> None:
        with self._lock:
            verb, machine = story[-1].split()
            self._out = self._out | {machine} if verb == "drain" else self._out - {machine}
            self.most = max(self.most, len(self._out))


@pytest.mark.parametrize("most", [1, 2])
def test_two_runs_never_take_more_of_a_set_than_allowed_and_both_end(tmp_path: Path, most: int) -> None:
    names = [f"web-{number}" for number in range(1, 5)]
    clock, watch, told, barrier = FastClock(), Watch(), list[Messages](), threading.Barrier(2)
    fleet = SetFleet(clock=clock)
    fleet.add_members(*names)
    fleet.add_set("web", *names, max_unavailable=most)
    inner, lock = fleet._hook, threading.Lock()

    def hook(script: object) -> object:
        with lock:  # the act and its note are one
            answer = inner(script)  # type: ignore[arg-type]
            watch.note(fleet.story)
            return answer

    for machine in fleet.machines.values():
        machine.answer("hook", hook)  # type: ignore[arg-type]

    def patch(number: int) -> RunReport:
        with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
            told.append(mine := Together(barrier))
            ports = replace(
                fleet.ports(),
                records=records,
                leases=records.leases,
                set_slots=SqlSetSlots(records.database, clock),
                stop_token=StopToken(),
                listener=mine,
            )
            request = fleet.request(minutes=40_000, waves={"at_once": 3})
            return FleetRun(request, ports, LocalRunner(), run_id=f"20260310-010000-00000{number}").execute()

    with ThreadPoolExecutor(2) as pool:
        reports = [each.result(120) for each in [pool.submit(patch, number) for number in (1, 2)]]

    assert 1 <= watch.most <= most
    for report in reports:
        assert {
            (each.state, each.reason) for each in report.outcomes if each.state is not OperationState.SUCCEEDED
        } == set()
        assert len(report.outcomes) == len(names)
    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        assert SqlSetSlots(records.database).find() == ()
    assert any("has web-" in each for listener in told for each in listener.waits())
