"""Windows may restart by itself. A run tells that before it begins, and installs nothing if it may not reboot."""

import time
from typing import Any

import pytest

from tasks.domain.model import SelfRestart
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tests.contract.windows.update_machine import UpdateMachine, offer
from tests.contract.windows.windows_fleet import WindowsFleet, results
from tests.lab.windows.machine_facts import RegistryValues
from tests.lab.windows.scenario import SERVICES, Scenario, Service, Update

DEADLINE: RegistryValues = {
    "SetComplianceDeadline": 1,
    "ConfigureDeadlineForQualityUpdates": 3,
    "ConfigureDeadlineGracePeriod": 2,
}
UNTIL = 1_800_000_000.0  # 2027-01-15 08:00 UTC
POLICIES: RegistryValues = {"AU\\AUOptions": 4, "AU\\NoAutoRebootWithLoggedOnUsers": 1, "AU\\NoAutoUpdate": 0}
WORDS = "the machine restarts for it from 2027-01-15 08:00 UTC on"


def rebooting(number: int, **changes: Any) -> Update:
    return offer(number, needs_reboot=True, reboot_behavior=1, **changes)


def test_policies_of_groups_and_of_an_mdm_and_deadlines_of_the_server_are_read() -> None:
    mdm = {"EngagedRestartDeadline": 14, "AllowAutoUpdate": 4, "AutoRestartDeadlinePeriodInDays": 0}
    registry = {r"SOFTWARE\Microsoft\PolicyManager\current\device\Update": mdm}
    updates = (offer(1), rebooting(2, deadline=UNTIL))
    with UpdateMachine.opened(*updates, policies={**DEADLINE, **POLICIES}, registry=registry) as machine:
        state = machine.assess()
    assert state.self_restarts == (
        SelfRestart(
            "a group policy (ConfigureDeadlineForQualityUpdates) restarts it with a deadline of 3 days after an "
            "update is offered"
        ),
        SelfRestart("the MDM (EngagedRestartDeadline) restarts it at the latest 14 days after a reboot is due"),
        SelfRestart("the MDM (AllowAutoUpdate 4) lets Windows restart it after its installations"),
        SelfRestart(f"KB5000002 has a deadline on its update server: {WORDS}", is_lasting=False),
        SelfRestart(
            "Automatic Updates restarts it after its own installations, if nobody is logged in", is_lasting=False
        ),
    )
    assert [update.server_deadline is not None for update in state.updates] == [False, True]


@pytest.mark.parametrize(
    ("answer", "restart"),
    [
        ({"ReturnValue": 0, "RebootPending": True, "IsHardRebootPending": False}, None),
        (
            {"ReturnValue": 0, "RebootPending": True, "IsHardRebootPending": True},
            SelfRestart("ConfigMgr's client restarts it after a countdown"),
        ),
        (
            {"ReturnValue": 0x80070005},
            SelfRestart("whether ConfigMgr's client restarts it could not be read", is_lasting=False),
        ),
    ],
)
def test_a_hard_reboot_of_the_client_of_configmgr_is_told(answer: dict[str, Any], restart: SelfRestart | None) -> None:
    asked = "root/ccm/ClientSDK:CCM_ClientUtilities.DetermineIfRebootPending"
    services = (*SERVICES, Service("ccmexec"))
    with UpdateMachine.opened(offer(1), services=services, cim_methods={asked: answer}) as machine:
        state = machine.assess()
    assert state.self_restarts == (() if restart is None else (restart,))
    is_asked = "RebootPending" in answer
    assert ("ConfigMgr asks for a reboot" in state.reboot.reasons) is is_asked


def test_with_a_deadline_policy_a_run_that_may_not_reboot_installs_nothing_and_another_leaves_nothing() -> None:
    with WindowsFleet.opened(Scenario(updates=(rebooting(1),), policies=DEADLINE)) as fleet:
        refused = fleet.patch(reboot="Never")
        untouched = [each["what"] for each in fleet.warm.windows.read_state()["journal"]]
        done = fleet.patch()
    assert (refused.state, refused.reboot) == (OperationState.FAILED, RebootState.NOT_NEEDED)
    assert "self-restart: it may restart by itself: a group policy (ConfigureDeadline" in refused.reason
    assert untouched == []
    assert (done.state, done.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), done.reason
    assert [f.level for f in done.findings if f.check == "self-restart"] == [FindingLevel.REMARK]


def test_a_deadline_of_one_update_blocks_only_that_and_is_told_once_it_waits() -> None:
    updates = (rebooting(1, deadline=time.time() - 60), offer(2))
    with WindowsFleet.opened(Scenario(updates=updates)) as fleet:
        outcome = fleet.patch(reboot="Never")
    found = results(outcome)
    assert [found[name].state for name in ("KB5000001", "KB5000002")] == [UpdateState.BLOCKED, UpdateState.INSTALLED]
    assert "has a deadline on its update server" in found["KB5000001"].reason
    assert "and reboot is Never" in found["KB5000001"].reason
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    with UpdateMachine.opened(rebooting(1, deadline=UNTIL)) as machine:
        machine.install(*machine.pending().values())
        waiting = machine.assess().self_restarts
    assert waiting == (SelfRestart(f"KB5000001, which waits for it, has a deadline on its update server: {WORDS}"),)
