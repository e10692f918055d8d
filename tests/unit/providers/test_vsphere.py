"""Virtual machines of vSphere, played by a server with the shapes of its JSON API."""

import logging
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
from tasks.machines.providers.registry import open_provider
from tasks.machines.providers.vsphere import open_vsphere
from tests.support.fake_clock import FakeClock
from tests.unit.providers.api_server import SECRET, Answer, ApiServer, Asked, build_machine, build_ports, serve

ROOT = "/sdk/vim25/8.0.1.0"
MACHINE = f"{ROOT}/VirtualMachine/vm-42/"
TASK = {"_typeName": "ManagedObjectReference", "type": "Task", "value": "task-1"}
SESSION = "session-0123456789"


def build_disk(key: int, mode: str = "persistent") -> dict[str, Any]:
    backing = {
        "_typeName": "VirtualDiskFlatVer2BackingInfo",
        "fileName": f"[ds1] web1/web1_{key}.vmdk",
        "diskMode": mode,
    }
    return {"_typeName": "VirtualDisk", "key": key, "unitNumber": key - 2000, "backing": backing}


class Vcenter:
    """One virtual machine."""

    def __init__(self) -> None:
        self.devices = [{"_typeName": "ParaVirtualSCSIController", "key": 1000}, build_disk(2000), build_disk(2001)]
        self.boot_options: dict[str, Any] = {"_typeName": "VirtualMachineBootOptions"}
        self.power, self.tools = "poweredOn", "guestToolsRunning"
        self.snapshots: list[dict[str, Any]] = []
        self.count = 0
        self.info: dict[str, Any] = {"state": "success"}
        self.busy_looks = 0
        self.sessions = 0
        self.more: dict[str, Any] = {}

    def answer(self, asked: Asked) -> Answer:
        if asked.path.endswith("/SessionManager/Login"):
            assert asked.body == {"userName": "fleetpatch@vsphere.local", "password": SECRET}
            self.sessions += 1
            return 200, {"_typeName": "UserSession", "key": "k"}, {"vmware-api-session-id": SESSION}
        assert asked.headers["vmware-api-session-id"] == SESSION
        if asked.path.endswith("/SessionManager/Logout"):
            self.sessions -= 1
            return 204, None
        if asked.path.startswith(f"{ROOT}/Task/"):
            return 200, {"_typeName": "TaskInfo", "key": "task-1", **self.info}
        if asked.path.startswith(f"{ROOT}/VirtualMachineSnapshot/"):
            return self._answer_of_snapshot(*asked.path.split("/")[-2:])
        assert asked.path.startswith(MACHINE), asked.path
        word = asked.path.removeprefix(MACHINE)
        return 200, self._read(word) if asked.method == "GET" else self._change(word, asked.body)

    def config(self) -> dict[str, Any]:
        hardware = {"device": list(self.devices)}
        return {
            "_typeName": "VirtualMachineConfigInfo",
            "bootOptions": self.boot_options,
            "hardware": hardware,
            **self.more,
        }

    def _read(self, word: str) -> Any:
        if word == "recentTask":
            self.busy_looks -= 1
            if "error" not in self.info:
                self.info = {"state": "running" if self.busy_looks >= 0 else "success"}
            return [TASK]
        tree = {"_typeName": "VirtualMachineSnapshotInfo", "rootSnapshotList": self.snapshots}
        documents = {
            "config": self.config(),
            "runtime": {"_typeName": "VirtualMachineRuntimeInfo", "powerState": self.power},
            "guest": {"_typeName": "GuestInfo", "toolsRunningStatus": self.tools},
            "snapshot": tree if self.snapshots else None,
        }
        return documents[word]

    def _change(self, word: str, body: Any) -> Any:
        assert word == "CreateSnapshot_Task", word
        assert body["memory"] is False
        self.add_snapshot(body["name"], body["description"], quiesced=body["quiesce"])
        return TASK

    def add_snapshot(self, name: str, description: str, **more: Any) -> None:
        self.count += 1
        moid = f"snapshot-{self.count}"
        item = {
            "_typeName": "VirtualMachineSnapshotTree",
            "snapshot": {"_typeName": "ManagedObjectReference", "type": "VirtualMachineSnapshot", "value": moid},
            "name": name,
            "description": description,
            "createTime": "2026-03-10T01:00:00.5Z",
            **more,
        }
        (self.snapshots[0].setdefault("childSnapshotList", []) if self.snapshots else self.snapshots).append(item)

    def _answer_of_snapshot(self, moid: str, word: str) -> Answer:
        assert word == "RemoveSnapshot_Task"
        self.snapshots = [item for item in self.snapshots if item["snapshot"]["value"] != moid]
        return 200, TASK


