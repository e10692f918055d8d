"""The snapshots that runs have taken, and the copies that rehearsals have left, as the records have them."""

from fastapi import Request
from fastapi.responses import HTMLResponse

from fleetpatch.pages.paging import build_page
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from tasks.domain.provided_machines import OPEN_SNAPSHOT_STATES
from tasks.records.queries.copies import find_left_copies
from tasks.records.snapshots import SqlSnapshots
from tasks.reports.formatting import format_size

router = build_viewers_router()


@router.get("/snapshots")
def list_snapshots(request: Request, machine: str = "", page: int = 1) -> HTMLResponse:
    """Show the snapshots of all machines or of one, the newest first."""
    records = get_context(request).records
    rows = [row for row in SqlSnapshots(records.database, records.seals).read_all() if machine in {"", row.machine}]
    return render_page(
        request,
        "snapshots.html.j2",
        page=build_page(request, rows[::-1], page),
        copies=[copy for copy in find_left_copies(records.database) if machine in {"", copy.machine}],
        machine=machine,
        open_states=OPEN_SNAPSHOT_STATES,
        format_size=format_size,
    )
