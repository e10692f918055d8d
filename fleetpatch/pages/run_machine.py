"""The page of one machine in one run, with its journal in words and its log; and the whole report of a run."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from fleetpatch.pages.run import MACHINE_DETAIL, build_head, build_outcome_so_far, find_run, read_state
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from inventory.data_class import dataclass
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.records.automatic.rollouts import read_rollout_progress
from tasks.records.queries.run_machines import read_machine_details
from tasks.records.queries.whole_journal import read_whole_journal
from tasks.reports.data.tables import build_hook_row
from tasks.reports.html.page import build_machine_section
from tasks.reports.log_files import sanitize_log
from tasks.reports.sanitizing import sanitize_to_one_line, to_safe_file_name

LOG_CHARACTERS: Final = 120_000
LOG_LINES: Final = 1200
MAX_ENTRIES: Final = 400
_DETAIL_CHARACTERS: Final = 400
_CHUNK_LINES: Final = 5000
_ACTS: Final = {
    "step": "step completed",
    "stage": "download",
    "install": "installation",
    "repair": "repair of packages",
    "reboot": "reboot",
    "hook": "hook",
    "restart": "restart of services",
    "attempt": "try to lock the machine",
    "unlock": "unlock by a person",
    "pause_updaters": "pause of automatic updaters",
    "restore_updaters": "return of automatic updaters",
    "power_on": "power on",
    "power_off": "power off",
    "plan": "new plan",
    "set-release": "release of the machine set",
}


@dataclass(frozen=True, slots=True)
class JournalLine:
    """An entry of the journal in words. ``begins``: it was written before the act, so the act may not have happened."""

    at: datetime
    step: str
    begins: bool
    act: str
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The end of a log, in whole lines. ``left_out``: characters of the log before it."""

    text: str
    left_out: int


def describe_journal(entries: Sequence[JournalEntry]) -> list[JournalLine]:
    """Return the last entries in words. Pure."""
    return [
        JournalLine(
            entry.at,
            entry.step.value,
            entry.mark is JournalMark.BEFORE,
            _ACTS.get(entry.act, entry.act.replace("_", " ")),
            "" if entry.key == entry.step.value else sanitize_to_one_line(entry.key, 80),
            "" if entry.act in {"step", "plan"} else _describe_detail(entry.detail),
        )
        for entry in entries[-MAX_ENTRIES:]
    ]


def _describe_detail(detail: dict[str, object]) -> str:
    """Return the facts of an entry; nested ones as JSON."""
    parts = [
        f"{name.replace('_', ' ')}: {value if isinstance(value, str | int | float) else json.dumps(value)}"
        for name, value in detail.items()
        if value not in (None, "", [], {})
    ]
    return sanitize_to_one_line("; ".join(parts), _DETAIL_CHARACTERS)


def cut_log(text: str) -> LogEnd:
    """Return the sanitized end of a log: its last lines, or the end of its last line if that is too long. Pure."""
    end = text.rstrip("\n")
    start = max(0, len(end) - LOG_CHARACTERS)
    if start and end[start - 1] != "\n":
        start = end.find("\n", start) + 1 or start
    lines = end[start:].split("\n")
    shown = lines[-LOG_LINES:]
    left_out = start + sum(len(line) + 1 for line in lines[: -len(shown)])
    return LogEnd(sanitize_log("\n".join(shown)), left_out)


def iterate_log(text: str) -> Iterator[str]:
    """Yield a whole log, sanitized, in parts."""
    lines = text.split("\n")
    for start in range(0, len(lines), _CHUNK_LINES):
        yield sanitize_log("\n".join(lines[start : start + _CHUNK_LINES])) + "\n"


router = build_viewers_router()


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
    details, now = read_machine_details(context.records.database, run.id, [name])[name], context.clock.now()
    if line is not None and not report.outcomes and (outcome := build_outcome_so_far(run, line, details, now)):
        report = replace(report, outcomes=(outcome,))
    logs = context.history.open_job_logs(run.id, name)
    journal = read_whole_journal(context.history, run.id, name)
    return render_page(
        request,
        "run_machine.html.j2",
        head=build_head(context, run),
        run=run,
        state=state,
        name=name,
        machine=line,
        outcome=report.outcomes[0] if report.outcomes else None,
        view=build_machine_section(report, name, MACHINE_DETAIL),
        detail=MACHINE_DETAIL,
        hooks=[build_hook_row(run.id, hook) for hook in report.hooks if hook.subject == name],
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
