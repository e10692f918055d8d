"""Virtual machines of Azure, played by a server with the shapes of its REST API."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from inventory.credentials import Secret
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    PowerState,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
)
from tasks.machines.providers.azure import AzureProvider, AzureResources, open_azure
from tasks.machines.providers.azure_login import AzureLogin
from tasks.machines.providers.http_api import HttpApi
from tests.support.fake_clock import FakeClock
from tests.unit.providers.api_server import SECRET, Answer, ApiServer, Asked, build_machine, build_ports, serve

GROUP = "/subscriptions/0000-1111/resourceGroups/web"
COMPUTE = f"{GROUP}/providers/Microsoft.Compute"
SET = f"{COMPUTE}/virtualMachineScaleSets/front"
OS_DISK = f"{COMPUTE}/disks/web1-os"


class Azure:
    """A resource group with one machine. Resources are by their paths in lower case."""

    def __init__(self, vm_path: str) -> None:
        self.vm_path, self.url, self.power = vm_path, "", "running"
        self.operation: dict[str, Any] = {"status": "Succeeded"}
        self.working_looks = 0
        disk = {"location": "westeurope", "zones": ["2"], "sku": {"name": "Premium_LRS"}, "tags": {"owner": "web"}}
        self.disks: dict[str, Any] = {}
        self.snapshots: dict[str, Any] = {}
        encryption = {"type": "EncryptionAtRestWithPlatformKey"}
        for name, state in (("web1-os", "Attached"), ("web1-data", "Attached"), ("stranger", "Unattached")):
            values = {"provisioningState": "Succeeded", "diskState": state, "diskSizeGB": 64, "encryption": encryption}
            path = f"{COMPUTE}/disks/{name}"
            self.disks[path.lower()] = {**disk, "id": path, "name": name, "properties": values}
        self.vm: dict[str, Any] = {
            "id": vm_path,
            "name": "web1",
            "location": "westeurope",
            "properties": {
                "vmId": "aaaa-bbbb",
                "provisioningState": "Succeeded",
                "storageProfile": {
                    "osDisk": {"name": "web1-os", "osType": "Linux", "managedDisk": {"id": OS_DISK}},
                    "dataDisks": [{"lun": 0, "name": "web1-data", "managedDisk": {"id": f"{COMPUTE}/disks/web1-data"}}],
                },
            },
        }

    def answer(self, asked: Asked) -> Answer:
        assert asked.headers["authorization"] == "Bearer token-1"
        if asked.path == "/operations/1":
            return 200, self.operation
        assert asked.query.get("api-version")
        if asked.path == self.vm_path and asked.method == "GET":
            assert asked.query["$expand"] == "instanceView"
            self.working_looks -= 1
            statuses = [{"code": "ProvisioningState/succeeded"}, {"code": f"PowerState/{self.power}"}]
            state = "Updating" if self.working_looks >= 0 else self.vm["properties"]["provisioningState"]
            now = {"provisioningState": state, "instanceView": {"statuses": statuses}}
            return 200, self.vm | {"properties": self.vm["properties"] | now}
        operation = {"Azure-AsyncOperation": f"{self.url}/operations/1?api-version=1"}
        if asked.path == self.vm_path:
            self._exchange(asked.body["properties"]["storageProfile"]["osDisk"])
            return 200, self.vm, operation
        if asked.path.startswith(f"{self.vm_path}/"):
            words = {"start": "running", "powerOff": "stopped", "deallocate": "deallocated"}
            self.power = words[asked.path.rpartition("/")[2]]
            return 202, None, operation
        kind, _, name = asked.path.removeprefix(f"{COMPUTE}/").partition("/")
        resources = self.disks if kind == "disks" else self.snapshots
        return self._answer_of_resource(asked, resources, name, operation)

    def _answer_of_resource(
        self, asked: Asked, resources: dict[str, Any], name: str, operation: dict[str, str]
    ) -> Answer:
        key = asked.path.lower()
        if not name:
            items = list(resources.values())
            if "page" in asked.query:
                return 200, {"value": items[1:]}
            following = f"{self.url}{asked.path}?api-version=2024-03-02&page=2"
            return 200, {"value": items[:1], **({"nextLink": following} if items[1:] else {})}
        if asked.method == "PUT":
            values = asked.body["properties"] | {
                "provisioningState": "Succeeded",
                "timeCreated": "2026-03-10T01:00:00.1234567+00:00",
                "diskState": "Unattached",
            }
            resources[key] = {**asked.body, "id": asked.path, "name": name, "properties": values}
            return 202, resources[key], operation
        if key not in resources:
            return 404, {"error": {"code": "ResourceNotFound", "message": "not found"}}
        if asked.method == "DELETE":
            assert resources[key]["properties"].get("diskState") != "Attached"
            del resources[key]
            return 202, None, operation
        if asked.method == "PATCH":
            resources[key]["tags"] = asked.body["tags"]
        return 200, resources[key]

    def _exchange(self, os_disk: dict[str, Any]) -> None:
        assert self.power == "deallocated"
        profile = self.vm["properties"]["storageProfile"]
        self.disks[profile["osDisk"]["managedDisk"]["id"].lower()]["properties"]["diskState"] = "Unattached"
        self.disks[os_disk["managedDisk"]["id"].lower()]["properties"]["diskState"] = "Attached"
        profile["osDisk"] |= os_disk


class World:
    """The machine, its server and its provider."""

    def __init__(self, azure: Azure, server: ApiServer, resource: str, name: str) -> None:
        self.azure, self.server, self.clock = azure, server, FakeClock()
        azure.url = server.url
        login = AzureLogin(HttpApi("cloud", "http://127.0.0.1:1", "", self.clock), self.clock)
        login._token, login._until = Secret("token-1"), Deadline.after(self.clock, 10**6)
        resources = AzureResources(HttpApi("cloud", server.url, "", self.clock), login, self.clock)
        self.provider = AzureProvider(resources, resource, name, self.clock)

    def give(self, act: ProviderAct, order_id: str = "fp-run-1", **more: bool) -> str:
        return self.provider.carry_out(ProviderOrder(act, order_id, **more), deadline=Deadline.after(self.clock, 3600))  # type: ignore[arg-type]

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=Deadline.after(self.clock, 60))

    def names(self) -> set[str]:
        return {disk["name"] for disk in self.azure.disks.values()}

    def changes(self) -> list[str]:
        return [f"{one.method} {one.path.rpartition('/')[2]}" for one in self.server.asked if one.is_change]


@pytest.fixture
def world() -> Iterator[World]:
    azure = Azure(f"{COMPUTE}/virtualMachines/web1")
    with serve(azure.answer) as server:
        yield World(azure, server, GROUP, "web1")


def test_a_machine_is_read_with_its_roles(world: World) -> None:
    machine = world.read()
    assert (machine.id, machine.power, machine.snapshots) == ("web1", PowerState.RUNNING, ())
    assert [(disk.id, disk.role, disk.source) for disk in machine.disks] == [
        ("os", DiskRole.OS, OS_DISK),
        ("lun0", DiskRole.DATA, f"{COMPUTE}/disks/web1-data"),
    ]


@pytest.mark.parametrize(
    ("word", "power"), [("deallocated", PowerState.STOPPED), ("starting", PowerState.UNKNOWN), ("", PowerState.UNKNOWN)]
)
def test_a_state_that_is_not_known_is_unknown(world: World, word: str, power: PowerState) -> None:
    world.azure.power = word
    assert world.read().power is power


def test_a_snapshot_is_taken_once_and_deleted(world: World) -> None:
    world.server.lost_after = ["/snapshots/"]
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.server.count("PUT", "/snapshots/") == 1
    (snapshot,) = world.read().snapshots
    assert (snapshot.id, snapshot.disks, snapshot.consistency) == ("fp-run-1", ("os",), Consistency.CRASH)
    assert snapshot.taken_at == datetime(2026, 3, 10, 1, 0, 0, 123456, tzinfo=UTC)
    (body,) = (one.body for one in world.server.asked if one.method == "PUT")
    source = {"createOption": "Copy", "sourceResourceId": OS_DISK}
    assert body["properties"] == {"incremental": True, "creationData": source}
    world.give(ProviderAct.DELETE_SNAPSHOT)
    world.give(ProviderAct.DELETE_SNAPSHOT)
    assert world.read().snapshots == ()


def test_a_snapshot_tells_that_it_is_offline_or_not_frozen(world: World) -> None:
    assert world.give(ProviderAct.TAKE_SNAPSHOT) == "azure freezes no file systems"
    world.azure.power = "deallocated"
    assert world.give(ProviderAct.TAKE_SNAPSHOT, "fp-run-2") == ""
    assert {one.id: one.consistency for one in world.read().snapshots} == {
        "fp-run-1": Consistency.CRASH,
        "fp-run-2": Consistency.OFFLINE,
    }


def test_a_snapshot_that_is_not_complete_can_not_be_used(world: World) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    (item,) = world.azure.snapshots.values()
    item["properties"]["completionPercent"] = 40.0
    assert world.read().snapshots == ()
    with pytest.raises(ProviderError, match="is not complete"):
        world.give(ProviderAct.REVERT)
    with pytest.raises(ProviderUnavailable, match="has not completed"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    item["properties"]["provisioningState"] = "Failed"
    with pytest.raises(ProviderError, match="could not complete"):
        world.give(ProviderAct.TAKE_SNAPSHOT)


def test_snapshots_of_others_are_seen_and_never_deleted(world: World) -> None:
    path = f"{COMPUTE}/snapshots/by-hand"
    values = {"provisioningState": "Succeeded", "creationData": {"sourceResourceId": OS_DISK.upper()}}
    world.azure.snapshots[path.lower()] = {"id": path, "name": "by-hand", "properties": values}
    world.azure.snapshots["/other"] = {
        "id": "/other",
        "name": "other",
        "properties": {"provisioningState": "Succeeded"},
    }
    (snapshot,) = world.read().snapshots
    assert (snapshot.id, snapshot.taken_at, snapshot.consistency) == (path, None, Consistency.UNKNOWN)
    with pytest.raises(ProviderError, match="not taken by fleetpatch"):
        world.give(ProviderAct.DELETE_SNAPSHOT, path)
    world.give(ProviderAct.DELETE_SNAPSHOT, "by-hand")
    assert len(world.azure.snapshots) == 2


def test_a_revert_exchanges_the_os_disk_and_deletes_the_former(world: World) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    world.give(ProviderAct.REVERT)
    machine = world.read()
    (os_disk,) = machine.os_disks
    assert (os_disk.source != OS_DISK, machine.power) == (True, PowerState.RUNNING)
    new = world.azure.disks[os_disk.source.lower()]
    assert (new["zones"], new["sku"], new["properties"]["diskSizeGB"]) == (["2"], {"name": "Premium_LRS"}, 64)
    assert new["properties"]["encryption"] == {"type": "EncryptionAtRestWithPlatformKey"}
    assert world.names() == {new["name"], "web1-data", "stranger"}
    assert machine.find_snapshot("fp-run-1") is not None


@pytest.mark.parametrize("step", ["/disks/fp-run-1", "/disks/web1-os", "/deallocate", "virtualMachines/web1", "/start"])
def test_a_revert_whose_answer_was_lost_is_completed_by_the_same_order(world: World, step: str) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    world.server.lost_after = [step]
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.REVERT)
    world.give(ProviderAct.REVERT)
    (os_disk,) = world.read().os_disks
    (tag,) = {world.azure.disks[os_disk.source.lower()]["tags"]["fleetpatch-reverted-to"]}
    assert (tag, world.read().power) == ("fp-run-1", PowerState.RUNNING)
    assert world.names() >= {"web1-data", "stranger"}
    assert len(world.names()) == 3  # none lost, none doubled


def test_a_disk_whose_deletion_failed_goes_with_its_snapshot(world: World) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    start = world.azure.answer

    def refuse_deletion(asked: Asked) -> Answer:
        return (409, {"error": {"code": "Busy"}}) if asked.method == "DELETE" else start(asked)

    world.server.answer = refuse_deletion
    with pytest.raises(ProviderUnavailable, match="Busy"):
        world.give(ProviderAct.REVERT)
    assert "web1-os" in world.names()
    world.server.answer = start
    world.give(ProviderAct.DELETE_SNAPSHOT)
    assert "web1-os" not in world.names()


def test_a_revert_that_is_not_possible_changes_nothing(world: World) -> None:
    with pytest.raises(ProviderError, match="has no snapshot 'fp-run-1'"):
        world.give(ProviderAct.REVERT)
    with pytest.raises(ProviderError, match="no snapshots of data disks"):
        world.give(ProviderAct.REVERT, with_data_disks=True)
    with pytest.raises(ProviderError, match="can't call a snapshot"):
        world.give(ProviderAct.TAKE_SNAPSHOT, "../disks/web1-os")
    with pytest.raises(ProviderError, match="can't be asked to replace-os-disk"):
        world.give(ProviderAct.REPLACE_OS_DISK)
    world.azure.vm["properties"]["storageProfile"]["osDisk"]["managedDisk"] = None
    with pytest.raises(ProviderError, match="no managed disk"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.changes() == []


def test_power_is_asked_for_once(world: World) -> None:
    for act, power in (
        (ProviderAct.STOP, PowerState.STOPPED),
        (ProviderAct.START, PowerState.RUNNING),
        (ProviderAct.POWER_OFF, PowerState.STOPPED),
    ):
        world.give(act)
        world.give(act)
        assert world.read().power is power
    assert world.changes() == ["POST powerOff", "POST start", "POST powerOff"]
    assert [one.query.get("skipShutdown") for one in world.server.asked if one.is_change] == [None, None, "true"]


def test_a_machine_that_azure_changes_is_waited_for(world: World) -> None:
    world.azure.working_looks = 3
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.clock.sleeps == [5.0] * 3
    world.azure.working_looks = 10**6
    with pytest.raises(ProviderUnavailable, match="still changing web1"):
        world.give(ProviderAct.TAKE_SNAPSHOT, "fp-run-2")


def test_an_operation_that_failed_is_told(world: World) -> None:
    world.azure.operation = {"status": "Failed", "error": {"code": "OperationNotAllowed", "message": "quota"}}
    with pytest.raises(ProviderError, match=r"could not carry out PUT .*: Failed: OperationNotAllowed quota"):
        world.give(ProviderAct.TAKE_SNAPSHOT)


def test_the_token_goes_to_no_other_host(world: World) -> None:
    world.azure.url = "http://elsewhere.example"
    with pytest.raises(ProviderError, match="another host"):
        world.give(ProviderAct.TAKE_SNAPSHOT)


def test_an_answer_without_its_fields_is_an_error(world: World) -> None:
    del world.azure.vm["properties"]["storageProfile"]["osDisk"]
    with pytest.raises(ProviderError, match="osDisk` is no dict"):
        world.read()
    world.server.faults = [("virtualMachines/web1", 404, {"error": {"code": "ResourceNotFound", "message": "gone"}})]
    with pytest.raises(ProviderError, match="has no such thing"):
        world.read()


def test_an_instance_of_a_set_has_snapshots_and_no_revert() -> None:
    azure = Azure(f"{SET}/virtualMachines/3")
    with serve(azure.answer) as server:
        world = World(azure, server, SET, "3")
        assert ProviderAct.REVERT not in world.provider.acts
        world.give(ProviderAct.TAKE_SNAPSHOT)
        world.give(ProviderAct.STOP)
        assert [one.id for one in world.read().snapshots] == ["fp-run-1"]
        assert world.read().power is PowerState.STOPPED


def answer_login(asked: Asked) -> Answer:
    if asked.path == "/metadata/identity/oauth2/token":
        assert asked.headers["metadata"] == "true"
        return 200, {"access_token": "of-machine", "expires_in": "86400"}
    assert asked.path == "/tenant-1/oauth2/v2.0/token"
    assert (asked.body["client_id"], asked.body["client_secret"]) == ("app-1", SECRET)
    return 200, {"access_token": f"of-app-{len(asked.body)}", "expires_in": 3600}


def test_a_login_is_kept_until_it_is_nearly_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = FakeClock()
    with serve(answer_login) as server:
        api = HttpApi("cloud", server.url, "", clock)
        api.hidden.append(Secret(SECRET))
        application = AzureLogin(api, clock, "tenant-1", "app-1", Secret(SECRET))
        for seconds in (0, 3299, 2):
            clock.advance(seconds)
            assert application.read_token(Deadline.after(clock, 60)).reveal() == "of-app-4"
        assert len(server.asked) == 2
        server.faults = [("/token", 401, {"error": "invalid_client", "error_description": f"wrong {SECRET}"})]
        clock.advance(3600)
        with pytest.raises(ProviderError, match="does not let fleetpatch") as caught:
            application.read_token(Deadline.after(clock, 60))
        assert SECRET not in caught.value.message + repr(application) + caplog.text
        identity = AzureLogin(api, clock)
        assert identity.read_token(Deadline.after(clock, 60)).reveal() == "of-machine"
        server.answer = lambda _: (200, {"access_token": "x", "expires_in": "soon"})
        with pytest.raises(ProviderError, match="can't be understood"):
            AzureLogin(api, clock).read_token(Deadline.after(clock, 60))


def test_settings_that_can_not_work_are_refused() -> None:
    ports = build_ports(FakeClock())

    def open_with(**values: str) -> AzureProvider:
        given = {"resource": GROUP, "user": "tenant/app", "credential": "env:AZ"} | values
        settings = ProviderSettings(name="cloud", kind=ProviderKind.AZURE, **given)  # type: ignore[arg-type]
        return open_azure(settings, build_machine(values.get("name", "cloud/web1")), ports)

    assert open_with().kind == "azure"
    assert open_with(user="", credential="", resource=SET).kind == "azure"
    for wrong in ({"user": "app"}, {"credential": ""}, {"user": "/app"}):
        with pytest.raises(ProviderError, match="login is not complete"):
            open_with(**wrong)
    with pytest.raises(ProviderError, match="neither a resource group nor a scale set"):
        open_with(resource="web")
    with pytest.raises(ProviderError, match="no name of a machine"):
        open_azure(ProviderSettings(name="c", kind=ProviderKind.AZURE, resource=GROUP), build_machine("c/../x"), ports)