class World:
    """The machine, its server and its provider."""

    def __init__(self, vcenter: Vcenter, server: ApiServer) -> None:
        self.vcenter, self.server, self.clock = vcenter, server, FakeClock()
        self.settings = ProviderSettings(
            name="vc", kind=ProviderKind.VSPHERE, url=server.url, user="fleetpatch@vsphere.local", credential="env:VC"
        )
        self.provider = open_provider(self.settings, build_machine("vc/vm-42"), build_ports(self.clock))

    def give(self, act: ProviderAct, order_id: str = "fp-run-1") -> str:
        return self.provider.carry_out(ProviderOrder(act, order_id), deadline=Deadline.after(self.clock, 3600))

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=Deadline.after(self.clock, 60))


@pytest.fixture
def world() -> Iterator[World]:
    vcenter = Vcenter()
    with serve(vcenter.answer) as server:
        yield World(vcenter, server)
    assert vcenter.sessions == 0  # vCenter has few of them


def test_a_machine_is_read_with_its_roles(world: World) -> None:
    machine = world.read()
    assert (machine.id, machine.power, machine.snapshots) == ("vm-42", PowerState.RUNNING, ())
    assert [(disk.id, disk.role, disk.source) for disk in machine.disks] == [
        ("2000", DiskRole.OS, "[ds1] web1/web1_2000.vmdk"),
        ("2001", DiskRole.DATA, "[ds1] web1/web1_2001.vmdk"),
    ]


def test_the_boot_disk_is_the_chosen_one_the_only_one_the_first_one_or_unknown(world: World) -> None:
    world.vcenter.boot_options["bootOrder"] = [
        {"_typeName": "VirtualMachineBootOptionsBootableCdromDevice"},
        {"_typeName": "VirtualMachineBootOptionsBootableDiskDevice", "deviceKey": 2001},
    ]
    assert [disk.role for disk in world.read().disks] == [DiskRole.DATA, DiskRole.OS]
    world.vcenter.boot_options = {}
    world.vcenter.devices = [build_disk(16000), build_disk(2016)]
    assert {disk.role for disk in world.read().disks} == {DiskRole.UNKNOWN}
    world.vcenter.devices = [build_disk(16000)]
    assert [disk.role for disk in world.read().disks] == [DiskRole.OS]


@pytest.mark.parametrize(
    ("word", "power"),
    [("poweredOff", PowerState.STOPPED), ("suspended", PowerState.PAUSED), ("new word", PowerState.UNKNOWN)],
)
def test_a_state_that_is_not_known_is_unknown(world: World, word: str, power: PowerState) -> None:
    world.vcenter.power = word
    assert world.read().power is power


@pytest.mark.parametrize(
    ("power", "tools", "wanted", "note"),
    [
        ("poweredOn", "guestToolsRunning", Consistency.FILE_SYSTEM, ""),
        ("poweredOn", "guestToolsNotRunning", Consistency.CRASH, "not frozen"),
        ("poweredOff", "guestToolsNotRunning", Consistency.OFFLINE, ""),
    ],
)
def test_a_snapshot_tells_how_consistent_it_is(
    world: World, power: str, tools: str, wanted: Consistency, note: str
) -> None:
    world.vcenter.power, world.vcenter.tools = power, tools
    assert note in world.give(ProviderAct.TAKE_SNAPSHOT)
    (snapshot,) = world.read().snapshots
    assert (snapshot.id, snapshot.consistency, snapshot.disks) == ("fp-run-1", wanted, ("2000", "2001"))
    assert snapshot.taken_at == datetime(2026, 3, 10, 1, 0, 0, 500000, tzinfo=UTC)
    assert world.vcenter.snapshots[0]["quiesced"] is (wanted is Consistency.FILE_SYSTEM)


