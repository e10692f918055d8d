"""What renews services that run replaced files: a restart, only a reboot, or nobody but their owner."""

from dataclasses import replace

from tasks.domain.model import PackageState, RebootNeed
from tasks.domain.states import FindingLevel, YesNoUnknown
from tasks.rules.machine_checks.services import (
    SYSTEM_MANAGER,
    build_protected_unit_masks,
    check_outdated_services,
    count_reboot_only_services,
    find_reboot_only_services,
    find_restartable_services,
)

SAFE = ("nginx.service", "ssh.service", "getty@tty1.service", "systemd-journald.service")
REBOOT_ONLY = ("dbus.service", "systemd-logind.service", "docker.service", "libvirtd.service", "ssh@7.service")
UPDATER = "unattended-upgrades.service"


def state(*services: str, answer: YesNoUnknown = YesNoUnknown.NO) -> PackageState:
    need = RebootNeed(answer)
    return PackageState("apt", (), need, services_to_restart=services, updater_units=("unattended-upgrades.service",))


def test_each_service_is_renewed_by_one_means() -> None:
    packages = state(SYSTEM_MANAGER, *REBOOT_ONLY, *SAFE, UPDATER, "odd name")
    assert find_restartable_services(packages) == (*SAFE, SYSTEM_MANAGER)
    assert find_reboot_only_services(packages) == (*REBOOT_ONLY, "odd name")
    assert find_reboot_only_services(packages, ["docker*", "odd*"]) == REBOOT_ONLY[:2] + REBOOT_ONLY[3:]
    assert find_restartable_services(packages, ["ssh", "systemd"]) == (SAFE[0], *SAFE[2:])


def test_sshd_and_consoles_go_down_with_no_other_unit() -> None:
    assert {"ssh.service", "*getty@*", "dbus*"} <= {*build_protected_unit_masks(())}


def test_what_only_a_reboot_renews_asks_for_one_and_no_live_patch_renews_it() -> None:
    assert count_reboot_only_services(state(*SAFE, UPDATER)) == RebootNeed(YesNoUnknown.NO)
    need = count_reboot_only_services(state("dbus.service", answer=YesNoUnknown.UNKNOWN))
    assert need.answer is YesNoUnknown.YES
    assert need.reasons == ("only a reboot renews dbus.service, which run replaced files",)
    waiting = replace(state("dbus.service"), reboot=RebootNeed(YesNoUnknown.YES, ("kernel 7",), mitigated_by="kpatch"))
    need = count_reboot_only_services(waiting)
    assert (need.reasons[0], len(need.reasons), need.mitigated_by) == ("kernel 7", 2, "")


def test_what_is_left_is_a_warning_unless_nothing_or_its_owner_renews_it() -> None:
    assert check_outdated_services(state()) == ()
    (warning,) = check_outdated_services(state("nginx.service", "dbus.service", SYSTEM_MANAGER))
    assert warning.level is FindingLevel.WARN
    assert "Restart nginx.service, systemd, or" in warning.remedy
    assert "No run restarts dbus.service: a reboot does" in warning.remedy
    assert "daemon-reexec" in warning.remedy
    (excluded,) = check_outdated_services(state("nginx.service"), ["nginx*"])
    assert (excluded.level, "excludes nginx.service" in excluded.remedy) == (FindingLevel.WARN, True)
    (of_updater,) = check_outdated_services(state(UPDATER))
    (decided,) = check_outdated_services(state("nginx.service"), may_renew=False)
    assert {of_updater.level, decided.level} == {FindingLevel.REMARK}
