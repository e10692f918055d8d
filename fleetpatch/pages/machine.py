"""The page of one machine: what it lacks and why, its past, and what comes next."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from fastapi import Request
from fastapi.responses import Response

from fleetpatch.machines.automatic_patching import read_automatic_state
from fleetpatch.machines.machine_list import KINDS, list_kinds
from fleetpatch.machines.scopes import build_machine_scope
from fleetpatch.machines.snapshot import SEARCH_HORIZON, FleetSnapshot
from fleetpatch.pages.paging import build_page, build_part
from fleetpatch.updates.pending_explanations import ExplainedUpdate, explain_waiting, list_pending_updates
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page, show_message
from inventory.data_class import dataclass
from inventory.files.problems import did_you_mean
from inventory.machine import PatchOwner
from tasks.domain.model import Assessment, PackageState
from tasks.domain.states import HotpatchStatus
from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
from tasks.records.machine_rows import RecordedState
from tasks.records.queries import machines
from tasks.records.queries.machines import read_machine_state
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.schedule import Occurrence, iterate_occurrences
from tasks.rules.hotpatch import find_hotpatch_status
from tasks.rules.machine_checks.packages import get_repair_remedy

router = build_viewers_router()

EXPLAINED_RUNS = 3
RUNS_SIZE = 50
WINDOWS_COUNT = 3


@dataclass(frozen=True, slots=True)
class ComingWindow:
    """A window of a machine, and the freeze that cancels it."""

    configuration: str
    zone: str
    window: Occurrence
    freeze: Freeze | None


@dataclass(frozen=True, slots=True)
class MachineRecords:
    """What the records know of a machine."""

    state: RecordedState | None
    newest: Assessment | None  # the newest assessment, with an answer or not; None if it was never assessed
    answered: Assessment | None  # the newest assessment with an answer
    pending: tuple[ExplainedUpdate, ...]  # what it lacks by that answer
    # The status of its enrolment for hotpatches; None if it can't have them, or does not say enough.
    hotpatch: HotpatchStatus | None

    @property
    def packages(self) -> PackageState | None:
        """What that answer says of packages."""
        return self.answered.packages if self.answered is not None else None

    @property
    def repair_remedy(self) -> str:
        """What a person does about broken packages."""
        return get_repair_remedy(self.packages) if self.packages is not None and self.packages.problems else ""


@router.get("/machines/{name:path}")
def show_machine(request: Request, name: str, page: int = 1, updates: int = 1) -> Response:
    """Show a machine. ``page`` is the part of its runs, ``updates`` the part of the updates that it lacks."""
    context = get_context(request)
    database, snapshot = context.records.database, context.fleet.read()
    row = snapshot.rows.get(name)
    details = read_details(context, name)
    if row is not None:  # the snapshot may be older than the details: a page shows one state
        row = replace(row, state=details.state)
    total = machines.count_machine_runs(database, name)
    if row is None and details.state is None and not total:
        machine_names = {*snapshot.rows, *machines.read_recorded_names(context.records.database)}
        hint = did_you_mean(name, machine_names) or "The list of machines shows all of the inventory."
        return show_message(request, 404, f"There is no machine {name!r}, in the inventory or in the records.", hint)
    history = build_part(
        request,
        lambda offset, limit: machines.read_machine_runs(database, name, offset, limit),
        page,
        total=total,
        size=RUNS_SIZE,
    )
    automatic = read_automatic_state(database, snapshot, context.clock.now())
    machine_row = snapshot.build_row(row) if row is not None else None
    return render_page(
        request,
        "machine.html.j2",
        name=name,
        machine=row.machine if row is not None else None,
        row=machine_row,
        kinds=[KINDS[kind] for kind in list_kinds(machine_row)] if machine_row is not None else [],
        scope=build_machine_scope(name, snapshot.inventory) if row is not None else "",
        details=details,
        pending=build_page(
            request,
            explain_waiting(snapshot, automatic, row, details.pending, details.packages, database),
            updates,
            parameter="updates",
        ),
        history=history,
        occupation=machines.find_occupation(database, name),
        drained=machines.find_drained_sets(database, name),
        windows=list_windows(snapshot, name, context.clock.now()),
        is_automatic=row is not None and row.is_automatic,
        paused=automatic.paused.get(name, ""),
        problems=snapshot.problems,
    )


def read_details(context: WebContext, name: str) -> MachineRecords:
    """Read what the records know of a machine. Raise RecordsError if the records can't be read."""
    history, database = context.history, context.records.database
    newest = history.read_latest_assessments([name]).get(name)
    answered = newest
    if newest is None or newest.packages is None:
        answered = history.read_latest_assessments([name], answered=True).get(name)
    pending = list_pending_updates(
        history.explain_updates(name, runs=EXPLAINED_RUNS), machines.read_missing_since(database, [name])
    )
    return MachineRecords(
        state=read_machine_state(database, name),
        newest=newest,
        answered=answered,
        pending=pending,
        hotpatch=_find_hotpatch(context, name, answered),
    )


def _find_hotpatch(context: WebContext, name: str, answered: Assessment | None) -> HotpatchStatus | None:
    if answered is None or answered.packages is None:
        return None
    request = SqlHotpatchEnrolments(context.records.database).read_requests([name]).get(name)
    return find_hotpatch_status(answered.packages.hotpatch, request, context.clock.now().date())


def list_windows(snapshot: FleetSnapshot, name: str, now: datetime) -> list[ComingWindow]:
    """Return the windows of each configuration that may patch a machine: the next ones, and open ones with time left.

    Those that a freeze cancels are among them, and not those whose run has ended.
    """
    row, coming_windows = snapshot.rows.get(name), []
    if row is not None and row.machine.owner is not PatchOwner.FLEETPATCH:
        return []
    for zone_schedule in snapshot.zone_schedules:
        if name not in zone_schedule.machines:
            continue
        begin = now - timedelta(minutes=zone_schedule.schedule.minutes)
        configuration, zone = zone_schedule.configuration.name, zone_schedule.schedule.zone
        coming = (
            window
            for window in iterate_occurrences(zone_schedule.schedule, begin, until=now + SEARCH_HORIZON)
            if window.end > now and (configuration, window.start) not in snapshot.ended
        )
        for window in islice(coming, WINDOWS_COUNT):
            freeze = find_freeze(window, zone_schedule.freezes)
            coming_windows.append(ComingWindow(configuration, zone, window, freeze))
    return sorted(coming_windows, key=lambda coming_window: coming_window.window.start)[: 2 * WINDOWS_COUNT]
