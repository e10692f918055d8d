"""Instances of EC2: moto plays it, and tests/unit/providers/ec2_with_tasks.py the replacement of root volumes."""

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
    ImageVersion,
    PowerState,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
)
from tasks.machines.providers import ec2
from tasks.machines.providers.aws import AwsProvider
from tasks.machines.providers.registry import GuardedProvider
from tests.support.fake_clock import FakeClock
from tests.support.provider_records import NoGuard
from tests.unit.providers.ec2_with_tasks import Ec2WithTasks

IMAGE = ImageVersion("debian", "12.8", "ami-0123456789abcdef0")
AMI = "ami-12c6146b"
LOST = ReadTimeoutError(endpoint_url="ec2")


class World:
    """One instance, and its provider."""

    def __init__(self, moto: Any) -> None:
        self.clock = FakeClock()
        self.ec2 = Ec2WithTasks(moto)
        sizes = {"/dev/sdf": 4, "/dev/sda1": 8}  # moto records a root volume only if it is among them
        mappings = [{"DeviceName": device, "Ebs": {"VolumeSize": size}} for device, size in sizes.items()]
        run = moto.run_instances(ImageId=AMI, MinCount=1, MaxCount=1, BlockDeviceMappings=mappings)
        self.id = run["Instances"][0]["InstanceId"]
        self.provider = GuardedProvider(AwsProvider(ec2.Ec2(self.ec2, self.id), self.clock), self.clock, 900, NoGuard())

    def give(self, act: ProviderAct, order_id: str = "run-1", image: ImageVersion | None = None, **more: bool) -> str:
        order = ProviderOrder(act, order_id, image=image, **more)  # type: ignore[arg-type]
        return self.provider.carry_out(order, deadline=Deadline.after(self.clock, 3600))

    def read(self) -> ProvidedMachine:
        return self.provider.read_machine(deadline=Deadline.after(self.clock, 60))

    def data(self) -> list[str]:
        return [disk.source for disk in self.read().disks if disk.role is DiskRole.DATA]

    def root(self) -> str:
        (disk,) = self.read().os_disks
        return disk.source

    def volumes(self) -> set[str]:
        return {volume["VolumeId"] for volume in self.ec2.moto.describe_volumes()["Volumes"]}


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
    world.give(ProviderAct.STOP)
    assert world.read().power is PowerState.STOPPED
    assert world.give(ProviderAct.TAKE_SNAPSHOT) == ""
    assert world.read().snapshots[0].consistency is Consistency.OFFLINE
    world.give(ProviderAct.START)
    assert world.read().power is PowerState.RUNNING
    world.give(ProviderAct.POWER_OFF)
    assert world.read().power is PowerState.STOPPED


def test_a_revert_replaces_the_root_volume_alone(world: World) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    before, data, volumes = world.root(), world.data(), len(world.volumes())
    world.ec2.loses["create_replace_root_volume_task"] = LOST
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.REVERT)
    world.give(ProviderAct.REVERT)  # waits for the task that began
    assert len(world.ec2.tasks) == 1
    after = world.root()
    assert after != before
    assert (world.data(), len(world.volumes())) == (data, volumes)
    assert world.read().find_snapshot("run-1") is not None  # of the former volume
    world.give(ProviderAct.REVERT)  # a person may revert again
    assert len(world.ec2.tasks) == 2


def test_a_revert_without_snapshot_or_with_data_disks_is_refused(world: World) -> None:
    with pytest.raises(ProviderError, match="no complete snapshot 'run-1'"):
        world.give(ProviderAct.REVERT)
    world.give(ProviderAct.TAKE_SNAPSHOT)
    with pytest.raises(ProviderError, match="no snapshots of data disks"):
        world.give(ProviderAct.REVERT, with_data_disks=True)
    assert world.ec2.tasks == []


