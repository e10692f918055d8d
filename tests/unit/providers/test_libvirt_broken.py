"""An order whose line breaks behind any of its commands is completed by the same order, at each act of libvirt."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tasks.domain.errors import ProviderUnavailable
from tasks.domain.provided_machines import PowerState, ProviderAct
from tasks.machines.providers.host_commands import CommandAnswer
from tests.unit.providers.libvirt_host import IMAGE, LibvirtHost, Machine, build_disk

KEPT_DISK_ACTS = (ProviderAct.RESTORE_OS_DISK, ProviderAct.DELETE_OS_DISK)
SNAPSHOT_ACTS = (ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT)
ACTS = (ProviderAct.TAKE_SNAPSHOT, ProviderAct.REPLACE_OS_DISK, *SNAPSHOT_ACTS, *KEPT_DISK_ACTS)


@dataclass
class BreakingHost(LibvirtHost):
    """A host whose answer to one command gets lost."""

    breaks_at: int = -1
    orders: int = 0

    def order(self, *words: str, **more: object) -> CommandAnswer:
        answer = super().order(*words, **more)  # type: ignore[arg-type]
        self.orders += 1
        if self.orders - 1 == self.breaks_at:
            raise ProviderUnavailable("the line broke behind the command")
        return answer


def prepare(act: ProviderAct) -> tuple[BreakingHost, Machine]:
    """Return a machine on which the act can be ordered with the id s1."""
    host = BreakingHost()
    host.define("web", build_disk("vda", "/d/os.qcow2"), build_disk("vdb", "/d/data.qcow2"))
    web = host.open("web")
    if act in SNAPSHOT_ACTS:
        web.order(ProviderAct.TAKE_SNAPSHOT)
    if act in KEPT_DISK_ACTS:
        web.order(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    return host, web


def carry_out(host: BreakingHost, web: Machine, act: ProviderAct, breaks_at: int = -1) -> str | None:
    """Order it; return what its end says; None: its line broke."""
    host.breaks_at, host.orders = breaks_at, 0
    image = IMAGE if act is ProviderAct.REPLACE_OS_DISK else None
    try:
        return web.order(act, image=image)
    except ProviderUnavailable:
        assert host.orders > breaks_at >= 0
        return None
    finally:
        host.breaks_at = -1


def describe(host: BreakingHost, web: Machine) -> Sequence[object]:
    """Return what must be the same, wherever it broke: how deep each disk's chain is, and what is kept."""
    machine = web.read()
    depths = []
    for disk in machine.disks:
        path, depth = disk.source, 0
        while path:
            path, depth = host.files[path].below, depth + 1  # a file that is gone is a KeyError
        depths.append((disk.id, disk.role, depth, disk.image))
    snapshots = [(snapshot.id, len(snapshot.disks)) for snapshot in machine.snapshots]
    kept = [(kept.id, kept.source in host.files) for kept in machine.kept_disks]
    return [depths, snapshots, kept, machine.power]


@pytest.mark.parametrize("act", ACTS, ids=str)
def test_an_order_that_breaks_anywhere_is_completed_by_the_same_order(act: ProviderAct) -> None:
    host, web = prepare(act)
    carry_out(host, web, act)
    commands, undisturbed = host.orders, describe(host, web)
    assert undisturbed[3] is PowerState.STOPPED
    assert commands > 3
    files = len(host.files)
    for number in range(commands):
        host, web = prepare(act)
        if carry_out(host, web, act, number) is None:
            assert len(web.read().os_disks) == 1
        notes = carry_out(host, web, act)
        assert notes is not None
        assert describe(host, web) == undisturbed, f"behind command {number}"
        left = len(host.files) - files
        assert left == (1 if "whether it was merged is not known: it stays" in notes else 0), (
            f"behind command {number}: {notes}"
        )
        assert carry_out(host, web, act) is not None
        assert describe(host, web) == undisturbed, f"again, behind command {number}"
