"""Flows outside of windows: download updates before a window, write reports again, delete old records."""

import functools
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from flows.flow_execution import execute_in_flow
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.recovery.flow_run_hooks import resume_after_cancellation, resume_after_crash
from flows.request import ApprovalRequest, HooksRequest, PatchRequest, WindowRequest
from flows.request.base import ReportFormat
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.records.automatic.rollouts import read_rollout_progress
from tasks.records.queries.history import History
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.reports.formatting import format_count
from tasks.reports.report_directory import find_report_directory
from tasks.reports.writer import write_report
from tasks.rules.retention import MIN_RETENTION_DAYS

MAX_RUNS = 1000  # runs that report_fleet reads to find those of the last days


@flow(
    name="stage-fleet",
    persist_result=False,
    on_cancellation=[resume_after_cancellation],
    on_crashed=[resume_after_crash],
)
def stage_fleet(request: PatchRequest) -> RunReport:
    """Download what a run would install. Install nothing and reboot nothing.

    Use the request of the later run. This flow ignores the parts that do not select or download updates: hooks,
    approval, notifications, freezes, reboots, the configuration's name. It may take as long as the window is, counted
    from its own scheduled time. It should end before the window opens: on a machine that still downloads, the run ends
    the download.

    If Prefect starts the flow run again after its process died, it resumes the run that it had begun.

    Args:
        request: what a run would install, and on which machines.

    Returns:
        The complete report. A cancelled state if it started too late.

    Raises:
        FleetPatchFailed: a machine could not be assessed, or failed otherwise.
        InventoryError: the inventory or the scope is not usable.
    """
    return execute_in_flow(build_staging_request(request), log_to_flow_run(current_caller()))


def build_staging_request(request: PatchRequest) -> PatchRequest:
    """Return a request that only downloads what this request would install."""
    return request.model_copy(
        update={
            "download_only": True,
            "dry_run": False,
            "configuration": "",  # the download does not use a window of the configuration
            "hooks": HooksRequest(),
            "approval": ApprovalRequest(),
            "notify": [],
            "freezes": [],
            "window": WindowRequest(minutes=request.window.minutes, zone=request.window.zone),
        }
    )


@flow(name="report-fleet", persist_result=False)
def report_fleet(
    run_id: str = "",
    days: Annotated[float, Field(gt=0, le=3660)] = 7,
    directory: Path | None = None,
    formats: list[ReportFormat] = ["html", "csv", "parquet", "json"],  # noqa: B006 - never changed; a form's default
) -> list[str]:
    """Write reports of recorded runs again: HTML to read, CSV, Parquet and JSON for programs.

    A run that only assessed is included only if its id is given.

    Args:
        run_id: the id of one run, or a unique prefix of it. Empty: the runs that began in the last days.
        days: how many days back, if there is no run_id.
        directory: the directory of the reports; each report gets a folder named after its run. Empty: the user's data
            folder.
        formats: the formats of the files.

    Returns:
        The folders that were written.

    Raises:
        RecordsError: the run does not exist, or the records can't be read.
        ReportError: a report can't be written.
    """
    caller, report_directory = log_to_flow_run(current_caller()), find_report_directory(directory)
    written: list[str] = []
    with open_records(caller.records_url) as records:
        history = History(records)
        since = SystemClock().now() - timedelta(days=days)
        recent = [run for run in history.read_runs(MAX_RUNS) if run.started_at >= since and run.kind != "assess"]
        chosen = [history.find_run(run_id)] if run_id else recent
        for run in chosen:
            report = history.read_report(run.id)
            rollout = read_rollout_progress(records.database, report, SystemClock().now())
            logs = history.open_job_logs(run.id)
            is_current = functools.partial(history.is_unchanged, report.run)
            files = write_report(report, report_directory, logs, formats, rollout=rollout, is_current=is_current)
            written.append(str(files["directory"]))
    caller.listener.on_message(f"{len(written)} reports were written to {report_directory}")
    return written


@flow(name="prune-records", persist_result=False)
def prune_records(days: Annotated[float, Field(ge=MIN_RETENTION_DAYS, le=36600)] = 400) -> str:
    """Delete runs and assessments that are older than this number of days. They can't be restored.

    The retention that `fleetpatch history` shows does not apply. Each machine's newest assessments and the learned
    durations are always kept. Report files are kept.

    Args:
        days: the minimum age of a run in days; at least 45.

    Returns:
        A sentence that says how much was deleted.

    Raises:
        RecordsError: the records are not usable; nothing was deleted.
    """
    caller = log_to_flow_run(current_caller())
    with open_records(caller.records_url) as records:
        pruned = prune_history(records, SystemClock().now() - timedelta(days=days))
    message = (
        f"{format_count(pruned.runs, 'run')} and {format_count(pruned.assessments, 'assessment')} deleted: "
        f"older than {days:g} days"
    )
    caller.listener.on_message(message)
    return message
