"""Virtual machines of Proxmox VE: snapshots, by its API and an API token.

Experimental: it was never run on Proxmox, and no recorded answers of it are known. A stand-in plays it in the tests.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from inventory.credentials import Secret
from inventory.machine import Machine
from inventory.machine_providers import ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError, ProviderUnavailable
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
from tasks.machines.providers.texts import find_described, read_description, shorten, write_description

Item = dict[str, Any]
"""A part of an answer."""

_DISK: Final = re.compile(r"(?:scsi|virtio|sata|ide)\d+")
_MAC: Final = re.compile(r"(?:^|[=,])((?:[0-9a-f]{2}:){5}[0-9a-f]{2})(?:,|$)", re.IGNORECASE)
_UUID: Final = re.compile(r"(?:^|,)uuid=([^,]+)")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")
"""How Proxmox lets a snapshot be called."""
_FREEZE_FAILED: Final = re.compile(r"fsfreeze.*(problem|error|fail|timeout)", re.IGNORECASE)


class ProxmoxProvider:
    """The MachineProvider of one virtual machine."""

    kind, acts = "proxmox", SNAPSHOT_ACTS

    def __init__(self, api: HttpApi, settings: ProviderSettings, secret: Secret, machine_id: str, clock: Clock) -> None:
        self._api, self._secret, self._id, self._clock = api, secret, machine_id, clock
        self._token_id, self._pool = settings.user, settings.resource

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine, its disks, and the snapshots that are complete."""
        node = self._find_node(deadline)
        config = self._get(node, "/config", deadline, current="1")
        disks = _read_disks(config)
        ids = tuple(disk.id for disk in disks)
        complete = (item for item in self._list_snapshots(node, deadline) if not item.get("snapstate"))
        snapshots = tuple(_build_snapshot(item, ids) for item in complete)
        power = _read_power(self._get(node, "/status/current", deadline))
        return ProvidedMachine(self._id, power, disks, snapshots, identity=_read_identity(config))

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act not in self.acts:
            raise ProviderError(f"proxmox can't be asked to {order.act}")
        node = self._find_node(deadline)
        # An order whose answer was lost may still be carried out: Proxmox locks the machine for that time.
        is_free = lambda: None if self._get(node, "/status/current", deadline).get("lock") else True  # noqa: E731
        poll(self._clock, deadline, is_free, message=f"Proxmox has the machine {self._id} locked")
        is_taken = order.act is ProviderAct.TAKE_SNAPSHOT
        return (self._take_snapshot if is_taken else self._delete_snapshot)(order, node, deadline)

    def _take_snapshot(self, order: ProviderOrder, node: str, deadline: Deadline) -> str:
        name = order.id
        if not _NAME.fullmatch(name):
            raise ProviderError(f"Proxmox can't call a snapshot {name!r}")
        existing = find_described(self._list_snapshots(node, deadline), order.id)
        if existing is not None and existing.get("snapstate"):
            message = f"the snapshot {order.id} of {self._id} was not completed"
            raise ProviderError(message, hint="Delete it at Proxmox.")
        if existing is not None:
            return ""
        power = _read_power(self._get(node, "/status/current", deadline))
        consistency = Consistency.OFFLINE if power is PowerState.STOPPED else Consistency.CRASH
        if order.is_quiesced and power is PowerState.RUNNING and self._has_agent(node, deadline):
            consistency = Consistency.FILE_SYSTEM  # Proxmox freezes by itself if the agent answers
        unsure = write_description(order.id, Consistency.UNKNOWN)
        log = self._run(node, "POST", "/snapshot", deadline, {"snapname": name, "vmstate": "0", "description": unsure})
        if consistency is Consistency.FILE_SYSTEM and any(map(_FREEZE_FAILED.search, log)):
            consistency = Consistency.CRASH
        description = {"description": write_description(order.id, consistency)}
        self._send("PUT", self._path(node, f"/snapshot/{name}/config"), deadline, form=description)
        wanted_more = order.is_quiesced and consistency is Consistency.CRASH
        return "its file systems were not frozen: the guest agent did not do it" if wanted_more else ""

    def _delete_snapshot(self, order: ProviderOrder, node: str, deadline: Deadline) -> str:
        snapshots = self._list_snapshots(node, deadline)
        if (snapshot := find_described(snapshots, order.id)) is not None:
            self._run(node, "DELETE", f"/snapshot/{quote(str(snapshot['name']), safe='')}", deadline)
        elif any(item["name"] == order.id for item in snapshots):
            raise ProviderError(f"{order.id} was not taken by fleetpatch", hint="Delete it at Proxmox.")
        return ""

    def _list_snapshots(self, node: str, deadline: Deadline) -> list[Item]:
        items = pick(self._send("GET", self._path(node, "/snapshot"), deadline), "data", list)
        return [item for item in items if pick(item, "name", str) != "current"]  # the state of now

    def _has_agent(self, node: str, deadline: Deadline) -> bool:
        try:
            self._send("POST", self._path(node, "/agent/ping"), deadline)
        except ProviderError:  # it is not switched on, or it does not answer
            return False
        return True

    def _path(self, node: str, path: str) -> str:
        return f"/api2/json/nodes/{quote(node, safe='')}/qemu/{self._id}{path}"

    def _send(self, method: str, path: str, deadline: Deadline, **values: Any) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"PVEAPIToken={self._token_id}={self._secret.reveal()}"}
        try:
            return self._api.send(method, path, deadline=deadline, headers=headers, **values).document
        except ProviderError as error:
            if "status 500" in error.message and "lock" in error.message:  # another task has the machine
                raise ProviderUnavailable(error.message) from error
            raise

    def _get(self, node: str, path: str, deadline: Deadline, **params: str) -> Item:
        return pick(self._send("GET", self._path(node, path), deadline, params=params), "data", dict)

    def _run(self, node: str, method: str, path: str, deadline: Deadline, form: Item | None = None) -> list[str]:
        """Start a task, wait for its end, and return its log."""
        task = pick(self._send(method, self._path(node, path), deadline, form=form), "data", str)
        if not task.startswith("UPID:"):
            raise ProviderError("the answer of the provider can't be understood: it names no task")
        place = f"/api2/json/nodes/{quote(node, safe='')}/tasks/{quote(task, safe='')}"

        def find_end() -> str | None:
            answer = self._send("GET", f"{place}/status", deadline)
            return pick(answer, "data.exitstatus", str) if pick(answer, "data.status", str) == "stopped" else None

        end = poll(self._clock, deadline, find_end, message=f"the task of Proxmox for {self._id} has not ended: {task}")
        if end != "OK" and not end.startswith("WARNINGS"):
            raise ProviderError(f"Proxmox could not carry it out for {self._id}: {shorten(end)}")
        lines = pick(self._send("GET", f"{place}/log", deadline, params={"limit": "500"}), "data", list)
        return [str(line.get("t", "")) for line in lines if isinstance(line, dict)]

    def _find_node(self, deadline: Deadline) -> str:
        """Return the node that has the machine now. Machines migrate."""
        items = pick(self._send("GET", "/api2/json/cluster/resources", deadline, params={"type": "vm"}), "data", list)
        machines = [item for item in items if isinstance(item, dict) and str(item.get("vmid")) == self._id]
        if len(machines) != 1 or machines[0].get("type") != "qemu" or machines[0].get("template"):
            hint = "Correct `provider` in the inventory, or let the token see it (VM.Audit)."
            raise ProviderError(f"Proxmox has no virtual machine {self._id} that fleetpatch may see", hint=hint)
        if self._pool and machines[0].get("pool") != self._pool:
            raise ProviderError(f"the machine {self._id} is not in the pool {self._pool}", hint="Correct `resource`.")
        return pick(machines[0], "node", str)


