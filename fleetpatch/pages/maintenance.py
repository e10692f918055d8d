"""What configurations hold, as one package for each group, and the button that applies it."""

from typing import Annotated

from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.maintenance_acts import apply_held_package, read_held_package, read_held_rows
from fleetpatch.acts.run_acts import build_key
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from tasks.domain.errors import RequestError

router = build_viewers_router()
_MAX_UPDATES = 500


@router.get("/maintenance")
def show_held(request: Request) -> HTMLResponse:
    """Show what is held for each group, and its last day."""
    groups = get_context(request).fleet.read().held
    return render_page(
        request,
        "maintenance.html.j2",
        rows=read_held_rows(request),
        unknown=groups.problems if groups is not None else {},
        is_read=groups is not None,
        at=get_context(request).clock.now(),
    )


@router.get("/maintenance/{group}")
def show_package(request: Request, group: str) -> Response:
    """Show what is held for a group, update by update, and the form that applies it."""
    return _show_package(request, group)


@router.post("/maintenance/{group}/apply")
def apply(
    request: Request,
    group: str,
    _: Annotated[Identity, Depends(ActPermission(Role.RUN))],
    once: Annotated[str, Form()] = "",
) -> Response:
    """Apply all that is held for a group now."""
    try:
        return RedirectResponse(f"/starting/{apply_held_package(request, group, once)}", 303)
    except RequestError as error:
        return _show_package(request, group, error)


def _show_package(request: Request, group: str, refusal: RequestError | None = None) -> Response:
    package = read_held_package(request, group)
    return render_page(
        request,
        "maintenance_package.html.j2",
        status=409 if refusal is not None else 200,
        package=package,
        row=package.row,
        updates=package.updates[:_MAX_UPDATES],
        refusal=refusal or package.objection,
        once=build_key(),
        at=get_context(request).clock.now(),
    )
