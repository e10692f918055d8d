"""The audit log as a page."""

from typing import Annotated, Final

from fastapi import Query, Request
from fastapi.responses import Response

from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from tasks.records.audit.log import SqlAuditLog

router = build_viewers_router()
_SIZE: Final = 200


@router.get("/audit")
def show_audit(
    request: Request, who: str = "", act: str = "", before: Annotated[int, Query(ge=0, lt=2**63)] = 0
) -> Response:
    """Show who did what, newest first."""
    context = get_context(request)
    listed = SqlAuditLog(context.records.database).read(_SIZE + 1, before=before, who=who, act=act)
    entries = listed[:_SIZE]
    older = request.url.include_query_params(before=entries[-1].number).query if len(listed) > _SIZE else ""
    newest = request.url.remove_query_params("before").query
    return render_page(
        request, "audit.html.j2", entries=entries, who=who, act=act, older=older, newest=newest, is_newest=not before
    )
