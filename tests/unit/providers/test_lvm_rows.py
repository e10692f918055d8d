"""Rows of lvs as they are read: lvm2 2.03.16 of Debian 12 has shown them on a virtual machine whose / was a volume."""

from datetime import UTC, datetime

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.provided_machines import ProvidedMachine
from tasks.machines.providers.host_commands import HostCommands
from tasks.machines.providers.lvm import LvmProvider
from tests.support.fake_clock import FakeClock

TAKEN = """\
vg0|data|-wi-ao----|linear|67108864|||/dev/mapper/vg0-data|
vg0|fleetpatch-a.1|swi-a-s---|linear|1082130432|root|0.04|/dev/mapper/vg0-fleetpatch--a.1|fleetpatch.snapshot=fleetpatch-a
vg0|fleetpatch-a.boot|-wi-a-----|linear|37748736|||/dev/mapper/vg0-fleetpatch--a.boot|fleetpatch.copy=29144576+e681,\
fleetpatch.snapshot=fleetpatch-a,fleetpatch.taken=1795872438
vg0|root|owi-aos---|linear|1073741824|||/dev/mapper/vg0-root|"""
OVERFULL_AND_MERGING = """\
vg0|data|-wi-ao----|linear|67108864|||/dev/mapper/vg0-data|
vg0|full.1|swi-I-s---|linear|8388608|root|100.00|/dev/mapper/vg0-full.1|fleetpatch.snapshot=full
vg0|other|Swi-a-s---|linear|104857600|root|20.29|/dev/mapper/vg0-other|
vg0|root|Owi-aos---|linear|1073741824|||/dev/mapper/vg0-root|fleetpatch.reverted=fleetpatch-a"""


class RecordedHost:
    """A line to a machine that answers with rows of lvs."""

    def __init__(self, rows: str) -> None:
        self.rows = rows

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        assert (script.read_only, bool(deadline)) == (True, True)
        rows = [{"kind": "volume", "row": row} for row in self.rows.splitlines()]
        system = {"kind": "system", "name": "vg0/root", "place": "/"}
        return ScriptResult(({"kind": "boot", "id": "1"}, *rows, system, {"kind": "ended"}), 0)


def read(rows: str) -> ProvidedMachine:
    clock = FakeClock()
    host = HostCommands(RecordedHost(rows), clock, "web")  # type: ignore[arg-type]
    return LvmProvider(host, "web").read_machine(deadline=Deadline.after(clock, 60))


def test_a_snapshot_that_was_taken() -> None:
    machine = read(TAKEN)
    assert [disk.id for disk in machine.disks] == ["vg0/data", "vg0/root"]
    assert [disk.id for disk in machine.os_disks] == ["vg0/root"]
    (snapshot,) = machine.snapshots
    assert (snapshot.id, snapshot.disks, snapshot.used_bytes) == ("fleetpatch-a", ("vg0/root",), 432852)
    assert snapshot.taken_at == datetime(2026, 11, 28, 13, 27, 18, tzinfo=UTC)
    assert snapshot.fault == ""


def test_an_overfull_one_without_its_copy_of_boot_and_one_of_somebody_else() -> None:
    ours, foreign = read(OVERFULL_AND_MERGING).snapshots
    assert (ours.id, ours.disks, ours.taken_at) == ("full", (), None)
    assert ours.fault == "vg0/full.1 is overfull: more was written since than it has room for"
    assert (foreign.id, foreign.used_bytes) == ("vg0/other", 21275607)
