"""facts.sh recognises image-based systems, in a real shell over stand-ins: they have no other package manager."""

from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.errors import UnsupportedSystem
from tasks.domain.model import Facts
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import SHARED_SCRIPTS
from tasks.machines.managers.registry import find_manager
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_library import load_script
from tasks.steps.machine.facts import read_facts

CLOCK = SystemClock()

IMAGE_STATUS = '{"status": {"booted": {"image": {"image": {}}, "incompatible": %s}}}'
NO_IMAGE = '{"status": {"booted": null}}'


def read_stand_in_facts(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    tools: str,
    *,
    ostree: bool,
    read_only: bool = False,
    faulty: bool = False,
    os_release: str = "",
) -> Facts:
    """Read the facts of a machine with these tools, with stand-ins for the files that tell an image.

    The root is mounted read-only (read_only), or its file system became so after errors (faulty).
    """
    folder = place / "tools"
    folder.mkdir(exist_ok=True)
    for tool in tools.split():
        name, _, target = tool.partition("->")
        if target:
            (folder / name).symlink_to(target)
            continue
        (folder / name).write_text(f'#!/bin/sh\ncat "{place}/answer" 2>/dev/null\n')
        (folder / name).chmod(0o755)
    (place / "os-release").write_text(os_release)
    (place / "mounts").write_text(
        f"/dev/sda2 / btrfs {'ro' if read_only else 'rw'},relatime 0 0\nproc /proc proc rw 0 0\n"
    )
    by_mount, by_system = ("ro" if read_only else "rw"), ("ro" if faulty else "rw")
    (place / "mountinfo").write_text(
        f"30 1 0:25 / / {by_mount},relatime shared:1 - btrfs /dev/sda2 {by_system},subvol=/\n"
    )
    if ostree:
        (place / "ostree-booted").touch()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_script(name, package).replace("/run/ostree-booted", f"{place}/ostree-booted")
        text = text.replace("=/etc/os-release", f"={place}/os-release") if os_release else text
        return text.replace(" /proc/mounts", f" {place}/mounts").replace(" /proc/self/mountinfo", f" {place}/mountinfo")

    shell = PosixShell(
        LocalShellChannel(CLOCK),
        machine="here",
        privilege=PrivilegeEscalator(PrivilegeMethod.NONE),
        clock=CLOCK,
        script_loader=load,
    )
    return read_facts(shell, CLOCK, Deadline.after(CLOCK, 60))


@pytest.mark.parametrize(
    ("tools", "answer", "ostree", "read_only", "found"),
    [
        ("bootc rpm-ostree dnf", IMAGE_STATUS % "false", True, False, ("bootc",)),
        ("bootc rpm-ostree dnf", IMAGE_STATUS % "true", True, False, ("rpm-ostree",)),
        ("bootc rpm-ostree dnf5", NO_IMAGE, True, False, ("rpm-ostree",)),
        ("bootc dnf", NO_IMAGE, False, False, ()),
        ("rpm-ostree dnf", "", False, False, ()),
        ("dnf apt-get", "", True, False, ("ostree",)),
        ("transactional-update zypper", "", False, True, ("transactional-update",)),
        ("transactional-update zypper", "", False, False, ()),
        ("zypper", "", False, True, ()),
        ("bootc dnf", "", False, True, ("silent-bootc",)),
        ("bootc dnf", "", False, False, ()),
        ("bootc rpm-ostree dnf", "", True, True, ("rpm-ostree",)),
        ("bootc transactional-update zypper", NO_IMAGE, False, True, ("transactional-update",)),
    ],
)
def test_an_image_based_system_has_only_the_tool_of_its_image(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tools: str,
    answer: str,
    ostree: bool,
    read_only: bool,
    found: tuple[str, ...],
) -> None:
    (tmp_path / "answer").write_text(answer)
    facts = read_stand_in_facts(tmp_path, monkeypatch, tools, ostree=ostree, read_only=read_only)
    if found:
        assert facts.managers == found
    else:  # and what else is installed here
        assert set(tools.split()) & set(facts.managers)
        assert not {"bootc", "rpm-ostree", "ostree", "transactional-update"} & set(facts.managers)


@pytest.mark.parametrize(
    ("os_release", "tools", "first"),
    [
        ("ID=debian", "apt-get dnf-3 dnf->dnf-3 zypper", "apt"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "apt-get dnf5 dnf-3 dnf->dnf-3 yum->dnf-3", "dnf"),
        ("ID=fedora", "apt-get dnf5 dnf->dnf5 yum->dnf5 zypper", "dnf5"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"', "dnf5 dnf->dnf5 zypper", "zypper"),
    ],
)
def test_a_machine_with_several_package_managers_has_its_own_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, os_release: str, tools: str, first: str
) -> None:
    facts = read_stand_in_facts(tmp_path, monkeypatch, tools, ostree=False, os_release=os_release)
    assert facts.managers[0] == find_manager(facts).name == first
    assert len(facts.managers) > 2


def test_an_image_without_its_tool_gets_no_package_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = read_stand_in_facts(tmp_path, monkeypatch, "dnf", ostree=True)
    with pytest.raises(UnsupportedSystem, match="neither bootc nor rpm-ostree"):
        find_manager(facts)


def test_a_bootc_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answer").write_text(IMAGE_STATUS % "false")
    (tmp_path / "tools").mkdir()
    limit = tmp_path / "tools/timeout"
    limit.write_text(f"""#!/bin/sh\necho "$*" >"{tmp_path}/limited"\nexit 124\n""")  # its time is over at once
    limit.chmod(0o755)
    facts = read_stand_in_facts(tmp_path, monkeypatch, "bootc dnf", ostree=False, read_only=True)
    assert (tmp_path / "limited").read_text().endswith("bootc status --json\n")
    with pytest.raises(UnsupportedSystem, match="bootc does not tell"):
        find_manager(facts)


@pytest.mark.parametrize("tools", ["transactional-update zypper", "apt-get"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_system_that_became_read_only_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: str, read_only: bool
) -> None:
    facts = read_stand_in_facts(tmp_path, monkeypatch, tools, ostree=False, read_only=read_only, faulty=True)
    assert next(disk.read_only for disk in facts.disks if disk.role == "system")


def test_a_root_that_is_mounted_read_only_without_an_image_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read_stand_in_facts(tmp_path, monkeypatch, "apt-get", ostree=False, read_only=True)
    assert next(disk.read_only for disk in facts.disks if disk.role == "system")


def test_a_root_that_is_read_only_by_design_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = read_stand_in_facts(tmp_path, monkeypatch, "transactional-update zypper", ostree=False, read_only=True)
    assert [disk.read_only for disk in facts.disks if disk.role in {"system", "boot"}] == [False] * 2
    assert {disk.role for disk in facts.disks} == {"system", "packages", "boot"}


def test_an_ostree_system_is_not_measured_by_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = read_stand_in_facts(tmp_path, monkeypatch, "rpm-ostree", ostree=True)
    assert "/" not in {disk.mount for disk in facts.disks if disk.role == "system"}
