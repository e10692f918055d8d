"""Virtual machines of vSphere 8 (Update 1 and later): snapshots, by the Virtual Infrastructure JSON API of vCenter.

Experimental: it was never run on vSphere, and no recorded answers of it are known. A stand-in plays it in the tests.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from inventory.credentials import Secret
from inventory.machine import Machine
from inventory.machine_providers import ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    HardwareIdentity,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
)
from tasks.machines.providers.http_api import HttpApi, pick
from tasks.machines.providers.polling import SNAPSHOT_ACTS, poll, read_secret
from tasks.machines.providers.registry import ProviderPorts
from tasks.machines.providers.texts import find_described, parse_time, read_description, shorten, write_description

Item = dict[str, Any]
"""A part of an answer."""

_LOGOUT_SECONDS: Final = 10.0
_ROOT: Final = "/sdk/vim25/8.0.1.0"
_POWER: Final = {"poweredOn": PowerState.RUNNING, "poweredOff": PowerState.STOPPED, "suspended": PowerState.PAUSED}
_FIRST_DISK_KEY: Final = 2000
"""The key of the first disk of the first SCSI controller, from which machines boot unless told otherwise."""
_BOOT_DISK: Final = "VirtualMachineBootOptionsBootableDiskDevice"


class VsphereProvider:
    """The MachineProvider of one virtual machine."""

    kind, acts = "vsphere", SNAPSHOT_ACTS

    def __init__(self, api: HttpApi, settings: ProviderSettings, secret: Secret, machine_id: str, clock: Clock) -> None:
        self._api, self._secret, self._id, self._clock = api, secret, machine_id, clock
        self._user = settings.user
        self._session: Secret | None = None

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine, its disks and its snapshots."""
        with self._log_in(deadline):
            config = self._get(self._path("config"), deadline)
            disks = _read_disks(config)
            inside = tuple(disk.id for disk, is_independent in disks if not is_independent)
            snapshots = tuple(_build_snapshot(item, inside) for item in self._list_snapshots(deadline))
            power = _POWER.get(self._read_power(deadline), PowerState.UNKNOWN)
        disks_alone, identity = tuple(disk for disk, _ in disks), _read_identity(config)
        return ProvidedMachine(self._id, power, disks_alone, snapshots, identity=identity)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act not in self.acts:
            raise ProviderError(f"vsphere can't be asked to {order.act}")
        with self._log_in(deadline):
            # an order whose answer was lost may still be carried out
            is_idle = lambda: None if self._has_task(deadline) else True  # noqa: E731
            poll(self._clock, deadline, is_idle, message=f"vSphere works on {self._id}")
            is_taken = order.act is ProviderAct.TAKE_SNAPSHOT
            return (self._take_snapshot if is_taken else self._delete_snapshot)(order, deadline)

    def _take_snapshot(self, order: ProviderOrder, deadline: Deadline) -> str:
        if find_described(self._list_snapshots(deadline), order.id) is not None:
            return ""
        runs = self._read_power(deadline) == "poweredOn"
        has_tools = self._get(self._path("guest"), deadline).get("toolsRunningStatus") == "guestToolsRunning"
        quiesce = order.is_quiesced and runs and has_tools
        consistency = Consistency.FILE_SYSTEM if quiesce else Consistency.CRASH if runs else Consistency.OFFLINE
        description = write_description(order.id, consistency)
        body = {"name": order.id, "description": description, "memory": False, "quiesce": quiesce}
        self._run(self._path("CreateSnapshot_Task"), deadline, body)
        if order.is_quiesced and consistency is Consistency.CRASH:
            return "its file systems were not frozen: VMware Tools do not run"
        return ""

    def _delete_snapshot(self, order: ProviderOrder, deadline: Deadline) -> str:
        snapshots = self._list_snapshots(deadline)
        if (snapshot := find_described(snapshots, order.id)) is not None:
            place = f"{_ROOT}/VirtualMachineSnapshot/{pick(snapshot, 'snapshot.value', str)}/RemoveSnapshot_Task"
            self._run(place, deadline, {"removeChildren": False, "consolidate": True})
        elif any(_name_foreign(item) == order.id for item in snapshots):
            raise ProviderError(f"{order.id} was not taken by fleetpatch", hint="Delete it at vSphere.")
        return ""

    def _list_snapshots(self, deadline: Deadline) -> list[Item]:
        """Return all snapshots of the tree."""
        document = self._send("GET", self._path("snapshot"), deadline)
        if document is None:  # it has none
            return []
        waiting, items = list(pick(document, "rootSnapshotList", list)), []
        while waiting:
            item = waiting.pop()
            items.append(item)
            waiting += item.get("childSnapshotList") or []
        return items

    def _read_power(self, deadline: Deadline) -> str:
        return pick(self._get(self._path("runtime"), deadline), "powerState", str)

    def _run(self, path: str, deadline: Deadline, body: Item) -> None:
        """Start a task, and wait for its end."""
        task = pick(self._send("POST", path, deadline, body), "value", str)

        def find_end() -> Item | None:
            info = self._get(f"{_ROOT}/Task/{task}/info", deadline)
            return info if pick(info, "state", str) in {"success", "error"} else None

        end = poll(self._clock, deadline, find_end, message=f"the task of vSphere for {self._id} has not ended: {task}")
        if end["state"] == "error":
            message = str((end.get("error") or {}).get("localizedMessage", "it does not say why"))
            raise ProviderError(f"vSphere could not carry it out for {self._id}: {shorten(message)}")

    def _has_task(self, deadline: Deadline) -> bool:
        """Return whether a task works on the machine."""
        tasks = self._send("GET", self._path("recentTask"), deadline) or []
        infos = [self._get(f"{_ROOT}/Task/{pick(task, 'value', str)}/info", deadline) for task in tasks]
        return any(info.get("state") in {"queued", "running"} for info in infos)

    # ---------------------------------------------------------------- the API

    def _path(self, name: str) -> str:
        return f"{_ROOT}/VirtualMachine/{self._id}/{name}"

    @contextmanager
    def _log_in(self, deadline: Deadline) -> Iterator[None]:
        """Open a session, and end it: vCenter has few of them."""
        place = f"{_ROOT}/SessionManager/SessionManager"
        body = {"userName": self._user, "password": self._secret.reveal()}
        reply = self._api.send("POST", f"{place}/Login", deadline=deadline, headers={}, body=body)
        session = Secret(reply.headers.get("vmware-api-session-id", ""))
        if not session.reveal():
            raise ProviderError(f"{self._api.name} gave no session", hint="It must be vCenter 8.0 Update 1 or later.")
        self._session = session
        self._api.hidden[1:] = [session]
        try:
            yield
        finally:
            with suppress(ProviderError):  # a session ends by itself when nobody uses it
                self._send("POST", f"{place}/Logout", Deadline.after(self._clock, _LOGOUT_SECONDS))
            self._session = None

    def _send(self, method: str, path: str, deadline: Deadline, body: Item | None = None) -> Any:  # noqa: ANN401 - JSON
        headers = {"vmware-api-session-id": self._session.reveal()} if self._session is not None else {}
        return self._api.send(method, path, deadline=deadline, headers=headers, body=body).document

    def _get(self, path: str, deadline: Deadline) -> Item:
        document = self._send("GET", path, deadline)
        if not isinstance(document, dict):
            raise ProviderError(f"the answer of the provider can't be understood: {path} is no object")
        return document


