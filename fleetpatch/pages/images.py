"""The groups of images: their machines, their last upgrades, and a form that starts one."""

from typing import Annotated

from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.image_acts import start_image_upgrade
from fleetpatch.acts.run_acts import build_key
from fleetpatch.machines.image_list import read_images_view
from fleetpatch.pages.paging import build_page
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from inventory.errors import FleetpatchError
from tasks.domain.errors import PolicyRefused, RecordsError

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]


@router.get("/images")
def show_images(request: Request, page: int = 1) -> HTMLResponse:
    """Show the groups of images, their machines and their last upgrades."""
    return _render(request, page)


@router.post("/images/upgrade")
def upgrade(
    request: Request,
    _: Runner,
    group: Annotated[str, Form(max_length=100)] = "",
    version: Annotated[str, Form(max_length=100)] = "",
    roll_back: Annotated[str, Form(max_length=10)] = "",
    once: Annotated[str, Form()] = "",
) -> Response:
    """Give the machines of a group new OS disks, now."""
    try:
        flow_run_id = start_image_upgrade(request, group, version.strip(), once, roll_back=bool(roll_back))
    except FleetpatchError as error:
        if isinstance(error, PolicyRefused | RecordsError):
            raise
        return _render(request, error=error)
    return RedirectResponse(f"/starting/{flow_run_id}", 303)


def _render(request: Request, page: int = 1, *, error: FleetpatchError | None = None) -> HTMLResponse:
    context = get_context(request)
    view = read_images_view(context.fleet.read(), context.records, context.clock.now())
    return render_page(
        request,
        "images.html.j2",
        status=400 if error is not None else 200,
        view=view,
        page=build_page(request, view.rows, page),
        error=error,
        once=build_key(),
    )
