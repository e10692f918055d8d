"""Unused kernels are removed if the request says so: never one that is needed, and nothing beside them."""

from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState
from tasks.steps.unused_kernels import UNUSED_KERNELS_CHECK
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import DebRepository, RpmRepository

FAMILIES: tuple[Flavour, ...] = ("apt", "dnf", "zypper")
RELEASES = (1, 2, 3, 4)
UNAME = {"apt": "9.{}.0-1-amd64", "dnf": "9.{}-1.noarch", "zypper": "9.{}-1-default"}
NAMES = {
    "apt": ("linux-image-9.{}.0-1-amd64", "linux-modules-9.{}.0-1-amd64"),
    "dnf": ("kernel-9.{}-1", "kernel-core-9.{}-1", "kernel-modules-9.{}-1"),
    "zypper": ("kernel-default-9.{}-1", "kernel-default-extra-9.{}-1"),
}
IS_A_KERNEL = "Provides: multiversion(kernel), installonlypkg(kernel), kernel = %{version}-%{release}"


def have_kernels(host: LabHost, folder: Path, *, running: int, dependent: bool = False) -> None:
    """Install four kernels as their updates would have come, and boot one of them; a driver may need the oldest."""
    if host.flavour == "apt":
        debs = DebRepository(folder)
        for number in RELEASES:
            image, modules = (name.format(number) for name in NAMES["apt"])
            debs.add(image, f"9.{number}.1", control=f"Depends: {modules}")
            debs.add(modules, f"9.{number}.1")
        debs.add("lab-unused", "1.0")
        debs.publish(host)
        host.sh(
            f"dpkg -i /srv/{folder.name}/*.deb && apt-mark auto 'linux-image-9*' 'linux-modules-9*' lab-unused",
            root=True,
        )
    else:
        rpms = RpmRepository(folder)
        for number in RELEASES:
            for name in NAMES[host.flavour]:
                rpms.add(name.rpartition("-9.")[0], f"9.{number}", spec=IS_A_KERNEL)
        if dependent:
            rpms.add("kmod-lab", "1.0", spec=f"Requires: {NAMES[host.flavour][1].rpartition('-9.')[0]} = 9.1-1")
        rpms.publish(host)
        host.sh(f"rpm -i /srv/{folder.name}/noarch/*.rpm", root=True)
    run_kernel(host, running)


def run_kernel(host: LabHost, number: int) -> None:
    """Let the machine say that it runs this one of the kernels: it really runs its host's."""
    release = UNAME[host.flavour].format(number)
    place = host.root / "usr/local/sbin/uname"
    place.write_text(f'#!/bin/sh\n[ "$*" != -r ] || {{ echo {release}; exit; }}\nexec /usr/bin/uname "$@"\n')
    place.chmod(0o755)


def list_kernels(host: LabHost) -> set[str]:
    if host.flavour == "apt":
        wanted = ("linux-image-9", "linux-modules-9", "lab-unused")
        return {name for name in host.package_versions() if name.startswith(wanted)}
    return set(host.sh("rpm -qa --qf '%{NAME}-%{VERSION}-%{RELEASE}\\n' 'kernel*' kmod-lab", root=True).split())


def name_kernels(host: LabHost, *numbers: int) -> set[str]:
    return {name.format(number) for number in numbers for name in NAMES[host.flavour]}


def patch(host: LabHost, place: Path, *masks: str) -> Outcome:
    fleet = Fleet([host], place)
    return outcome_of(fleet.patch(*masks or ("lab-plain",), reboot="Never", remove_unused_kernels=True), host)


def find_told(outcome: Outcome) -> tuple[FindingLevel, str]:
    ((level, message),) = [(f.level, f.message) for f in outcome.findings if f.check == UNUSED_KERNELS_CHECK]
    return level, message


@pytest.mark.parametrize("flavour", FAMILIES)
def test_old_kernels_go_and_what_is_needed_stays(hosts: BootHosts, tmp_path: Path, flavour: Flavour) -> None:
    """With dnf and zypper, a driver needs the oldest. That the newest must have been booted is one rule of all.

    So is that kernels stay if the request does not say so: tests/unit/engine/test_unused_kernels.py.
    """
    (host,) = hosts(1, flavour)
    have_kernels(host, tmp_path / "kernels", running=3, dependent=flavour != "apt")
    others = {"lab-unused"} if flavour == "apt" else {"kmod-lab-1.0-1"}
    before = host.package_versions()
    if flavour == "apt":
        outcome = patch(host, tmp_path)
        assert find_told(outcome)[0] is FindingLevel.GOOD
        assert "is installed, " in find_told(outcome)[1]  # the newest was not booted yet
        assert list_kernels(host) == name_kernels(host, 1, 2, 3, 4) | others

    run_kernel(host, 4)
    outcome = patch(host, tmp_path, "lab-sec")

    assert outcome.state is OperationState.SUCCEEDED
    told = [(f.level, f.message) for f in outcome.findings if f.check == UNUSED_KERNELS_CHECK]
    assert {level for level, _ in told} == {FindingLevel.GOOD}
    unused = (1, 2) if flavour == "apt" else (2,)
    message = told[0][1]
    assert message.startswith("removed: ")
    assert all(name in message for name in name_kernels(host, *unused))
    assert len(told) == (2 if flavour == "dnf" else 1)
    if flavour == "dnf":
        assert told[1][1].startswith("not removed: ")
        assert "is needed by (installed) kmod-lab-1.0-1" in told[1][1]
    kept = {1, 2, 3, 4} - {*unused}
    assert list_kernels(host) == name_kernels(host, *kept) | others
    assert flavour != "apt" or host.half_done_packages() == ""
    gone = before.keys() - host.package_versions().keys()
    assert gone == (name_kernels(host, 1, 2) if flavour == "apt" else set())


def test_a_kernel_whose_removal_failed_half_way_does_not_count_as_removed(hosts: BootHosts, tmp_path: Path) -> None:
    (host,) = hosts(1, "apt")
    have_kernels(host, tmp_path / "kernels", running=4)
    image = NAMES["apt"][0].format(1)
    script = host.root / f"var/lib/dpkg/info/{image}.postrm"
    script.write_text("#!/bin/sh\necho cannot update the boot loader\nexit 1\n")
    script.chmod(0o755)

    outcome = patch(host, tmp_path)

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    told = [(f.level, f.message) for f in outcome.findings if f.check == UNUSED_KERNELS_CHECK]
    assert not any(message.startswith("removed: ") and image in message for _, message in told)
    assert any(level is FindingLevel.WARN and image in message for level, message in told)
    assert name_kernels(host, 2, 3, 4) <= list_kernels(host)
