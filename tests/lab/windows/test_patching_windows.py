"""Runs of the real engine on a Windows machine: the window, the policy of reboots, and others who change it."""

from pathlib import Path

import pytest

from tasks.domain.states import OperationState, RebootPolicy, RebootState, UpdateState, YesNoUnknown
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tests.lab.windows.machine_facts import POLICY, RegistryValues
from tests.lab.windows.patching import QUICK, WindowsFleet, count, cumulative, guid, kb, offer, result_of, states
from tests.lab.windows.scenario import Scenario, three_failures
from tests.lab.windows.state import change_state
from tests.support.local_powershell import require_pwsh

WINDOWS_SECONDS = (45.0, 150.0, 400.0)  # on cores that others use, the shortest is over before anybody is seen at work
AGAIN = "20260310-020000-aaaaaa"
THIRD = "20260310-030000-aaaaaa"


@pytest.fixture(autouse=True)
def _powershell() -> None:
    require_pwsh()


def test_what_does_not_fit_into_the_window_is_not_attempted_and_the_arithmetic_is_told(tmp_path: Path) -> None:
    with WindowsFleet.opened(tmp_path, Scenario(updates=(offer(1), offer(2)))) as fleet:
        fleet.patch(minutes=20, reboot=RebootPolicy.NEVER)

        outcome = fleet.outcome()
        assert sorted(states(outcome).values()) == [UpdateState.INSTALLED, UpdateState.NOT_ATTEMPTED]
        (left,) = [result for result in outcome.updates if result.state is UpdateState.NOT_ATTEMPTED]
        assert "needs about 10 min" in left.reason, left.reason
        assert count(fleet.one, "install") == 1


def test_reboots_follow_the_policy(tmp_path: Path) -> None:
    with WindowsFleet.opened(tmp_path, Scenario(updates=(cumulative(1), offer(2)))) as fleet:
        fleet.patch(kb(1), reboot=RebootPolicy.NEVER)
        outcome = fleet.outcome()
        assert (outcome.state, outcome.reboot) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED)
        assert (fleet.state["boot"]["number"], fleet.state["ubr"]) == (1, 2700)

        def end_spooler() -> None:
            with change_state(fleet.one.machine.folder) as state:
                (spooler,) = [service for service in state["services"] if service["name"] == "Spooler"]
                spooler |= {"status": "Stopped", "exit_code": 1067}  # it ended unexpectedly

        # at the first look after the reboot, all services run
        fleet.patch(
            at="validate is over", then=end_spooler, run=AGAIN, reboot=RebootPolicy.IF_REQUIRED, settle_seconds=20
        )
        outcome = fleet.outcome(AGAIN)
        assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.COMPLETED), outcome.reason
        assert "Spooler" in outcome.reason
        assert (fleet.state["boot"]["number"], fleet.state["ubr"]) == (2, 2800)

        fleet.patch(run=THIRD, reboot=RebootPolicy.IF_REQUIRED)
        assert fleet.outcome(THIRD).reboot is RebootState.NOT_NEEDED
        assert fleet.state["boot"]["number"] == 2


def test_licence_terms_are_accepted_as_asked_and_a_machine_that_needs_no_reboot_gets_the_one_it_is_to_have(
    tmp_path: Path,
) -> None:
    with WindowsFleet.opened(tmp_path, Scenario(updates=(offer(1, eula_accepted=False),))) as fleet:
        fleet.patch(reboot=RebootPolicy.ALWAYS, accept_licences=True)

        outcome = fleet.outcome()
        assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), outcome.reason
        assert states(outcome) == {kb(1): UpdateState.INSTALLED}
        assert fleet.state["updates"][guid(1)]["eula_accepted"]
        assert fleet.state["boot"]["number"] == 2


