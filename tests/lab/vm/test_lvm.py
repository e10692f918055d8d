"""Snapshots by LVM on the machine itself: a virtual machine whose / is a logical volume, and /boot a partition."""

import json
import shlex
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from flows.composition import open_ports
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.request.read_requests import AssessRequest
from flows.snapshots import (
    DeletionState,
    Handled,
    Standing,
    delete_expired_snapshots,
    look_at_snapshots,
    open_snapshots,
)
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import Consistency, ProviderAct, ProviderOrder, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.lab.engine import Fleet, Telling, outcome_of
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.machines import Vm

BACK = {"take": "before", "revert_on_failure": True}
NEW_KERNEL = """
for file in vmlinuz initrd.img config; do echo junk >"/boot/$file-9.9"; done
echo menu >>/boot/grub/grub.cfg; : >"/boot/config-$(uname -r)"; mkdir /lib/modules/9.9; sync
"""
# Each command of LVM writes to its own history (/etc/lvm/archive and backup), so a revert ends with that.
WHAT_IS_THERE = """
dpkg-query -W -f='${Package} ${Version} ${db:Status-Abbrev}\\n'
find /etc /usr/sbin /var/lib/dpkg /boot /lib/modules -xdev -type f ! -name resolv.conf ! -name '*lock*' \\
  ! -path '/etc/lvm/archive/*' ! -path '/etc/lvm/backup/*' -print0 |
  sort -z | xargs -0 sha256sum
for unit in nginx ssh cron qemu-guest-agent; do systemctl is-active "$unit"; done; uname -r; cat /proc/cmdline
"""


@pytest.fixture
def vm(vms: BootVms) -> Vm:
    (vm,) = vms(1, cold=True, data_mib=2560)
    script = shlex.quote((Path(__file__).parent / "guest/lvm_root.sh").read_text())
    vm.sh(f"sh -c {script}", root=True, timeout=600)
    boot = vm.boot_id()
    vm.sh("systemctl reboot", root=True)
    vm.wait_reboot(boot)
    assert vm.sh("findmnt -no SOURCE /").strip() == "/dev/mapper/vg0-root"
    return vm


@pytest.fixture
def fleet(vm: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    fleet = Fleet([vm], tmp_path)
    fleet.describe(every={"provider": "own"})
    (tmp_path / "providers.yaml").write_text(yaml.safe_dump({"providers": [{"name": "own", "kind": "lvm"}]}))
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(fleet.inventory))
    return fleet


def look(vm: Vm) -> list[str]:
    return vm.sh(WHAT_IS_THERE, root=True, timeout=300).splitlines()


def list_volumes(vm: Vm) -> list[str]:
    return vm.sh("lvs -a --noheadings -o lv_name", root=True).split()


def read_row(fleet: Fleet) -> SnapshotRow:
    with open_records(fleet.records_url) as records:
        return open_snapshots(records).read_all()[-1]


def delete_as_expired(fleet: Fleet) -> Handled:
    """Let the time of the newest snapshot be over, and delete what is over."""
    row = replace(read_row(fleet), expires_at=datetime.now(UTC) - timedelta(hours=3))
    with open_records(fleet.records_url) as records:
        open_snapshots(records).save(row)
    (deletion,) = delete_expired_snapshots(Caller(records_url=fleet.records_url))
    return deletion


@contextmanager
def open_fleet(fleet: Fleet) -> Iterator[Ports]:
    with open_ports(AssessRequest(scope="*"), Caller(records_url=fleet.records_url)) as ports:
        yield ports


def order_revert(fleet: Fleet) -> str:
    """Order a revert to the newest snapshot. Return its note."""
    with open_fleet(fleet) as ports:
        (machine,) = ports.inventory.machines
        provider = ports.open_provider(machine)
        assert provider is not None
        order = ProviderOrder(ProviderAct.REVERT, read_row(fleet).snapshot)
        return provider.carry_out(order, deadline=Deadline.after(ports.clock, 300))


