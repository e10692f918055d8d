"""Snapshots by btrfs on the machine itself: a virtual machine whose / is a subvolume, and /boot a partition."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from flows.ports.caller import Caller
from flows.snapshots import delete_expired_snapshots, open_snapshots
from tasks.domain.provided_machines import Consistency, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import OperationState
from tasks.records.setup import open_records
from tests.lab.engine import Fleet, Telling, outcome_of
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.machines import Vm, VmLab
from tests.lab.vm.test_lvm import NEW_KERNEL, WHAT_IS_THERE

PACKAGES = ("btrfs-progs", "liblzo2-2")


@pytest.fixture
def vm(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> Vm:
    if "\tbtrfs\n" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "btrfs"], check=True, timeout=60)
    vm_lab.script("up", "0", "vm")
    packages, disk = tmp_path / "packages", vm_lab.folder / "images/btrfs.raw"
    packages.mkdir()
    disk.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=packages, check=True, timeout=120)
    script = Path(__file__).parent / "btrfs_disk.sh"
    command = ["unshare", "-m", "--propagation", "private", *map(str, (script, vm_lab.image, disk, packages))]
    subprocess.run(command, check=True, timeout=300)
    (vm,) = vms(1, image=disk)
    assert vm.sh("findmnt -no FSROOT /").strip() == "/@rootfs"
    return vm


def list_subvolumes(vm: Vm) -> list[str]:
    return vm.sh("btrfs subvolume list / | sed 's/.* path //'", root=True).splitlines()


def read_row(fleet: Fleet) -> SnapshotRow:
    with open_records(fleet.records_url) as records:
        return open_snapshots(records).read_all()[-1]


def test_a_failing_update_and_boot_are_put_back_and_a_snapshot_has_an_end(
    vm: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    fleet = Fleet([vm], tmp_path)
    fleet.describe(every={"provider": "own"})
    (tmp_path / "providers.yaml").write_text(yaml.safe_dump({"providers": [{"name": "own", "kind": "btrfs"}]}))
    before, plain = vm.sh(WHAT_IS_THERE, root=True).splitlines(), list_subvolumes(vm)
    boot, number = vm.boot_id(), vm.sh("btrfs inspect-internal rootid /", root=True)
    snapshot = {"take": "before", "revert_on_failure": True}

    watch = Telling(on_install=lambda: vm.sh(NEW_KERNEL, root=True))
    report = fleet.patch("lab-plain", "lab-failing", snapshot=snapshot, watch=watch)

    outcome = outcome_of(report, vm)
    assert outcome.state is OperationState.FAILED
    assert "the machine is as it was before" in outcome.reason, outcome.reason
    assert outcome.snapshot is not None
    assert watch.on_install is None, "/boot was changed in between"
    assert outcome.snapshot.consistency is Consistency.FILE_SYSTEM
    assert vm.boot_id() != boot
    assert vm.sh("btrfs inspect-internal rootid /", root=True) != number
    assert vm.sh("findmnt -no FSROOT /").strip() == "/@rootfs"
    assert sorted(set(before) ^ set(vm.sh(WHAT_IS_THERE, root=True).splitlines())) == []
    assert list_subvolumes(vm) == plain, "the snapshot is used up, and what ran before is gone"
    assert read_row(fleet).state is SnapshotState.REVERTED

    report = fleet.patch("lab-plain", snapshot="before")
    assert outcome_of(report, vm).state is OperationState.SUCCEEDED, report
    row = read_row(fleet)
    assert sorted(list_subvolumes(vm)) == sorted([*plain, f".fleetpatch/{row.snapshot}/1"])
    with open_records(fleet.records_url) as records:
        open_snapshots(records).save(replace(row, expires_at=datetime.now(UTC) - timedelta(hours=3)))
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(fleet.inventory))
    (deletion,) = delete_expired_snapshots(Caller(records_url=fleet.records_url))
    assert deletion.state.value == "Deleted", deletion
    assert list_subvolumes(vm) == plain
    assert vm.sh("dpkg-query -W -f='${Version}' lab-plain") == "2.0"
