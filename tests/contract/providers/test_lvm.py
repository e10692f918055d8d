"""The provider on LVM of the machine itself: its script in real shells, with stand-ins for LVM's commands."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.provided_machines import Consistency, DiskRole, ProviderAct
from tasks.machines.providers.host_commands import HostCommands
from tasks.machines.providers.lvm import LvmProvider
from tasks.rules.runs.snapshots import explain_unusable
from tests.contract.providers.lvm_host import LvmHost, build_volume
from tests.contract.providers.own_disks_host import BOOT_FILES, KERNEL, MIB, RebootingClock
from tests.contract.providers.own_disks_orders import order, read, refuse
from tests.support.fake_clock import FakeClock
from tests.support.shells import SHELLS

TAKE, REVERT, DELETE = ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT
PLAIN = ["root", "data"]
ROOT = "/dev/mapper/vg0-root ext4"


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path) -> LvmHost:
    words = SHELLS[getattr(request, "param", "dash")]
    return LvmHost(tmp_path, [str(shutil.which(words[0])), *words[1:]])


@pytest.fixture
def clock(host: LvmHost) -> RebootingClock:
    clock = RebootingClock()
    clock.host = host
    return clock


@pytest.fixture
def provider(host: LvmHost, clock: RebootingClock) -> LvmProvider:
    return LvmProvider(HostCommands(host, clock, "web"), "web")  # type: ignore[arg-type]


def test_a_snapshot_is_taken_once_and_has_the_system_alone(host: LvmHost, provider: LvmProvider) -> None:
    before = read(provider)
    assert [(disk.id, disk.role) for disk in before.disks] == [("vg0/root", DiskRole.OS), ("vg0/data", DiskRole.DATA)]
    assert before.snapshot_obstacle == ""
    assert order(provider, TAKE) == "100 % of the system's size, as far as the volume group has room"
    assert order(provider, TAKE) == "it was taken before"
    (snapshot,) = read(provider).snapshots
    assert (snapshot.id, snapshot.disks, snapshot.fault) == ("s1", ("vg0/root",), "")
    assert snapshot.consistency is Consistency.FILE_SYSTEM
    assert snapshot.taken_at is not None
    assert snapshot.used_bytes is not None
    assert host.list_volumes() == [*PLAIN, "s1.boot", "s1.1"]
    assert read(provider).disks == before.disks


in_all_shells = pytest.mark.parametrize("host", [name for name in SHELLS if shutil.which(name)], indirect=True)


@in_all_shells
def test_a_revert_puts_boot_back_merges_and_boots(host: LvmHost, provider: LvmProvider) -> None:
    order(provider, TAKE)
    for name, text in {
        f"vmlinuz-{KERNEL}": "other kernel",
        "vmlinuz-6.1.0-51": "new kernel",
        "grub/grub.cfg": "menu of the new kernel",
        "grub/i386-pc/normal.mod": "module that belongs to the new code before the partitions",
    }.items():
        (host.boot / name).write_text(text)
    (host.boot / f"initrd.img-{KERNEL}").unlink()
    assert order(provider, REVERT) == "the snapshot is used up by the revert"
    module = "grub/i386-pc/normal.mod"
    assert host.read_boot() == BOOT_FILES | {module: "module that belongs to the new code before the partitions"}
    assert host.list_asked("lvconvert") == ["lvconvert -y --merge vg0/s1.1"]
    assert host.list_volumes() == PLAIN
    assert read(provider).snapshots == ()
    assert order(provider, REVERT) == "it was reverted before"
    assert len(host.boots) == 2


def test_a_system_on_several_volumes_goes_back_as_a_whole(host: LvmHost, provider: LvmProvider) -> None:
    host.change(volumes=[*host.read_state()["volumes"], build_volume("var", 100 * MIB)])
    host.mount({"/": ROOT, "/var": "/dev/mapper/vg0-var xfs", str(host.boot): "/dev/vda1 ext4"})
    order(provider, TAKE)
    (snapshot,) = read(provider).snapshots
    assert (snapshot.disks, snapshot.consistency) == (("vg0/root", "vg0/var"), Consistency.CRASH)
    order(provider, REVERT)
    assert host.list_asked("lvconvert") == ["lvconvert -y --merge vg0/s1.1", "lvconvert -y --merge vg0/s1.2"]


@in_all_shells
def test_a_deleted_snapshot_leaves_nothing(host: LvmHost, provider: LvmProvider) -> None:
    order(provider, TAKE, "s1")
    order(provider, TAKE, "s2")
    for _ in range(2):
        order(provider, DELETE, "s1")
    assert host.list_volumes() == [*PLAIN, "s2.boot", "s2.1"]
    assert [snapshot.id for snapshot in read(provider).snapshots] == ["s2"]


def test_snapshots_of_others_are_told_and_never_touched(host: LvmHost, provider: LvmProvider) -> None:
    foreign = build_volume("s1", 50 * MIB, attr="swi-a-s---", origin="root", percent="3.00", tags=["boom"])
    host.change(volumes=[*host.read_state()["volumes"], foreign])
    (snapshot,) = read(provider).snapshots
    assert snapshot.id == "vg0/s1"
    assert "there is no whole snapshot s1" in refuse(provider, REVERT)
    order(provider, DELETE)
    assert foreign in host.read_state()["volumes"]
    order(provider, TAKE)
    host.change_volume("s1.1", percent="60.00")
    assert refuse(provider, REVERT) == "web: the revert would overfill other snapshots: vg0/s1"
    assert host.list_asked("lvconvert") == []


@in_all_shells
def test_an_overfull_snapshot_is_never_reverted_to(host: LvmHost, provider: LvmProvider) -> None:
    order(provider, TAKE)
    host.change_volume("s1.1", attr="swi-I-s---", percent="100.00")
    machine = read(provider)
    assert explain_unusable(machine, "s1") == "vg0/s1.1 is overfull: more was written since than it has room for"
    assert "is overfull" in refuse(provider, REVERT)
    assert (host.list_asked("lvconvert"), host.list_asked("reboot")) == ([], [])
    order(provider, DELETE)
    assert host.list_volumes() == PLAIN


def test_a_damaged_copy_of_boot_stops_the_revert_before_it_begins(host: LvmHost, provider: LvmProvider) -> None:
    order(provider, TAKE)
    with (host.place / "dev/vg0/s1.boot").open("r+b") as device:
        device.seek(2000)
        device.write(b"x" * 2000)
    assert "the copy of /boot".replace("/boot", str(host.boot)) in refuse(provider, REVERT)
    assert host.list_asked("lvconvert") == []


OBSTACLES: dict[str, dict[str, Any]] = {
    "no logical volume": {"/": "/dev/vda2 ext4"},
    "a file system (btrfs)": {"/": "/dev/mapper/vg0-root btrfs"},
    "is no file system of its own": {"/": ROOT},
    "has 200 MiB free: a snapshot would have room for": {"free": 200 * MIB},
    "is shared with other machines": {"group": "wz--ns"},
    "is not whole and writable": {"group": "wz-pn-"},
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_what_can_not_be_put_back_is_refused_before_any_change(
    host: LvmHost, provider: LvmProvider, reason: str
) -> None:
    obstacle = OBSTACLES[reason]
    if "/" in obstacle:
        host.mount(obstacle)
    else:
        host.change(**obstacle)
    assert reason in refuse(provider, TAKE)
    if "logical" in reason:
        with pytest.raises(ProviderError, match=reason):
            read(provider)
    else:
        assert reason in read(provider).snapshot_obstacle
    assert host.list_volumes() == PLAIN


@pytest.mark.parametrize("fault", ["uuid", "thin", "initramfs", "merge"])
def test_a_machine_that_would_not_boot_gets_no_snapshot(host: LvmHost, provider: LvmProvider, fault: str) -> None:
    if fault == "uuid":
        (host.place / "cmdline").write_text("root=UUID=6c61622d-0000 ro\n")
        reason = "/ is found at the boot by UUID=6c61622d-0000, which a snapshot has, too"
    elif fault == "thin":
        host.change_volume("root", layout="thin,sparse")
        reason = "vg0/root is thin,sparse"
    elif fault == "merge":
        host.change_volume("root", attr="Owi-aos---")
        reason = "a snapshot is being merged into vg0/root"
    else:
        (host.place / "initramfs-list").write_text("usr/sbin/lvm\n")
        reason = "lsinitramfs does not show dm-snapshot in "
    assert reason in refuse(provider, TAKE)
    assert host.list_volumes() == PLAIN


BREAKS = [
    *((TAKE, tool) for tool in ("lvcreate", "lvchange")),
    *((REVERT, tool) for tool in ("lvchange", "lvconvert", "lvremove")),
    *((DELETE, tool) for tool in ("lvchange", "lvremove")),
]


@pytest.mark.parametrize(("act", "tool"), BREAKS, ids=map(str, BREAKS))
def test_an_order_that_breaks_behind_a_command_is_completed_by_the_same_order(
    host: LvmHost, provider: LvmProvider, act: ProviderAct, tool: str
) -> None:
    if act is not TAKE:
        order(provider, TAKE)
    (host.boot / "grub/grub.cfg").write_text("menu of after" if act is REVERT else "menu of before")
    host.change(breaks_behind=tool)
    for _ in range(12):
        try:
            order(provider, act)
            break
        except ProviderUnavailable:
            if len(host.list_asked(tool)) % 2 == 0:
                host.change(breaks_behind="")
    assert host.breaks > 0
    host.change(breaks_behind="")
    order(provider, act)
    assert host.list_volumes() == ([*PLAIN, "s1.boot", "s1.1"] if act is TAKE else PLAIN)
    assert host.read_boot() == BOOT_FILES
    assert len(host.boots) == (2 if act is REVERT else 1)


def test_a_machine_that_does_not_come_back_may_have_been_reverted(host: LvmHost, clock: RebootingClock) -> None:
    provider = LvmProvider(HostCommands(host, FakeClock(), "web"), "web")  # type: ignore[arg-type]
    order(provider, TAKE)
    with pytest.raises(ProviderUnavailable) as raised:
        order(provider, REVERT)
    assert "has not ended in time" in raised.value.message
    assert "is about to boot" in refuse(provider, DELETE)
    assert explain_unusable(read(provider), "s1") == "", "the order can be given again"
    host.start_again()
    assert order(LvmProvider(HostCommands(host, clock, "web"), "web"), REVERT) == ""  # type: ignore[arg-type]
    assert host.list_volumes() == PLAIN
    assert len(host.list_asked("lvconvert")) == 1


@pytest.mark.parametrize("act", [REVERT, DELETE], ids=str)
def test_a_boot_before_the_merge_was_ordered_is_no_revert(
    host: LvmHost, provider: LvmProvider, act: ProviderAct
) -> None:
    order(provider, TAKE)
    host.change(breaks_behind="lvchange")
    with pytest.raises(ProviderUnavailable):
        order(provider, REVERT)
    host.change(breaks_behind="")
    host.start_again()
    assert host.list_asked("lvconvert") == []
    order(provider, act)
    assert len(host.list_asked("lvconvert")) == (1 if act is REVERT else 0)
    assert host.list_volumes() == PLAIN
    order(provider, TAKE, "s2")


def test_a_host_that_is_away_may_answer_later(host: LvmHost, provider: LvmProvider) -> None:
    host.is_away = True
    with pytest.raises(ProviderUnavailable):
        read(provider)


def test_the_controllers_own_machine_is_not_reverted(host: LvmHost, clock: RebootingClock) -> None:
    provider = LvmProvider(HostCommands(host, clock, "web"), "web", can_reboot=False)  # type: ignore[arg-type]
    assert provider.acts == {TAKE, DELETE}
    assert "can't do revert" in refuse(provider, REVERT)


def test_data_volumes_are_not_reverted(provider: LvmProvider) -> None:
    order(provider, TAKE)
    with pytest.raises(ProviderError, match="no data disks"):
        order(provider, REVERT, with_data_disks=True)