def test_a_failing_update_and_boot_are_put_back_and_a_snapshot_has_an_end(vm: Vm, fleet: Fleet) -> None:
    before, boot = look(vm), vm.boot_id()

    watch = Telling(on_install=lambda: vm.sh(NEW_KERNEL, root=True))
    report = fleet.patch("lab-plain", "lab-failing", snapshot=BACK, watch=watch)

    outcome = outcome_of(report, vm)
    assert outcome.state is OperationState.FAILED
    assert "the machine is as it was before" in outcome.reason, outcome.reason
    assert outcome.snapshot is not None
    assert watch.on_install is None, "/boot was changed in between"
    assert outcome.snapshot.consistency is Consistency.FILE_SYSTEM
    assert vm.boot_id() != boot
    assert sorted(set(before) ^ set(look(vm))) == []
    assert list_volumes(vm) == ["data", "root"], "the snapshot is used up"
    assert read_row(fleet).state is SnapshotState.REVERTED
    boot = vm.boot_id()
    assert order_revert(fleet) == "it was reverted before"
    assert vm.boot_id() == boot

    vm.sh("echo later >/srv/data/kept", root=True)
    report = fleet.patch("lab-plain", snapshot="before")
    assert outcome_of(report, vm).state is OperationState.SUCCEEDED, report
    row = read_row(fleet)
    assert set(list_volumes(vm)) == {"data", "root", f"{row.snapshot}.boot", f"{row.snapshot}.1"}
    deletion = delete_as_expired(fleet)
    assert deletion.state is DeletionState.DELETED, deletion
    assert list_volumes(vm) == ["data", "root"]
    assert vm.sh("cat /srv/data/kept; dpkg-query -W -f='${Version}' lab-plain").split() == ["later", "2.0"]


def test_a_merge_outlasts_a_power_cut_and_an_overfull_snapshot_is_told(vm: Vm, fleet: Fleet) -> None:
    before, boot = look(vm), vm.boot_id()

    def change_much_and_cut_power_later() -> None:
        vm.sh("dd if=/dev/zero of=/var/big bs=1M count=300 conv=fsync 2>&1", root=True, timeout=300)
        vm.lab.hypervisor.virsh("blkdeviotune", vm.name, "vdb", "--write-bytes-sec", str(4 << 20))
        cuts.append(thread.submit(cut_power_in_the_merge, vm, boot))

    cuts: list[Future[float]] = []
    with ThreadPoolExecutor(1) as thread:
        watch = Telling(on_install=change_much_and_cut_power_later)
        report = fleet.patch("lab-failing", snapshot=BACK, watch=watch)
    (cut,) = cuts
    assert 1 < cut.result() < 29, "of 1 GiB: the merge had begun, and not ended"
    outcome = outcome_of(report, vm)
    assert outcome.state is OperationState.FAILED
    assert "the machine is as it was before" in outcome.reason, outcome.reason
    assert outcome.snapshot is not None
    assert sorted(set(before) ^ set(look(vm))) == []
    assert list_volumes(vm) == ["data", "root"]
    assert not vm.sh("ls /var | grep big || true")

    vm.sh("lvcreate -q -y -L 1160M -n filler vg0", root=True)  # so a snapshot has room for a quarter of /
    report = fleet.patch("lab-plain", snapshot="before")
    assert outcome_of(report, vm).state is OperationState.SUCCEEDED, report
    vm.sh("dd if=/dev/zero of=/var/big bs=1M count=280 conv=fsync 2>&1", root=True, timeout=300)
    boot, snapshot = vm.boot_id(), read_row(fleet).snapshot
    with open_fleet(fleet) as ports, open_records(fleet.records_url) as records:
        seen = {seen.id: seen for seen in look_at_snapshots(ports.inventory.machines, ports, open_snapshots(records))}
    used_up = outcome.snapshot.id
    assert {name: seen[name].standing for name in seen} == {used_up: Standing.MISSING, snapshot: Standing.UNUSABLE}
    assert seen[snapshot].message == f"vg0/{snapshot}.1 is overfull: more was written since than it has room for"
    with pytest.raises(ProviderError, match="is overfull"):
        order_revert(fleet)
    assert vm.boot_id() == boot
    assert delete_as_expired(fleet).state is DeletionState.DELETED
    assert sorted(list_volumes(vm)) == ["data", "filler", "root"]


def cut_power_in_the_merge(vm: Vm, boot: str) -> float:
    """Wait for another boot, and cut the power then. Return how much of the snapshot was to be merged, in percent."""
    vm.wait_reboot(boot, 420)
    left = vm.sh("lvs --noheadings -o data_percent vg0/root", root=True)
    vm.crash()
    return float(left)


def test_a_machine_with_its_system_on_a_partition_is_not_changed(vms: BootVms, tmp_path: Path) -> None:
    (vm,) = vms(1)
    fleet = Fleet([vm], tmp_path)
    fleet.describe(every={"provider": "own"})
    (tmp_path / "providers.yaml").write_text(json.dumps({"providers": [{"name": "own", "kind": "lvm"}]}))
    before = vm.sh("dpkg-query -W")
    outcome = outcome_of(fleet.patch("lab-plain", snapshot="before"), vm)
    assert outcome.state is OperationState.FAILED
    assert "/ is on /dev/vda2, which is no logical volume" in outcome.reason, outcome.reason
    assert vm.sh("dpkg-query -W") == before
