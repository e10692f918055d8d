"""Virtual machines of Azure, and instances of scale sets, by the REST API of Azure Resource Manager.

A revert makes a disk of the snapshot and exchanges the OS disk of the machine. Azure does not allow that for instances
of a set with uniform orchestration. A new OS disk from an image is not offered: Azure does not provision a disk that
was exchanged, and replaces those of sets itself.
It was never run on Azure: recorded answers play it in the tests.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from inventory.machine import Machine
from inventory.machine_providers import ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
)
from tasks.machines.providers.azure_login import LOGIN, MANAGEMENT, METADATA, AzureLogin
from tasks.machines.providers.http_api import HttpApi, NotThere, Reply, pick
from tasks.machines.providers.polling import poll, read_secret, wait_until
from tasks.machines.providers.registry import ProviderPorts
from tasks.machines.providers.texts import parse_consistency, parse_time, shorten

Item = dict[str, Any]
"""A part of an answer."""
DISKS: Final = {"api-version": "2024-03-02"}
"""The version of the API for disks and snapshots."""
ENDS: Final = frozenset({"Succeeded", "Failed", "Canceled"})
"""The states of provisioning in which Azure changes nothing more by itself."""


class AzureResources:
    """The API of Azure Resource Manager. Every method raises ProviderError or ProviderUnavailable."""

    def __init__(self, api: HttpApi, login: AzureLogin, clock: Clock) -> None:
        self._api, self._login, self._clock = api, login, clock

    def send(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, str] | None,
        body: Any = None,  # noqa: ANN401 - JSON
    ) -> Reply:
        """Send a request with a token."""
        token = self._login.read_token(deadline)
        self._api.hidden[:] = [token]
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return self._api.send(method, path, deadline=deadline, headers=headers, params=params, body=body)

    def change(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, str],
        body: Any = None,  # noqa: ANN401 - JSON
    ) -> None:
        """Send a change, and wait for the end of its operation, if Azure names one."""
        address = self.send(method, path, deadline, params, body).headers.get("azure-asyncoperation", "")
        if not address:
            return
        place = self._take_path(address)

        def find_end() -> Item | None:
            document = self.send("GET", place, deadline, None).document
            return document if pick(document, "status", str) in ENDS else None

        name = path.rpartition("/")[2]
        end = poll(self._clock, deadline, find_end, message=f"the operation of Azure for {name} has not ended")
        if end["status"] != "Succeeded":
            error = end.get("error") or {}
            message = f"{end['status']}: {error.get('code', '')} {error.get('message', '')}"
            raise ProviderError(f"Azure could not carry out {method} {name}: {shorten(message)}")

    def make(self, path: str, body: Item, deadline: Deadline) -> Item:
        """Make a snapshot or a disk, unless it is there, and return it when it is complete."""
        name = path.rpartition("/")[2]
        try:
            self.send("GET", path, deadline, DISKS)
        except NotThere:
            self.change("PUT", path, deadline, DISKS, body)

        def find_end() -> Item | None:
            try:
                document = self.send("GET", path, deadline, DISKS).document
            except NotThere:  # not visible yet
                return None
            is_bad = pick(document, "properties.provisioningState", str) in ENDS - {"Succeeded"}
            return document if is_bad or is_complete(document) else None

        item = poll(self._clock, deadline, find_end, message=f"Azure has not completed {name}")
        if not is_complete(item):
            raise ProviderError(f"Azure could not complete {name}", hint="Delete it at Azure.")
        return item

    def delete(self, path: str, deadline: Deadline) -> None:
        """Delete a snapshot or a disk, if it is there."""
        try:
            self.change("DELETE", path, deadline, DISKS)
        except NotThere:
            return

    def list_all(self, path: str, deadline: Deadline) -> list[Item]:
        """Return all snapshots or disks of a group."""
        items: list[Item] = []
        params = DISKS
        while path:
            document = self.send("GET", path, deadline, params).document
            items += pick(document, "value", list)
            following = document.get("nextLink") or ""
            path, params = self._take_path(following) if following else "", {}
        return items

    def _take_path(self, address: str) -> str:
        """Return the path of an address that Azure names. The token goes to no other host."""
        if not address.startswith(f"{self._api.url}/"):
            raise ProviderError("Azure names an address on another host", hint="Ask Azure how the operation ended.")
        return address.removeprefix(self._api.url)


def is_complete(item: Item) -> bool:
    """Return whether a snapshot or a disk can be used."""
    values = pick(item, "properties", dict)
    return values.get("provisioningState") == "Succeeded" and values.get("completionPercent", 100) == 100


MACHINE_TAG: Final = "fleetpatch-machine"
SNAPSHOT_TAG: Final = "fleetpatch-snapshot"
CONSISTENCY_TAG: Final = "fleetpatch-consistency"
REVERTED_TAG: Final = "fleetpatch-reverted-to"
"""On a disk that a revert has made: the id of the snapshot."""
REPLACED_TAG: Final = "fleetpatch-replaced-by"
"""On a disk that a revert has replaced: the id of the snapshot."""

_COMPUTE: Final = {"api-version": "2024-07-01"}
_GROUP: Final = re.compile(
    r"(/subscriptions/[^/]+/resourceGroups/[^/]+)(/providers/Microsoft\.Compute/virtualMachineScaleSets/[^/]+)?",
    re.IGNORECASE,
)
_POWER: Final = {"running": PowerState.RUNNING, "stopped": PowerState.STOPPED, "deallocated": PowerState.STOPPED}
_RUNNING: Final = frozenset({"running"})
_DEALLOCATED: Final = frozenset({"deallocated"})
_STOPPED: Final = _DEALLOCATED | {"stopped"}
_COPIED: Final = ("encryption", "networkAccessPolicy", "publicNetworkAccess", "diskAccessId", "diskSizeGB")
"""What a disk has from the disk that it replaces."""


class AzureProvider:
    """The MachineProvider of one virtual machine, or of one instance of a scale set."""

    kind = "azure"

    def __init__(self, azure: AzureResources, resource: str, machine_id: str, clock: Clock) -> None:
        self._azure, self._id, self._clock = azure, machine_id, clock
        match = _GROUP.fullmatch(resource)
        if match is None:
            hint = "Write /subscriptions/ID/resourceGroups/NAME, or the id of a scale set."
            raise ProviderError(f"{resource!r} is neither a resource group nor a scale set of Azure", hint=hint)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", machine_id):
            raise ProviderError(f"{machine_id!r} is no name of a machine of Azure", hint="Correct `provider`.")
        self._compute = f"{match[1]}/providers/Microsoft.Compute"
        is_instance = match[2] is not None
        self._vm = f"{resource if is_instance else self._compute}/virtualMachines/{machine_id}"
        self._acts: dict[ProviderAct, Callable[[ProviderOrder, Item, Deadline], str]] = {
            ProviderAct.TAKE_SNAPSHOT: self._take_snapshot,
            ProviderAct.DELETE_SNAPSHOT: self._delete_snapshot,
            ProviderAct.START: lambda _order, _vm, deadline: self._set_power("start", _RUNNING, deadline),
            ProviderAct.STOP: lambda _order, _vm, deadline: self._set_power("powerOff", _STOPPED, deadline),
            ProviderAct.POWER_OFF: lambda _order, _vm, deadline: self._set_power(
                "powerOff", _STOPPED, deadline, {"skipShutdown": "true"}
            ),
        } | ({} if is_instance else {ProviderAct.REVERT: self._revert})
        self.acts = frozenset(self._acts)

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine, its disks, and the complete snapshots of its OS disk."""
        vm = self._read_vm(deadline)
        profile = pick(vm, "properties.storageProfile", dict)
        os_disk = _find_os_disk(vm)
        data_disks = [
            ProvidedDisk(f"lun{item.get('lun')}", DiskRole.DATA, str((item.get("managedDisk") or {}).get("id", "")))
            for item in profile.get("dataDisks") or []
        ]
        vm_id = pick(vm, "properties.vmId", str)
        complete = [item for item in self._azure.list_all(f"{self._compute}/snapshots", deadline) if is_complete(item)]
        snapshots = [
            item
            for item in complete
            if _read_tags(item).get(MACHINE_TAG) == vm_id or (os_disk and _find_source(item) == os_disk.lower())
        ]
        disks = (ProvidedDisk("os", DiskRole.OS, os_disk), *data_disks)
        return ProvidedMachine(self._id, _read_power(vm), disks, tuple(map(_build_snapshot, snapshots)))

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act not in self._acts:
            raise ProviderError(f"azure can't be asked to {order.act} for {self._id}")

        def read_settled() -> Item | None:  # an order whose answer was lost may still be carried out
            vm = self._read_vm(deadline)
            return vm if pick(vm, "properties.provisioningState", str) in ENDS else None

        vm = poll(self._clock, deadline, read_settled, message=f"Azure is still changing {self._id}")
        return self._acts[order.act](order, vm, deadline)

    # ---------------------------------------------------------------- snapshots

    def _take_snapshot(self, order: ProviderOrder, vm: Item, deadline: Deadline) -> str:
        source = _find_os_disk(vm)
        if not source:
            raise ProviderError(f"the OS disk of {self._id} is no managed disk, so Azure takes no snapshot of it")
        states = {PowerState.RUNNING: Consistency.CRASH, PowerState.STOPPED: Consistency.OFFLINE}
        consistency = states.get(_read_power(vm), Consistency.UNKNOWN)
        tags = {
            MACHINE_TAG: pick(vm, "properties.vmId", str),
            SNAPSHOT_TAG: order.id,
            CONSISTENCY_TAG: str(consistency),
        }
        values = {"incremental": True, "creationData": {"createOption": "Copy", "sourceResourceId": source}}
        body = {"location": pick(vm, "location", str), "tags": tags, "properties": values}
        self._azure.make(self._name_snapshot(order), body, deadline)
        return "azure freezes no file systems" if order.is_quiesced and consistency is Consistency.CRASH else ""

    def _revert(self, order: ProviderOrder, vm: Item, deadline: Deadline) -> str:
        if order.with_data_disks:
            raise ProviderError("azure has no snapshots of data disks here", hint="Revert the OS disk alone.")
        try:
            snapshot = self._azure.send("GET", self._name_snapshot(order), deadline, DISKS).document
        except NotThere as error:
            raise ProviderError(f"{self._id} has no snapshot {order.id!r}") from error
        if not is_complete(snapshot):
            raise ProviderError(f"the snapshot {order.id!r} of {self._id} is not complete")
        old_id = _find_os_disk(vm)
        old = self._azure.send("GET", old_id, deadline, DISKS).document
        was_exchanged = _read_tags(old).get(REVERTED_TAG) == order.id and _read_power(vm) is not PowerState.RUNNING
        if not was_exchanged:  # else only the start is missing
            machine = {MACHINE_TAG: pick(vm, "properties.vmId", str)}
            copied = {key: old["properties"][key] for key in _COPIED if key in old.get("properties", {})}
            body = {key: old[key] for key in ("location", "zones") if key in old}
            body["sku"] = {"name": pick(old, "sku.name", str)}
            body["tags"] = machine | {REVERTED_TAG: order.id}
            source = {"createOption": "Copy", "sourceResourceId": pick(snapshot, "id", str)}
            body["properties"] = copied | {"creationData": source}
            path = f"{self._compute}/disks/{order.id}-{_digest(old_id)}"
            new = self._azure.make(path, body, deadline)
            self._azure.change(
                "PATCH", old_id, deadline, DISKS, {"tags": _read_tags(old) | machine | {REPLACED_TAG: order.id}}
            )
            self._set_power("deallocate", _DEALLOCATED, deadline)
            new_id = pick(new, "id", str)
            disk = {"name": pick(new, "name", str), "managedDisk": {"id": new_id}}
            exchange = {"properties": {"storageProfile": {"osDisk": disk}}}
            self._azure.change("PATCH", self._vm, deadline, _COMPUTE, exchange)
            if _find_os_disk(self._read_vm(deadline)).lower() != new_id.lower():
                raise ProviderError(f"Azure did not exchange the OS disk of {self._id}", hint="The new disk is kept.")
        self._set_power("start", _RUNNING, deadline)
        self._delete_replaced(order, vm, deadline)
        return ""

    def _delete_snapshot(self, order: ProviderOrder, vm: Item, deadline: Deadline) -> str:
        if order.id.startswith("/"):
            raise ProviderError(f"{order.id} was not taken by fleetpatch", hint="Delete it at Azure.")
        self._azure.delete(self._name_snapshot(order), deadline)
        self._delete_replaced(order, vm, deadline)
        return ""

    def _delete_replaced(self, order: ProviderOrder, vm: Item, deadline: Deadline) -> None:
        marks = {MACHINE_TAG: pick(vm, "properties.vmId", str), REPLACED_TAG: order.id}
        for disk in self._azure.list_all(f"{self._compute}/disks", deadline):
            is_free = pick(disk, "properties", dict).get("diskState") == "Unattached"
            if is_free and marks.items() <= _read_tags(disk).items():
                self._azure.delete(pick(disk, "id", str), deadline)

    def _name_snapshot(self, order: ProviderOrder) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", order.id):
            raise ProviderError(f"Azure can't call a snapshot {order.id!r}")
        return f"{self._compute}/snapshots/{order.id}-{_digest(self._vm)}"

    # ---------------------------------------------------------------- the API

    def _set_power(
        self, word: str, wanted: frozenset[str], deadline: Deadline, more: Mapping[str, str] = _COMPUTE
    ) -> str:
        if _read_power_word(self._read_vm(deadline)) not in wanted:
            self._azure.change("POST", f"{self._vm}/{word}", deadline, {**_COMPUTE, **more})

        is_wanted = lambda: _read_power_word(self._read_vm(deadline)) in wanted  # noqa: E731
        wait_until(self._clock, deadline, is_wanted, message=f"{self._id} is not {min(wanted)} yet")
        return ""

    def _read_vm(self, deadline: Deadline) -> Item:
        document = self._azure.send("GET", self._vm, deadline, {**_COMPUTE, "$expand": "instanceView"}).document
        return document if isinstance(document, dict) else {}


