"""What a Windows says of its next boot: whether BitLocker asks a person for something."""

from typing import Any

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


def test_a_machine_that_asks_for_a_pin_is_patched_and_not_rebooted_until_that_is_suspended() -> None:
    with WindowsFleet.opened(encrypted(1, updates=(rebooting(1),))) as fleet:
        outcome = fleet.patch()
        boots = fleet.warm.windows.read_state()["boot"]["number"]
    assert results(outcome)["KB5000001"].state is UpdateState.INSTALLED
    assert (outcome.state, outcome.reboot, boots) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED, 1)
    assert outcome.reboot_result is not None
    assert ASKS in outcome.reboot_result.reason
    assert [f.level for f in outcome.findings if f.check == "boot needs"] == [FindingLevel.WARN]
    suspended = survey_of(encrypted(0))
    assert suspended.volumes == (EncryptedVolume("C:", "bitlocker", "0", "3 4", is_needed=True),)
    assert find_boot_faults(suspended) == ()


def test_without_bitlocker_nothing_is_asked_and_what_could_not_be_read_is_not_known() -> None:
    assert survey_of(Scenario()) == BootSurvey(is_fstab_proven=True)
    broken = survey_of(encrypted(1, broken_cim_classes=["Win32_EncryptableVolume"]))
    (finding,) = find_boot_faults(broken)
    assert finding.level is FindingLevel.WARN
    assert "whether its boot asks for BitLocker's PIN or key of C: is not known: Generic failure" in finding.message
