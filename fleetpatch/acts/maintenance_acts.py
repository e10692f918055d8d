"""What people and programs do with what configurations hold: read it, and apply it. Pages and API call the same."""

from fastapi import HTTPException, Request

from deployments.maintenance.group_view import read_records
from deployments.maintenance.groups import HoldGroup, HoldGroups
from deployments.maintenance.overview import build_held_rows, require_applicable
from deployments.maintenance.run_starter import build_apply_request
from fleetpatch.acts.run_acts import start_apply
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.web.context import get_context
from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.rows.maintenance import HeldPackageRow, HeldUpdateRow
from tasks.records.maintenance import GroupRecord
from tasks.records.maintenance_rows import build_update_rows


@dataclass(frozen=True, slots=True)
class HeldPackage:
    """A group, what is held for it, and why it can't be applied now.

    Attributes:
        objection: None: it can.
        is_known: whether the configurations that are read here have the group.
    """

    row: HeldPackageRow
    updates: tuple[HeldUpdateRow, ...]
    objection: RequestError | None
    is_known: bool


def read_held_rows(request: Request) -> tuple[HeldPackageRow, ...]:
    """Return what is held for each group, the one whose last day comes first on top.

    Raises:
        RecordsError: the records can't be read.
    """
    context = get_context(request)
    groups = context.fleet.read().held
    return build_held_rows(_read_records(request, groups), groups, context.clock.now())


def read_held_package(request: Request, name: str) -> HeldPackage:
    """Return a group with what is held for it.

    Raises:
        HTTPException: there is no such group (404).
        RecordsError: the records can't be read.
    """
    context = get_context(request)
    groups, now = context.fleet.read().held, context.clock.now()
    records = _read_records(request, groups)
    row = next((row for row in build_held_rows(records, groups, now) if row.name == name), None)
    if row is None:
        raise HTTPException(404, f"no configuration {name!r} holds updates")
    group = groups.by_name.get(name) if groups is not None else None
    objection = None
    try:
        _require_applicable(request, group, records.get(name), name)
    except RequestError as error:
        objection = error
    return HeldPackage(row, build_update_rows(records.get(name)), objection, group is not None)


def apply_held_package(request: Request, name: str, key: str) -> str:
    """Start a run that applies all that is held for a group, and return the id of its flow run.

    Raises:
        HTTPException: there is no such group (404).
        KeyUsedBefore: the key was used for another request.
        PolicyRefused: a rule of the policy or the scope of the person's role forbids it.
        RequestError: nothing is held, another run applies it, a freeze is in force, or its machines can't be read.
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    groups = get_context(request).fleet.read(ACT_WAIT_SECONDS).held
    records = _read_records(request, groups)
    group = groups.by_name.get(name) if groups is not None else None
    if group is None and name not in records:
        raise HTTPException(404, f"no configuration {name!r} holds updates")
    known_group = _require_applicable(request, group, records.get(name), name)
    return start_apply(request, build_apply_request(known_group), key)


def _require_applicable(request: Request, group: HoldGroup | None, record: GroupRecord | None, name: str) -> HoldGroup:
    """Return the group if it may be applied now. Raise RequestError if it may not."""
    if group is None or group.problem:
        problem = group.problem if group is not None else "its configuration can't be read here"
        raise RequestError(f"what is held for {name} is not known: {problem}", hint="fleetpatch config check")
    require_applicable(group, record, get_context(request).clock.now())
    return group


def _read_records(request: Request, groups: HoldGroups | None) -> dict[str, GroupRecord]:
    context = get_context(request)
    return read_records(context.records.database, groups, context.clock.now())