def _read_power_word(vm: Item) -> str:
    statuses = pick(vm, "properties", dict).get("instanceView", {}).get("statuses") or []
    codes = [str(status.get("code", "")) for status in statuses]
    return next((code.removeprefix("PowerState/") for code in codes if code.startswith("PowerState/")), "")


def _read_power(vm: Item) -> PowerState:
    return _POWER.get(_read_power_word(vm), PowerState.UNKNOWN)


def _find_os_disk(vm: Item) -> str:
    disk = pick(vm, "properties.storageProfile.osDisk", dict)
    return str((disk.get("managedDisk") or {}).get("id", ""))


def _find_source(snapshot: Item) -> str:
    creation = pick(snapshot, "properties", dict).get("creationData") or {}
    return str(creation.get("sourceResourceId", "")).lower()


def _read_tags(item: Item) -> dict[str, str]:
    return dict(item.get("tags") or {})


def _digest(text: str) -> str:
    return hashlib.sha256(text.lower().encode()).hexdigest()[:10]


def _build_snapshot(item: Item) -> Snapshot:
    tags, taken_at = _read_tags(item), parse_time(item["properties"].get("timeCreated"))
    consistency = parse_consistency(tags.get(CONSISTENCY_TAG, ""))
    return Snapshot(tags.get(SNAPSHOT_TAG) or pick(item, "id", str), taken_at, ("os",), consistency)


def open_azure(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> AzureProvider:
    """Return the provider of a virtual machine, or of an instance of a scale set.

    Raises:
        ProviderError: the login is not complete, or the resource is none of Azure's.
    """
    tenant, _, client = settings.user.partition("/")
    if bool(settings.user) != bool(settings.credential) or (settings.user and not (tenant and client)):
        hint = (
            "Write `user: TENANT/APPLICATION` and `credential`, or neither: then the identity of this machine logs in."
        )
        raise ProviderError(f"{settings.name}: the login is not complete", hint=hint)
    api = HttpApi(settings.name, MANAGEMENT, "", ports.clock)
    secret = read_secret(settings, ports) if settings.credential else None
    login_api = HttpApi(
        settings.name, LOGIN if secret is not None else METADATA, "", ports.clock, is_local=secret is None
    )
    if secret is not None:
        login_api.hidden.append(secret)
    login = AzureLogin(login_api, ports.clock, tenant, client, secret)
    azure = AzureResources(api, login, ports.clock)
    return AzureProvider(azure, settings.resource, find_provider_machine_id(machine), ports.clock)
