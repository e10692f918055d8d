"""Machines that get into trouble while they reboot: what became of them is told, and no reboot is ordered twice."""

from datetime import timedelta

import pytest

from tasks.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyMismatch,
)
from tasks.protocols.transport import Script, ScriptRecord
from tasks.states import OperationState, RebootState, Step, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.sim_machine import KNOCK_SECONDS, SimMachine


def test_a_machine_that_never_goes_down(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.down_after = None

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "did not go down in 600 s" in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_a_machine_that_never_comes_back(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.up_after = None

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "did not come back after 1800 s" in outcome.reason
    assert len(web.boots.orders) == 1
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 1


def test_a_machine_that_comes_back_in_the_same_boot_did_not_reboot(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.same_id = True

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "still in the boot" in outcome.reason


def test_the_time_until_it_is_known_that_nothing_answers_counts_as_down(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.down_after, web.boots.up_after = 2.0, 20.0

    result = outcome_of(fleet.patch(), "web").reboot_result

    assert result is not None
    assert result.down_seconds is not None
    assert result.up_seconds is not None
    assert 2.0 <= result.down_seconds < 2.0 + KNOCK_SECONDS
    assert result.up_seconds >= 20.0


def test_a_refused_reboot_is_told_at_once(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.refuses = "a job is still running"

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "a job is still running" in outcome.reason
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 0
    (record,) = [step for step in outcome.steps if step.step is Step.REBOOT]
    assert record.ended_at - record.started_at < timedelta(seconds=10)


@pytest.mark.parametrize("error", [ConnectionLost("cut"), DeadlineExceeded("late")])
@pytest.mark.parametrize("carried_out", [True, False])
def test_a_reboot_order_without_an_answer_is_watched_and_not_repeated(
    fleet: SimFleet, error: FleetpatchError, carried_out: bool
) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.fail(error, on="reboot", after_the_act=carried_out)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is (RebootState.COMPLETED if carried_out else RebootState.FAILED)
    assert len([call for call in web.calls if call.name == "reboot"]) == 1


def test_a_strangers_host_key_after_the_reboot_is_told_with_the_reboot(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    stranger = HostKeyMismatch("another key")

    def order(script: Script) -> ScriptRecord:
        web.fail(stranger, on="facts")
        return web._reboot(script)

    web.answer("reboot", order)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 1
    assert "another key" in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_services_that_do_not_come_back_fail_the_machine(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.gone_after_reboot = ("tcp/443",)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert "tcp/443" in outcome.reason
    assert outcome.reboot is RebootState.COMPLETED


def turns_read_only(machine: SimMachine, boots: int = 1) -> None:
    """Let its root be read-only once it was booted so often."""

    def facts(_: Script) -> list[ScriptRecord]:
        turned = machine.boots.count >= boots
        return [{**each, "read_only": turned} if each["kind"] == "disk" else each for each in machine._facts()]

    machine.answer("facts", facts)


def test_a_machine_that_comes_back_with_a_root_that_is_read_only_fails(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    turns_read_only(web)

    outcome = outcome_of(fleet.patch(), "web")

    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.COMPLETED)
    assert outcome.reason == "validation disk: / is mounted read-only, and was writable before"
    assert outcome.steps[-1].message == "disk: / is mounted read-only, and was writable before"
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_nothing_is_installed_after_a_first_reboot_that_has_left_the_root_read_only(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("from before")
    turns_read_only(web)

    outcome = outcome_of(fleet.patch(reboot_pending_first=True), "web")

    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.COMPLETED)
    assert "disk: / is mounted read-only, and was writable before" in outcome.reason
    assert web.jobs() == []
    assert result_of(outcome, "a").reason
