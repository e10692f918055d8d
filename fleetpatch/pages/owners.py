"""Who patches the machines: the list, what differs from it on the machines, and changes for a selection."""

from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.order_acts import find_own_inventory, set_owner
from fleetpatch.machines.machine_list import KINDS, count_facets, filter_machines, sort_machines
from fleetpatch.pages.hotpatch import ACT_TITLES, ask_or_start_order
from fleetpatch.pages.machines import VALUE_TITLES, Filters
from fleetpatch.pages.paging import build_page
from fleetpatch.pages.selection import Form, list_filter_fields, read_selection, read_value
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from flows.request.order_request import OrderAct
from inventory.machine import PatchOwner
from tasks.domain.states import ChangeState

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]

OWNER_PREFIX: Final = "owner "
OWNER_TITLES: Final = {
    PatchOwner.FLEETPATCH: "fleetpatch, in windows and by hand",
    PatchOwner.MANAGED: "automatic patching",
    PatchOwner.OS: "its own updater",
    PatchOwner.MANUAL: "people",
}
ACTS: Final = (
    *((f"{OWNER_PREFIX}{owner}", f"Patched by {title}") for owner, title in OWNER_TITLES.items()),
    *((act.value, ACT_TITLES[act]) for act in (OrderAct.UPDATERS_ON, OrderAct.UPDATERS_OFF)),
)
FILTER_TITLES: Final = {
    "owner": "Patched by",
    "environment": "Environment",
    "os": "System",
    "kind": "Kind",
    "location": "Location",
}


@router.get("/owners")
def show_owners(request: Request, filters: Filters, page: int = 1) -> HTMLResponse:
    """Show who patches machines, whether they update themselves, and where the two differ."""
    snapshot = get_context(request).fleet.read()
    machines = sort_machines(filter_machines(snapshot, filters), "name")
    return render_page(
        request,
        "owners.html.j2",
        snapshot=snapshot,
        page=build_page(request, machines, page),
        drifted=sum(bool(machine.updater_drift) for machine in machines),
        filters=filters,
        facets=count_facets(snapshot, filters),
        filter_titles=FILTER_TITLES,
        value_titles={**VALUE_TITLES, "kind": KINDS},
        hidden=list_filter_fields(request),
        acts=ACTS,
        owner_titles=OWNER_TITLES,
    )


@router.post("/owners")
def change_owners(request: Request, values: Form, _: Runner) -> Response:
    """Say what a change does to the selected machines, and after a confirmation do it."""
    act = read_value(values, "act")
    if not act.startswith(OWNER_PREFIX):
        return ask_or_start_order(request, values, "/owners")
    owner = PatchOwner(act.removeprefix(OWNER_PREFIX)) if act in dict(ACTS) else None
    if owner is None:
        return ask_or_start_order(request, values, "/owners")
    names = read_selection(values, get_context(request).fleet.read())
    is_confirmed = bool(read_value(values, "confirmed"))
    report = set_owner(request, names, owner, dry_run=not is_confirmed)
    has_failed = any(row.result is ChangeState.FAILED for row in report.rows)
    template = "owners_changed.html.j2" if is_confirmed else "order_confirm.html.j2"
    return render_page(
        request,
        template,
        status=409 if has_failed else 200,
        title=f"Patched by {OWNER_TITLES[owner]}",
        effect=f"It is written into {find_own_inventory(get_context(request))}. No machine is contacted.",
        names=names,
        fields={"act": act},
        action="/owners",
        back="/owners",
        diff=report.build_diff(context=0),
        refused=[row for row in report.rows if row.result is ChangeState.REFUSED],
        rows=report.rows,
        has_failed=has_failed,
    )
