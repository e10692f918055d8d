"""The API's routes that read the fleet: overview, machines, updates, CVEs and windows."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import AwareDatetime

from fleetpatch.api import models
from fleetpatch.api.dependencies import READ
from fleetpatch.api.problems import describe_problems
from fleetpatch.machines.automatic_patching import read_automatic_state
from fleetpatch.machines.component_list import ComponentFilters, read_components_view
from fleetpatch.machines.hotpatch_list import list_hotpatch_machines
from fleetpatch.machines.image_list import ImagesView, read_images_view
from fleetpatch.machines.machine_list import filter_machines, sort_machines
from fleetpatch.machines.snapshot import count_fleet
from fleetpatch.pages.machine import read_details
from fleetpatch.pages.machines import Filters
from fleetpatch.pages.paging import PAGE_SIZE, Page, build_page
from fleetpatch.updates.pending_explanations import explain_waiting
from fleetpatch.updates.update_list import UpdateFilter, find_cve, list_updates, select_scope
from fleetpatch.web.context import get_context
from fleetpatch.windows.window_list import list_windows
from tasks.domain.errors import RequestError
from tasks.domain.rows import copy_row
from tasks.domain.rows.components import ComponentRow
from tasks.domain.rows.hotpatch import HotpatchMachineRow
from tasks.domain.rows.images import ImageUpgradeRow
from tasks.domain.rows.machine_orders import MachineOrderRow
from tasks.domain.rows.machines import MachineRow, NextWindow
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.rows.updates import CveMachinesRow, UpdateRow, build_missing_update_row
from tasks.domain.rows.windows import WindowRow
from tasks.records.approvals import SqlApprovals
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.queries.windows import read_window_results
from tasks.records.snapshots import SqlSnapshots

router = APIRouter(dependencies=list(READ), responses=describe_problems())
MAX_NUMBER: Final = 1_000_000
Number = Annotated[int, Query(ge=1, le=MAX_NUMBER, description="The number of the part, from 1.")]
Item = TypeVar("Item")
MAX_DAYS: Final = 400
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Moment = Annotated[AwareDatetime | None, Query(description="ISO 8601 with an offset; write + as %2B in an address.")]
_CVE: Final = re.compile(r"CVE-\d{4}-\d{4,}", re.ASCII)


def build_part(request: Request, items: Sequence[Item], page: int) -> models.Part[Item]:
    """Return one part of a list."""
    part = build_page(request, items, page, PAGE_SIZE)
    return describe_part(part, page)


def describe_part(part: Page[Item], page: int) -> models.Part[Item]:
    """Return a part for a program. Behind the end nothing comes, so that counting up ``page`` ends."""
    return models.Part(
        items=list(part.items) if page == part.number else [], page=page, total=part.total, next=part.next_url or None
    )


@router.get("/overview", tags=["Fleet"])
def read_overview(request: Request) -> models.Overview:
    """The fleet in numbers, what runs, and what comes next."""
    context = get_context(request)
    snapshot = context.fleet.read()
    totals = count_fleet(snapshot)
    return models.Overview(
        machines=totals.machines,
        compliant=totals.compliant,
        non_compliant=totals.non_compliant,
        not_assessed=totals.not_assessed,
        critical_patch_count=totals.critical,
        security_patch_count=totals.security,
        other_patch_count=totals.other,
        reboot_required=totals.reboot,
        services_to_restart=totals.services,
        fixes_not_in_effect=totals.waiting,
        unreachable=totals.unreachable,
        runs_in_progress=[run.id for run in context.history.read_unfinished_runs()],
        waiting_approvals=len(SqlApprovals(context.records.database, context.clock).find_pending_approvals()),
        next_windows=[
            NextWindow(
                configuration=coming.zone_schedule.configuration.name,
                start=coming.window.start,
                end=coming.window.end,
                zone=coming.zone_schedule.schedule.zone,
            )
            for coming in snapshot.upcoming
        ],
        problems=list(snapshot.problems),
    )


@router.get("/machines", tags=["Fleet"])
def list_machines(request: Request, filters: Filters, sort: str = "", page: Number = 1) -> models.Part[MachineRow]:
    """The machines of the inventory, with the filters of the page of machines."""
    return build_part(request, sort_machines(filter_machines(get_context(request).fleet.read(), filters), sort), page)


@router.get("/hotpatch", tags=["Fleet"])
def list_hotpatches(request: Request, filters: Filters, page: Number = 1) -> models.Part[HotpatchMachineRow]:
    """The enrolment of machines for hotpatches and live patches, with the filters of machines."""
    context = get_context(request)
    snapshot = context.fleet.read()
    machines = sort_machines(filter_machines(snapshot, filters), "name")
    return build_part(request, list_hotpatch_machines(snapshot, machines, context.clock.now().date()), page)


@router.get("/orders", tags=["Acts"])
def list_orders(request: Request, machine: str = "") -> list[MachineOrderRow]:
    """The newest orders to machines outside of runs, at most 200; ``machine``: only those to it."""
    return list(SqlMachineOrders(get_context(request).records.database).read_newest(machine=machine))


@router.get("/orders/{order_id}", tags=["Acts"], responses=describe_problems(404))
def read_order(request: Request, order_id: str) -> list[MachineOrderRow]:
    """What became of an order on each of its machines. Its id is that of its flow run."""
    rows = SqlMachineOrders(get_context(request).records.database).read_order(order_id)
    if not rows:
        raise HTTPException(404, "there is no such order, or it has not begun")
    return list(rows)


@router.get("/machines/{name}", tags=["Fleet"], responses=describe_problems(404))
def read_machine(request: Request, name: str) -> models.MachineDetails:
    """A machine of the inventory, and what it lacks."""
    context = get_context(request)
    snapshot = context.fleet.read()
    machine, row = snapshot.rows.get(name), snapshot.machines.get(name)
    if row is None:
        raise HTTPException(404, f"there is no machine {name!r} in the inventory")
    database = context.records.database
    automatic = read_automatic_state(database, snapshot, context.clock.now())
    details = read_details(context, name)
    patches = tuple(
        build_missing_update_row(
            name, pending_update.update, pending_update.since, pending_update.reason, pending_update.run_id
        )
        for pending_update in explain_waiting(snapshot, automatic, machine, details.pending, details.packages, database)
    )
    return copy_row(models.MachineDetails, row, patches=patches)


@router.get("/components", tags=["Fleet"])
def list_components(
    request: Request, filters: Annotated[ComponentFilters, Depends()], page: Number = 1
) -> models.Part[ComponentRow]:
    """The components of machines, with their versions and what is due."""
    context = get_context(request)
    view = read_components_view(context.fleet.read(), context.records, context.clock.now(), filters)
    return build_part(request, view.rows, page)


@router.get("/images", tags=["Fleet"])
def list_images(request: Request, page: Number = 1) -> models.Part[ComponentRow]:
    """The machines of groups of images, with their versions and what is due."""
    return build_part(request, _read_images(request).rows, page)


@router.get("/images/upgrades", tags=["Fleet"])
def list_image_upgrades(request: Request, page: Number = 1) -> models.Part[ImageUpgradeRow]:
    """The last upgrades of groups of images, by group. Azure: osUpgradeHistory."""
    return build_part(request, _read_images(request).upgrades, page)


def _read_images(request: Request) -> ImagesView:
    context = get_context(request)
    return read_images_view(context.fleet.read(), context.records, context.clock.now())


@router.get("/snapshots", tags=["Fleet"])
def list_snapshots(request: Request, machine: str = "", page: Number = 1) -> models.Part[SnapshotRow]:
    """The snapshots that runs have taken, as the records have them, the newest first; ``machine``: only those of it."""
    records = get_context(request).records
    rows = [row for row in SqlSnapshots(records.database, records.seals).read_all() if machine in {"", row.machine}]
    return build_part(request, rows[::-1], page)


@router.get("/updates", tags=["Fleet"])
def list_missing_updates(
    request: Request, filters: Annotated[UpdateFilter, Depends()], page: Number = 1
) -> models.Part[UpdateRow]:
    """The updates that machines of the inventory lack, by name."""
    context = get_context(request)
    fleet = context.fleet.read()
    with context.pending.open() as index:
        rows = list_updates(index, select_scope(index, fleet, filters), filters)
    return build_part(request, sorted(rows, key=lambda row: row.name), page)


@router.get("/cves/{cve}", tags=["Fleet"])
def read_cve(request: Request, cve: str) -> CveMachinesRow:
    """The machines that lack a fix of a CVE. None: no known update of it is missing."""
    context = get_context(request)
    fleet, cve = context.fleet.read(), cve.upper()
    with context.pending.open() as index:
        if cve not in index.cves and not _CVE.fullmatch(cve):
            raise RequestError(f"{cve!r} is no CVE", hint="It is written like this: CVE-2026-12345.")
        return find_cve(index, select_scope(index, fleet, UpdateFilter()), cve)


@router.get("/windows", tags=["Fleet"])
def list_calendar(
    request: Request, since: Moment = None, until: Moment = None, page: Number = 1
) -> models.Part[WindowRow]:
    """The windows that open between two times, at most 400 days apart: from now on, for 31 days, if none is given."""
    context = get_context(request)
    now = context.clock.now()
    since = since or now
    if not EARLIEST <= since <= LATEST:
        raise RequestError(f"since: {since.isoformat()} is too far away", hint="Correct the year.")
    until = until or since + timedelta(days=31)
    if not since < until <= since + timedelta(days=MAX_DAYS):
        raise RequestError(
            f"until: {until.isoformat()} is not within {MAX_DAYS} days after since, {since.isoformat()}",
            hint="Without since, the list begins now.",
        )
    results = read_window_results(context.records.database, since, until)
    fleet = context.fleet.read()
    windows = list_windows(fleet.zone_schedules, results, since, until, now, fleet.disabled_schedules)
    return build_part(request, windows, page)
