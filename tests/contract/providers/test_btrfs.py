"""The provider on btrfs of the machine itself: its script in real shells, with stand-ins for btrfs."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.provided_machines import Consistency, DiskRole, ProviderAct
from tasks.machines.providers.btrfs import BtrfsProvider
from tasks.machines.providers.host_commands import HostCommands
from tasks.rules.runs.snapshots import explain_unusable
from tests.contract.providers.btrfs_host import USAGE, BtrfsHost
from tests.contract.providers.own_disks_host import BOOT_FILES, MIB, RebootingClock
from tests.contract.providers.own_disks_orders import order, read, refuse
from tests.support.fake_clock import FakeClock
from tests.support.shells import SHELLS

TAKE, REVERT, DELETE = ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT
PLAIN = ["@home", "@rootfs"]
TAKEN = [".fleetpatch/s1/1", *PLAIN]


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path) -> BtrfsHost:
    words = SHELLS[getattr(request, "param", "dash")]
    return BtrfsHost(tmp_path, [str(shutil.which(words[0])), *words[1:]])


@pytest.fixture
def provider(host: BtrfsHost) -> BtrfsProvider:
    clock = RebootingClock()
    clock.host = host
    return BtrfsProvider(HostCommands(host, clock, "web"), "web")  # type: ignore[arg-type]


in_all_shells = pytest.mark.parametrize("host", [name for name in SHELLS if shutil.which(name)], indirect=True)


@in_all_shells
def test_a_snapshot_is_taken_once_and_deleted(host: BtrfsHost, provider: BtrfsProvider) -> None:
    before = read(provider)
    assert [(disk.id, disk.role) for disk in before.disks] == [("@rootfs", DiskRole.OS), ("@home", DiskRole.DATA)]
    assert (before.snapshots, before.snapshot_obstacle) == ((), "")
    assert order(provider, TAKE) == ""
    assert order(provider, TAKE) == "it was taken before"
    machine = read(provider)
    (snapshot,) = machine.snapshots
    assert (snapshot.id, snapshot.disks, snapshot.consistency) == ("s1", ("@rootfs",), Consistency.FILE_SYSTEM)
    assert snapshot.taken_at is not None
    assert (explain_unusable(machine, "s1"), machine.disks) == ("", before.disks)
    assert host.list_subvolumes() == TAKEN
    assert list(host.place.glob("top.*")) == [], "the top-level subvolume is not mounted any more"
    for _ in range(2):
        order(provider, DELETE)
    assert host.list_subvolumes() == PLAIN
    assert list((host.place / "fs/.fleetpatch").iterdir()) == []


@in_all_shells
def test_a_revert_puts_boot_and_the_subvolume_back_and_boots(host: BtrfsHost, provider: BtrfsProvider) -> None:
    order(provider, TAKE)
    (host.root / "release").write_text("after")
    (host.boot / "vmlinuz-6.1.0-51").write_text("new kernel")
    (host.boot / "grub/grub.cfg").write_text("menu of the new kernel")
    assert order(provider, REVERT) == "the snapshot is used up by the revert"
    assert (host.root / "release").read_text() == "before"
    assert host.read_boot() == BOOT_FILES
    assert (host.list_subvolumes(), read(provider).snapshots) == (PLAIN, ())
    assert order(provider, REVERT) == "it was reverted before"
    assert len(host.boots) == 2


def test_a_system_on_several_subvolumes_goes_back_as_a_whole(host: BtrfsHost, provider: BtrfsProvider) -> None:
    host.mount("/var", host.add_subvolume("@var"))
    with (host.place / "fstab").open("a") as file:
        file.write("UUID=1 /var btrfs subvol=@var 0 0\n")
    (host.place / "fs/@var/data").write_text("before")
    order(provider, TAKE)
    (snapshot,) = read(provider).snapshots
    assert (snapshot.disks, snapshot.consistency) == (("@rootfs", "@var"), Consistency.CRASH)
    for path in ("@rootfs/release", "@var/data"):
        (host.place / "fs" / path).write_text("after")
    host.change(breaks_behind="exchange")
    with pytest.raises(ProviderUnavailable):
        order(provider, REVERT)
    host.change(breaks_behind="")
    host.start_again()  # the power is cut between the two
    assert refuse(provider, DELETE) == "web: the revert to s1 has begun, and the machine has not booted since"
    assert "a revert to s1 has begun" in refuse(provider, TAKE, "s2")
    order(provider, REVERT)
    assert [(host.place / "fs" / path).read_text() for path in ("@rootfs/release", "@var/data")] == ["before"] * 2
    assert host.list_subvolumes() == ["@home", "@rootfs", "@var"]


def test_the_default_subvolume_is_the_new_one(host: BtrfsHost, provider: BtrfsProvider) -> None:
    host.change(default=host.read_state()["mounts"]["/"]["id"])
    (host.place / "fstab").write_text("UUID=1 / btrfs defaults 0 0\n")
    (host.place / "cmdline").write_text("root=UUID=1 ro\n")
    order(provider, TAKE)
    (host.root / "release").write_text("after")
    host.change(breaks_behind="exchange")
    with pytest.raises(ProviderUnavailable):
        order(provider, REVERT)
    host.change(breaks_behind="")
    host.start_again()
    assert (host.root / "release").read_text() == "after"
    order(provider, REVERT)
    assert (host.root / "release").read_text() == "before"
    assert host.list_subvolumes() == PLAIN


def test_subvolumes_within_are_empty_or_those_of_snapper(host: BtrfsHost, provider: BtrfsProvider) -> None:
    host.add_subvolume("@rootfs/var/lib/portables")
    host.add_subvolume("@rootfs/.snapshots")
    theirs = host.add_subvolume("@rootfs/.snapshots/1/snapshot")
    host.change(snapshots=[theirs], readonly=[theirs])
    order(provider, TAKE)
    assert [snapshot.id for snapshot in read(provider).snapshots] == ["s1", "@rootfs/.snapshots/1/snapshot"]
    data = host.place / "fs/@rootfs/srv/db"
    host.add_subvolume("@rootfs/srv/db")
    (data / "rows").write_text("data")
    assert "@rootfs/srv/db is a subvolume within the one of /" in read(provider).snapshot_obstacle
    assert "@rootfs/srv/db" in refuse(provider, REVERT)
    assert len(host.list_asked("exchange")) == 1, "the trial when it was taken"
    (data / "rows").unlink()
    order(provider, REVERT)
    inner = [".snapshots", ".snapshots/1/snapshot", "var/lib/portables"]
    assert host.list_subvolumes() == ["@home", "@rootfs", *(f"@rootfs/{path}" for path in inner)]
    assert host.find(theirs).exists()


def test_a_damaged_copy_of_boot_stops_the_revert_before_the_exchange(host: BtrfsHost, provider: BtrfsProvider) -> None:
    order(provider, TAKE)
    with (host.place / "fs/.fleetpatch/s1/copy.tar").open("r+b") as file:
        file.seek(2000)
        file.write(b"x" * 2000)
    running = host.root
    assert "is damaged" in refuse(provider, REVERT)
    assert (host.root, host.list_asked("reboot")) == (running, [])
    order(provider, DELETE)
    assert host.list_subvolumes() == PLAIN


ROOT_FLAGS = "root=UUID=1 ro rootflags={}\n"
OBSTACLES: dict[str, dict[str, Any]] = {
    "is mounted by the id of its subvolume": {"cmdline": ROOT_FLAGS.format("subvolid=256")},
    "the next boot would mount @other": {"cmdline": ROOT_FLAGS.format("subvol=/@other")},
    "it is not known how / is found at the boot": {"cmdline": "ro\n", "fstab": "UUID=1 / btrfs defaults 0 0\n"},
    "/swap is a swap file in the subvolume of /": {"swaps": "Filename Type Size\n/swap file 9\n"},
    "has 100 MiB free for data": {"usage": USAGE.format(unallocated=1518338048, free=100 * MIB, second="")},
    "and 11 MiB for metadata": {"usage": USAGE.format(unallocated=0, free=500 * MIB, second="")},
    "has 2 devices": {"usage": USAGE.format(unallocated=1518338048, free=500 * MIB, second="   /dev/vdb\t1024")},
    "is mounted read-only": {"options": "ro,noatime"},
    "the subvolume /@rootfs of / is read-only": {"readonly": [256]},
    "is the top-level subvolume itself": {"id": 5},
    "/ is on /dev/vda2 (ext4), which is no btrfs": {"type": "ext4"},
    "the kernels there by its name: /vmlinuz": {"boot": "within"},
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_what_can_not_be_put_back_is_refused_before_any_change(
    host: BtrfsHost, provider: BtrfsProvider, reason: str
) -> None:
    state = host.read_state()
    for key, value in OBSTACLES[reason].items():
        if key in ("cmdline", "fstab", "swaps"):
            (host.place / key).write_text(value)
        elif key in ("options", "id", "type"):
            mounts = state["mounts"]
            host.change(mounts={**mounts, "/": mounts["/"] | {key: value}})
        elif key == "boot":
            (host.boot / "grub/grub.cfg").write_text("linux /vmlinuz root=UUID=1 ro\n")
            host.change(mounts={target: mount for target, mount in state["mounts"].items() if mount["id"]})
        else:
            host.change(**{key: value})
    assert reason in refuse(provider, TAKE)
    if "ext4" in reason:
        with pytest.raises(ProviderError, match="is no btrfs"):
            read(provider)
    assert (host.list_subvolumes(), (host.place / "asked").exists()) == (PLAIN, False)


BREAKS = [
    *((TAKE, did) for did in ("snapshot", "mv", "sync")),
    *((REVERT, did) for did in ("snapshot", "mv", "exchange", "sync", "delete")),
    (DELETE, "delete"),
]


@pytest.mark.parametrize(("act", "did"), BREAKS, ids=map(str, BREAKS))
def test_an_order_that_breaks_behind_a_command_is_completed_by_the_same_order(
    host: BtrfsHost, provider: BtrfsProvider, act: ProviderAct, did: str
) -> None:
    if act is not TAKE:
        order(provider, TAKE)
        (host.root / "release").write_text("after")
    host.change(breaks_behind=did)
    for _ in range(12):
        try:
            order(provider, act)
            break
        except ProviderUnavailable:
            if len(host.list_asked(did)) % 2 == 0:
                host.change(breaks_behind="")
    assert host.breaks > 0
    host.change(breaks_behind="")
    order(provider, act)
    assert host.list_subvolumes() == (TAKEN if act is TAKE else PLAIN)
    assert (host.root / "release").read_text() == ("after" if act is DELETE else "before")
    assert host.root.name == "@rootfs"
    assert (len(host.boots) > 1) is (act is REVERT)


def test_a_machine_that_does_not_come_back_may_have_been_reverted(host: BtrfsHost) -> None:
    provider = BtrfsProvider(HostCommands(host, FakeClock(), "web"), "web")  # type: ignore[arg-type]
    order(provider, TAKE)
    (host.root / "release").write_text("after")
    with pytest.raises(ProviderUnavailable, match="has not ended in time"):
        order(provider, REVERT)
    assert "has not booted since" in refuse(provider, DELETE)
    assert explain_unusable(read(provider), "s1") == "", "the order can be given again"
    assert (host.root / "release").read_text() == "after", "it runs with what was before, under another name"
    host.start_again()
    assert order(provider, REVERT) == ""
    assert (host.root / "release").read_text() == "before"
    assert host.list_subvolumes() == PLAIN


def test_what_is_mounted_is_never_deleted(host: BtrfsHost, provider: BtrfsProvider) -> None:
    order(provider, TAKE)
    (number,) = (number for number in host.read_state()["ids"].values() if host_path(host, number) == TAKEN[0])
    host.mount("/mnt", number)
    assert "is mounted, so it is not deleted" in refuse(provider, DELETE)
    assert host.list_subvolumes() == TAKEN
    (snapshot,) = read(provider).snapshots
    assert snapshot.fault == "it is not whole: an order was interrupted"


def host_path(host: BtrfsHost, number: int) -> str:
    return "" if number == 5 else str(host.find(number).relative_to(host.place / "fs"))
