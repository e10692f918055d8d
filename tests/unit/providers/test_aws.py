"""Instances of EC2, played by moto. Answers that AWS gave are in test_recorded_answers.py."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from moto import mock_aws

from inventory.credentials import Secret
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
from tasks.machines.providers import ec2
from tasks.machines.providers.aws import AwsProvider
from tasks.machines.providers.registry import GuardedProvider
from tests.support.fake_clock import FakeClock
from tests.support.provider_records import NoGuard, NoWatch
from tests.unit.providers.ec2_client import WatchedEc2

AMI = "ami-12c6146b"
LOST = ReadTimeoutError(endpoint_url="ec2")


class World:
    """One instance, and its provider."""

    def __init__(self, moto: Any) -> None:
        self.clock = FakeClock()
        self.ec2 = WatchedEc2(moto)
        sizes = {"/dev/sdf": 4, "/dev/sda1": 8}  # moto records a root volume only if it is among them
        mappings = [{"DeviceName": device, "Ebs": {"VolumeSize": size}} for device, size in sizes.items()]
        run = moto.run_instances(ImageId=AMI, MinCount=1, MaxCount=1, BlockDeviceMappings=mappings)
        self.id = run["Instances"][0]["InstanceId"]
        self.provider = GuardedProvider(
            AwsProvider(ec2.Ec2(self.ec2, self.id), self.clock), self.clock, 900, NoGuard(), NoWatch()
        )

    def give(self, act: ProviderAct, order_id: str = "run-1") -> str:
        return self.provider.carry_out(ProviderOrder(act, order_id), deadline=Deadline.after(self.clock, 3600))

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=Deadline.after(self.clock, 60))

    def root(self) -> str:
        (disk,) = self.read().os_disks
        return disk.source


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # their snapshots make each question dear
        with mock_aws():
            yield ec2.open_client("eu-west-1", "AKIA0", Secret("very-secret"))


@pytest.fixture
def world(moto: Any) -> World:
    return World(moto)


def refuse(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "it said so"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Any")


def test_an_instance_is_read_with_its_roles(world: World) -> None:
    machine = world.read()
    assert (machine.id, machine.power) == (world.id, PowerState.RUNNING)
    assert {disk.id: disk.role for disk in machine.disks} == {"/dev/sda1": DiskRole.OS, "/dev/sdf": DiskRole.DATA}
    assert all(disk.source.startswith("vol-") for disk in machine.disks)
    assert (machine.snapshots, machine.kept_disks, machine.overlay) == ((), (), None)


def test_a_snapshot_is_taken_once_and_deleted(world: World) -> None:
    assert world.give(ProviderAct.TAKE_SNAPSHOT) == "aws freezes no file systems"
    world.give(ProviderAct.TAKE_SNAPSHOT)
    (snapshot,) = world.read().snapshots
    assert (snapshot.id, snapshot.disks, snapshot.consistency) == ("run-1", ("/dev/sda1",), Consistency.CRASH)
    assert isinstance(snapshot.taken_at, datetime)
    assert world.ec2.calls.count("create_snapshot") == 1
    world.give(ProviderAct.DELETE_SNAPSHOT)
    world.give(ProviderAct.DELETE_SNAPSHOT)
    assert world.read().snapshots == ()


def test_a_snapshot_whose_answer_was_lost_is_not_taken_again(world: World) -> None:
    world.ec2.loses["create_snapshot"] = LOST
    with pytest.raises(ProviderUnavailable, match="does not answer create_snapshot"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.ec2.calls.count("create_snapshot") == 1
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.ec2.calls.count("create_snapshot") == 1
    assert len(world.read().snapshots) == 1


def test_snapshots_of_others_are_seen_and_never_deleted(world: World) -> None:
    other = world.ec2.moto.create_snapshot(VolumeId=world.root())["SnapshotId"]
    (snapshot,) = world.read().snapshots
    assert (snapshot.id, snapshot.consistency) == (other, Consistency.UNKNOWN)
    with pytest.raises(ProviderError, match="not taken by fleetpatch"):
        world.give(ProviderAct.DELETE_SNAPSHOT, other)
    assert world.read().snapshots == (snapshot,)


def test_a_snapshot_that_never_completes_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2.Ec2, "list_snapshots", lambda *_: {"snap-1": {"SnapshotId": "snap-1", "State": "pending"}})
    with pytest.raises(ProviderUnavailable, match="not complete yet"):
        world.give(ProviderAct.TAKE_SNAPSHOT)
    assert world.read().snapshots == ()
    assert 890 < sum(world.clock.sleeps) < 910  # timeout_minutes of the provider, not the hour of the caller
    states = [
        {"snap-1": {"SnapshotId": "snap-1", "State": state}} for state in ("pending", "pending", "pending", "error")
    ]
    monkeypatch.setattr(ec2.Ec2, "list_snapshots", lambda *_: states.pop(0))
    with pytest.raises(ProviderError, match="ended as 'error'"):
        world.give(ProviderAct.TAKE_SNAPSHOT)


def test_a_stopped_instance_has_an_offline_snapshot(world: World) -> None:
    world.ec2.moto.stop_instances(InstanceIds=[world.id])
    assert world.read().power is PowerState.STOPPED
    assert world.give(ProviderAct.TAKE_SNAPSHOT) == ""
    assert world.read().snapshots[0].consistency is Consistency.OFFLINE


def test_orders_of_one_id_for_two_machines_do_not_mix(world: World) -> None:
    second = world.ec2.moto.run_instances(ImageId=AMI, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    other = AwsProvider(ec2.Ec2(world.ec2, second), world.clock)
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert other.read_machine(deadline=Deadline.after(world.clock, 60)).snapshots == ()
    other.carry_out(ProviderOrder(ProviderAct.DELETE_SNAPSHOT, "run-1"), deadline=Deadline.after(world.clock, 60))
    assert len(world.read().snapshots) == 1


def test_no_order_replaces_a_disk_or_stops_an_instance(world: World) -> None:
    assert world.provider.acts == {ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT}
    for act in set(ProviderAct) - world.provider.acts:
        with pytest.raises(ProviderError, match=f"can't be asked to {act}"):
            world.give(act)
    assert [call for call in world.ec2.calls if not call.startswith("describe")] == []


def test_the_provider_knows_who_an_instance_is(world: World) -> None:
    (reservation,) = world.ec2.moto.describe_instances(InstanceIds=[world.id])["Reservations"]
    (card,) = reservation["Instances"][0]["NetworkInterfaces"]
    assert world.read().identity == HardwareIdentity(instance_id=world.id, macs=(card["MacAddress"].lower(),))


def test_states_between_and_a_missing_root_device_are_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ec2.Ec2.read_instance
    changed = {"State": {"Name": "stopping"}, "RootDeviceName": ""}
    monkeypatch.setattr(ec2.Ec2, "read_instance", lambda one: read(one) | changed)
    machine = world.read()
    assert machine.power is PowerState.UNKNOWN
    assert {disk.role for disk in machine.disks} == {DiskRole.UNKNOWN}


def test_an_instance_that_is_gone_is_an_error(world: World) -> None:
    world.ec2.moto.terminate_instances(InstanceIds=[world.id])
    with pytest.raises(ProviderError, match="no instance"):
        world.read()


@pytest.mark.parametrize(
    ("error", "is_transient", "text"),
    [
        (refuse("UnauthorizedOperation", 403), False, "does not let fleetpatch describe_instances"),
        (refuse("AuthFailure", 401), False, "does not let fleetpatch"),
        (refuse("InvalidInstanceID.NotFound"), False, "refused describe_instances: InvalidInstanceID.NotFound"),
        (refuse("RequestLimitExceeded", 503), True, "can't answer"),
        (refuse("Unheard", 429), True, "can't answer"),
        (refuse("InternalError", 500), True, "can't answer"),
        (EndpointConnectionError(endpoint_url="ec2"), True, "does not answer"),
        (LOST, True, "does not answer"),
        (NoCredentialsError(), False, "can't be asked"),
    ],
)
def test_errors_of_aws_are_ours(world: World, error: Exception, is_transient: bool, text: str) -> None:
    world.ec2.fails["describe_instances"] = [error]
    with pytest.raises(ProviderError, match=text) as caught:
        world.read()
    assert caught.value.transient is is_transient
    assert isinstance(caught.value, ProviderUnavailable) is is_transient
