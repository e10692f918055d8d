"""Snapshots by LVM on the machine itself: a virtual machine whose / is a logical volume, and /boot a partition."""

import json
import shlex
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
from tests.lab.vm.machines import Vm

NEW_KERNEL = """
for file in vmlinuz initrd.img config; do echo junk >"/boot/$file-9.9"; done
echo menu >>/boot/grub/grub.cfg; : >"/boot/config-$(uname -r)"; mkdir /lib/modules/9.9; sync
"""
WHAT_IS_THERE = """
dpkg-query -W -f='${Package} ${Version} ${db:Status-Abbrev}\\n'
find /etc /usr/sbin /var/lib/dpkg /boot /lib/modules -xdev -type f ! -name resolv.conf ! -name '*lock*' \\
  ! -path '/etc/lvm/*' -print0 |
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


def list_volumes(vm: Vm) -> list[str]:
    return vm.sh("lvs -a --noheadings -o lv_name", root=True).split()


def read_row(fleet: Fleet) -> SnapshotRow:
    with open_records(fleet.records_url) as records:
        return open_snapshots(records).read_all()[-1]


def test_a_failing_update_and_boot_are_put_back_and_a_snapshot_has_an_end(
    vm: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    fleet = Fleet([vm], tmp_path)
    fleet.describe(every={"provider": "own"})
    (tmp_path / "providers.yaml").write_text(yaml.safe_dump({"providers": [{"name": "own", "kind": "lvm"}]}))
    before = vm.sh(WHAT_IS_THERE, root=True).splitlines()
    boot = vm.boot_id()
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
    assert sorted(set(before) ^ set(vm.sh(WHAT_IS_THERE, root=True).splitlines())) == []
    assert list_volumes(vm) == ["data", "root"], "the snapshot is used up"
    assert read_row(fleet).state is SnapshotState.REVERTED

    vm.sh("echo later >/srv/data/kept", root=True)
    report = fleet.patch("lab-plain", snapshot="before")
    assert outcome_of(report, vm).state is OperationState.SUCCEEDED, report
    row = read_row(fleet)
    assert set(list_volumes(vm)) == {"data", "root", f"{row.snapshot}.boot", f"{row.snapshot}.1"}
    with open_records(fleet.records_url) as records:
        open_snapshots(records).save(replace(row, expires_at=datetime.now(UTC) - timedelta(hours=3)))
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(fleet.inventory))
    (deletion,) = delete_expired_snapshots(Caller(records_url=fleet.records_url))
    assert deletion.state.value == "Deleted", deletion
    assert list_volumes(vm) == ["data", "root"]
    assert vm.sh("cat /srv/data/kept; dpkg-query -W -f='${Version}' lab-plain").split() == ["later", "2.0"]


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
