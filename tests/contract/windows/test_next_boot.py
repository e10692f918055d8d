"""What a Windows says of its next boot: whether BitLocker asks a person for something."""

from dataclasses import replace
from typing import Any

import pytest

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.machine_checks.next_boot_needs import BootSurvey, EncryptedVolume, find_boot_faults
from tasks.steps.machine.next_boot import parse_boot_survey
from tests.contract.windows.test_self_restarts import rebooting
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.contract.windows.windows_fleet import WindowsFleet, results
from tests.lab.windows.scenario import SERVICES, Scenario, Service

VOLUME = "root/cimv2/Security/MicrosoftVolumeEncryption:Win32_EncryptableVolume"
PROTECTORS = {"{1}": 3, "{2}": 4}
UNREAD = "whether its boot asks for the passphrase, PIN or key of an encrypted volume could not be read"
ASKS = "its boot asks for the passphrase, PIN or key of an encrypted volume: C:"


def encrypted(protection: int, **changes: Any) -> Scenario:
    """A machine with a TPM that wants a PIN, and a data volume that wants a password."""
    volumes = [
        {"DriveLetter": "D:", "ProtectionStatus": 1, "DeviceID": "D"},
        {"DriveLetter": "C:", "ProtectionStatus": protection, "DeviceID": "C"},
    ]
    answers: dict[str, dict[str, Any]] = {
        f"{VOLUME}.GetKeyProtectors(0)": {"ReturnValue": 0, "VolumeKeyProtectorID": list(PROTECTORS)},
        **{
            f"{VOLUME}.GetKeyProtectorType({name})": {"ReturnValue": 0, "KeyProtectorType": kind}
            for name, kind in PROTECTORS.items()
        },
    }
    return Scenario(cim={VOLUME: volumes}, cim_methods=answers, services=(*SERVICES, Service("BDESVC")), **changes)


def survey_of(scenario: Scenario) -> BootSurvey:
    with WarmMachine.opened(scenario) as warm:
        answer = warm.open_host().run_script(Script("next_boot"), deadline=Deadline.after(CLOCK, 60))
        assert warm.windows.stand_in_errors() == []
    return parse_boot_survey(answer)


def test_a_machine_that_asks_for_a_pin_is_patched_and_not_rebooted() -> None:
    with WindowsFleet.opened(encrypted(1, updates=(rebooting(1),))) as fleet:
        outcome = fleet.patch()
        boots = fleet.warm.windows.read_state()["boot"]["number"]
    assert results(outcome)["KB5000001"].state is UpdateState.INSTALLED
    assert (outcome.state, outcome.reboot, boots) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED, 1)
    assert outcome.reboot_result is not None
    assert ASKS in outcome.reboot_result.reason
    assert [f.level for f in outcome.findings if f.check == "boot needs"] == [FindingLevel.WARN]


@pytest.mark.parametrize("fault", ["class", "protectors", "type"])
def test_a_bitlocker_that_cannot_be_asked_keeps_a_machine_from_its_reboot(fault: str) -> None:
    scenario = encrypted(1, updates=(rebooting(1),))
    code = {"ReturnValue": 0x80310008}
    scenario = {
        "class": replace(scenario, broken_cim_classes=["Win32_EncryptableVolume"]),
        "protectors": replace(scenario, cim_methods={**scenario.cim_methods, f"{VOLUME}.GetKeyProtectors(0)": code}),
        "type": replace(scenario, cim_methods={**scenario.cim_methods, f"{VOLUME}.GetKeyProtectorType({{2}})": code}),
    }[fault]
    told = {
        "class": "C: (Generic failure)",
        "protectors": "C: (GetKeyProtectors: code 0x80310008)",
        "type": "C: (GetKeyProtectorType: code 0x80310008)",
    }[fault]
    with WindowsFleet.opened(scenario) as fleet:
        outcome = fleet.patch()
        assert fleet.warm.windows.read_state()["boot"]["number"] == 1
        allowed = fleet.patch(reboot="Always", reboot_with_passphrase=True) if fault == "class" else None
    assert results(outcome)["KB5000001"].state is UpdateState.INSTALLED
    assert (outcome.state, outcome.reboot) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED)
    assert outcome.reboot_result is not None
    assert f"{UNREAD}: {told}. Look at it (manage-bde -status" in outcome.reboot_result.reason
    assert [f.level for f in outcome.findings if f.check == "boot needs"] == [FindingLevel.WARN]
    assert allowed is None or allowed.reboot is RebootState.COMPLETED


def test_a_windows_without_bitlocker_or_with_a_drive_that_it_does_not_know_is_rebooted() -> None:
    assert survey_of(Scenario()) == BootSurvey(is_fstab_proven=True)
    suspended = survey_of(replace(encrypted(0), cim_methods={}))
    assert suspended.volumes == (EncryptedVolume("C:", "bitlocker", "0", "", is_needed=True),)
    assert find_boot_faults(suspended) == ()
    volumes = [{"DriveLetter": "D:", "ProtectionStatus": 1, "DeviceID": "D"}]
    (remark,) = find_boot_faults(survey_of(Scenario(cim={VOLUME: volumes})))
    assert (remark.level, "does not list C:" in remark.message) == (FindingLevel.REMARK, True)


def test_a_bitlocker_without_its_class_is_damaged_and_not_absent() -> None:
    (volume,) = survey_of(Scenario(services=(*SERVICES, Service("BDESVC")))).volumes
    assert (volume.key, volume.options) == ("unread", "Invalid namespace")
