"""What the real EC2 and the real Azure have answered to the calls that fleetpatch makes. Names and ids are invented.

The fields, their kinds and their order of states are those of public recordings:
EC2: cloud-custodian, tests/data/placebo (test_ec2_snapshot, test_ebs_snapshot, test_ebs_snapshot_copy_volume_tags,
test_ebs_snapshot_delete, test_ebs_volume_snapshots_filter).
Azure: cloud-custodian, tools/c7n_azure/tests_azure/cassettes (VMTest.virtual_machine_instance,
SnapshotTest.test_find_by_name_and_delete), and azure-cli, vm/tests/latest/recordings/test_completion_percent.yaml.
"""

from datetime import UTC, datetime
from typing import Any

from botocore.stub import ANY, Stubber

from inventory.credentials import Secret
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    HardwareIdentity,
    PowerState,
    ProviderAct,
    ProviderOrder,
)
from tasks.machines.providers import ec2
from tasks.machines.providers.aws import CONSISTENCY_TAG, MACHINE_TAG, SNAPSHOT_TAG, AwsProvider
from tasks.machines.providers.azure import AzureProvider, AzureResources
from tasks.machines.providers.azure_login import AzureLogin
from tasks.machines.providers.http_api import HttpApi
from tests.support.fake_clock import FakeClock
from tests.unit.providers.api_server import Answer, Asked, serve

TAKE = ProviderOrder(ProviderAct.TAKE_SNAPSHOT, "fp-run-1")
DELETE = ProviderOrder(ProviderAct.DELETE_SNAPSHOT, "fp-run-1")
AT = datetime(2019, 6, 11, 20, 56, 23, tzinfo=UTC)


def build_instance() -> dict[str, Any]:
    volumes = {"/dev/sda1": "vol-00000000000000001", "/dev/sdb": "vol-00000000000000002"}
    mappings = [
        {
            "DeviceName": device,
            "Ebs": {"AttachTime": AT, "DeleteOnTermination": True, "Status": "attached", "VolumeId": volume},
        }
        for device, volume in volumes.items()
    ]
    card = {"Description": "", "MacAddress": "0a:00:00:00:2d:24", "NetworkInterfaceId": "eni-1", "OwnerId": "1"}
    instance = {
        "AmiLaunchIndex": 0,
        "InstanceId": "i-0000000000000000a",
        "State": {"Code": 16, "Name": "running"},
        "StateTransitionReason": "",
        "BlockDeviceMappings": mappings,
        "NetworkInterfaces": [card],
        "RootDeviceName": "/dev/sda1",
        "RootDeviceType": "ebs",
        "Tags": [{"Key": "Name", "Value": "web"}],
    }
    return {"Reservations": [{"Groups": [], "Instances": [instance], "OwnerId": "1", "ReservationId": "r-1"}]}


def build_snapshot(state: str, progress: str, tags: dict[str, str]) -> dict[str, Any]:
    snapshot = {
        "Description": "",
        "Encrypted": False,
        "OwnerId": "1",
        "Progress": progress,  # "" in the answer to the order
        "SnapshotId": "snap-00000000000000001",
        "StartTime": AT,
        "State": state,
        "VolumeId": "vol-00000000000000001",
        "VolumeSize": 8,
    }
    return snapshot | ({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} if tags else {})


def test_ec2_takes_reads_and_deletes_a_snapshot() -> None:
    client, clock = ec2.open_client("eu-west-1", "AKIA0", Secret("very-secret")), FakeClock()
    provider = AwsProvider(ec2.Ec2(client, "i-0000000000000000a"), clock)
    marks = {MACHINE_TAG: "i-0000000000000000a", SNAPSHOT_TAG: "fp-run-1", CONSISTENCY_TAG: "crash-consistent"}
    done = build_snapshot("completed", "100%", marks)
    foreign = {**build_snapshot("completed", "100%", {}), "SnapshotId": "snap-00000000000000002"}
    with Stubber(client) as stub:
        stub.add_response("describe_instances", build_instance())
        stub.add_response("describe_snapshots", {"Snapshots": []})
        wanted = {"VolumeId": "vol-00000000000000001", "TagSpecifications": ANY}
        stub.add_response("create_snapshot", build_snapshot("pending", "", marks), wanted)
        for state, progress in (("pending", "0%"), ("pending", "99%"), ("completed", "100%")):
            stub.add_response("describe_snapshots", {"Snapshots": [build_snapshot(state, progress, marks)]})
        assert provider.carry_out(TAKE, deadline=Deadline.after(clock, 600)) == "aws freezes no file systems"
        stub.add_response("describe_instances", build_instance())
        stub.add_response("describe_snapshots", {"Snapshots": [done]})
        stub.add_response("describe_snapshots", {"Snapshots": [done, foreign]})
        machine = provider.read_machine(deadline=Deadline.after(clock, 60))
        stub.add_response("describe_snapshots", {"Snapshots": [done]})
        stub.add_response("delete_snapshot", {}, {"SnapshotId": "snap-00000000000000001"})
        provider.carry_out(DELETE, deadline=Deadline.after(clock, 60))
        stub.assert_no_pending_responses()
    assert machine.power is PowerState.RUNNING
    assert {disk.id: disk.role for disk in machine.disks} == {"/dev/sda1": DiskRole.OS, "/dev/sdb": DiskRole.DATA}
    assert machine.identity == HardwareIdentity(instance_id="i-0000000000000000a", macs=("0a:00:00:00:2d:24",))
    assert {one.id: (one.consistency, one.taken_at) for one in machine.snapshots} == {
        "fp-run-1": (Consistency.CRASH, AT),
        "snap-00000000000000002": (Consistency.UNKNOWN, AT),
    }


