"""The answers and requests of the API. The words are those of the command's --json, and so of Azure Resource Graph."""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetpatch.acts.undo_acts import DEFAULT_MINUTES
from flows.request.base import ExcludeMasks, OnlyMachines
from flows.request.request_parts import UndoBy
from inventory.machine import PatchOwner
from tasks.domain.rows import Column, row
from tasks.domain.rows.machines import MachineRow, NextWindow
from tasks.domain.rows.maintenance import HeldPackageRow, HeldUpdateRow
from tasks.domain.rows.owner_changes import OwnerChangeRow
from tasks.domain.rows.runs import MachineStepRow, RunRow, ShardRow
from tasks.domain.rows.updates import MissingUpdateRow
from tasks.domain.states import RebootPolicy, UndoWay

Item = TypeVar("Item")


class ApiModel(BaseModel):
    """An object of the API, with names in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Problem(BaseModel):
    """An error (RFC 9457), as application/problem+json."""

    type: str = Field(default="about:blank", description="The kind of the problem.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong.")
    hint: str = Field(default="", description="The remedy.")
    errors: dict[str, str] = Field(default={}, description="What is wrong with each field of the request.")


class Part(ApiModel, Generic[Item]):
    """A part of a long list."""

    items: list[Item]
    page: int = Field(description="The number of this part, from 1.")
    total: int = Field(description="How many items the whole list has.")
    next: str | None = Field(description="The path of the next part; null at the end.")


@row
class MachineDetails(MachineRow):
    """A machine, with the updates that it lacks."""

    patches: Annotated[tuple[MissingUpdateRow, ...], Column("The updates that it lacks.")]


@row
class HeldPackageDetails(HeldPackageRow):
    """What is held for a group, update by update."""

    patches: Annotated[tuple[HeldUpdateRow, ...], Column("Its contents: what most machines lack comes first.")]


class HeldPart(Part[HeldPackageRow]):
    """A part of what is held, and what is not known of it."""

    unknown: dict[str, str] = Field(description="Groups whose machines or hold can't be read, each with the reason.")
    is_read: bool = Field(description="Whether the configurations could be read: if not, groups may be missing here.")


class Overview(ApiModel):
    """The fleet in numbers. Answers that are older than a week do not count."""

    machines: int
    compliant: int
    non_compliant: int
    not_assessed: int
    critical_patch_count: int
    security_patch_count: int
    other_patch_count: int
    reboot_required: int
    services_to_restart: int
    fixes_not_in_effect: int
    unreachable: int
    runs_in_progress: list[str]
    waiting_approvals: int
    next_windows: list[NextWindow]
    problems: list[str]


class Report(ApiModel):
    """The report of a run, as ``fleetpatch report`` writes it."""

    model_config = ConfigDict(extra="allow", alias_generator=None)

    schema_version: int
    run: dict[str, Any]
    waves: list[dict[str, Any]]
    hooks: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    shards: list[ShardRow] = Field(description="The runs that carry out its parts, each at its site.")


class Progress(ApiModel):
    """The progress of a run."""

    run: RunRow
    executed: bool = Field(description="Whether a live process executes the run now.")
    executed_by: str | None = Field(description="That process; null if there is none.")
    stop_requested_by: str | None
    machines: list[MachineStepRow]


class StartedRun(ApiModel):
    """A run that Prefect was asked to start."""

    flow_run_id: str
    maintenance_run_id: str | None = Field(description="null until a worker has begun it: ask `status` again.")
    status: str = Field(description="The path that says how it goes on.")


class OwnerChange(ApiModel):
    """Who is to patch some machines."""

    machines: list[str] = Field(min_length=1, max_length=5000, description="Their names.")
    owner: PatchOwner = Field(description="Who patches them from now on.")
    dry_run: bool = Field(default=False, description="Only say what would be written.")


class OwnerChanged(ApiModel):
    """What became of a change of who patches machines."""

    machines: list[OwnerChangeRow]
    diff: str = Field(description="The change of the inventory's files, as a unified diff.")


class FlowRun(ApiModel):
    """How a run that was asked for comes to its worker."""

    flow_run_id: str
    maintenance_run_id: str | None
    state: str
    message: str
    is_over: bool


class ComponentScope(ApiModel):
    """The machines on which a component is enrolled, or no longer."""

    scope: str = Field(min_length=1, max_length=1500, description="The machines, as env=prod.")


class ComponentUpgradeBody(ComponentScope):
    """The machines that get a version of a component."""

    version: str = Field(default="", max_length=100, description='"": the newest minor version of each machine.')
    dry_run: bool = Field(default=False, description="Only plan.")


class ImageUpgradeBody(ApiModel):
    """How a group of images is upgraded."""

    version: str = Field(default="", max_length=100, description='"": the newest version of the image.')
    roll_back: bool = Field(
        default=False, description="Put the OS disk before back where a machine is not healthy. Azure does not either."
    )
    dry_run: bool = Field(default=False, description="Only plan.")


class ComponentEnrolmentState(ApiModel):
    """What became of an enrolment."""

    component_name: str
    scope: str
    enrolled: bool
    message: str


class UndoBody(ApiModel):
    """How a run is taken back."""

    machines: OnlyMachines = Field(default=[], description="Of the run. Empty: all on which it has changed something.")
    exclude: ExcludeMasks = Field(default=[], description="Masks of updates that stay.")
    minutes: float = Field(default=DEFAULT_MINUTES, gt=0, le=31 * 24 * 60, description="How long the window is.")
    reboot: RebootPolicy = Field(default=RebootPolicy.IF_REQUIRED, description="Whether machines are rebooted.")
    allow_removals: bool = Field(default=False, description="Allow that other packages are removed for it.")
    by: UndoBy = UndoWay.PACKAGES
    dry_run: bool = Field(default=False, description="Only plan.")


class CancelBody(ApiModel):
    """Why a run is cancelled."""

    reason: str = Field(default="", max_length=500, description="For the report.")


class Cancelled(ApiModel):
    """A run that was asked to stop. Nothing is killed: what runs is finished."""

    maintenance_run_id: str
    stop_requested_by: str
    stop_reason: str
    stop_requested_date_time: datetime
    executed: bool = Field(description="Whether a live process executes the run now, and so reads this request.")
    executed_by: str | None = Field(description="That process; null if there is none.")


class Rejection(ApiModel):
    """A plan that is rejected."""

    plan: str = Field(default="", pattern=r"^([0-9a-f]{12,64})?$", description="Its digest; left out: whatever waits.")
    remark: str = Field(default="", max_length=2000, description="For the report.")


class Consent(Rejection):
    """A plan that is approved: exactly the one with this digest."""

    plan: str = Field(pattern=r"^[0-9a-f]{12,64}$", description="The digest of the plan, or its first 12 characters.")
