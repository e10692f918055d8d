"""The list of runs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse

from fleetpatch.pages.paging import build_part
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from inventory.data_class import dataclass
from tasks.domain.rows.runs import RunRow
from tasks.domain.states import OperationState
from tasks.records.queries.live_runs import read_run_processes
from tasks.records.queries.runs import (
    RunFigures,
    RunFilter,
    count_runs,
    read_configuration_names,
    read_run_figures,
    read_run_rows,
)
from tasks.reports.formatting import load_zone_or_utc

router = build_viewers_router()
RUNS_ON_PAGE: Final = 50
KINDS: Final[Mapping[str, str]] = {
    "patch": "Patch run",
    "stage": "Download only",
    "plan": "Plan",
    "assess": "Assessment",
    "shard": "Part of a run",
}
SPANS: Final[Mapping[str, int]] = {"24 hours": 1, "7 days": 7, "30 days": 30, "90 days": 90, "a year": 365}
_MAX_KEPT_FIGURES: Final = 5000


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run of the list. ``is_abandoned``: it is not over, and no process works on it."""

    run: RunRow
    figures: RunFigures
    is_abandoned: bool


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
        lambda offset, limit: list_runs(context, read_run_rows(database, run_filter, offset, limit)),
        page,
        total=count_runs(database, run_filter),
        size=RUNS_ON_PAGE,
    )
    return render_page(
        request,
        "runs.html.j2",
        page=runs,
        kinds=KINDS,
        states=[operation_state.value for operation_state in OperationState],
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


def list_runs(context: WebContext, runs: Sequence[RunRow]) -> list[ListedRun]:
    """Return runs with their figures. Those of runs that are over are counted once."""
    database, stored_figures = context.records.database, context.run_figures
    # Taken before the cache may be emptied, by this request or by another thread.
    known_figures = {run.run_id: figures for run in runs if (figures := stored_figures.get(run.run_id)) is not None}
    missing = [run.run_id for run in runs if run.run_id not in known_figures]
    counted = read_run_figures(database, missing) if missing else {}
    known_figures |= {run_id: counted.get(run_id, RunFigures()) for run_id in missing}
    if len(stored_figures) > _MAX_KEPT_FIGURES:
        stored_figures.clear()
    stored_figures.update({run.run_id: known_figures[run.run_id] for run in runs if run.is_over})
    processes = read_run_processes(database, context.clock.now()) if any(not run.is_over for run in runs) else {}
    return [
        ListedRun(
            run,
            known_figures[run.run_id],
            not run.is_over and (run.run_id not in processes or not processes[run.run_id].is_alive),
        )
        for run in runs
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
