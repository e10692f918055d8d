"""The request for an assessment: which machines, and how many at the same time."""

from pydantic import Field

from flows.request.base import CheckedPath, OnlyMachines, ReportFormats, ScopeRequest


class AssessRequest(ScopeRequest):
    """Read the facts and pending updates of machines. Change nothing."""

    only_machines: OnlyMachines = Field(default=[])
    refresh: bool = Field(default=True, description="Let the machines refresh their package lists first.")
    at_once: int = Field(default=50, ge=1, le=500, description="Machines asked at the same time.")
    report_directory: CheckedPath | None = Field(default=None, description="Where to write a report. Empty: none.")
    report_formats: ReportFormats = Field(default=["html", "csv", "parquet", "json"])
