"""What is done beside the windows: download ahead of one, write a run's report again, and forget what is old."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.context import caller
from flows.patch import begun_before, cancelled, carried_out, ended, gone_on_with
from flows.policy_forms import ApprovalRequest, HooksRequest
from flows.request import PatchRequest, ReportFormat, WindowRequest
from flows.runlog import logged
from flows.settle import settle_cancelled, settle_crashed
from flows.windowed import Refused, flow_start, windowed
from flows.wiring import report_directory
from tasks.model import RunReport
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.records.retention import forget
from tasks.reporting.write import write_report
from tasks.rules.retention import FEWEST_DAYS
from tasks.seams.clock import SystemClock

MOST_RUNS = 1000  # that are looked at for those of the last days


@flow(name="stage-fleet", persist_result=False, on_cancellation=[settle_cancelled], on_crashed=[settle_crashed])
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
    who = logged(caller())
    begun = begun_before(request, who)
    if begun is not None:
        return gone_on_with(begun, who)
    may = windowed(downloading(request), who, flow_start())
    if isinstance(may, Refused):
        return cancelled(may)
    who = replace(who, run_id=may.run_id, name=may.by or who.name)
    return ended(carried_out(may, who), who)


def downloading(request: PatchRequest) -> PatchRequest:
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
    who, place = logged(caller()), report_directory(directory)
    written: list[str] = []
    with open_records(who.records_url) as records:
        history = History(records)
        since = SystemClock().now() - timedelta(days=days)
        recent = [run for run in history.runs(MOST_RUNS) if run.started_at >= since and run.kind != "assess"]
        chosen = [history.run(run_id)] if run_id else recent
        for run in chosen:
            report = history.report(run.id)
            written.append(str(write_report(report, place, history.logs(run.id), formats)["directory"]))
    who.watch.said(f"{len(written)} reports were written to {place}")
    return written


@flow(name="prune-records", persist_result=False)
def prune_records(days: Annotated[float, Field(ge=FEWEST_DAYS, le=36600)] = 400) -> str:
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
    who = logged(caller())
    with open_records(who.records_url) as records:
        gone = forget(records, SystemClock().now() - timedelta(days=days))
    done = f"{gone.runs} runs and {gone.assessments} assessments were forgotten: older than {days:g} days"
    who.watch.said(done)
    return done
