"""The whole fleet as pages see it: inventory, configurations, the state of each machine, and the fleet in numbers."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from deployments.preview.upcoming_windows import UpcomingWindow, find_upcoming_windows
from deployments.preview.window_fit import WindowFit
from deployments.preview.zone_schedules import ZoneSchedule
from fleetpatch.machines.sources import FleetSources
from inventory.data_class import dataclass
from inventory.machine import Machine, PatchOwner
from tasks.domain.rows.machines import LastRun, MachineRow, NextWindow
from tasks.domain.states import Compliance, YesNoUnknown
from tasks.records.machine_rows import Plans, RecordedState, build_machine_row
from tasks.records.queries.updates import OldUpdate
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.schedule import Occurrence, iterate_occurrences
from tasks.rules.hotpatch import EnrolmentRequest
from tasks.rules.own_updaters import UpdaterRequest

SEARCH_HORIZON = timedelta(days=400)
UPCOMING_COUNT = 10


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """A machine with all that its row is built from."""

    machine: Machine
    state: RecordedState | None  # None if it was never assessed
    # Of each configuration that may patch it, the next one that no freeze cancels; the first one first.
    windows: tuple[NextWindow, ...]
    configurations: tuple[str, ...]  # names of the configurations that select it
    last_run: LastRun | None = None  # the newest run that may have changed it
    is_automatic: bool = False  # whether automatic patching patches it: that is on, and selects it
    enrolment_request: EnrolmentRequest | None = None  # what people last asked for with its hotpatches
    updater_request: UpdaterRequest | None = None  # what people last switched of its own updaters


@dataclass(frozen=True, eq=False, kw_only=True)
class FleetSnapshot(FleetSources):
    """The fleet at one moment. Two of them are never equal, so they can be keys of caches."""

    at: datetime  # when it was read
    rows: Mapping[str, FleetMachine]  # all machines of the inventory by name, in the order of the inventory
    # The next window of each configuration and zone, also if a freeze cancels it; the first ones.
    upcoming: tuple[UpcomingWindow, ...] = ()
    oldest: OldUpdate | None = None  # the update that any machine of the inventory has lacked for the longest time
    fits: tuple[WindowFit, ...] = ()  # whether the machines of enabled configurations fit into their windows
    ended: frozenset[tuple[str, datetime]] = frozenset()  # windows whose run has ended, see ``FleetWindows``

    @cached_property
    def machines(self) -> Mapping[str, MachineRow]:
        """The rows of all machines by name, in the order of the inventory."""
        return {name: self.build_row(source) for name, source in self.rows.items()}

    def build_row(self, source: FleetMachine) -> MachineRow:
        """Return the row of a machine."""
        return build_machine_row(
            source.machine.name,
            source.machine,
            source.state,
            self.at,
            plans=Plans(source.windows, source.configurations, source.is_automatic),
            last_run=source.last_run,
            enrolment_request=source.enrolment_request,
            updater_request=source.updater_request,
            baselines=self.baselines,
        )


@dataclass(frozen=True, slots=True)
class FleetWindows:
    """The next windows of each machine, and of the whole fleet."""

    at: datetime  # the moment for which that is so
    by_machine: Mapping[str, tuple[NextWindow, ...]]
    upcoming: tuple[UpcomingWindow, ...]
    # Windows whose run has ended, by their configuration and when they opened: they are no next ones.
    ended: frozenset[tuple[str, datetime]] = frozenset()


def find_fleet_windows(
    zone_schedules: tuple[ZoneSchedule, ...], now: datetime, ended: frozenset[tuple[str, datetime]] = frozenset()
) -> FleetWindows:
    """Find the next windows. ``ended``: see ``FleetWindows``."""
    coming = [
        (
            NextWindow(
                configuration=zone_schedule.configuration.name,
                start=window.start,
                end=window.end,
                zone=zone_schedule.schedule.zone,
            ),
            zone_schedule.machines,
        )
        for zone_schedule in zone_schedules
        if (window := _find_next_window(zone_schedule, now, ended)) is not None
    ]
    by_name: dict[str, list[NextWindow]] = {}
    for next_window, machines in sorted(coming, key=lambda pair: pair[0].start):
        for name in machines:
            by_name.setdefault(name, []).append(next_window)
    by_machine = {name: tuple(windows) for name, windows in by_name.items()}
    return FleetWindows(now, by_machine, tuple(_list_upcoming(zone_schedules, now, ended)), ended)


def _list_upcoming(
    zone_schedules: tuple[ZoneSchedule, ...], now: datetime, ended: frozenset[tuple[str, datetime]]
) -> list[UpcomingWindow]:
    starts = []
    for number, zone_schedule in enumerate(zone_schedules):
        begin, moment = now - timedelta(minutes=zone_schedule.schedule.minutes), now
        for window in iterate_occurrences(zone_schedule.schedule, begin, until=now + SEARCH_HORIZON):
            if (zone_schedule.configuration.name, window.start) in ended:
                moment = max(moment, window.end)
            elif window.end > moment:
                starts.append((window.start, number, moment))
                break
    chosen = ((zone_schedules[number], moment) for _, number, moment in sorted(starts)[:UPCOMING_COUNT])
    return [window for zone_schedule, moment in chosen for window in find_upcoming_windows([zone_schedule], moment, 1)]


def build_snapshot(
    sources: FleetSources,
    windows: FleetWindows,
    states: Mapping[str, RecordedState],
    last_runs: Mapping[str, LastRun],
    oldest: OldUpdate | None,
    now: datetime,
    fits: tuple[WindowFit, ...] = (),
    enrolment_requests: Mapping[str, EnrolmentRequest] | None = None,
    updater_requests: Mapping[str, UpdaterRequest] | None = None,
) -> FleetSnapshot:
    """Join what the files say with the states of machines."""
    inventory, names = sources.inventory, sources.configurations_by_machine
    rows = {
        machine.name: FleetMachine(
            machine,
            states.get(machine.name),
            # No configuration may patch the others, although its scope may select them.
            windows.by_machine.get(machine.name, ()) if machine.owner is PatchOwner.FLEETPATCH else (),
            names.get(machine.name, ()),
            last_runs.get(machine.name),
            is_automatic=machine.name in sources.automatic_machines,
            enrolment_request=(enrolment_requests or {}).get(machine.name),
            updater_request=(updater_requests or {}).get(machine.name),
        )
        for machine in (inventory.machines if inventory is not None else ())
    }
    return FleetSnapshot(
        **vars(sources), at=now, rows=rows, upcoming=windows.upcoming, oldest=oldest, fits=fits, ended=windows.ended
    )


def _find_next_window(
    zone_schedule: ZoneSchedule, now: datetime, ended: frozenset[tuple[str, datetime]]
) -> Occurrence | None:
    schedule, freezes = zone_schedule.schedule, zone_schedule.freezes
    length = timedelta(minutes=schedule.minutes)
    for window in iterate_occurrences(schedule, now - length, until=now + SEARCH_HORIZON):
        is_done = (zone_schedule.configuration.name, window.start) in ended
        if window.end > now and not is_done and find_freeze(window, freezes) is None:
            return window
    return None


@dataclass(slots=True)
class FleetTotals:
    """The fleet in numbers. Only answers that are new enough count, except for ``unreachable``."""

    machines: int = 0
    compliant: int = 0
    non_compliant: int = 0
    not_assessed: int = 0
    # Pending critical updates; one that ten machines lack counts ten times. So ``security`` and ``other``.
    critical: int = 0
    security: int = 0
    other: int = 0
    critical_machines: int = 0  # machines that lack critical updates. So ``security_machines``.
    security_machines: int = 0
    reboot: int = 0  # machines that need a reboot
    services: int = 0  # machines with services that use replaced files
    waiting: int = 0  # machines with critical or security updates that are installed and not in effect
    unreachable: int = 0  # machines where the last try could not log in


@lru_cache(maxsize=2)
def count_fleet(snapshot: FleetSnapshot) -> FleetTotals:
    """Return the fleet in numbers. Readers share it."""
    totals = FleetTotals()
    for machine in snapshot.machines.values():
        totals.machines += 1
        totals.compliant += machine.compliance is Compliance.COMPLIANT
        totals.non_compliant += machine.compliance is Compliance.NON_COMPLIANT
        totals.not_assessed += machine.compliance is Compliance.NOT_ASSESSED
        totals.unreachable += machine.is_unreachable
        if not machine.is_current:
            continue
        totals.critical += machine.critical or 0
        totals.security += machine.security or 0
        totals.other += machine.other or 0
        totals.critical_machines += bool(machine.critical)
        totals.security_machines += bool(machine.security)
        totals.reboot += machine.reboot is YesNoUnknown.YES
        totals.services += bool(machine.services_to_restart)
        totals.waiting += machine.in_effect is YesNoUnknown.NO
    return totals
