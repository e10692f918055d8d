"""The components of machines: their versions, what is due, and forms to enrol and upgrade them."""

from typing import Annotated

from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.component_acts import enrol_component, start_upgrade, unenrol_component
from fleetpatch.acts.run_acts import build_key
from fleetpatch.machines.component_list import ComponentFilters, ComponentsView, read_components_view
from fleetpatch.pages.paging import build_page
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from flows.components.component_file import Catalogue
from inventory.errors import FleetpatchError, InventoryError
from tasks.domain.components import AutomaticUpgrade, ComponentStanding
from tasks.domain.errors import PolicyRefused, RecordsError

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]
Filters = Annotated[ComponentFilters, Depends()]
Name = Annotated[str, Form(max_length=100)]
ScopeText = Annotated[str, Form(max_length=1500)]


@router.get("/components")
def show_components(request: Request, filters: Filters, page: int = 1) -> HTMLResponse:
    """Show the components of the machines, with filters."""
    return _render(request, filters, page)


@router.post("/components/enroll")
def enroll(request: Request, _: Runner, component: Name = "", scope: ScopeText = "") -> Response:
    """Enrol a component on the machines of a scope."""
    try:
        return _render(request, ComponentFilters(component=component), said=enrol_component(request, component, scope))
    except FleetpatchError as error:
        return _refuse(request, error)


@router.post("/components/unenroll")
def unenroll(request: Request, _: Runner, component: Name = "", scope: ScopeText = "") -> Response:
    """End an enrolment."""
    try:
        said = unenrol_component(request, component, scope)
        return _render(request, ComponentFilters(component=component), said=said)
    except FleetpatchError as error:
        return _refuse(request, error)


@router.post("/components/upgrade")
def upgrade(
    request: Request,
    _: Runner,
    component: Name = "",
    scope: ScopeText = "",
    version: Annotated[str, Form(max_length=100)] = "",
    once: Annotated[str, Form()] = "",
) -> Response:
    """Upgrade a component on the machines of a scope, now."""
    try:
        flow_run_id = start_upgrade(request, component, scope.strip(), version.strip(), once)
    except FleetpatchError as error:
        return _refuse(request, error)
    return RedirectResponse(f"/starting/{flow_run_id}", 303)


def _refuse(request: Request, error: FleetpatchError) -> HTMLResponse:
    if isinstance(error, PolicyRefused | RecordsError):
        raise error
    return _render(request, ComponentFilters(), error=error)


def _render(
    request: Request,
    filters: ComponentFilters,
    page: int = 1,
    *,
    said: str = "",
    error: FleetpatchError | None = None,
) -> HTMLResponse:
    context = get_context(request)
    try:
        view = read_components_view(context.fleet.read(), context.records, context.clock.now(), filters)
    except InventoryError as fault:  # the scope of the filters
        view, error = ComponentsView(Catalogue()), fault
    return render_page(
        request,
        "components.html.j2",
        status=400 if error is not None else 200,
        view=view,
        page=build_page(request, view.rows, page),
        filters=filters,
        said=said,
        error=error,
        once=build_key(),
        standings=[standing.value for standing in ComponentStanding],
        statuses=[status.value for status in AutomaticUpgrade],
    )