def _read_power(status: Item) -> PowerState:
    words = str(status.get("status")), str(status.get("qmpstatus"))
    states = {("running", "running"): PowerState.RUNNING, ("running", "paused"): PowerState.PAUSED}
    return PowerState.STOPPED if words[0] == "stopped" else states.get(words, PowerState.UNKNOWN)


def _read_identity(config: Item) -> HardwareIdentity:
    uuid = _UUID.search(str(config.get("smbios1", "")))
    cards = (_MAC.search(str(config[key])) for key in sorted(config) if re.fullmatch(r"net\d+", key))
    return HardwareIdentity(uuid[1].lower() if uuid else "", macs=tuple(card[1].lower() for card in cards if card))


def _read_disks(config: Item) -> tuple[ProvidedDisk, ...]:
    """Return the disks of a configuration. Without an order of boot it is not known which one has the system."""
    drives = {key: str(value) for key, value in config.items() if _DISK.fullmatch(key)}
    disks = {key: drive.partition(",")[0] for key, drive in drives.items() if "media=cdrom" not in drive}
    order = re.search(r"(?:^|,)order=([^,]+)", str(config.get("boot", "")))
    candidates = order[1].split(";") if order else [str(config.get("bootdisk", ""))]
    first = next((key for key in candidates if key in disks), "")
    rest = DiskRole.DATA if first else DiskRole.UNKNOWN
    return tuple(ProvidedDisk(key, DiskRole.OS if key == first else rest, disks[key]) for key in sorted(disks))


def _build_snapshot(item: Item, disks: tuple[str, ...]) -> Snapshot:
    label = read_description(item.get("description"))
    snapshot_id, consistency = label or (str(item["name"]), Consistency.UNKNOWN)
    taken = item.get("snaptime")
    taken_at = datetime.fromtimestamp(taken, UTC) if isinstance(taken, int) else None
    return Snapshot(snapshot_id, taken_at, disks, consistency)


def open_proxmox(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> ProxmoxProvider:
    """Return the provider of a virtual machine.

    Raises:
        ProviderError: the inventory names no VMID, or the login is no API token.
    """
    machine_id = find_provider_machine_id(machine)
    if not re.fullmatch(r"[1-9]\d{2,8}", machine_id):
        hint = f"Write `provider: {settings.name}/VMID` in the inventory, such as {settings.name}/100."
        raise ProviderError(f"{machine.name}: {machine_id!r} is not a VMID", hint=hint)
    if "!" not in settings.user:
        hint = "Make an API token at Proxmox, and write `user: USER@REALM!TOKEN`."
        raise ProviderError(f"{settings.name}: {settings.user!r} is not the id of an API token", hint=hint)
    # Proxmox answers 500 to what it refuses. 595 and the like are its own nodes that do not answer.
    api = HttpApi(settings.name, settings.url, settings.ca_file, ports.clock, refusals=frozenset({500}))
    secret = read_secret(settings, ports)
    api.hidden.append(secret)
    return ProxmoxProvider(api, settings, secret, machine_id, ports.clock)