def test_what_failed_again_and_again_is_left_until_its_name_is_asked_for_and_a_hotpatch_is_rebooted_if_it_asks(
    tmp_path: Path,
) -> None:
    stalled, by_others = 0x80D02002, "UpdateOrchestrator"
    before = three_failures(guid(1), 0x8024200B) + three_failures(guid(3), stalled)
    before += three_failures(guid(3), 0x8024200B, client=by_others)
    hotpatch = offer(2, "Hotpatch Update for Windows Server 2022", needs_reboot=True)
    with WindowsFleet.opened(tmp_path, Scenario(updates=(offer(1), hotpatch, offer(3)), history=before)) as fleet:
        report = fleet.patch()
        outcome, (plan,) = fleet.outcome(), report.plans
        installed = dict.fromkeys([kb(2), kb(3)], UpdateState.INSTALLED)
        assert states(outcome) == {kb(1): UpdateState.BLOCKED, **installed}
        assert "0x8024200B WU_E_UH_INSTALLERFAILURE" in result_of(outcome, 1).reason
        assert plan.reboot_expected is YesNoUnknown.NO
        assert any(note.startswith(f"no reboot is expected: {kb(2)} (a hotpatch") for note in plan.notes)
        assert (outcome.reboot, fleet.state["boot"]["number"]) == (RebootState.COMPLETED, 2)

        fleet.patch(kb(1), run=AGAIN)
        assert states(fleet.outcome(AGAIN)) == {kb(1): UpdateState.INSTALLED}


def test_a_machine_that_asks_for_reboots_for_ever_is_not_rebooted_for_ever(tmp_path: Path) -> None:
    asks: dict[str, RegistryValues] = {
        r"SYSTEM\CurrentControlSet\Control\ComputerName\ComputerName": {"ComputerName": "ANOTHER"}
    }
    with WindowsFleet.opened(tmp_path, Scenario(updates=(cumulative(1),), registry=asks)) as fleet:
        fleet.patch(reboot_pending_first=True, reboot=RebootPolicy.ALWAYS)

        outcome = fleet.outcome()
        assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
        assert result_of(outcome, 1).state is UpdateState.INSTALLED
        assert (fleet.state["boot"]["number"], fleet.state["ubr"]) == (3, 2800)
        assert "it asks for a reboot again: the computer's new name" in outcome.reason


def test_automatic_updates_rest_while_the_machine_is_patched(tmp_path: Path) -> None:
    scenario = Scenario(updates=(offer(1, install_gate="go"),), policies={r"AU\AUOptions": 4})
    seen: dict[str, object] = {}
    with WindowsFleet.opened(tmp_path, scenario) as fleet:
        before = fleet.state["registry"][rf"{POLICY}\AU"]["values"]

        def look() -> None:
            seen.update(fleet.state["registry"][rf"{POLICY}\AU"]["values"])
            fleet.one.machine.open_gate("go")

        fleet.patch(at="installing", then=look, native_updaters="pause")

        assert seen != before
        assert fleet.state["registry"][rf"{POLICY}\AU"]["values"] == before
        assert states(fleet.outcome()) == {kb(1): UpdateState.INSTALLED}
        assert not fleet.state["tasks"]


def test_an_installation_of_somebody_else_that_does_not_end_leaves_the_update_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WindowsUpdateManager, "default_rates", QUICK)
    with WindowsFleet.opened(tmp_path, Scenario(updates=(offer(1),), installer_busy_seconds=900)) as fleet:
        for number, seconds in enumerate(WINDOWS_SECONDS):
            run = f"20260310-0{number}0000-aaaaaa"
            fleet.patch(run=run, minutes=seconds / 60, reboot_reserve_minutes=0)
            outcome = fleet.outcome(run)
            if "servicing" in outcome.reason:
                break

        assert outcome.state in (OperationState.NOT_STARTED, OperationState.COMPLETED_WITH_WARNINGS), outcome.reason
        assert "servicing" in outcome.reason, outcome.reason
        assert UpdateState.INSTALLED not in states(outcome).values()
        assert count(fleet.one, "install") == 0
