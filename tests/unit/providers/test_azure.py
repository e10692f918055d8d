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
    HardwareIdentity,
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
        self.snapshots: dict[str, Any] = {}
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
            statuses = [{"code": "ProvisioningState/succeeded"}, {"code": f"PowerState/{self.power}"}]
            return 200, self.vm | {"properties": self.vm["properties"] | {"instanceView": {"statuses": statuses}}}
        operation = {"Azure-AsyncOperation": f"{self.url}/operations/1?api-version=1"}
        name = asked.path.removeprefix(f"{COMPUTE}/snapshots").removeprefix("/")
        return self._answer_of_snapshot(asked, name, operation)

    def _answer_of_snapshot(self, asked: Asked, name: str, operation: dict[str, str]) -> Answer:
        key = asked.path.lower()
        if not name:
            items = list(self.snapshots.values())
            if "page" in asked.query:
                return 200, {"value": items[1:]}
            following = f"{self.url}{asked.path}?api-version=2024-03-02&page=2"
            return 200, {"value": items[:1], **({"nextLink": following} if items[1:] else {})}
        if asked.method == "PUT":
            values = asked.body["properties"] | {
                "provisioningState": "Succeeded",
                "timeCreated": "2026-03-10T01:00:00.1234567+00:00",
            }
            self.snapshots[key] = {**asked.body, "id": asked.path, "name": name, "properties": values}
            return 202, self.snapshots[key], operation
        if key not in self.snapshots:
            return 404, {"error": {"code": "ResourceNotFound", "message": "not found"}}
        if asked.method == "DELETE":
            del self.snapshots[key]
            return 202, None, operation
        return 200, self.snapshots[key]


class World:
    """The machine, its server and its provider."""

    def __init__(self, azure: Azure, server: ApiServer, resource: str, name: str) -> None:
        self.azure, self.server, self.clock = azure, server, FakeClock()
        azure.url = server.url
        login = AzureLogin(HttpApi("cloud", "http://127.0.0.1:1", self.clock), self.clock)
        login._token, login._until = Secret("token-1"), Deadline.after(self.clock, 10**6)
        resources = AzureResources(HttpApi("cloud", server.url, self.clock), login, self.clock)
        self.provider = AzureProvider(resources, resource, name, self.clock)

    def give(self, act: ProviderAct, order_id: str = "fp-run-1") -> str:
        return self.provider.carry_out(ProviderOrder(act, order_id), deadline=Deadline.after(self.clock, 3600))

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=Deadline.after(self.clock, 60))


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


def test_no_order_replaces_a_disk_or_stops_a_machine(world: World) -> None:
    assert world.provider.acts == {ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT}
    for act in set(ProviderAct) - world.provider.acts:
        with pytest.raises(ProviderError, match=f"can't be asked to {act}"):
            world.give(act)
    with pytest.raises(ProviderError, match="can't call a snapshot"):
        world.give(ProviderAct.TAKE_SNAPSHOT, "../disks/web1-os")
    world.azure.vm["properties"]["storageProfile"]["osDisk"]["managedDisk"] = None
    with pytest.raises(ProviderError, match="no managed disk"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    assert not any(one.is_change for one in world.server.asked)


def test_the_provider_knows_who_a_machine_is(world: World) -> None:
    world.azure.vm["properties"]["vmId"] = "F6A6B9B2-9B99-45B0-8A18-025998FC74D0"
    assert world.read().identity == HardwareIdentity("f6a6b9b2-9b99-45b0-8a18-025998fc74d0")


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


def test_an_instance_of_a_set_has_snapshots() -> None:
    azure = Azure(f"{SET}/virtualMachines/3")
    with serve(azure.answer) as server:
        world = World(azure, server, SET, "3")
        world.give(ProviderAct.TAKE_SNAPSHOT)
        assert [one.id for one in world.read().snapshots] == ["fp-run-1"]


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
        api = HttpApi("cloud", server.url, clock)
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
