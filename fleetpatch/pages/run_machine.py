"""The page of one machine in one run, with its log; and the whole report of a run."""

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from fleetpatch.access.identity import require_role
from fleetpatch.access.roles import Role
from fleetpatch.pages.run import build_head, find_run, read_state
from fleetpatch.runs.machine_page import MAX_ENTRIES, cut_log, describe_journal, iterate_log
from fleetpatch.runs.run_page import list_updates
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from tasks.domain.model import RunReport
from tasks.records.automatic.rollout_progress import read_rollout_progress
from tasks.records.queries.fleet.run_machines import read_machine_details
from tasks.reports.log_files import to_safe_file_name

router = APIRouter(dependencies=[Depends(require_role(Role.VIEW))])


@router.get("/runs/{run_id}/machines/{name:path}")
def show_run_machine(request: Request, run_id: str, name: str, log: str = "") -> Response:
    """Show one machine of a run. ``log=all`` gives the whole log as a file."""
    context = get_context(request)
    run = find_run(context, run_id)
    if log:
        return _download_log(request, run.id, name)
    state = read_state(context, run)
    line = next((machine for machine in state.machines if machine.name == name), None)
    report = context.history.read_report(run.id, name)
    if line is None and not (report.outcomes or report.assessments or report.plans):
        raise HTTPException(404, f"run {run.id} has no machine {name!r}")
    outcome = report.outcomes[0] if report.outcomes else None
    plan = report.plans[0] if report.plans else None
    logs = context.history.open_job_logs(run.id, name)
    details = read_machine_details(context.records.database, run.id, [name])[name]
    journal = context.history.read_journal(run.id, name)
    return render_page(
        request,
        "run_machine.html.j2",
        head=build_head(context, run),
        run=run,
        state=state,
        name=name,
        machine=line,
        outcome=outcome,
        plan=plan,
        steps=details.steps,
        assessment=report.assessments[-1] if report.assessments else None,
        updates=list_updates(outcome, plan, run.kind),
        hooks=[hook for hook in report.hooks if hook.subject == name],
        journal=describe_journal(journal),
        journal_left_out=max(0, len(journal) - MAX_ENTRIES),
        log=cut_log(logs[name]) if name in logs else None,
    )


def _download_log(request: Request, run_id: str, name: str) -> StreamingResponse:
    logs = get_context(request).history.open_job_logs(run_id, name)
    if name not in logs:
        raise HTTPException(404, f"run {run_id} has no log of a machine {name!r}")
    file_name = f"{to_safe_file_name(run_id)}-{to_safe_file_name(name)}.txt"
    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    return StreamingResponse(iterate_log(logs[name]), media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/runs/{run_id}/report")
def show_report(request: Request, run_id: str) -> HTMLResponse:
    """Show the whole report, as the report files have it. It has its own style sheet, which is allowed by its hash."""
    from tasks.reports.html.renderer import build_style_policy, render_html  # noqa: PLC0415 - loads pandas

    context = get_context(request)
    run = find_run(context, run_id)
    report: RunReport = context.history.read_report(run.id)
    now = context.clock.now()
    html = render_html(
        report,
        logs=context.history.open_job_logs(run.id),
        now=None if run.ended_at else now,
        rollout=read_rollout_progress(context.records.database, report, now),
    )
    policy = f"{build_style_policy()}; frame-ancestors 'none'"
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})
