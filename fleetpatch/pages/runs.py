"""The list of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from fleetpatch.access.identity import require_role
from fleetpatch.access.roles import Role
from fleetpatch.pages.paging import build_part
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from tasks.domain.states import OperationState
from tasks.records.queries.fleet.live_runs import read_run_processes
from tasks.records.queries.fleet.runs import (
    RunFigures,
    RunFilter,
    RunLine,
    count_runs,
    read_configuration_names,
    read_run_figures,
    read_run_lines,
)
from tasks.reports.formatting import load_zone_or_utc

router = APIRouter(dependencies=[Depends(require_role(Role.VIEW))])
RUNS_ON_PAGE: Final = 50
KINDS: Final[Mapping[str, str]] = {
    "patch": "Patch run",
    "stage": "Download only",
    "plan": "Plan",
    "assess": "Assessment",
}
SPANS: Final[Mapping[str, int]] = {"24 hours": 1, "7 days": 7, "30 days": 30, "90 days": 90, "a year": 365}
_MAX_KEPT_FIGURES: Final = 5000


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run of the list. ``is_abandoned``: it is not over, and no process works on it."""

    line: RunLine
    figures: RunFigures
    is_abandoned: bool

    @property
    def seconds(self) -> float | None:
        """How long it lasted, with all waiting; None if it has not ended."""
        return (self.line.ended_at - self.line.started_at).total_seconds() if self.line.ended_at else None


@router.get("/runs")
def show_runs(
    request: Request,
    kind: str = "",
    state: str = "",
    configuration: str = "",
    q: str = "",
    machine: str = "",
    since: str = "",
    page: int = 1,
) -> HTMLResponse:
    """Show the runs, newest first, with filters. ``since`` is a number of days, or a date."""
    context = get_context(request)
    database = context.records.database
    found_since, problem = _parse_since(since, context)
    run_filter = RunFilter(
        kinds=(kind,) if kind else (),
        states=(state,) if state else (),
        configuration=configuration,
        text=q.strip(),
        machine=machine.strip(),
        since=found_since,
    )
    runs = build_part(
        request,
        lambda offset, limit: _list_runs(context, read_run_lines(database, run_filter, offset, limit)),
        page,
        total=count_runs(database, run_filter),
        size=RUNS_ON_PAGE,
    )
    return render_page(
        request,
        "runs.html.j2",
        page=runs,
        kinds=KINDS,
        states=[each.value for each in OperationState],
        configurations=read_configuration_names(database),
        spans=SPANS,
        filters={
            "kind": kind,
            "state": state,
            "configuration": configuration,
            "q": q,
            "machine": machine,
            "since": since,
        },
        problem=problem,
    )


def _list_runs(context: WebContext, lines: Sequence[RunLine]) -> list[ListedRun]:
    """Return runs with their figures. Those of runs that are over are counted once."""
    database, stored_figures = context.records.database, context.run_figures
    # Taken before the cache may be emptied, by this request or by another thread.
    known_figures = {line.run_id: figures for line in lines if (figures := stored_figures.get(line.run_id)) is not None}
    missing = [line.run_id for line in lines if line.run_id not in known_figures]
    counted = read_run_figures(database, missing) if missing else {}
    known_figures |= {run_id: counted.get(run_id, RunFigures()) for run_id in missing}
    if len(stored_figures) > _MAX_KEPT_FIGURES:
        stored_figures.clear()
    stored_figures.update({line.run_id: known_figures[line.run_id] for line in lines if line.is_over})
    processes = read_run_processes(database, context.clock.now()) if any(not line.is_over for line in lines) else {}
    return [
        ListedRun(
            line,
            known_figures[line.run_id],
            not line.is_over and (line.run_id not in processes or not processes[line.run_id].is_alive),
        )
        for line in lines
    ]


def _parse_since(text: str, context: WebContext) -> tuple[datetime | None, str]:
    """Return the time, and what is wrong with the text."""
    text = text.strip()
    if not text:
        return None, ""
    try:
        if text.isdigit():
            return context.clock.now() - timedelta(days=min(int(text), 36500)), ""
        moment = datetime.fromisoformat(text)
        zone = load_zone_or_utc(context.settings.zone)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC), ""
    except (ValueError, OverflowError):
        return None, "since: a date like 2026-11-23, or a number of days"
