"""What is done beside the windows: download ahead of one, write a run's report again, and forget what is old."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.flow_execution import begin_in_flow
from flows.ports.caller import current_caller
from flows.ports.report_directory import find_report_directory
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.recovery.finalizer import finalize_cancelled_flow_run, finalize_crashed_flow_run
from flows.request.base import ReportFormat
from flows.request.patch_request import PatchRequest, WindowRequest
from flows.request.policies import ApprovalRequest, HooksRequest
from tasks.model import RunReport
from tasks.protocols.clock import SystemClock
from tasks.records.queries.history import History
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.reporting.writer import write_report
from tasks.rules.retention import MIN_RETENTION_DAYS

MAX_RUNS = 1000  # that are looked at for those of the last days


@flow(
    name="stage-fleet",
    persist_result=False,
    on_cancellation=[finalize_cancelled_flow_run],
    on_crashed=[finalize_crashed_flow_run],
)
def stage_fleet(request: PatchRequest) -> RunReport:
    """Download ahead of a window what a run would install. Nothing is installed, and no machine is rebooted.

    Give it the request of the run to come; what of it is not about choosing and downloading is left aside (hooks,
    approval, notifications, freezes, reboots, the configuration's name). It has as much time as the window is long,
    from its own scheduled time on. Let it end before the window opens: a machine that still downloads is left alone by
    the run then.

    A flow run that is started again after its process died goes on with the run that it had begun.

    Args:
        request: what would be installed, and where.

    Returns:
        The whole report; a cancelled state when it started too late.

    Raises:
        FleetPatchFailed: some machine could not be assessed, or has failed otherwise.
        InventoryError: the inventory or the scope can't be used.
    """
    return begin_in_flow(build_staging_request(request), log_to_flow_run(current_caller()))


def build_staging_request(request: PatchRequest) -> PatchRequest:
    """Return a request to download what this one would install, and to do nothing else."""
    asked = request.window
    return request.model_copy(
        update={
            "download_only": True,
            "dry_run": False,
            "configuration": "",  # this is none of its windows
            "hooks": HooksRequest(),
            "approval": ApprovalRequest(),
            "notify": [],
            "freezes": [],
            "window": WindowRequest(minutes=asked.minutes, zone=asked.zone),
        }
    )


@flow(name="report-fleet", persist_result=False)
def report_fleet(
    run_id: str = "",
    days: Annotated[float, Field(gt=0, le=3660)] = 7,
    directory: Path | None = None,
    formats: list[ReportFormat] = ["html", "csv", "parquet", "json"],  # noqa: B006 - never changed; a form's default
) -> list[str]:
    """Write reports of recorded runs again: HTML for people, CSV, Parquet and JSON for programs.

    Runs that only assessed are written when they are named.

    Args:
        run_id: of one run, or a beginning of it that no other run has. Empty: the runs that began in the last days.
        days: how far back, when no run is named.
        directory: where they go, each in a folder named for its run. Empty: the user's data folder.
        formats: of the files.

    Returns:
        The folders that were written.

    Raises:
        RecordsError: there is no such run, or the records can't be read.
        ReportError: a report can't be written.
    """
    caller, place = log_to_flow_run(current_caller()), find_report_directory(directory)
    written: list[str] = []
    with open_records(caller.records_url) as records:
        history = History(records)
        since = SystemClock().now() - timedelta(days=days)
        recent = [run for run in history.read_runs(MAX_RUNS) if run.started_at >= since and run.kind != "assess"]
        chosen = [history.find_run(run_id)] if run_id else recent
        for run in chosen:
            report = history.read_report(run.id)
            written.append(str(write_report(report, place, history.open_job_logs(run.id), formats)["directory"]))
    caller.listener.on_message(f"{len(written)} reports were written to {place}")
    return written


@flow(name="prune-records", persist_result=False)
def prune_records(days: Annotated[float, Field(ge=MIN_RETENTION_DAYS, le=36600)] = 400) -> str:
    """Forget runs and assessments that are older than so many days, for good, whatever `fleetpatch history` keeps.

    Kept, however old: each machine's newest assessments, and what was learned about how long things take. Reports that
    were written to files stay.

    Args:
        days: how old a run has to be; 45 at least.

    Returns:
        How much was forgotten, in words.

    Raises:
        RecordsError: the records can't be used; nothing was deleted then.
    """
    caller = log_to_flow_run(current_caller())
    with open_records(caller.records_url) as records:
        pruned = prune_history(records, SystemClock().now() - timedelta(days=days))
    done = f"{pruned.runs} runs and {pruned.assessments} assessments were deleted: older than {days:g} days"
    caller.listener.on_message(done)
    return done
