"""Updates: what the fleet lacks, by update or by CVE, who lacks it, since when, and in which window it will go."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.machines.automatic_patching import AutomaticState, read_automatic_state
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.pages.paging import build_page
from fleetpatch.updates.selection_forecast import Forecaster, UpdateForecast
from fleetpatch.updates.update_list import (
    CVE_SORTS,
    UPDATE_SORTS,
    UpdateFilter,
    list_cves,
    list_systems,
    list_updates,
    rank_classification,
    rank_severity,
    select_scope,
)
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from tasks.domain.assessment import strip_update_id
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.model import PackageState, Update
from tasks.domain.rows.updates import CveRow, UpdateRow
from tasks.domain.states import Classification, Severity, UpdateState
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.queries.updates import (
    LastResult,
    PendingUpdateRow,
    read_installations,
    read_last_update_results,
    read_machines_lacking,
    read_versions_with_cve,
)

logger = logging.getLogger(__name__)

router = build_viewers_router()
_CVE = re.compile(r"cve-\d{4}-\d{4,19}", re.IGNORECASE)
_LATER = datetime.max.replace(tzinfo=UTC)
MAX_DETAILED_VERSIONS = 3
MAX_DETAILED_MACHINES = 50
_NOT_INSTALLED = frozenset({UpdateState.FAILED.value, UpdateState.EXCLUDED.value, UpdateState.BLOCKED.value})


@dataclass(frozen=True, slots=True)
class LackingRow:
    """A machine that lacks an update, and what comes next."""

    row: PendingUpdateRow
    environment: str
    forecast: UpdateForecast


@dataclass(frozen=True, slots=True)
class Lacking:
    """Who lacks an update."""

    rows: tuple[LackingRow, ...]  # machines of the inventory, the longest without it first
    elsewhere: int  # number of machines that are in the records and not in the inventory
    packages: Mapping[str, PackageState]  # the newest answers of some of these machines


@router.get("/updates")
def show_updates(
    request: Request, filters: Annotated[UpdateFilter, Depends()], by: str = "update", sort: str = "", page: int = 1
) -> Response:
    """Show all updates that machines of the inventory lack."""
    if _CVE.fullmatch(filters.q.strip()):
        return RedirectResponse(f"/cves/{filters.q.strip().upper()}", 303)
    context = get_context(request)
    fleet = context.fleet.read()
    is_by_cve = by == "cve"
    sorts = CVE_SORTS if is_by_cve else UPDATE_SORTS
    sort = sort if sort in sorts else next(iter(sorts))
    rows: list[UpdateRow] | list[CveRow] = []
    error: InventoryError | None = None
    with context.pending.open() as index:
        try:
            machines = select_scope(index, fleet, filters)
            rows = list_cves(index, machines, filters) if is_by_cve else list_updates(index, machines, filters)
        except InventoryError as found:
            error = found
    rows.sort(key=sorts[sort])
    return render_page(
        request,
        "updates.html.j2",
        status=400 if error is not None else 200,
        filters=filters,
        by="cve" if is_by_cve else "update",
        sort=sort,
        rows=build_page(request, rows, page),
        problems=fleet.problems,
        error=error,
        systems=list_systems(fleet),
        classifications=[classification.value for classification in Classification],
        severities=[classification.value for classification in Severity],
    )


@router.get("/updates/{name:path}")
def show_update(request: Request, name: str, page: int = 1) -> HTMLResponse:
    """Show who lacks an update, why, and when it will go; and which runs installed it where."""
    context = get_context(request)
    fleet = context.fleet.read()
    automatic = read_automatic_state(context.records.database, fleet, context.clock.now())
    lacking = _find_lacking(context, fleet, automatic, name, read_machines_lacking(context.records.database, [name]))
    installations = read_installations(context.records.database, name)
    is_known = bool(lacking.rows or lacking.elsewhere or installations)
    # The whole update as one machine reports it, for the first versions: its CVEs, notices and reboot.
    updates_by_machine: dict[str, Update] = {}
    for packages in lacking.packages.values():
        for update in packages.updates:
            if update.name == name:
                updates_by_machine.setdefault(update.available, update)
    held_updates = (held for held in SqlHeldUpdates(context.records.database).read_held() if held.name == name)
    return render_page(
        request,
        "update.html.j2",
        status=200 if is_known else 404,
        name=name,
        lacking=build_page(request, lacking.rows, page),
        elsewhere=lacking.elsewhere,
        summary=_summarize(lacking.rows),
        details=list(updates_by_machine.values())[:MAX_DETAILED_VERSIONS],
        held=[replace(held, version=strip_update_id(held.version)) for held in held_updates],
        installations=installations,
        problems=fleet.problems,
    )


@router.get("/cves/{cve}")
def show_cve(request: Request, cve: str, page: int = 1) -> Response:
    """Show who lacks a fix of a CVE, by which update."""
    if cve != cve.upper() and _CVE.fullmatch(cve):
        return RedirectResponse(f"/cves/{cve.upper()}", 303)
    context = get_context(request)
    fleet, database = context.fleet.read(), context.records.database
    fixes = read_versions_with_cve(database, cve)
    rows: list[LackingRow] = []
    elsewhere = 0
    pending: dict[str, list[PendingUpdateRow]] = {name: [] for name, _ in fixes}
    for row in read_machines_lacking(database, pending):
        if (row.name, row.available) in fixes:
            pending[row.name].append(row)
    automatic = read_automatic_state(database, fleet, context.clock.now())
    for name, pending_rows in pending.items():
        lacking = _find_lacking(context, fleet, automatic, name, pending_rows)
        rows += lacking.rows
        elsewhere += lacking.elsewhere
    rows.sort(key=lambda fix_name: (fix_name.row.since or _LATER, fix_name.row.machine, fix_name.row.name))
    return render_page(
        request,
        "cve.html.j2",
        status=200 if fixes else 404,
        cve=cve,
        is_cve=bool(_CVE.fullmatch(cve)),
        fixes=fixes,
        lacking=build_page(request, rows, page),
        elsewhere=elsewhere,
        summary=_summarize(rows),
        telling=[] if fixes else _list_telling_systems(context, fleet),
        problems=fleet.problems,
    )


def _list_telling_systems(context: WebContext, fleet: FleetSnapshot) -> list[str]:
    """Return the systems whose machines report CVEs, as far as something is pending on them."""
    with context.pending.open() as index:
        names = list(index.list_machines(index.select_with_cves()))
    states = (row.state for name in names if (row := fleet.rows.get(name)) is not None)
    return sorted({state.os_id for state in states if state is not None and state.os_id})


def _find_lacking(
    context: WebContext, fleet: FleetSnapshot, automatic: AutomaticState, name: str, pending: Sequence[PendingUpdateRow]
) -> Lacking:
    if not pending:
        return Lacking((), 0, {})
    results = read_last_update_results(context.records.database, name)
    own_rows = [row for row in pending if row.machine in fleet.rows]
    packages = _read_packages(context, _choose_machines(own_rows, results))
    forecaster = Forecaster(fleet, automatic, results, packages, context.records.database)
    rows = [
        LackingRow(row, machine.machine.environment, forecaster.forecast(row, machine))
        for row in own_rows
        if (machine := fleet.rows.get(row.machine)) is not None
    ]
    rows.sort(key=lambda lacking: (lacking.row.since or _LATER, lacking.row.machine))
    return Lacking(tuple(rows), len({pending_row.machine for pending_row in pending} - fleet.rows.keys()), packages)


def _choose_machines(pending: Sequence[PendingUpdateRow], results: Mapping[str, LastResult]) -> list[str]:
    """Return the machines whose whole answer says most: one for each version, and those where it failed before."""
    by_version: dict[str, str] = {}
    for row in pending:
        by_version.setdefault(row.available, row.machine)
    tried = (row.machine for row in pending if (last := results.get(row.machine)) and last.state in _NOT_INSTALLED)
    return [*list(by_version.values())[:MAX_DETAILED_VERSIONS], *list(dict.fromkeys(tried))[:MAX_DETAILED_MACHINES]]


@dataclass(frozen=True, slots=True)
class UpdateSummary:
    """An update, or the fixes of a CVE, over all machines that lack one."""

    title: str
    kb: str
    classification: str
    severity: str
    since: datetime | None
    published: datetime | None
    machines: int  # machines that lack it
    withheld: int  # machines that hold it back, or are blocked
    planned: int  # machines that get all that they lack of it in a coming window


def _summarize(rows: Sequence[LackingRow]) -> UpdateSummary:
    machine_rows = [pending_row.row for pending_row in rows]
    return UpdateSummary(
        title=next((pending_row.title for pending_row in machine_rows if pending_row.title), ""),
        kb=next((pending_row.kb for pending_row in machine_rows if pending_row.kb), ""),
        classification=min(
            (pending_row.classification for pending_row in machine_rows), key=rank_classification, default=""
        ),
        severity=min(
            (Severity.rate(pending_row.severity).value for pending_row in machine_rows), key=rank_severity, default=""
        ),
        since=min((pending_row.since for pending_row in machine_rows if pending_row.since), default=None),
        published=min((pending_row.published for pending_row in machine_rows if pending_row.published), default=None),
        machines=len({pending_row.machine for pending_row in machine_rows}),
        withheld=len({pending_row.machine for pending_row in machine_rows if pending_row.held or pending_row.blocked}),
        planned=len(
            {pending_row.machine for pending_row in machine_rows}
            - {pending_row.row.machine for pending_row in rows if not pending_row.forecast.window}
        ),
    )


def _read_packages(context: WebContext, machines: Sequence[str]) -> dict[str, PackageState]:
    """Return the newest answers of machines."""
    try:
        assessments = context.history.read_latest_assessments(machines, answered=True)
    except RecordsUnavailable:
        raise
    except RecordsError as error:  # one document is damaged: all else comes from columns
        logger.warning("details of updates can't be read: %s", error.message)
        return {}
    return {name: assessment.packages for name, assessment in assessments.items() if assessment.packages is not None}
