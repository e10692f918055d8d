"""A simulated fleet of virtual machines, and runs of the real engine that give them new OS disks."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from inventory.machine import OsFamily
from tasks.domain.components import Component, ComponentOrder, ComponentTry, ComponentVersion
from tasks.domain.images import ImageModel, ImageScript
from tasks.domain.model import RunReport
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.provided_machines import DiskRole, PowerState, ProviderAct, ProviderOrder
from tests.support.fake_components import PROBE, FakeComponents
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import FakeHypervisor
from tests.support.fleet import SimFleet

RUN = "20260310-010000-aaaaaa"
OLD, NEW = "12.1", "12.2"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nthe secret of the host\n"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
_LINK = {"ifname": "eth0", "link_type": "ether", "address": "52:54:00:00:00:01"}
_LEASED = {"family": "inet", "local": "192.0.2.9", "prefixlen": 24, "scope": "global", "dynamic": True}
NETWORK = {"kind": "network", "links": json.dumps([{**_LINK, "addr_info": [_LEASED]}]), "routes": "[]", "routes6": "[]"}
MODEL = ImageModel("debian/12/stable", scripts=(ImageScript("join", "join the cluster"),), crosses_zones=True)


def make_group(*versions: str, **changes: Any) -> Component:
    """The group "web": the versions 12.1 and 12.2 of its image, unless others are given."""
    listed = tuple(ComponentVersion(one, reference=f"/images/{one}.qcow2") for one in versions or (OLD, NEW))
    base = Component(
        "image:web", "image", OsFamily.LINUX, listed, image=MODEL, soak_seconds=20.0, canary_pause_seconds=20.0
    )
    return replace(base, **changes)


class ImageFleet:
    """Machines whose OS disks a hypervisor holds, all of the old version.

    Attributes:
        bad: (machine, version) with which the machine's probe fails.
        dies_after: seconds after the last change of the disk from which on a bad version is bad.
        loops: whether a service of a bad version ends each 20 s, and is started again. Its probe is good then.
        dead: (machine, version) with which no login works.
        sick: machines whose probe fails whatever they have.
        ran: (machine, command) of each script that ran.
        had: versions of components on the old disks, by name.
        brings: those on disks that are made from the new image.
        on: the components of each machine, if there are some.
        network: what all machines tell of their network.
        enrolled: names of components that are enrolled on all machines.
    """

    def __init__(
        self,
        count: int = 4,
        group: Component | None = None,
        fleet: SimFleet | None = None,
        components: tuple[Component, ...] = (),
        had: Mapping[str, str | None] | None = None,
    ) -> None:
        self.components, self.had, self.brings = components, dict(had or {}), dict[str, str | None]()
        self.on: dict[str, FakeComponents] = {}
        self.enrolled: tuple[str, ...] = ()
        self.fleet, self.group = fleet or SimFleet(), group or make_group()
        self.hypervisor = FakeHypervisor(self.fleet.clock)
        self.hypervisor.apply = self._follow
        self.tries: tuple[ComponentTry, ...] = ()
        self.bad: set[tuple[str, str]] = set()
        self.dies_after, self.loops = 0.0, False
        self._changed_at: dict[str, datetime] = {}
        self.dead: set[tuple[str, str]] = set()
        self.sick: set[str] = set()
        self.ran: list[tuple[str, str]] = []
        self.fails: dict[str, str] = {}
        self.network = NETWORK
        for number in range(1, count + 1):
            self._add(f"m{number}")

    def _add(self, name: str) -> None:
        machine = self.fleet.add(name, [FakePackage("tzdata")], probes=(PROBE,), provider="host")
        if self.components:
            self.on[name] = FakeComponents(machine, dict(self.had))
        machine.list_runs = lambda: self._list_runs(name)
        machine.answer("probe", lambda script: self._probe(name, script))
        machine.answer("host_identity", self._tell_identity)
        self.hypervisor.add_machine(name)
        self.hypervisor.machines[name] = replace(
            self.hypervisor.machines[name],
            disks=tuple(
                replace(disk, image=OLD) if disk.role is DiskRole.OS else disk
                for disk in self.hypervisor.machines[name].disks
            ),
        )

    def _tell_identity(self, script: Script) -> list[ScriptRecord]:
        private = PRIVATE_KEY if script.params["keys"] == "yes" else "unread"
        return [
            {"kind": "host_key", "type": "ed25519", "private": private, "public": "ssh-ed25519 AAAA root@m"},
            {"kind": "identity", "name": "m", "machine_id": MACHINE_ID, "machine_id_file": "/etc/machine-id"},
            self.network,
        ]

    def _probe(self, name: str, script: Script) -> ScriptRecord:
        command = str(script.params["command"])
        if command != PROBE.target:
            self.ran.append((name, command))
            problem = self.fails.get(name, "")
            return {"kind": "probe", "exit_code": 1 if problem else 0, "text": problem}
        is_up = self.loops or self._measure_age(name) < self.dies_after
        is_bad = name in self.sick or (not is_up and (name, self.versions[name]) in self.bad)
        return {"kind": "probe", "exit_code": 1 if is_bad else 0, "text": "the application is down" if is_bad else ""}

    def _measure_age(self, name: str) -> float:
        now = self.fleet.clock.now()
        return (now - self._changed_at.get(name, now)).total_seconds()

    def _list_runs(self, name: str) -> list[ScriptRecord]:
        is_looping = self.loops and (name, self.versions[name]) in self.bad
        restarts = int(self._measure_age(name) // 20) if is_looping else 0
        run = {"kind": "run", "name": "app.service", "run": f"{self.versions[name]}-{restarts}", "restarts": restarts}
        return [{**run, "age": 9.0, "again": True, "between": False}]

    def _follow(self, name: str, order: ProviderOrder) -> None:
        """Let the machine do what its hypervisor was ordered."""
        machine = self.fleet.machines[name]
        self._changed_at[name] = self.fleet.clock.now()
        if order.act in {ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK, ProviderAct.START}:
            machine.locked_by, machine.lock_holder = None, ""  # the lock is on the disk
            machine.world.is_unread = order.act is ProviderAct.REPLACE_OS_DISK  # a new disk has no package lists
            if name in self.on and order.act is not ProviderAct.START:
                is_new = order.act is ProviderAct.REPLACE_OS_DISK
                self.on[name].versions = dict(self.brings if is_new else self.had)
            machine.begin_boot()
            machine.cut(20)
        provided = self.hypervisor.machines[name]
        machine.is_off = provided.power is not PowerState.RUNNING or (name, self.versions[name]) in self.dead

    @property
    def versions(self) -> dict[str, str]:
        """The version of the OS disk of each machine."""
        return {name: machine.os_disks[0].image for name, machine in self.hypervisor.machines.items()}

    def orders_of(self, name: str) -> list[ProviderAct]:
        """The orders for a machine that reached the hypervisor."""
        return [given.order.act for given in self.hypervisor.orders if given.machine == name]

    def broken(self) -> list[str]:
        """What no run may ever leave behind."""
        faults = []
        for name, machine in self.hypervisor.machines.items():
            if len(machine.os_disks) != 1:
                faults.append(f"{name} has {len(machine.os_disks)} OS disks")
            if machine.power is not PowerState.RUNNING:
                faults.append(f"{name} is {machine.power}")
            data = [disk.source for disk in machine.disks if disk.role is DiskRole.DATA]
            if data != [f"{name}-data"] or self.hypervisor.contents[f"{name}-data"] != "data":
                faults.append(f"{name} has lost its data disk")
            if len(machine.kept_disks) > 1:
                faults.append(f"{name} has {len(machine.kept_disks)} kept disks")
        return faults

    def ports(self) -> Ports:
        def find(name: str, wanted: str) -> ComponentOrder:
            assert name == self.group.name
            return ComponentOrder(self.group, wanted, self.tries, enrolled=dict.fromkeys(self.versions, self.enrolled))

        return replace(
            self.fleet.ports(),
            list_components=lambda _machine: (*self.components, self.group),
            find_component_order=find,
            open_provider=self.hypervisor.open,
        )

    def request(self, **fields: Any) -> PatchRequest:
        options: dict[str, Any] = {
            "window": WindowRequest(minutes=600),
            "waves": WavesRequest(percent=self.group.limits.batch, round_down=True, at_once=1),
            "reboot": "Never",
            "settle_seconds": 0,
            "come_back_seconds": 0,
            "assess_at_once": 1,
            **fields,
        }
        return PatchRequest(scope="*", component=self.group.name, **options)

    def upgrade(self, **fields: Any) -> RunReport:
        return FleetRun(self.request(**fields), self.ports(), LocalRunner(), run_id=RUN).execute()
