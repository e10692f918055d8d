"""The list of machines: filters, facets and sorting are in the URL."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, Response

from fleetpatch.machines.machine_list import KINDS, SHOWN, MachineFilters, count_facets, filter_machines, sort_machines
from fleetpatch.machines.scopes import build_list_scope
from fleetpatch.pages.paging import build_page
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from inventory.errors import InventoryError
from tasks.domain.rows.machines import MachineRow
from tasks.reports.export.tabular_formats import iterate_csv_rows

router = build_viewers_router()

COLUMNS = (
    ("name", "Name", ""),
    ("compliance", "Compliance", ""),
    ("environment", "Environment", ""),
    ("os", "System", ""),
    ("urgent", "Critical + security", "number"),
    ("other", "Other", "number"),
    ("readiness", "Readiness", ""),
    ("mode", "Patch mode", ""),
    ("hotpatch", "Hotpatch", ""),
    ("run", "Last run", ""),
    ("window", "Next window", ""),
)
"""Each column's sort key, its title, and the class of its cells."""

FACET_TITLES = {
    "environment": "Environment",
    "os": "System",
    "location": "Location",
    "owner": "Patched by",
    "reboot": "Needs a reboot",
    "readiness": "Readiness",
    "kind": "Kind",
    "hotpatch": "Hotpatch",
}
VALUE_TITLES = {
    "compliance": {"NonCompliant": "Not compliant", "NotAssessed": "Not assessed"},
    "owner": {"fleetpatch": "fleetpatch", "managed": "automatically", "os": "its own updater", "manual": "people"},
    "kind": KINDS,
}


Filters = Annotated[MachineFilters, Depends()]


@router.get("/machines")
def show_machines(request: Request, filters: Filters, sort: str = "", page: int = 1) -> HTMLResponse:
    """Show a part of the list."""
    snapshot = get_context(request).fleet.read()
    machines: Sequence[MachineRow] = ()
    error: InventoryError | None = None
    try:
        machines = sort_machines(filter_machines(snapshot, filters), sort)
        facets = count_facets(snapshot, filters)
    except InventoryError as found:
        error = found
        facets = count_facets(snapshot, MachineFilters())
    return render_page(
        request,
        "machines.html.j2",
        status=400 if error is not None else 200,
        snapshot=snapshot,
        page=build_page(request, machines, page),
        filters=filters,
        facets=facets,
        error=error,
        sort=sort,
        columns=COLUMNS,
        facet_titles=FACET_TITLES,
        value_titles=VALUE_TITLES,
        shown=SHOWN.get(filters.show),
        is_patched=any(machine.owner is not None and machine.owner.is_patchable for machine in machines),
        list_scope=build_list_scope(filters, machines, snapshot.inventory),
        build_url=lambda **changes: build_url(filters, sort, changes),
    )


def build_url(filters: MachineFilters, sort: str, changes: Mapping[str, str]) -> str:
    """Return the URL of the list with some filters, or the order, changed. "" removes a filter."""
    values = {**filters.given, "sort": sort, **changes}
    query = urlencode({name: value for name, value in values.items() if value})
    return f"/machines?{query}" if query else "/machines"


@router.get("/machines.csv")
def download_machines(request: Request, filters: Filters, sort: str = "") -> Response:
    """Return the filtered list as a CSV file.

    Raises:
        InventoryError: the scope is not valid, or no machine is in it.
    """
    machines = sort_machines(filter_machines(get_context(request).fleet.read(), filters), sort)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows(iterate_csv_rows(MachineRow, machines))
    headers = {"Content-Disposition": 'attachment; filename="machines.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)
