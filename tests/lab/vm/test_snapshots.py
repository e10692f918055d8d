"""Snapshots of virtual machines by libvirt: the way back by the run and by a person, their end, and no provider."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.snapshots import open_snapshots
from tasks.domain.provided_machines import Consistency, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import OperationState, UpdateState
from tasks.records.setup import open_records
from tests.lab.killing import Controller, Controllers, Told, began, its_lease_is_over
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.hypervisor import run, wait_until
from tests.lab.vm.machines import Vm, VmLab
from tests.lab.vm.provided import ProvidedFleet

WHAT_IS_THERE = """
dpkg-query -W -f='${Package} ${Version} ${db:Status-Abbrev}\\n'
find /etc /usr/sbin /var/lib/dpkg /boot -xdev -type f ! -name resolv.conf ! -name '*lock*' -print0 |
  sort -z | xargs -0 sha256sum
for unit in nginx ssh cron qemu-guest-agent; do systemctl is-active "$unit"; done
"""
BACK = {"take": "before", "revert_on_failure": True}
BAD = {"classifications": [], "include": ["lab-plain", "lab-failing"]}


@dataclass
class Place:
    """A machine with something on its data disk, and the processes that patch it."""

    lab: VmLab
    vm: Vm
    fleet: ProvidedFleet
    controllers: Controllers

    def __post_init__(self) -> None:
        """Look at the machine."""
        self.vm.sh("printf kept | dd of=/dev/vdb conv=fsync 2>/dev/null; sync", root=True)
        self.before = self.look()
        self.files = self.list_files()

    def look(self) -> list[str]:
        return self.vm.sh(WHAT_IS_THERE, root=True).splitlines()

    def list_files(self) -> set[str]:
        return {path.name for path in self.vm.folder.iterdir() if path.name != "memory"}

    def assert_as_before(self) -> None:
        assert sorted(set(self.before) ^ set(self.look())) == []
        assert self.vm.sh("head -c 4 /dev/vdb", root=True) == "kept"

    def patch(self, **fields: Any) -> Controller:
        return self.controllers.patch(scope=self.vm.name, updates=BAD, **fields)

    def act(self, *words: str) -> Told:
        return self.controllers.start(*words).end(600)

    def read_row(self) -> SnapshotRow:
        """The one snapshot of the records."""
        with open_records(self.fleet.records_url) as records:
            (row,) = open_snapshots(records).read_all()
        return row

    def expire(self) -> None:
        """Let the time of the snapshot be over."""
        row = replace(self.read_row(), expires_at=datetime.now(UTC) - timedelta(hours=3))
        with open_records(self.fleet.records_url) as records:
            open_snapshots(records).save(row)


@pytest.fixture
def place(vm_lab: VmLab, vms: BootVms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # the keys of the controllers
    (vm,) = vms(1)
    fleet = ProvidedFleet(vm_lab, vm, tmp_path)
    made = Place(vm_lab, vm, fleet, Controllers(fleet))
    yield made
    made.controllers.end()
    vm_lab.hypervisor.start()


def test_a_machine_is_as_before_after_an_update_that_fails(place: Place) -> None:
    data = hashlib.sha256((place.vm.folder / "data.raw").read_bytes()).hexdigest()
    report = place.fleet.patch("lab-plain", "lab-failing", only_machines=[place.vm.name], snapshot=BACK)
    (outcome,) = report.outcomes
    assert outcome.state is OperationState.FAILED
    assert "the machine is as it was before" in outcome.reason, outcome.reason
    assert outcome.snapshot is not None
    assert outcome.snapshot.consistency is Consistency.FILE_SYSTEM
    assert {result.update.name: result.state for result in outcome.updates if result.state is UpdateState.FAILED} == {
        "lab-plain": UpdateState.FAILED,
        "lab-failing": UpdateState.FAILED,
    }
    place.assert_as_before()
    assert hashlib.sha256((place.vm.folder / "data.raw").read_bytes()).hexdigest() == data


def test_what_an_absent_provider_did_not_put_back_a_person_does_and_the_snapshot_has_an_end(place: Place) -> None:
    run = place.patch(snapshot=BACK)
    place.controllers.wait_until(began("install"), "the installation")
    place.lab.hypervisor.stop_daemon()
    told = run.end(600)
    (machine,) = told.json["machines"]
    run_id = place.controllers.newest().run.id
    assert (told.code, machine["status"]) == (1, "Failed"), told
    assert "not reverted: " in machine["reason"], machine["reason"]
    assert place.read_row().state is SnapshotState.TAKEN
    assert place.act("snapshots", "list", place.vm.name).code == 3, "its provider does not say"
    place.lab.hypervisor.start()
    assert place.vm.sh("dpkg-query -W -f='${Version}' lab-plain") == "2.0", "nothing was put back"

    listed = place.act("snapshots", "list", place.vm.name, "--json")
    assert (listed.code, [seen["status"] for seen in listed.json["snapshots"]]) == (0, ["Kept"]), listed
    boot = place.vm.boot_id()
    undo = ("undo", run_id, place.vm.name, "--by", "snapshot", "--no-prefect", "--json")
    planned = place.act(*undo, "--plan")
    assert (planned.code, "lab-plain" in planned.out, place.vm.boot_id()) == (0, True, boot), planned
    done = place.act(*undo, "--yes")
    assert (done.code, done.states) == (0, {place.vm.name: "Succeeded"}), done
    assert place.vm.boot_id() != boot
    place.assert_as_before()
    assert place.read_row().state is SnapshotState.REVERTED

    place.expire()
    assert place.act("snapshots", "list", place.vm.name).code == 3
    assert place.read_row().machine in place.act("doctor", "--here", "--json").out
    ended = place.act("reconcile", "--no-prefect")
    assert (ended.code, f"{place.read_row().snapshot}: Deleted" in ended.err) == (0, True), ended
    assert place.read_row().state is SnapshotState.DELETED
    listed = place.act("snapshots", "list", place.vm.name, "--json")
    assert (listed.code, listed.json) == (0, {"snapshots": []}), listed
    assert "should be deleted" not in place.act("doctor", "--here", "--json").out
    assert_no_layer_is_left(place)
    place.assert_as_before()


def assert_no_layer_is_left(place: Place) -> None:
    hypervisor, name = place.lab.hypervisor, place.vm.name
    assert hypervisor.virsh("snapshot-list", name, "--name").strip() == ""
    disks = dict(line.split() for line in hypervisor.virsh("domblklist", name).splitlines() if line.strip())
    folder = place.vm.folder
    assert disks == {"vda": f"{folder}/os.qcow2", "vdb": f"{folder}/data.raw", "vdc": f"{folder}/seed.tar"}
    assert place.list_files() == place.files
    for disk in ("vda", "vdb"):
        assert hypervisor.virsh("blockjob", name, disk, "--raw").strip() == ""


def test_a_revert_that_a_killed_controller_and_an_absent_provider_have_cut_short_is_completed(place: Place) -> None:
    run = place.patch(snapshot=BACK)
    place.controllers.wait_until(began("install"), "the installation")
    place.lab.hypervisor.stop_daemon()
    place.controllers.wait_until(began("revert"), "the revert")
    run.kill()
    its_lease_is_over(place.controllers)
    assert place.read_row().state is SnapshotState.TAKEN
    place.lab.hypervisor.start()
    told = place.controllers.resume()
    (machine,) = told.json["machines"]
    assert (machine["status"], "the machine is as it was before" in machine["reason"]) == ("Failed", True), told
    assert place.read_row().state is SnapshotState.REVERTED
    place.assert_as_before()


def test_disks_that_somebody_has_taken_back_stop_everything_until_they_are_back(place: Place) -> None:
    hypervisor, name = place.lab.hypervisor, place.vm.name
    old = hypervisor.virsh("dumpxml", name, "--inactive")
    only_good = {"classifications": [], "include": ["lab-plain"]}
    first = place.controllers.patch(scope=name, updates=only_good, snapshot={"take": "before"}).end(600)
    assert first.code in {0, 3}, first
    place.vm.sh(
        "echo precious > /var/tmp/precious; printf newer | dd of=/dev/vdb conv=fsync 2>/dev/null; sync", root=True
    )

    definition = place.fleet.place / "old.xml"
    definition.write_text(old)
    hypervisor.virsh("define", str(definition))
    early = place.act("snapshots", "list", name, "--json")
    assert (early.code, early.json["snapshots"][0]["status"]) == (1, "TakenBack"), "it would start from older disks"
    assert place.act("snapshots", "adopt", name, "--as-it-is", "--yes").code == 4, "it may mean either disks"
    place.vm.crash()
    place.vm.wait_login()
    assert place.vm.sh("ls /var/tmp/precious; true") == ""
    assert place.vm.sh("head -c 4 /dev/vdb", root=True) == "kept"

    listed = place.act("snapshots", "list", name, "--json")
    (alarm,) = listed.json["snapshots"]
    assert (listed.code, alarm["status"]) == (1, "TakenBack"), listed
    assert f"{name}.vda.layer-1.qcow2" in alarm["message"]
    assert "was written to since" in alarm["remedy"]
    doctor = place.act("doctor", "--here", "--json")
    assert (doctor.code, alarm["message"] in doctor.out) == (3, True), doctor
    before, boot, files = hypervisor.virsh("dumpxml", name), place.vm.boot_id(), place.list_files()
    blocked = place.controllers.patch(scope=name, updates=only_good).end(600)
    assert (blocked.code, "taken back" in blocked.json["machines"][0]["reason"]) == (1, True), blocked
    deleted = place.act("snapshots", "delete", name, "--yes")
    assert (deleted.code, "taken back" in deleted.out) == (1, True), deleted
    assert place.act("snapshots", "adopt", name, "--yes").code == 4
    assert (hypervisor.virsh("dumpxml", name), place.vm.boot_id(), place.list_files()) == (before, boot, files)

    for command in alarm["remedy"].splitlines():
        if command.startswith(("virsh ", "printf ")):
            run(["sh", "-c", command])
        if " shutdown " in command:
            wait_until(lambda: place.vm.power() == "shut off", 120, "it does not go off")
    place.vm.wait_login()
    assert place.vm.sh("cat /var/tmp/precious").strip() == "precious"
    assert place.vm.sh("head -c 5 /dev/vdb", root=True) == "newer"
    assert place.act("snapshots", "list", name).code == 1, "its notes are still those of before"
    adopted = place.act("snapshots", "adopt", name, "--yes", "--json")
    assert (adopted.code, adopted.json["snapshots"][0]["status"]) == (0, "Restored"), adopted
    listed = place.act("snapshots", "list", name, "--json")
    assert (listed.code, [seen["status"] for seen in listed.json["snapshots"]]) == (0, ["Kept"]), listed
    assert "taken back" not in place.act("doctor", "--here", "--json").out
    deleted = place.act("snapshots", "delete", name, "--yes")
    assert deleted.code == 0, deleted
    assert_no_layer_is_left(place)
    assert place.vm.sh("cat /var/tmp/precious").strip() == "precious"
