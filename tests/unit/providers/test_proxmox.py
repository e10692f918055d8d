"""Virtual machines of Proxmox VE, played by a server with the shapes of its API."""

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    HardwareIdentity,
    PowerState,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
)
from tasks.machines.providers.proxmox import open_proxmox
from tasks.machines.providers.registry import open_provider
from tests.support.fake_clock import FakeClock
from tests.unit.providers.api_server import SECRET, Answer, ApiServer, Asked, build_machine, build_ports, serve

UPID = "UPID:pve1:0003A1B2:01C2D3E4:67F00000:{}:100:fleetpatch@pve!patch:"


class Proxmox:
    """One node with the machine 100."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {
            "boot": "order=scsi0;ide2;net0",
            "scsi0": "local-zfs:vm-100-disk-0,iothread=1,size=32G",
            "scsi1": "local-zfs:vm-100-disk-1,size=8G",
            "ide2": "local:iso/debian.iso,media=cdrom,size=400M",
            "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "scsihw": "virtio-scsi-single",
        }
        self.status: dict[str, Any] = {"vmid": 100, "status": "running", "qmpstatus": "running"}
        self.resource: dict[str, Any] = {"vmid": 100, "type": "qemu", "node": "pve1", "pool": "web", "name": "web1"}
        self.snapshots: list[dict[str, Any]] = []
        self.agent_answers = True
        self.exits = "OK"
        self.log = ["snapshotting 'drive-scsi0'", "TASK OK"]
        self.locked_looks = 0

    def answer(self, asked: Asked) -> Answer:
        assert asked.headers["authorization"] == f"PVEAPIToken=fleetpatch@pve!patch={SECRET}"
        if asked.path == "/api2/json/cluster/resources":
            assert asked.query == {"type": "vm"}
            return 200, {"data": [{"vmid": 100000, "type": "qemu", "node": "pve2"}, self.resource]}
        if match := re.fullmatch(r"/api2/json/nodes/pve1/tasks/(UPID[^/]*)/(status|log)", asked.path):
            if match[2] == "log":
                return 200, {"data": [{"n": number, "t": text} for number, text in enumerate(self.log)]}
            return 200, {"data": {"upid": match[1], "status": "stopped", "exitstatus": self.exits}}
        path = asked.path.removeprefix("/api2/json/nodes/pve1/qemu/100")
        assert path != asked.path, asked.path
        return self._answer_of_machine(asked.method, path, asked.body)

    def _answer_of_machine(self, method: str, path: str, form: dict[str, str]) -> Answer:  # noqa: PLR0911 - a table
        by_name = {item["name"]: item for item in self.snapshots}
        match method, path.split("/")[1:]:
            case "GET", ["config"]:
                return 200, {"data": self.config}
            case "GET", ["status", "current"]:
                self.locked_looks -= 1
                return 200, {"data": self.status | ({"lock": "snapshot"} if self.locked_looks >= 0 else {})}
            case "GET", ["snapshot"]:
                return 200, {
                    "data": [*self.snapshots, {"name": "current", "description": "You are here!", "running": 1}]
                }
            case "POST", ["snapshot"]:
                assert form["vmstate"] == "0"
                if form["snapname"] in by_name:
                    return 500, {"data": None, "message": "snapshot name already used"}
                taken = {"name": form["snapname"], "snaptime": 1773104400, "description": form["description"] + "\n"}
                self.snapshots.append(taken)
                return 200, {"data": UPID.format("qmsnapshot")}
            case "PUT", ["snapshot", name, "config"]:
                by_name[name]["description"] = form["description"] + "\n"
                return 200, {"data": None}
            case "DELETE", ["snapshot", name]:
                self.snapshots.remove(by_name[name])
                return 200, {"data": UPID.format("qmdelsnapshot")}
            case "POST", ["agent", "ping"]:
                refusal = {"data": None, "message": "QEMU guest agent is not running"}
                return (200, {"data": {"result": {}}}) if self.agent_answers else (500, refusal)
        raise AssertionError((method, path))


class World:
    """The machine, its server and its provider."""

    def __init__(self, proxmox: Proxmox, server: ApiServer) -> None:
        self.proxmox, self.server, self.clock = proxmox, server, FakeClock()
        self.provider = open_provider(self.settings(), build_machine("rack/100"), build_ports(self.clock))

    def settings(self, **values: Any) -> ProviderSettings:
        given = {"url": self.server.url, "user": "fleetpatch@pve!patch", "credential": "env:PVE"} | values
        return ProviderSettings(name="rack", kind=ProviderKind.PROXMOX, **given)

    def give(self, act: ProviderAct, order_id: str = "fp-run-1") -> str:
        return self.provider.carry_out(ProviderOrder(act, order_id), deadline=Deadline.after(self.clock, 3600))

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=Deadline.after(self.clock, 60))


@pytest.fixture
def world() -> Iterator[World]:
    proxmox = Proxmox()
    with serve(proxmox.answer) as server:
        yield World(proxmox, server)


def test_a_machine_is_read_with_its_roles(world: World) -> None:
    machine = world.read()
    assert (machine.id, machine.power, machine.snapshots) == ("100", PowerState.RUNNING, ())
    assert [(disk.id, disk.role, disk.source) for disk in machine.disks] == [
        ("scsi0", DiskRole.OS, "local-zfs:vm-100-disk-0"),
        ("scsi1", DiskRole.DATA, "local-zfs:vm-100-disk-1"),
    ]


@pytest.mark.parametrize(
    ("status", "power"),
    [
        ({"status": "running", "qmpstatus": "paused"}, PowerState.PAUSED),
        ({"status": "running", "qmpstatus": "prelaunch"}, PowerState.UNKNOWN),
        ({"status": "stopped", "qmpstatus": "stopped"}, PowerState.STOPPED),
        ({"status": "new word"}, PowerState.UNKNOWN),
    ],
)
def test_a_state_that_is_not_known_is_unknown(world: World, status: dict[str, str], power: PowerState) -> None:
    world.proxmox.status = status
    assert world.read().power is power


def test_without_an_order_of_boot_no_disk_is_the_systems(world: World) -> None:
    world.proxmox.config["boot"] = "order=net0"
    assert {disk.role for disk in world.read().disks} == {DiskRole.UNKNOWN}
    world.proxmox.config |= {"boot": "cdn", "bootdisk": "scsi1"}
    assert {disk.id: disk.role for disk in world.read().disks} == {"scsi0": DiskRole.DATA, "scsi1": DiskRole.OS}


@pytest.mark.parametrize(
    ("agent", "log", "power", "wanted", "note"),
    [
        (True, [], "running", Consistency.FILE_SYSTEM, ""),
        (False, [], "running", Consistency.CRASH, "not frozen"),
        (True, ["guest-fsfreeze-freeze problems - timeout"], "running", Consistency.CRASH, "not frozen"),
        (True, [], "stopped", Consistency.OFFLINE, ""),
    ],
)
def test_a_snapshot_tells_how_consistent_it_is(
    world: World, agent: bool, log: list[str], power: str, wanted: Consistency, note: str
) -> None:
    world.proxmox.agent_answers, world.proxmox.log = agent, log
    world.proxmox.status |= {"status": power}
    assert note in world.give(ProviderAct.TAKE_SNAPSHOT)
    (snapshot,) = world.read().snapshots
    assert (snapshot.id, snapshot.consistency, snapshot.disks) == ("fp-run-1", wanted, ("scsi0", "scsi1"))
    assert snapshot.taken_at == datetime(2026, 3, 10, 1, 0, tzinfo=UTC)


def test_an_order_whose_answer_was_lost_is_carried_out_once(world: World) -> None:
    world.server.lost_after = ["/snapshot"]
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.proxmox.locked_looks = 4  # it is still at it
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.server.count("POST", "/qemu/100/snapshot") == 1
    assert world.clock.sleeps == [5.0] * 3
    (snapshot,) = world.read().snapshots
    assert snapshot.consistency is Consistency.UNKNOWN  # nobody saw whether it froze
    world.server.lost_after = ["/snapshot/fp-run-1"]
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.DELETE_SNAPSHOT)
    world.give(ProviderAct.DELETE_SNAPSHOT)
    assert (world.server.count("DELETE", "/snapshot"), world.read().snapshots) == (1, ())


def test_snapshots_of_others_and_broken_ones_are_left_alone(world: World) -> None:
    world.proxmox.snapshots = [{"name": "by-hand", "snaptime": 1, "description": "mine"}]
    assert [(one.id, one.consistency) for one in world.read().snapshots] == [("by-hand", Consistency.UNKNOWN)]
    with pytest.raises(ProviderError, match="not taken by fleetpatch"):
        world.give(ProviderAct.DELETE_SNAPSHOT, "by-hand")
    world.give(ProviderAct.TAKE_SNAPSHOT)
    world.proxmox.snapshots[-1]["snapstate"] = "prepare"
    assert [one.id for one in world.read().snapshots] == ["by-hand"]
    with pytest.raises(ProviderError, match="was not completed"):
        world.give(ProviderAct.TAKE_SNAPSHOT)


def test_a_task_that_fails_or_does_not_end_is_told(world: World) -> None:
    world.proxmox.exits = "unable to create snapshot: storage full"
    with pytest.raises(ProviderError, match="could not carry it out for 100: unable to create snapshot: storage full"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.proxmox.locked_looks = 10**6
    with pytest.raises(ProviderUnavailable, match="has the machine 100 locked"):
        world.give(ProviderAct.TAKE_SNAPSHOT, "fp-run-2")
    assert 890 < sum(world.clock.sleeps) < 910
    assert world.server.count("POST", "/qemu/100/snapshot") == 1


def test_a_refusal_is_final_and_a_lock_is_not(world: World) -> None:
    world.server.faults = [("/100/snapshot", 500, {"message": "VM is locked (backup)"})]
    with pytest.raises(ProviderUnavailable, match="locked"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.server.faults = [("/100/config", 500, {"message": "no such file"})]
    with pytest.raises(ProviderError, match="refused") as caught:
        world.read()
    assert not caught.value.transient
    world.server.faults = [("/resources", 595, {"message": "no route to node"})]
    with pytest.raises(ProviderUnavailable):
        world.read()


@pytest.mark.parametrize("change", [{"vmid": 101}, {"type": "lxc"}, {"template": 1}])
def test_only_a_virtual_machine_that_is_there_is_touched(world: World, change: dict[str, Any]) -> None:
    world.proxmox.resource |= change
    with pytest.raises(ProviderError, match="no virtual machine 100"):
        world.give(ProviderAct.TAKE_SNAPSHOT)


def test_a_pool_is_a_fence(world: World) -> None:
    provider = open_proxmox(world.settings(resource="db"), build_machine("rack/100"), build_ports(world.clock))
    with pytest.raises(ProviderError, match="not in the pool db"):
        provider.read_machine(deadline=Deadline.after(world.clock, 60))


def test_no_order_reverts_a_disk_or_stops_a_machine(world: World) -> None:
    assert world.provider.acts == {ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT}
    for act in set(ProviderAct) - world.provider.acts:
        with pytest.raises(ProviderError, match=f"can't be asked to {act}"):
            world.give(act)
    with pytest.raises(ProviderError, match="can't call a snapshot"):
        world.give(ProviderAct.TAKE_SNAPSHOT, "1 odd name")
    assert [one for one in world.server.asked if one.is_change] == []


@pytest.mark.parametrize(
    ("changes", "uuid", "macs"),
    [
        ({}, "", ("bc:24:11:00:00:01",)),
        (
            {
                "smbios1": "base64=1,manufacturer=UUVNVQ==,uuid=0A1B2C3D-0000-4000-8000-0123456789AB",
                "net1": "model=e1000,bridge=vmbr1,macaddr=BC:24:11:00:00:02",
            },
            "0a1b2c3d-0000-4000-8000-0123456789ab",
            ("bc:24:11:00:00:01", "bc:24:11:00:00:02"),
        ),
        ({"net0": "virtio,bridge=vmbr0"}, "", ()),
    ],
)
def test_the_provider_knows_who_a_machine_is(
    world: World, changes: dict[str, str], uuid: str, macs: tuple[str, ...]
) -> None:
    world.proxmox.config |= changes
    assert world.read().identity == HardwareIdentity(uuid, macs=macs)


def test_settings_that_can_not_work_are_refused(world: World) -> None:
    for provider in ("rack/web1", "rack", "rack/100/../101"):
        with pytest.raises(ProviderError, match="is not a VMID"):
            open_proxmox(world.settings(), build_machine(provider), build_ports(world.clock))
    with pytest.raises(ProviderError, match="not the id of an API token"):
        open_proxmox(world.settings(user="root@pam"), build_machine("rack/100"), build_ports(world.clock))


def test_the_secret_is_in_no_error_and_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.server.faults = [("/resources", 401, {"message": f"invalid token {SECRET}"})]
    with pytest.raises(ProviderError, match="does not let fleetpatch") as caught:
        world.read()
    assert SECRET not in caught.value.message + repr(caught.value) + caplog.text + repr(vars(world.provider))
