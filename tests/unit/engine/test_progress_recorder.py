"""What a run records of its progress while it goes on, and that the run never waits for it."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.progress_recorder import ProgressRecorder
from flows.local_run import LocalRunner
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.model import RunReport
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import ProgressRow
from tasks.domain.states import OperationState, Step
from tasks.steps.context.run_control import LoggingListener
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

SECONDS = 120.0  # of patience, on cores that others use
HOLDER = LeaseHolder("holder", "host", 1, "user")


@dataclass
class Store:
    """A store in memory. ``seen`` is every row that was ever stored."""

    rows: dict[str, ProgressRow] = field(default_factory=dict)
    seen: list[ProgressRow] = field(default_factory=list)
    writes: int = 0
    fault: Callable[[], None] = lambda: None
    is_ours: bool = True

    def save(self, run_id: str, rows: Sequence[ProgressRow], holder: LeaseHolder | None = None) -> bool:
        self.fault()
        if self.is_ours:
            self.writes += 1
            self.seen += rows
            self.rows |= {row.machine: row for row in rows}
        return self.is_ours

    def delete(self, run_id: str, holder: LeaseHolder | None = None) -> bool:
        self.fault()
        if self.is_ours:
            self.rows.clear()
        return self.is_ours


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def build(store: Store) -> ProgressRecorder:
    return ProgressRecorder(LoggingListener(), store, FakeClock(), write_seconds=0.02)


def test_the_newest_state_of_each_machine_is_stored_and_deleted_at_the_end() -> None:
    store = Store()
    recorder = build(store)
    with recorder.record_run("run", None):
        recorder.expect_machines({"a": 1, "b": 2})
        wait_for(lambda: "b" in store.rows)
        assert store.rows["b"].state == OperationState.NOT_STARTED
        assert [(store.rows[name].wave, store.rows[name].position) for name in "ab"] == [(1, 0), (2, 1)]
        recorder.on_progress("a", Step.INSTALL, 0.0, "")
        recorder.on_progress("a", Step.INSTALL, 0.4, "installing openssl")
        recorder.on_progress("a", Step.INSTALL, 0.5, "")
        wait_for(lambda: store.rows["a"].fraction == 0.5)
        row = store.rows["a"]
        assert (row.step, row.state, row.message) == ("install", "InProgress", "installing openssl")
        assert (row.wave, row.position) == (1, 0)
        recorder.on_step_finished("a", Step.INSTALL, "Failed", "no space")
        recorder.on_message("hook x")
        wait_for(lambda: store.rows["a"].state == "Failed" and store.rows[""].message == "hook x")
    assert store.rows == {}


def test_many_changes_are_one_write() -> None:
    store, may_write = Store(), threading.Event()
    may_write.set()
    store.fault = lambda: (may_write.wait(SECONDS), None)[1]
    recorder = ProgressRecorder(LoggingListener(), store, FakeClock(), write_seconds=0.1)
    with recorder.record_run("run", None):
        wait_for(lambda: store.writes)
        may_write.clear()  # one write at most is under way, however long the changes take
        before = store.writes
        for number in range(1000):
            recorder.on_progress(f"m{number % 50}", Step.INSTALL, number / 1000, "")
        may_write.set()
        wait_for(lambda: len(store.rows) == 51)
        assert store.writes <= before + 2


def test_records_that_are_away_lose_nothing_but_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.engine.progress_recorder.RETRY_SECONDS", 0.02)
    store = Store()
    recorder = build(store)
    is_away = threading.Event()
    is_away.set()

    def fault() -> None:
        if is_away.is_set():
            raise RecordsUnavailable("away")

    store.fault = fault
    with recorder.record_run("run", None):
        recorder.on_progress("a", Step.ASSESS, None, "looking")
        time.sleep(0.1)
        assert store.rows == {}
        is_away.clear()
        wait_for(lambda: "a" in store.rows)


def test_a_store_that_hangs_does_not_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.engine.progress_recorder.END_SECONDS", 0.1)
    store, going = Store(), threading.Event()
    store.fault = lambda: (going.wait(SECONDS), None)[1]
    recorder = build(store)
    began = time.monotonic()
    with recorder.record_run("run", None):
        time.sleep(0.1)
        for number in range(1000):
            recorder.on_progress(f"m{number}", Step.ASSESS, None, "")
    assert time.monotonic() - began < SECONDS / 2
    going.set()


def test_a_fault_of_the_store_does_not_reach_the_run() -> None:
    store = Store()

    def fault() -> None:
        raise ZeroDivisionError

    store.fault = fault
    recorder = build(store)
    with recorder.record_run("run", None):
        time.sleep(0.1)
        recorder.on_progress("a", Step.ASSESS, None, "")


def test_another_process_that_has_the_run_is_left_alone() -> None:
    store = Store()
    recorder = build(store)
    with recorder.record_run("run", HOLDER):
        wait_for(lambda: store.rows)
        store.is_ours = False
        theirs = replace(store.rows[""], message="theirs")
        store.rows = {"": theirs}
        recorder.on_message("ours")
        time.sleep(0.1)
    assert store.rows == {"": theirs}


def test_nothing_is_recorded_outside_of_a_run() -> None:
    store = Store()
    recorder = build(store)
    recorder.expect_machines({"a": 1})
    recorder.on_progress("a", Step.ASSESS, None, "")
    with recorder.record_run("run", None):
        wait_for(lambda: store.rows)
        assert set(store.rows) == {""}


def run_recorded(fleet: SimFleet, kind: str) -> tuple[Store, RunReport]:
    store = Store()
    recorder = ProgressRecorder(fleet.watch, store, fleet.clock, write_seconds=0.001)
    ports = replace(fleet.ports(), listener=recorder, progress=recorder)
    request = fleet.request(dry_run=kind == "plan")
    with recorder.record_run("run", None):
        report = FleetRun(request, ports, LocalRunner(), run_id="run").execute()
        wait_for(lambda: store.rows.get("web-1") is not None)
    return store, report


@pytest.mark.parametrize("kind", ["patch", "plan"])
def test_a_run_of_the_engine_is_recorded(kind: str) -> None:
    fleet = SimFleet()
    for number in range(3):
        fleet.add(f"web-{number}", [FakePackage("openssl"), FakePackage("curl")])
    store, report = run_recorded(fleet, kind)
    assert report.run.state is OperationState.SUCCEEDED
    assert store.rows == {}
    chosen = [row.message for row in store.seen if row.step == "assess" and row.state == "Succeeded"]
    assert kind == "patch" or "updates chosen: 2 of 2" in chosen
    assert {row.wave for row in store.seen if row.machine} == {1}
