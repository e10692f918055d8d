"""Machines that get into trouble while they reboot: what became of them is told, and no reboot is ordered twice."""

from dataclasses import replace
from datetime import timedelta

import pytest

from inventory.machine import Limits
from tasks.domain.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyMismatch,
)
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import FindingLevel, OperationState, RebootState, Step, UpdateState
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tasks.rules.machine_checks.packages import PENDING_REBOOT_CHECK
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.reboot_guard import HOLDER
from tests.support.sim_machine import KNOCK_SECONDS, SimMachine


def test_a_machine_that_never_goes_down(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.down_after = None

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "did not go down in 600 s" in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def at_work(machine: SimMachine, until: float) -> None:
    """Let the machine be at work on packages from the reboot's order on, for so many seconds."""

    def order(script: Script) -> ScriptRecord:
        answer, now = machine._reboot(script), machine.fake_clock.now()
        machine.world.locks = ((now, now + timedelta(seconds=until)),)
        return answer

    machine.answer("reboot", order)


@pytest.mark.parametrize(("work", "down", "seconds"), [(690, 700, None), (200, None, 600), (5000, None, 1200)])
def test_a_machine_that_works_before_it_goes_down_has_longer_and_not_for_ever(
    fleet: SimFleet, work: float, down: float | None, seconds: float | None
) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.down_after = down
    at_work(web, work)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is (RebootState.FAILED if seconds else RebootState.COMPLETED)
    if seconds:
        assert f"did not go down in {seconds:.0f} s" in outcome.reason
        assert f" s; {HOLDER}" in outcome.reason


def test_a_machine_that_goes_down_slowly_is_asked_little(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.down_after = 590

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.COMPLETED
    names = [call.name for call in web.calls if call.name in {"facts", "reboot_obstacles", "reboot"}]
    asked = names[names.index("reboot") + 1 :]
    assert asked.count("facts") == 2  # its first login after the boot, and validation
    assert asked.count("reboot_obstacles") < 80


def test_one_late_answer_is_no_machine_that_is_down(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.down_after = 300
    web.fail(DeadlineExceeded("late"), on="reboot_obstacles", call=3)

    outcome = outcome_of(fleet.patch(coming_up_minutes=2), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert outcome.reboot_result is not None
    assert 300 <= (outcome.reboot_result.down_seconds or 0) < 320


@pytest.mark.parametrize(
    ("own", "asked", "seconds"), [(None, None, 900), (None, 20, 1200), (5, 20, 300)], ids=["family", "run", "machine"]
)
def test_how_long_a_machine_may_go_down_is_its_own_the_runs_or_that_of_its_family(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch, own: float | None, asked: float | None, seconds: float
) -> None:
    monkeypatch.setattr(FakeManager, "default_rates", replace(FakeManager.default_rates, going_down_seconds=900.0))
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)], limits=Limits(reboot_timeout_minutes=own))
    web.boots.down_after = None

    report = fleet.patch(going_down_minutes=asked)

    assert f"did not go down in {seconds} s" in outcome_of(report, "web").reason
    (order,) = [call.script for call in web.calls if call.name == "reboot" and call.script]
    assert report.run.window is not None
    locked = float(str(order.params["lock_until"])) - report.run.window.end.timestamp()
    assert locked >= max(3600, 2 * seconds + (300 if own else 1800))  # until the reboot is not waited for any longer


def test_a_machine_of_windows_has_an_hour_to_go_down_and_one_to_come_back() -> None:
    rates = WindowsUpdateManager.default_rates
    assert (rates.going_down_seconds, rates.coming_up_seconds) == (3600, 3600)
    assert (FakeManager.default_rates.going_down_seconds, FakeManager.default_rates.coming_up_seconds) == (600, 1800)


def test_a_machine_that_never_comes_back(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.up_after = None

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.reboot is RebootState.FAILED
    assert "did not come back after 1800 s" in outcome.reason
    assert len(web.boots.orders) == 1
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 1
    assert outcome.error is not None
    assert outcome.facts is not None
    assert f"the one that it ran: {outcome.facts.kernel}" in outcome.error.hint
    (*_, last) = fleet.records.assessments.values()
    assert (last.machine, last.error) == ("web", outcome.error), "what it was before the reboot is not known to be so"


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


def test_a_pending_reboot_that_the_policy_forbids_is_not_called_done_first(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.world.shelf.reboot_reasons.append("from before")

    outcome = outcome_of(fleet.patch(reboot_pending_first=True, reboot="Never"), "web")

    (finding,) = [finding for finding in outcome.findings if finding.check == PENDING_REBOOT_CHECK]
    assert (finding.level, finding.message) == (FindingLevel.REMARK, "a reboot was pending already: from before")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS  # what was installed may need it
