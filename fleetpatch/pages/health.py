"""Says whether these pages can work: for load balancers, units and containers. It says nothing about the fleet."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from fleetpatch.web.context import get_context
from tasks.domain.errors import RecordsError
from tasks.records.audit.log import SqlAuditLog

router = APIRouter()


@router.get("/health")
def show_health(request: Request) -> Response:
    """Answer 200 if the records can be read, else 503."""
    try:
        SqlAuditLog(get_context(request).records.database).read(1)
    except RecordsError:
        return JSONResponse({"status": "the records can't be read"}, 503)
    return JSONResponse({"status": "ok"})
