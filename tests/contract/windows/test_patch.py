"""A whole run of the real engine over Windows, with the real scripts on a stand-in for the Windows Update Agent."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, RebootState, UpdateState
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tests.contract.windows.update_machine import guid, offer, soon
from tests.contract.windows.warm_machine import CLOCK
from tests.contract.windows.windows_fleet import WindowsFleet, results
from tests.lab.windows.scenario import SERVICES, Scenario, Service, Update

DAY = timedelta(days=1)
LCU = "2026-11 Cumulative Update for Microsoft server operating system version 21H2"
STACK = "2026-11 Servicing Stack Update for Windows Server 2022"


def cumulative(**changes: Any) -> Update:
    return offer(5, LCU, reboot_behavior=2, needs_reboot=True, **changes)


def test_everything_is_installed_in_order_with_one_reboot_and_automatic_updates_rest_meanwhile() -> None:
    updates = (
        cumulative(ubr_after=2800),
        offer(1, STACK, impact=2),
        offer(2),
        offer(3, classification="update", browse_only=True),
    )
    scenario = Scenario(updates=updates, policies={r"AU\AUOptions": 4})
    with WindowsFleet.opened(scenario) as fleet:
        outcome = fleet.patch("KB*1", "KB*2", "KB*5", native_updaters="pause", patched_by_others="fail")
        state = fleet.warm.windows.read_state()
        left = WindowsUpdateManager().assess(fleet.warm.open_host(), refresh=True, deadline=soon())
    assert [update.name for update in left.updates] == ["KB5000003"]
    assert outcome.state is OperationState.SUCCEEDED, (outcome.reason, outcome.findings)
    found = {name: result.state for name, result in results(outcome).items()}
    assert found.pop("KB5000003") is UpdateState.NOT_SELECTED
    assert set(found.values()) == {UpdateState.INSTALLED}
    assert [each["id"] for each in state["journal"] if each["what"] == "install"] == [guid(1), guid(2), guid(5)]
    assert (outcome.reboot, state["boot"]["number"], state["ubr"]) == (RebootState.COMPLETED, 2, 2800)
    assert [task for task in state["tasks"] if "FleetPatch" in task] == []
    values = state["registry"][r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU"]["values"]
    assert {name: value["data"] for name, value in values.items()} == {"AUOptions": 4}
    paused = [each.message for each in outcome.findings if "Automatic Updates" in each.message]
    assert any("paused while this run installed" in message for message in paused), paused


def test_a_machine_of_another_patch_manager_is_failed_or_left_out_before_anything_is_done() -> None:
    scenario = Scenario(updates=(offer(1),), services=(*SERVICES, Service("ccmexec")), policies={r"AU\AUOptions": 4})
    with WindowsFleet.opened(scenario) as fleet:
        failed = fleet.patch(patched_by_others="fail", native_updaters="pause")
        left_out = fleet.patch(patched_by_others="skip")
        state = fleet.warm.windows.read_state()
    assert failed.state is OperationState.FAILED
    assert failed.reason.startswith(
        "pre-check auto-updater: ConfigMgr's client (ccmexec) may install updates by itself"
    )
    assert left_out.state is OperationState.NOT_STARTED
    assert "others patch this machine (Automatic Updates, ConfigMgr's client (ccmexec))" in left_out.reason
    assert {results(each)["KB5000001"].state for each in (failed, left_out)} == {UpdateState.NOT_ATTEMPTED}
    assert not [each for each in state["journal"] if each["what"] in {"download", "install"}]


def test_licence_terms_are_accepted_where_the_request_says_so() -> None:
    with WindowsFleet.opened(Scenario(updates=(offer(1, eula_accepted=False),))) as fleet:
        refused = results(fleet.patch())["KB5000001"]
        accepted = results(fleet.patch(accept_licences=True))["KB5000001"]
    assert (refused.state, accepted.state) == (UpdateState.EXCLUDED, UpdateState.INSTALLED)
    assert refused.reason == "its licence terms are not accepted on the machine, and the request does not accept them"


def test_what_the_boot_undoes_has_failed_and_the_next_run_warns_of_it() -> None:
    with WindowsFleet.opened(Scenario(updates=(cumulative(rolled_back=True), offer(2)))) as fleet:
        outcome = fleet.patch()
        again = fleet.patch(reboot=RebootPolicy.NEVER)
    found = results(outcome)
    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.COMPLETED)
    assert found["KB5000002"].state is UpdateState.INSTALLED
    assert found["KB5000005"].state is UpdateState.FAILED
    assert found["KB5000005"].reason == "rolled back during the boot: it is not installed any more"
    blocks = [each.message for each in outcome.findings if each.level is FindingLevel.BLOCK]
    assert blocks == ["rolled back during the boot: KB5000005 is not installed any more"]
    warnings = [each.message for each in again.findings if "offered again" in each.message]
    assert any("KB5000005 was installed once" in message for message in warnings), again.findings


def test_what_does_not_fit_into_the_window_is_not_attempted_and_says_the_time() -> None:
    with WindowsFleet.opened(Scenario(updates=(offer(1), offer(2), offer(3)))) as fleet:
        outcome = fleet.patch(minutes=30, reboot=RebootPolicy.NEVER)
    states = sorted(result.state for result in outcome.updates)
    assert UpdateState.INSTALLED in states
    assert UpdateState.NOT_ATTEMPTED in states
    late = [result for result in outcome.updates if result.state is UpdateState.NOT_ATTEMPTED]
    assert all(result.reason.startswith("no time left") for result in late)


def test_one_update_that_fails_does_not_keep_the_others_back() -> None:
    with WindowsFleet.opened(Scenario(updates=(offer(1, install_hresult=0x80070643), offer(2)))) as fleet:
        outcome = fleet.patch()
    found = results(outcome)
    assert (found["KB5000001"].state, found["KB5000002"].state) == (UpdateState.FAILED, UpdateState.INSTALLED)
    assert "0x80070643 ERROR_INSTALL_FAILURE" in found["KB5000001"].reason


def test_an_installer_that_windows_refuses_to_system_is_named() -> None:
    refused: dict[str, Literal["network", "everyone"]] = {"IUpdateSession.CreateUpdateInstaller": "everyone"}
    with WindowsFleet.opened(Scenario(updates=(offer(1),), refused=refused)) as fleet:
        outcome = fleet.patch()
    assert (outcome.state, results(outcome)["KB5000001"].state) == (OperationState.FAILED, UpdateState.NOT_ATTEMPTED)
    assert "E_ACCESSDENIED" in outcome.reason
    assert "(in New-FpInstaller)" in outcome.reason


WSUS: dict[str, int | str | list[str]] = {"WUServer": "http://wsus.example.com:8530", r"AU\UseWUServer": 1}


def test_the_approval_of_a_wsus_server_is_no_publication_and_the_first_sight_in_the_fleet_is() -> None:
    """A later ring's approval is younger than its limit of publication: the update was never installed there."""
    approved = CLOCK.now()
    limited = {"published_before": approved - 10 * DAY}
    for policies, published in ((WSUS, None), ({}, approved.replace(microsecond=0))):
        scenario = Scenario(updates=(offer(1, published=approved.timestamp()),), policies=policies)
        with WindowsFleet.opened(scenario) as fleet:
            new = fleet.patch(updates=limited)
            first = next(iter(fleet.records.assessments.values()))
            fleet.records.save(replace(first, machine="of an earlier ring", at=approved - 20 * DAY))
            known = fleet.patch(updates=limited)
        (left,) = new.updates
        assert (left.update.published, left.state) == (published, UpdateState.EXCLUDED)
        assert ("first seen in the fleet" in left.reason) is (published is None), left.reason
        assert new.reason.startswith("nothing to install, 1 excluded")
        expected = UpdateState.INSTALLED if published is None else UpdateState.EXCLUDED
        assert results(known)["KB5000001"].state is expected


def test_a_server_of_updates_that_is_down_is_named() -> None:
    scenario = Scenario(updates=(offer(1),), policies=WSUS, search_hresults=[0x80244022])
    with WindowsFleet.opened(scenario) as fleet:
        outcome = fleet.patch()
        journal = fleet.warm.windows.read_state()["journal"]
    assert outcome.state is OperationState.FAILED
    assert "0x80244022" in outcome.reason
    assert "wsus.example.com" in outcome.reason
    assert not [each for each in journal if each["what"] == "install"]


def test_a_machine_whose_component_store_can_not_be_repaired_is_left() -> None:
    with WindowsFleet.opened(Scenario(updates=(offer(1),), component_store="NonRepairable")) as fleet:
        outcome = fleet.patch()
        journal = fleet.warm.windows.read_state()["journal"]
    assert outcome.state is OperationState.FAILED
    assert "(NonRepairable)" in outcome.reason
    assert {name: result.state for name, result in results(outcome).items()} == {"KB5000001": UpdateState.NOT_ATTEMPTED}
    assert not [each for each in journal if each["what"] in {"download", "install"}]