def test_a_new_os_disk_keeps_the_former_one_and_it_can_be_put_back(world: World) -> None:
    before, data = world.root(), world.data()
    world.ec2.loses["create_replace_root_volume_task"] = LOST
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    machine = world.read()
    assert len(world.ec2.tasks) == 1
    assert world.ec2.tasks[0]["ImageId"] == IMAGE.reference
    assert [disk.image for disk in machine.os_disks] == ["12.8"]
    assert [(disk.id, disk.source) for disk in machine.kept_disks] == [("run-1", before)]
    new = world.root()
    world.give(ProviderAct.RESTORE_OS_DISK)
    world.give(ProviderAct.RESTORE_OS_DISK)
    machine = world.read()
    assert (world.root(), world.data(), machine.kept_disks) == (before, data, ())
    assert machine.power is PowerState.RUNNING
    assert new not in world.volumes()  # the image that was taken back
    world.give(ProviderAct.DELETE_OS_DISK)
    assert before in world.volumes()  # attached: never deleted
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)  # the same order after it was taken back
    assert (len(world.ec2.tasks), world.read().os_disks[0].image) == (2, "12.8")
    world.give(ProviderAct.DELETE_OS_DISK)
    assert before not in world.volumes()
    assert world.read().kept_disks == ()


@pytest.mark.parametrize(
    "step", ["stop_instances", "detach_volume", "attach_volume", "start_instances", "delete_volume"]
)
def test_a_restore_that_was_interrupted_is_completed_by_the_same_order(world: World, step: str) -> None:
    before = world.root()
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    volumes = len(world.volumes())
    world.ec2.loses[step] = LOST
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.RESTORE_OS_DISK)
    assert before in world.volumes()
    world.give(ProviderAct.RESTORE_OS_DISK)
    assert (world.root(), world.read().power, world.read().kept_disks) == (before, PowerState.RUNNING, ())
    assert len(world.volumes()) == volumes - 1


def test_an_instance_without_root_volume_is_told_loudly_and_restored(world: World) -> None:
    before = world.root()
    world.ec2.ends = ["failed-detached"]
    with pytest.raises(ProviderError, match="HAS NO ROOT VOLUME") as caught:
        world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    assert "put the former disk back" in caught.value.hint.lower()
    machine = world.read()
    assert machine.os_disks == ()
    assert [disk.source for disk in machine.kept_disks] == [before]
    with pytest.raises(ProviderError, match="has no root volume"):
        world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    world.give(ProviderAct.RESTORE_OS_DISK)
    assert world.root() == before


def test_a_failed_replacement_leaves_the_former_disk_and_can_be_tried_again(world: World) -> None:
    before = world.root()
    world.ec2.ends = ["failed"]
    with pytest.raises(ProviderError, match="ended as failed"):
        world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    assert (world.root(), world.read().kept_disks) == (before, ())
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    assert world.read().os_disks[0].image == "12.8"


def test_a_disk_that_was_reverted_since_is_not_taken_for_the_new_one(world: World) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    world.give(ProviderAct.REVERT)
    assert world.read().os_disks[0].image == ""
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    assert (len(world.ec2.tasks), world.read().os_disks[0].image) == (3, "12.8")


def test_a_disk_that_was_taken_back_goes_with_the_kept_one(world: World) -> None:
    world.give(ProviderAct.REPLACE_OS_DISK, image=IMAGE)
    new = world.root()
    world.ec2.fails["delete_volume"] = [refuse("InternalError", 500)]
    with pytest.raises(ProviderUnavailable):
        world.give(ProviderAct.RESTORE_OS_DISK)
    assert new in world.volumes()
    world.give(ProviderAct.DELETE_OS_DISK)
    assert new not in world.volumes()
    assert len(world.read().os_disks) == 1


def test_the_disk_of_a_later_order_is_not_thrown_away(world: World) -> None:
    world.give(ProviderAct.REPLACE_OS_DISK, "run-1", IMAGE)
    world.give(ProviderAct.REPLACE_OS_DISK, "run-2", IMAGE)
    volumes = world.volumes()
    with pytest.raises(ProviderError, match="a later order: run-2"):
        world.give(ProviderAct.RESTORE_OS_DISK, "run-1")
    assert world.volumes() == volumes
    assert {disk.id for disk in world.read().kept_disks} == {"run-1", "run-2"}