def test_an_order_whose_answer_was_lost_is_carried_out_once(world: World) -> None:
    world.server.lost_after = ["CreateSnapshot_Task"]
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.vcenter.busy_looks = 3  # it is still at it
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.server.count("POST", "CreateSnapshot_Task") == 1
    assert world.clock.sleeps == [5.0] * 3
    world.server.lost_after = ["RemoveSnapshot_Task"]
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.DELETE_SNAPSHOT)
    world.give(ProviderAct.DELETE_SNAPSHOT)
    assert (world.server.count("POST", "RemoveSnapshot_Task"), world.read().snapshots) == (1, ())


def test_snapshots_of_others_are_seen_in_the_tree_and_never_deleted(world: World) -> None:
    world.vcenter.add_snapshot("before upgrade", "by hand")
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert {one.id: one.consistency for one in world.read().snapshots} == {
        "snapshot-1": Consistency.UNKNOWN,
        "fp-run-1": Consistency.FILE_SYSTEM,
    }
    with pytest.raises(ProviderError, match="not taken by fleetpatch"):
        world.give(ProviderAct.DELETE_SNAPSHOT, "snapshot-1")


def test_an_independent_disk_is_in_no_snapshot(world: World) -> None:
    world.vcenter.devices[2] = build_disk(2001, "independent_persistent")
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.read().snapshots[0].disks == ("2000",)


def test_a_task_that_fails_or_does_not_end_is_told(world: World) -> None:
    world.vcenter.info = {
        "state": "error",
        "error": {"_typeName": "LocalizedMethodFault", "localizedMessage": "no room"},
    }
    with pytest.raises(ProviderError, match="could not carry it out for vm-42: no room"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.vcenter.info, world.vcenter.busy_looks = {"state": "running"}, 10**6
    with pytest.raises(ProviderUnavailable, match="works on vm-42"):
        world.give(ProviderAct.TAKE_SNAPSHOT, "fp-run-2")


def test_a_fault_is_final_and_a_gateway_is_not(world: World) -> None:
    world.server.faults = [
        ("/config", 500, {"_typeName": "ManagedObjectNotFound", "localizedMessage": "vm-42 is gone"})
    ]
    with pytest.raises(ProviderError, match="ManagedObjectNotFound vm-42 is gone") as caught:
        world.read()
    assert not caught.value.transient
    world.server.faults = [("/runtime", 503, None)]
    with pytest.raises(ProviderUnavailable):
        world.read()
    world.server.faults = [("/guest", 200, {}), ("/runtime", 200, {"powerState": None})]
    with pytest.raises(ProviderError, match="`powerState` is no str"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.server.faults = [("/snapshot", 200, b"<html>")]
    with pytest.raises(ProviderError, match="it is no JSON"):
        world.read()


def test_what_it_can_not_do_it_does_not_offer(world: World) -> None:
    for provider in ("vc/web1", "vc", "vc/vm-42/../vm-43"):
        with pytest.raises(ProviderError, match="is not an id of vCenter"):
            open_vsphere(world.settings, build_machine(provider), build_ports(world.clock))
    assert world.server.asked == []
    assert world.provider.acts == {ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT}
    for act in set(ProviderAct) - world.provider.acts:
        with pytest.raises(ProviderError, match=f"can't be asked to {act}"):
            world.give(act)


def test_the_provider_knows_who_a_machine_is(world: World) -> None:
    assert world.read().identity == HardwareIdentity()
    world.vcenter.more = {"uuid": "4210A1B2-0000-4000-8000-0123456789AB"}
    world.vcenter.devices += [{"_typeName": "VirtualVmxnet3", "key": 4000, "macAddress": "00:50:56:AA:BB:01"}]
    assert world.read().identity == HardwareIdentity(
        "4210a1b2-0000-4000-8000-0123456789ab", macs=("00:50:56:aa:bb:01",)
    )


def test_a_login_that_fails_shows_no_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.server.faults = [("/Login", 500, {"_typeName": "InvalidLogin", "localizedMessage": f"bad {SECRET}"})]
    with pytest.raises(ProviderError, match="InvalidLogin") as caught:
        world.read()
    world.server.faults = [("/Login", 200, {}), ("/config", 500, {"localizedMessage": f"for {SESSION}"})]
    with pytest.raises(ProviderError, match="gave no session"):
        world.read()
    with pytest.raises(ProviderError, match="refused") as second:
        world.read()
    texts = caught.value.message + second.value.message + repr(vars(world.provider)) + caplog.text
    assert not {SECRET, SESSION} & {secret for secret in (SECRET, SESSION) if secret in texts}