GROUP = "/subscriptions/0000-1111/resourceGroups/TEST_VM"
DISK = "/subscriptions/0000-1111/resourceGroups/test_vm/providers/Microsoft.Compute/disks/web_OsDisk_1"  # sic: the case


class Azure:
    """Answers as Azure did: a change is accepted (202), names its operation, and is seen as Updating or Deleting."""

    def __init__(self) -> None:
        self.url = ""
        self.snapshot: dict[str, Any] | None = None
        self.ends: list[str] = []

    def answer(self, asked: Asked) -> Answer:
        if asked.path.endswith("/DiskOperations/1"):
            status = self.ends.pop(0)
            if status == "Succeeded" and self.snapshot is not None:
                state = self.snapshot["properties"]["provisioningState"]
                self.snapshot["properties"] |= {
                    "provisioningState": "Succeeded" if state == "Updating" else state,
                    "timeCreated": "2023-05-18T17:41:22.5261631+00:00",
                    "diskState": "Unattached",
                }
            return 200, {"startTime": "2023-11-06T03:59:10.4269822+00:00", "status": status, "name": "1"}
        if asked.path == f"{GROUP}/providers/Microsoft.Compute/virtualMachines/web":
            return 200, self._describe_machine(asked.path)
        if asked.path.endswith("/snapshots"):
            return 200, {"value": [self.snapshot] if self.snapshot is not None else []}
        if asked.method == "PUT":
            properties = {**asked.body["properties"], "provisioningState": "Updating"}
            name = asked.path.rpartition("/")[2]
            self.snapshot = {**asked.body, "name": name, "id": asked.path, "properties": properties}
            self.ends = ["InProgress", "Succeeded"]
        elif self.snapshot is None:
            return 404, {"error": {"code": "ResourceNotFound", "message": "The Resource was not found."}}
        elif asked.method == "DELETE":
            self.snapshot["properties"]["provisioningState"] = "Deleting"
            self.ends = ["Succeeded"]
        else:
            return 200, self.snapshot
        address = f"{self.url}/subscriptions/2222/providers/Microsoft.Compute/locations/eastus/DiskOperations/1?p=3&t=4"
        document = self.snapshot if asked.method == "PUT" else None
        return 202, document, {"azure-asyncoperation": address, "location": f"{address}&monitor=true"}

    def _describe_machine(self, path: str) -> dict[str, Any]:
        statuses = [
            {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"},
            {"code": "PowerState/running", "level": "Info", "displayStatus": "VM running"},
        ]
        profile = {
            "osDisk": {"osType": "Linux", "name": "web_OsDisk_1", "caching": "ReadWrite", "managedDisk": {"id": DISK}},
            "dataDisks": [{"lun": 0, "name": "web_disk2", "caching": "None", "managedDisk": {"id": f"{DISK}-data"}}],
        }
        properties = {
            "vmId": "f6a6b9b2-0000-45b0-8a18-025998fc74d0",
            "storageProfile": profile,
            "networkProfile": {"networkInterfaces": [{"id": f"{GROUP}/providers/Microsoft.Network/nic"}]},
            "provisioningState": "Succeeded",
            "instanceView": {"computerName": "web", "vmAgent": {"statuses": []}, "statuses": statuses},
        }
        return {"name": "web", "id": path, "location": "southcentralus", "tags": {"a": "b"}, "properties": properties}


def test_azure_takes_reads_and_deletes_a_snapshot() -> None:
    azure, clock = Azure(), FakeClock()
    with serve(azure.answer) as server:
        azure.url = server.url
        login = AzureLogin(HttpApi("cloud", "http://127.0.0.1:1", clock), clock)
        login._token, login._until = Secret("token-1"), Deadline.after(clock, 10**6)
        provider = AzureProvider(AzureResources(HttpApi("cloud", server.url, clock), login, clock), GROUP, "web", clock)
        assert provider.carry_out(TAKE, deadline=Deadline.after(clock, 600)) == "azure freezes no file systems"
        machine = provider.read_machine(deadline=Deadline.after(clock, 60))
        provider.carry_out(DELETE, deadline=Deadline.after(clock, 60))
        assert provider.read_machine(deadline=Deadline.after(clock, 60)).snapshots == ()  # it can be read for a while
    assert machine.identity == HardwareIdentity("f6a6b9b2-0000-45b0-8a18-025998fc74d0")  # the answer has no MAC
    assert (machine.power, [disk.role for disk in machine.disks]) == (PowerState.RUNNING, [DiskRole.OS, DiskRole.DATA])
    (snapshot,) = machine.snapshots
    assert (snapshot.id, snapshot.consistency) == ("fp-run-1", Consistency.CRASH)
    assert snapshot.taken_at == datetime(2023, 5, 18, 17, 41, 22, 526163, tzinfo=UTC)
