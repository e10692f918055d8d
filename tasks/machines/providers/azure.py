"""Virtual machines of Azure, and instances of scale sets: snapshots of their OS disks, by Azure Resource Manager.

Experimental: it was never run on Azure. Answers that Azure gave to others play it in the tests.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

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
from tasks.machines.providers.azure_login import LOGIN, MANAGEMENT, METADATA, AzureLogin
from tasks.machines.providers.http_api import HttpApi, NotThere, Reply, pick
from tasks.machines.providers.polling import SNAPSHOT_ACTS, poll, read_secret
from tasks.machines.providers.registry import ProviderPorts
from tasks.machines.providers.texts import parse_consistency, parse_time, shorten

Item = dict[str, Any]
"""A part of an answer."""
DISKS: Final = {"api-version": "2024-03-02"}
"""The version of the API for snapshots."""
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

    def change(self, method: str, path: str, deadline: Deadline, body: Item | None = None) -> None:
        """Send a change of a snapshot, and wait for the end of its operation, if Azure names one."""
        address = self.send(method, path, deadline, DISKS, body).headers.get("azure-asyncoperation", "")
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

    def make(self, path: str, body: Item, deadline: Deadline) -> None:
        """Make a snapshot, unless it is there, and wait until it is complete."""
        name = path.rpartition("/")[2]
        try:
            self.send("GET", path, deadline, DISKS)
        except NotThere:
            self.change("PUT", path, deadline, body)

        def find_end() -> Item | None:
            try:
                document = self.send("GET", path, deadline, DISKS).document
            except NotThere:  # not visible yet
                return None
            is_bad = pick(document, "properties.provisioningState", str) in ENDS - {"Succeeded"}
            return document if is_bad or is_complete(document) else None

        if not is_complete(poll(self._clock, deadline, find_end, message=f"Azure has not completed {name}")):
            raise ProviderError(f"Azure could not complete {name}", hint="Delete it at Azure.")

    def list_all(self, path: str, deadline: Deadline) -> list[Item]:
        """Return all snapshots of a group."""
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
    """Return whether a snapshot can be used. One that is being deleted can be read for a while."""
    values = pick(item, "properties", dict)
    return values.get("provisioningState") == "Succeeded" and values.get("completionPercent", 100) == 100


MACHINE_TAG: Final = "fleetpatch-machine"
SNAPSHOT_TAG: Final = "fleetpatch-snapshot"
CONSISTENCY_TAG: Final = "fleetpatch-consistency"

_COMPUTE: Final = {"api-version": "2024-07-01"}
_GROUP: Final = re.compile(
    r"(/subscriptions/[^/]+/resourceGroups/[^/]+)(/providers/Microsoft\.Compute/virtualMachineScaleSets/[^/]+)?",
    re.IGNORECASE,
)
_POWER: Final = {"running": PowerState.RUNNING, "stopped": PowerState.STOPPED, "deallocated": PowerState.STOPPED}


class AzureProvider:
    """The MachineProvider of one virtual machine, or of one instance of a scale set."""

    kind, acts = "azure", SNAPSHOT_ACTS

    def __init__(self, azure: AzureResources, resource: str, machine_id: str, clock: Clock) -> None:
        self._azure, self._id, self._clock = azure, machine_id, clock
        match = _GROUP.fullmatch(resource)
        if match is None:
            hint = "Write /subscriptions/ID/resourceGroups/NAME, or the id of a scale set."
            raise ProviderError(f"{resource!r} is neither a resource group nor a scale set of Azure", hint=hint)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", machine_id):
            raise ProviderError(f"{machine_id!r} is no name of a machine of Azure", hint="Correct `provider`.")
        self._compute = f"{match[1]}/providers/Microsoft.Compute"
        self._vm = f"{resource if match[2] is not None else self._compute}/virtualMachines/{machine_id}"

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
        sources = [(item["properties"].get("creationData") or {}).get("sourceResourceId", "") for item in complete]
        snapshots = [
            item
            for item, source in zip(complete, sources, strict=True)
            if _read_tags(item).get(MACHINE_TAG) == vm_id or (os_disk and str(source).lower() == os_disk.lower())
        ]
        disks = (ProvidedDisk("os", DiskRole.OS, os_disk), *data_disks)
        identity = HardwareIdentity(uuid=vm_id.lower())
        return ProvidedMachine(
            self._id, _read_power(vm), disks, tuple(map(_build_snapshot, snapshots)), identity=identity
        )

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act is ProviderAct.TAKE_SNAPSHOT:
            return self._take_snapshot(order, deadline)
        if order.act is not ProviderAct.DELETE_SNAPSHOT:
            raise ProviderError(f"azure can't be asked to {order.act}")
        if order.id.startswith("/"):
            raise ProviderError(f"{order.id} was not taken by fleetpatch", hint="Delete it at Azure.")
        with suppress(NotThere):
            self._azure.change("DELETE", self._name_snapshot(order), deadline)
        return ""

    def _take_snapshot(self, order: ProviderOrder, deadline: Deadline) -> str:
        vm = self._read_vm(deadline)
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

    def _name_snapshot(self, order: ProviderOrder) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", order.id):
            raise ProviderError(f"Azure can't call a snapshot {order.id!r}")
        digest = hashlib.sha256(self._vm.lower().encode()).hexdigest()[:10]
        return f"{self._compute}/snapshots/{order.id}-{digest}"

    def _read_vm(self, deadline: Deadline) -> Item:
        document = self._azure.send("GET", self._vm, deadline, {**_COMPUTE, "$expand": "instanceView"}).document
        return document if isinstance(document, dict) else {}


def _read_power(vm: Item) -> PowerState:
    statuses = pick(vm, "properties", dict).get("instanceView", {}).get("statuses") or []
    codes = [str(status.get("code", "")) for status in statuses]
    words = (code.removeprefix("PowerState/") for code in codes if code.startswith("PowerState/"))
    return _POWER.get(next(words, ""), PowerState.UNKNOWN)


def _find_os_disk(vm: Item) -> str:
    disk = pick(vm, "properties.storageProfile.osDisk", dict)
    return str((disk.get("managedDisk") or {}).get("id", ""))


def _read_tags(item: Item) -> dict[str, str]:
    return dict(item.get("tags") or {})


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
    api = HttpApi(settings.name, MANAGEMENT, ports.clock)
    secret = read_secret(settings, ports) if settings.credential else None
    login_api = HttpApi(settings.name, LOGIN if secret is not None else METADATA, ports.clock, is_local=secret is None)
    if secret is not None:
        login_api.hidden.append(secret)
    login = AzureLogin(login_api, ports.clock, tenant, client, secret)
    azure = AzureResources(api, login, ports.clock)
    return AzureProvider(azure, settings.resource, find_provider_machine_id(machine), ports.clock)
