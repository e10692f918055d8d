"""Public reports about other tools that drive the Windows Update Agent, played with the real scripts and a whole run.

docs/reference/platforms.md has the table of all of them, and what was only judged.
"""

from dataclasses import replace

import pytest

from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.contract.windows.update_machine import offer
from tests.contract.windows.windows_fleet import WindowsFleet, results
from tests.lab.windows.scenario import SERVICES, Scenario, Update

LCU = "2026-11 Cumulative Update for Microsoft server operating system version 21H2"
RECOVERY = "2026-11 Security Update for Microsoft server operating system version 21H2"


@pytest.mark.public_report("https://github.com/LanternOps/breeze/issues/4228: one failure, and no reboot for the rest")
@pytest.mark.public_report("https://github.com/ansible/ansible/issues/49874: one failure ends everything")
@pytest.mark.public_report("https://github.com/amidaware/tacticalrmm/issues/1776: the recovery partition is too small")
@pytest.mark.public_report("https://github.com/saltstack/salt/issues/57762: an update without InstallationBehavior")
@pytest.mark.public_report("https://github.com/saltstack/salt/issues/58837: BITS is disabled")
def test_one_failure_keeps_nobody_from_the_rest_nor_from_the_reboot() -> None:
    updates = (
        offer(1, RECOVERY, install_hresult=0x80070643),
        offer(2, no_installation_behavior=True),
        offer(5, LCU, reboot_behavior=2, needs_reboot=True, ubr_after=2800),
    )
    services = tuple(replace(each, start_type="Disabled") if each.name == "bits" else each for each in SERVICES)
    with WindowsFleet.opened(Scenario(updates=updates, services=services)) as fleet:
        outcome = fleet.patch()
        state = fleet.warm.windows.read_state()
        assessment = next(iter(fleet.records.assessments.values()))
    found = {name: (result.state, result.reason) for name, result in results(outcome).items()}
    assert found["KB5000001"][0] is UpdateState.FAILED
    assert "0x80070643" in found["KB5000001"][1]
    assert {found[name][0] for name in ("KB5000002", "KB5000005")} == {UpdateState.INSTALLED}
    assert (outcome.state, outcome.reboot, state["ubr"]) == (OperationState.FAILED, RebootState.COMPLETED, 2800)
    assert assessment.packages is not None
    assert "services that updates need are disabled: bits" in assessment.packages.warnings


@pytest.mark.public_report("https://github.com/ansible-collections/ansible.windows/issues/530: definitions for ever")
@pytest.mark.public_report("https://github.com/ansible-collections/ansible.windows/issues/604: an update loop")
@pytest.mark.public_report(
    "https://github.com/saltstack/salt/issues/70101: installed by its own word, and offered again"
)
@pytest.mark.public_report(
    "https://github.com/amidaware/tacticalrmm/issues/2537: the same, after it was removed by hand"
)
def test_what_the_agent_calls_installed_and_offers_again_has_failed_and_is_tried_once() -> None:
    definitions = Update(offer(1).id, title="Security Intelligence Update - KB2267602", kbs=("2267602",), lies=True)
    lying = offer(5, LCU, reboot_behavior=2, needs_reboot=True, lies=True)
    with WindowsFleet.opened(Scenario(updates=(definitions, lying))) as fleet:
        outcome = fleet.patch()
        state = fleet.warm.windows.read_state()
    assert {result.state for result in outcome.updates} == {UpdateState.FAILED}, results(outcome)
    assert outcome.state is OperationState.FAILED
    assert sum(entry["what"] == "install" for entry in state["journal"]) == 2
    assert state["boot"]["number"] <= 2


@pytest.mark.public_report(
    "https://github.com/ansible-collections/ansible.windows/issues/49: a reboot is required first"
)
@pytest.mark.public_report("https://github.com/criteo-cookbooks/wsus-client/issues/41: and the installation fails")
def test_a_reboot_that_must_come_first_is_named_or_done_first() -> None:
    scenario = Scenario(updates=(offer(1),), reboot_before_installation=True, reboot_pending=True)
    with WindowsFleet.opened(scenario) as fleet:
        refused = fleet.patch(reboot_pending_first=False)
        done = fleet.patch(reboot_pending_first=True)
        state = fleet.warm.windows.read_state()
    assert "reboot" in refused.reason
    assert results(refused)["KB5000001"].state is UpdateState.NOT_ATTEMPTED
    assert (done.state, results(done)["KB5000001"].state) == (OperationState.SUCCEEDED, UpdateState.INSTALLED)
    assert state["boot"]["number"] == 2
