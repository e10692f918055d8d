"""The overview: the state of the whole fleet."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from deployments.web.access.identity import require_role
from deployments.web.access.roles import Role
from deployments.web.rendering import render_page

router = APIRouter(dependencies=[Depends(require_role(Role.VIEW))])


@router.get("/")
def show_overview(request: Request) -> HTMLResponse:
    """Show the overview."""
    return render_page(request, "overview.html.j2")