def test_cleaning_up_after_one_order_leaves_the_disk_that_a_later_one_keeps(world: World) -> None:
    before = world.root()
    world.give(ProviderAct.REPLACE_OS_DISK, "run-1", IMAGE)
    between = world.root()
    world.give(ProviderAct.REPLACE_OS_DISK, "run-2", IMAGE)
    world.give(ProviderAct.DELETE_OS_DISK, "run-1")
    assert before not in world.volumes()
    assert [(disk.id, disk.source) for disk in world.read().kept_disks] == [("run-2", between)]
    world.give(ProviderAct.RESTORE_OS_DISK, "run-2")
    assert (world.root(), world.read().power) == (between, PowerState.RUNNING)


def test_two_orders_are_taken_back_one_after_the_other_and_nothing_is_left_over(world: World) -> None:
    before, volumes = world.root(), world.volumes()
    world.give(ProviderAct.REPLACE_OS_DISK, "run-1", IMAGE)
    world.give(ProviderAct.REPLACE_OS_DISK, "run-2", IMAGE)
    world.give(ProviderAct.RESTORE_OS_DISK, "run-2")
    world.give(ProviderAct.RESTORE_OS_DISK, "run-1")
    assert (world.root(), world.volumes(), world.read().kept_disks) == (before, volumes, ())


def test_orders_of_one_id_for_two_machines_do_not_mix(world: World) -> None:
    second = world.ec2.moto.run_instances(ImageId=AMI, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    other = AwsProvider(ec2.Ec2(world.ec2, second), world.clock)
    world.give(ProviderAct.TAKE_SNAPSHOT)
    assert other.read_machine(deadline=Deadline.after(world.clock, 60)).snapshots == ()
    other.carry_out(ProviderOrder(ProviderAct.DELETE_SNAPSHOT, "run-1"), deadline=Deadline.after(world.clock, 60))
    assert len(world.read().snapshots) == 1


def test_what_can_not_be_done_is_refused_before_anything_changes(world: World) -> None:
    for image, message in ((None, "makes OS disks of AMIs"), (ImageVersion("d", "1", "/a/path"), "of AMIs")):
        with pytest.raises(ProviderError, match=message):
            world.give(ProviderAct.REPLACE_OS_DISK, image=image)
    with pytest.raises(ProviderError, match="no kept OS disk of the order 'run-1'"):
        world.give(ProviderAct.RESTORE_OS_DISK)
    order = ProviderOrder(ProviderAct.REPLACE_OS_DISK, "run-1", IMAGE, user_data="#cloud-config\n")
    with pytest.raises(ProviderError, match="can't give user data"):
        world.provider.carry_out(order, deadline=Deadline.after(world.clock, 60))
    assert ProviderAct.START_OVERLAY not in world.provider.acts
    with pytest.raises(ProviderError, match="can't be asked to start-overlay"):
        world.give(ProviderAct.START_OVERLAY)
    changes = [call for call in world.ec2.calls if not call.startswith("describe")]
    assert changes == []


def test_a_member_of_an_auto_scaling_group_keeps_its_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ec2.Ec2.read_instance
    tags = [{"Key": "aws:autoscaling:groupName", "Value": "web"}]
    monkeypatch.setattr(ec2.Ec2, "read_instance", lambda one: {**read(one), "Tags": tags})
    world.give(ProviderAct.TAKE_SNAPSHOT)
    for act in (ProviderAct.STOP, ProviderAct.POWER_OFF, ProviderAct.REVERT, ProviderAct.RESTORE_OS_DISK):
        with pytest.raises(ProviderError, match="Auto Scaling group web"):
            world.give(act)


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


def test_a_throttled_look_does_not_end_a_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.give(ProviderAct.TAKE_SNAPSHOT)
    create = AwsProvider._create_task

    def create_and_be_busy(*values: Any) -> Any:
        task = create(*values)
        world.ec2.fails["describe_replace_root_volume_tasks"] = [refuse("RequestLimitExceeded", 503)]
        return task

    monkeypatch.setattr(AwsProvider, "_create_task", create_and_be_busy)
    world.give(ProviderAct.REVERT)
    assert (len(world.ec2.tasks), world.ec2.fails["describe_replace_root_volume_tasks"]) == (1, [])