def _read_disks(config: Item) -> list[tuple[ProvidedDisk, bool]]:
    """Return the disks of a configuration, and whether each is independent of snapshots."""
    devices = [item for item in pick(config, "hardware.device", list) if item.get("_typeName") == "VirtualDisk"]
    order = (config.get("bootOptions") or {}).get("bootOrder") or []
    chosen = [item.get("deviceKey") for item in order if item.get("_typeName") == _BOOT_DISK]
    keys = [pick(device, "key", int) for device in devices]
    boot = chosen[0] if chosen else keys[0] if len(keys) == 1 else _FIRST_DISK_KEY
    rest = DiskRole.DATA if boot in keys else DiskRole.UNKNOWN
    disks = []
    for key, device in zip(keys, devices, strict=True):
        backing = pick(device, "backing", dict)
        role = DiskRole.OS if key == boot else rest
        disk = ProvidedDisk(str(key), role, str(backing.get("fileName", "")))
        disks.append((disk, str(backing.get("diskMode", "")).startswith("independent")))
    return disks


def _read_identity(config: Item) -> HardwareIdentity:
    cards = (item.get("macAddress") for item in pick(config, "hardware.device", list))
    return HardwareIdentity(str(config.get("uuid") or "").lower(), macs=tuple(str(mac).lower() for mac in cards if mac))


def _name_foreign(item: Item) -> str:
    return pick(item, "snapshot.value", str)


def _build_snapshot(item: Item, disks: tuple[str, ...]) -> Snapshot:
    label = read_description(item.get("description"))
    consistency = label[1] if label is not None else Consistency.UNKNOWN
    snapshot_id = label[0] if label is not None else _name_foreign(item)
    return Snapshot(snapshot_id, parse_time(item.get("createTime")), disks, consistency)


def open_vsphere(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> VsphereProvider:
    """Return the provider of a virtual machine.

    Raises:
        ProviderError: the inventory names no machine as vCenter does, or the credential is none.
    """
    machine_id = find_provider_machine_id(machine)
    if not re.fullmatch(r"vm-\d+", machine_id):
        hint = f"Write `provider: {settings.name}/vm-…`. The address of the machine in vCenter's client has it."
        raise ProviderError(f"{machine.name}: {machine_id!r} is not an id of vCenter", hint=hint)
    # vCenter answers 500 with a fault to what it refuses.
    api = HttpApi(settings.name, settings.url, settings.ca_file, ports.clock, refusals=frozenset({500}))
    secret = read_secret(settings, ports)
    api.hidden.append(secret)
    return VsphereProvider(api, settings, secret, machine_id, ports.clock)
