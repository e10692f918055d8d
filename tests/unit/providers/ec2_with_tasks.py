"""An EC2 in memory (moto), with the task that moto lacks: it replaces root volumes, and fails as a test says."""

from typing import Any

from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

Item = dict[str, Any]


class Ec2WithTasks:
    """A client of botocore. What it does not have itself is moto's.

    Attributes:
        calls: the operations that were asked for.
        ends: how the next tasks end. Without one: ``succeeded``.
        fails: operation → the errors that it raises next.
        loses: operations whose next answer is lost after they were carried out.
    """

    def __init__(self, moto: Any) -> None:
        self.moto = moto
        self.calls: list[str] = []
        self.ends: list[str] = []
        self.fails: dict[str, list[Exception]] = {}
        self.loses: dict[str, Exception] = {}
        self.tasks: list[Item] = []
        self._by_token: dict[str, Item] = {}

    def __getattr__(self, operation: str) -> Any:
        def call(**values: Any) -> Any:
            self.calls.append(operation)
            if self.fails.get(operation):
                raise self.fails[operation].pop(0)
            name = "".join(word.capitalize() for word in operation.split("_"))
            shape = self.moto.meta.service_model.operation_model(name).input_shape
            report = ParamValidator().validate(values, shape)
            assert not report.has_errors(), report.generate_report()
            ours = {
                "create_replace_root_volume_task": self._create_task,
                "describe_replace_root_volume_tasks": self._list_tasks,
            }
            answer = ours.get(operation, getattr(self.moto, operation))(**values)
            if operation in self.loses:
                raise self.loses.pop(operation)
            return answer

        return call

    def _create_task(self, **values: Any) -> Item:
        assert values["TagSpecifications"][0]["ResourceType"] == "replace-root-volume-task"
        token = values["ClientToken"]
        if token in self._by_token:
            return {"ReplaceRootVolumeTask": self._by_token[token]}
        instance = self._read_instance(values["InstanceId"])
        if instance["State"]["Name"] != "running":
            error = {"Error": {"Code": "IncorrectInstanceState", "Message": "not running"}}
            raise ClientError(error, "CreateReplaceRootVolumeTask")
        number = len(self.tasks)
        task: Item = {
            "ReplaceRootVolumeTaskId": f"replacevol-{number:017x}",
            "InstanceId": values["InstanceId"],
            "TaskState": "pending",
            "StartTime": f"2026-03-10T01:{number:02}:00Z",
            "Tags": values["TagSpecifications"][0]["Tags"],
            **{key: values[key] for key in ("ImageId", "SnapshotId", "DeleteReplacedRootVolume") if key in values},
        }
        self.tasks.append(task)
        self._by_token[token] = task
        return {"ReplaceRootVolumeTask": dict(task)}

    def _list_tasks(self, Filters: list[Item]) -> Item:  # noqa: N803 - the name is EC2's
        assert [one["Name"] for one in Filters] == ["instance-id"]
        answer = [dict(task) for task in self.tasks]
        for task in self.tasks:  # each look moves them on
            if task["TaskState"] == "pending":
                task["TaskState"] = "in-progress"
            elif task["TaskState"] == "in-progress":
                task["TaskState"] = self.ends.pop(0) if self.ends else "succeeded"
                self._carry_out(task)
        return {"ReplaceRootVolumeTasks": answer}

    def _carry_out(self, task: Item) -> None:
        if task["TaskState"] == "failed":
            return
        instance = self._read_instance(task["InstanceId"])
        device = instance["RootDeviceName"]
        (root,) = (one["Ebs"]["VolumeId"] for one in instance["BlockDeviceMappings"] if one["DeviceName"] == device)
        self.moto.detach_volume(VolumeId=root, InstanceId=task["InstanceId"])
        if task["TaskState"] != "succeeded":
            return
        source = {"SnapshotId": task["SnapshotId"]} if "SnapshotId" in task else {"Size": 8}
        new = self.moto.create_volume(AvailabilityZone=instance["Placement"]["AvailabilityZone"], **source)
        self.moto.attach_volume(VolumeId=new["VolumeId"], InstanceId=task["InstanceId"], Device=device)
        if task["DeleteReplacedRootVolume"]:
            self.moto.delete_volume(VolumeId=root)

    def _read_instance(self, instance_id: str) -> Item:
        (reservation,) = self.moto.describe_instances(InstanceIds=[instance_id])["Reservations"]
        return dict(reservation["Instances"][0])
