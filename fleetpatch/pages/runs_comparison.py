"""Two runs side by side."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from fleetpatch.access.identity import require_role
from fleetpatch.access.roles import Role
from fleetpatch.pages.paging import build_page
from fleetpatch.pages.run import RunHead, build_head, find_run, read_state
from fleetpatch.runs.comparing import compare_machines, compare_updates
from fleetpatch.runs.run_state import RunState
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from tasks.domain.rows.runs import RunRow
from tasks.records.queries.fleet.run_updates import count_update_results
from tasks.records.queries.fleet.runs import RunFilter, read_run_rows

router = APIRouter(dependencies=[Depends(require_role(Role.VIEW))])
MAX_UPDATES: Final = 200
CHOICES: Final = 40


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs."""

    head: RunHead
    state: RunState


@router.get("/runs/compare")
def compare_runs(request: Request, left: str = "", right: str = "", page: int = 1) -> Response:
    """Compare two runs. Without both, offer runs to choose from: those of the same configuration or scope first."""
    context = get_context(request)
    left, right = left.strip(), right.strip()
    ids = {name: find_run(context, run_id).id for name, run_id in (("left", left), ("right", right)) if run_id}
    if len(ids) < 2:
        return _ask(request, ids)
    if (left, right) != (ids["left"], ids["right"]):
        return RedirectResponse(f"/runs/compare?{urlencode(ids)}", 303)
    sides = [_read_side(context, ids[name]) for name in ("left", "right")]
    machines = compare_machines(sides[0].state, sides[1].state)
    database = context.records.database
    updates = compare_updates(*(count_update_results(database, ids[name]) for name in ("left", "right")))
    changed = [machine for machine in machines if machine.what]
    return render_page(
        request,
        "runs_comparison.html.j2",
        sides=sides,
        page=build_page(request, changed, page),
        same=len(machines) - len(changed),
        updates=updates[:MAX_UPDATES],
        updates_left_out=max(0, len(updates) - MAX_UPDATES),
    )


def _read_side(context: WebContext, run_id: str) -> Side:
    run = find_run(context, run_id)
    return Side(build_head(context, run), read_state(context, run))


def _ask(request: Request, ids: dict[str, str]) -> Response:
    context = get_context(request)
    lines = read_run_rows(context.records.database, RunFilter(), 0, 400)
    known_line = next((each for each in lines if each.run_id in ids.values()), None)

    def rank(line: RunRow) -> int:
        if known_line is None:
            return 0
        alike = (line.kind, line.configuration, line.scope) == (
            known_line.kind,
            known_line.configuration,
            known_line.scope,
        )
        return 0 if alike else 1 if line.kind == known_line.kind else 2

    choices = sorted((each for each in lines if each.run_id not in ids.values()), key=rank)
    return render_page(request, "runs_comparison_choice.html.j2", ids=ids, choices=choices[:CHOICES], known=known_line)
