"""A machine is not rebooted into a kernel that may not boot."""

from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.machine_checks.precheck import NEXT_BOOT_CHECK
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import DebRepository, RpmRepository

FAMILIES: tuple[Flavour, ...] = ("apt", "dnf", "zypper")
KERNELS = {"apt": "linux-image-lab", "dnf": "kernel-core", "zypper": "kernel-default"}
FAILS = "echo 'dracut: cannot write /boot/initramfs: No space left on device' >&2; exit 1"
INITRAMFS = {"apt": "initrd.img-{}", "dnf": "initramfs-{}.img", "zypper": "initrd-{}"}


def publish_kernel(host: LabHost, folder: Path, script: str, *, asks_for_reboot: bool = True) -> None:
    """Publish a security update of a kernel whose script runs at its end, and install the version before it."""
    name = KERNELS[host.flavour]
    asks = "touch /run/reboot-required; echo linux-base >> /run/reboot-required.pkgs; " if asks_for_reboot else ""
    repository: DebRepository | RpmRepository
    if host.flavour == "apt":
        repository = made = DebRepository(folder)
        made.add(name, "9.1")
        made.add(name, "9.2", scripts={"postinst": f"{asks}{script}"})
    else:
        repository = rpms = RpmRepository(folder)
        provides = "Provides: multiversion(kernel), installonlypkg(kernel), installhint(reboot-needed)"
        rpms.add(name, "9.1", spec=provides)
        section = f"%posttrans\n{script}"
        rpms.add(name, "9.2", spec=provides, scriptlets=section, advisory="security", severity="Critical")
    repository.publish(host)
    repository.install(host, name, "9.1")


def patch(host: LabHost, place: Path, reboot: str) -> Outcome:
    return outcome_of(Fleet([host], place).patch(KERNELS[host.flavour], reboot=reboot), host)


@pytest.mark.public_report("https://github.com/QubesOS/qubes-issues/issues/3915")
@pytest.mark.public_report("https://bugzilla.redhat.com/show_bug.cgi?id=1467450")
@pytest.mark.parametrize("flavour", FAMILIES)
def test_a_kernel_whose_script_failed_is_not_booted(hosts: BootHosts, tmp_path: Path, flavour: Flavour) -> None:
    (host,) = hosts(1, flavour)
    publish_kernel(host, tmp_path / "kernels", FAILS)
    boot_id = host.boot_id()

    outcome = patch(host, tmp_path, "Always")

    result = result_of(outcome, KERNELS[flavour])
    assert outcome.state is OperationState.FAILED
    # dpkg leaves the package half-configured; rpm has it, and only its script failed
    assert result.state is (UpdateState.FAILED if flavour == "apt" else UpdateState.SETUP_FAILED)
    assert "cannot write" in result.reason or "scriptlet" in result.reason or "post-installation" in result.reason
    if flavour == "dnf":
        assert "%posttrans(kernel-core-9.2-1.noarch) scriptlet failed" in result.reason
        assert "dracut: cannot write /boot/initramfs: No space left on device" in result.reason
    assert host.boot_id() == boot_id
    assert outcome.reboot is not RebootState.COMPLETED


@pytest.mark.public_report("https://github.com/dracut-ng/dracut/issues/334")
@pytest.mark.parametrize("flavour", FAMILIES)
def test_a_newest_kernel_without_initramfs_is_not_booted(hosts: BootHosts, tmp_path: Path, flavour: Flavour) -> None:
    (host,) = hosts(1, flavour)
    initramfs = INITRAMFS[flavour]
    made = f"cd /boot; touch vmlinuz-9.1.0 vmlinuz-9.2.0; echo files > {initramfs.format('9.1.0')}"
    publish_kernel(host, tmp_path / "kernels", made)
    boot_id = host.boot_id()

    outcome = patch(host, tmp_path, "Always")

    assert outcome.state is OperationState.FAILED
    assert result_of(outcome, KERNELS[flavour]).state is UpdateState.INSTALLED
    assert host.boot_id() == boot_id
    assert "9.2.0 in /boot has no initramfs" in outcome.reason
    (finding,) = [each for each in outcome.findings if each.check == NEXT_BOOT_CHECK]
    assert finding.level is FindingLevel.BLOCK

    other = INITRAMFS["dnf"] if flavour == "apt" else initramfs  # any family's name counts on any machine
    host.sh(f"echo files > /boot/{other.format('9.2.0')}", root=True)
    assert patch(host, tmp_path, "Always").reboot is RebootState.COMPLETED
    assert host.boot_id() != boot_id
