"""The API's routes of maintenance control: what is held for each group, and the act that applies it."""

from fastapi import APIRouter, Request

from fleetpatch.access.roles import Role
from fleetpatch.acts.maintenance_acts import apply_held_package, read_held_package, read_held_rows
from fleetpatch.api import models
from fleetpatch.api.acting import Key, describe_started, report_conflict
from fleetpatch.api.dependencies import READ, allow_act
from fleetpatch.api.fleet_reading import Number, build_part
from fleetpatch.api.problems import describe_problems
from fleetpatch.web.context import get_context
from tasks.domain.rows import copy_row

router = APIRouter(responses=describe_problems(404))


@router.get("/maintenance", dependencies=list(READ), tags=["Maintenance"])
def list_held(request: Request, page: Number = 1) -> models.HeldPart:
    """What is held for each group, as one package: the one whose last day comes first on top."""
    groups = get_context(request).fleet.read().held
    part = build_part(request, read_held_rows(request), page)
    return models.HeldPart(
        **dict(part), unknown=groups.problems if groups is not None else {}, is_read=groups is not None
    )


@router.get("/maintenance/{group}", dependencies=list(READ), tags=["Maintenance"])
def read_held(request: Request, group: str) -> models.HeldPackageDetails:
    """What is held for a group, update by update."""
    package = read_held_package(request, group)
    return copy_row(models.HeldPackageDetails, package.row, patches=package.updates)


@router.post(
    "/maintenance/{group}/apply",
    status_code=202,
    dependencies=allow_act(Role.RUN),
    responses=describe_problems(404, 408, 409, 413, 415),
    tags=["Maintenance"],
)
def apply_held(request: Request, group: str, idempotency_key: Key) -> models.StartedRun:
    """Apply all that is held for a group now. 409: nothing is held, a run applies it already, or a freeze holds it."""
    with report_conflict():
        return describe_started(request, apply_held_package(request, group, idempotency_key))
