"""The request for an assessment: which machines, and how many at the same time."""

from pydantic import Field

from flows.request.base import CheckedPath, ReportFormat, ScopeRequest
from inventory.schema.value_types import MachineName


class AssessRequest(ScopeRequest):
    """Read the facts and pending updates of machines. Change nothing."""

    only_machines: list[MachineName] = Field(
        default=[],
        max_length=10_000,
        title="Only These Machines",
        description="Of the scope, only these machines, by name. Empty: all of the scope.",
    )
    refresh: bool = Field(default=True, description="Let the machines refresh their package lists first.")
    at_once: int = Field(default=50, ge=1, le=500, description="Machines asked at the same time.")
    report_directory: CheckedPath | None = Field(default=None, description="Where to write a report. Empty: none.")
    report_formats: list[ReportFormat] = Field(
        default=["html", "csv", "parquet", "json"],
        description="Formats of the report: a page (html), tables (csv, parquet), everything for programs (json).",
    )
