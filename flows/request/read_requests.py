"""The requests of runs that change nothing: an assessment, and a plan, what people want to know before a window."""

from pydantic import Field

from flows.request.base import (
    CheckedPath,
    Classifications,
    ExcludeMasks,
    IncludeMasks,
    OnlyMachines,
    ReportFormats,
    ScopeRequest,
    ShardId,
    ShardLimits,
)
from flows.request.patch_request import PatchRequest, UpdatesRequest, WindowRequest
from tasks.domain.states import Classification


class AssessRequest(ScopeRequest):
    """Read the facts and pending updates of machines. Change nothing."""

    only_machines: OnlyMachines = Field(default=[])
    refresh: bool = Field(default=True, description="Let the machines refresh their package lists first.")
    at_once: int = Field(default=50, ge=1, le=500, description="Machines asked at the same time.")
    shard: ShardId = Field(default="")
    shard_limits: ShardLimits = Field(default={})
    report_directory: CheckedPath | None = Field(default=None, description="Where to write a report. Empty: none.")
    report_formats: ReportFormats = Field(default=["html", "csv", "parquet", "json"])


class PlanRequest(ScopeRequest):
    """Show what a run would do. Change nothing."""

    minutes: float = Field(default=120, gt=0, le=31 * 24 * 60, description="How long the window is, in minutes.")
    zone: str = Field(
        default="UTC",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$",
        description="IANA time zone, e.g. `Europe/Berlin`.",
    )
    classifications: Classifications = Field(default=[Classification.CRITICAL, Classification.SECURITY])
    include: IncludeMasks = Field(default=[])
    exclude: ExcludeMasks = Field(default=[])

    def to_patch_request(self) -> PatchRequest:
        """Return the same as a dry run of ``patch-fleet``."""
        return PatchRequest(
            scope=self.scope,
            inventory=self.inventory,
            dry_run=True,
            window=WindowRequest(minutes=self.minutes, zone=self.zone),
            updates=UpdatesRequest(classifications=self.classifications, include=self.include, exclude=self.exclude),
        )
