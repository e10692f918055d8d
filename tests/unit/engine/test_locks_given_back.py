"""A lock is given back when nothing was begun, and ends soon when the machine can't be reached for that."""

from datetime import timedelta

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from tasks.domain.errors import ConnectionLost, DeadlineExceeded, FleetpatchError, HostKeyMismatch
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import OperationState, RebootState, Step
from tasks.steps.machine.machine_lock import IDLE_LOCK_DURATION
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.sim_machine import SimMachine


@pytest.mark.parametrize("error", [ConnectionLost("cut"), DeadlineExceeded("too slow")])
def test_a_line_that_is_cut_in_the_pre_check_leaves_no_lock(fleet: SimFleet, error: FleetpatchError) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.fail(error, on="machine_lock", after_the_act=True)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.locked_by is None


def test_a_machine_that_is_gone_in_the_pre_check_is_free_again_soon(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.answer("machine_lock", web._take_lock, seconds=0.5)
    web.fail(ConnectionLost("cut"), on="machine_lock", after_the_act=True)
    web.fail(ConnectionLost("cut"), on="machine_lock")

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.locked_by is not None
    assert web.locked_by[2] <= (fleet.clock.now() + IDLE_LOCK_DURATION).timestamp()


def test_a_job_that_may_still_run_keeps_the_lock_beyond_the_window(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=60)])
    web.on_start("stage", 0.0, lambda: web.cut(1e6))

    report = fleet.patch(minutes=60)

    assert report.run.window is not None
    assert web.locked_by is not None
    assert web.locked_by[2] >= (report.run.window.start + timedelta(minutes=60)).timestamp()


def _waits_for_an_early_reboot(fleet: SimFleet, seconds: float) -> SimMachine:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("from before")
    web.lock_at_reboot_question(seconds)
    return web


def test_a_reboot_that_waits_long_keeps_the_machine_from_other_runs(fleet: SimFleet) -> None:
    web = _waits_for_an_early_reboot(fleet, 2400)
    seen: list[bool] = []

    def look() -> None:
        assert web.locked_by is not None
        seen.append(web.locked_by[2] > fleet.clock.now().timestamp())

    web.trouble.append((fleet.clock.now() + IDLE_LOCK_DURATION + timedelta(minutes=10), look))

    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")

    assert seen == [True]
    assert outcome.reboot is RebootState.COMPLETED


def test_a_reboot_does_not_wait_for_a_machine_that_another_run_has_by_now(fleet: SimFleet) -> None:
    web = _waits_for_an_early_reboot(fleet, 2400)
    asked: list[str] = []

    def take_lock(script: Script) -> ScriptRecord:
        asked.append(str(script.params.get("release", "")))
        if len(asked) == 1:
            return web._take_lock(script)
        return {"kind": "taken", "run": "20260310-0100-beef", "by": "bert", "until": fleet.clock.now().timestamp() + 60}

    web.answer("machine_lock", take_lock)

    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")

    (since, until), *_ = web.world.locks
    assert not [at for at in web.boots.ordered_at if since <= at < until]
    told = [step.message for step in outcome.steps if step.step is Step.REBOOT]
    assert any("locked by run 20260310-0100-beef (bert) until" in message for message in told), told


def test_a_machine_whose_update_makes_new_host_keys_is_told_with_the_remedy_and_its_lock_ends_with_the_run(
    fleet: SimFleet,
) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=10), FakePackage("b")])
    new_key = HostKeyMismatch("it shows another host key", hint="Compare it on its console.")

    def make_new_keys() -> None:
        for script in ("facts", "machine_lock"):
            web.fail(new_key, on=script)

    web.on_start("install", 0.0, make_new_keys)
    outcome = outcome_of(fleet.patch("a"), "web")
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.message == "it has changed since this run began on it: it shows another host key"
    assert outcome.error.hint == "Compare it on its console."
    assert web.locked_by is not None

    second = FleetRun(fleet.request("b"), fleet.ports(), LocalRunner(), run_id="20260310-020000-bbbbbb")
    outcome = outcome_of(second.execute(), "web")
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert web.locked_by is None


@pytest.mark.parametrize(
    ("acts", "lock_attempt", "is_taken_over"),
    [
        ("attempt, lock left 1", 1, True),
        ("attempt, attempt, lock left 1, lock left 2", 2, True),
        ("attempt, attempt, lock left 2", 1, True),  # the second one got no lock
        ("attempt, attempt, lock left 1", 2, False),  # the first one's process slept, and was woken late
        ("attempt, lock left 1", 2, False),  # the records were restored, and lack the second one
        ("attempt, lock left 1, attempt", 1, False),
        ("", 1, False),
    ],
)
def test_only_the_lock_of_the_last_attempt_is_taken_over_when_that_is_over(
    fleet: SimFleet, acts: str, lock_attempt: int, is_taken_over: bool
) -> None:
    other, now = "20260310-010000-aaaaaa", fleet.clock.now()
    web = fleet.add("web", [FakePackage("a")])
    web.locked_by, web.lock_attempt = (other, "anna", now.timestamp() + 7200), lock_attempt
    for act in filter(None, acts.split(", ")):
        name, _, key = act.partition(" left ")
        entry_act, entry_key = ("lock left", key) if key else (name, f"{len(fleet.records.journal)}")
        fleet.records.append_entry(
            JournalEntry(other, "web", Step.PRECHECK, JournalMark.AFTER, entry_act, entry_key, now, {})
        )

    run = FleetRun(fleet.request("a"), fleet.ports(), LocalRunner(), run_id="20260310-020000-bbbbbb")
    outcome = outcome_of(run.execute(), "web")

    assert (outcome.state is OperationState.SUCCEEDED) is is_taken_over, outcome.reason
    assert (web.locked_by is None) is is_taken_over
