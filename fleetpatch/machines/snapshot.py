"""The whole fleet as pages see it: inventory, configurations, and the state of each machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from deployments.configuration.model import Configurations
from deployments.preview.upcoming_windows import UpcomingWindow, find_upcoming_windows
from deployments.preview.window_fit import WindowFit
from deployments.preview.zone_schedules import ZoneSchedule
from fleetpatch.machines.sources import FleetSources
from inventory.machine import Inventory, Machine, PatchOwner
from tasks.records.queries.fleet.machine_states import LastRun, MachineState
from tasks.records.queries.fleet.oldest_updates import OldUpdate
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.schedule import Occurrence, iterate_occurrences

SEARCH_HORIZON = timedelta(days=400)
UPCOMING_COUNT = 10


@dataclass(frozen=True, slots=True)
class NextWindow:
    """The next window of a machine. ``start`` and ``end`` are in UTC."""

    configuration: str
    zone: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine with all that lists show of it.

    Attributes:
        state: None if it was never assessed.
        windows: of each configuration that may patch it, the next one that no freeze cancels; the first one first.
        configurations: names of the configurations that select it.
        last_run: the newest run that may have changed it.
        is_automatic: whether automatic patching patches it: that is on, and selects it.
    """

    machine: Machine
    state: MachineState | None
    windows: tuple[NextWindow, ...]
    configurations: tuple[str, ...]
    last_run: LastRun | None = None
    is_automatic: bool = False

    @property
    def next_window(self) -> NextWindow | None:
        """The first of its windows; None if it has none, or if it is not known."""
        return self.windows[0] if self.windows else None


@dataclass(frozen=True, slots=True, eq=False)
class FleetSnapshot:
    """The fleet at one moment. Two of them are never equal, so they can be keys of caches.

    Attributes:
        at: when it was read.
        rows: all machines of the inventory by name, in the order of the inventory.
        inventory: None if it can't be read.
        configurations: None if there are none, or if they can't be read.
        zone_schedules: the windows of the enabled configurations.
        disabled_schedules: those of the disabled ones, for their past.
        managed: how many machines are patched automatically; None: it is not on, or not known.
        problems: what could not be read, for the pages.
        upcoming: the next window of each configuration and zone, also if a freeze cancels it; the first ones.
        oldest: the update that any machine of the inventory has lacked for the longest time.
        fits: whether the machines of enabled configurations fit into their windows.
        ended: windows whose run has ended, see ``FleetWindows``.
    """

    at: datetime
    rows: Mapping[str, MachineRow]
    inventory: Inventory | None
    configurations: Configurations | None
    zone_schedules: tuple[ZoneSchedule, ...]
    problems: tuple[str, ...]
    upcoming: tuple[UpcomingWindow, ...] = ()
    oldest: OldUpdate | None = None
    disabled_schedules: tuple[ZoneSchedule, ...] = ()
    managed: int | None = None
    fits: tuple[WindowFit, ...] = ()
    ended: frozenset[tuple[str, datetime]] = frozenset()


@dataclass(frozen=True, slots=True)
class FleetWindows:
    """The next windows of each machine, and of the whole fleet.

    Attributes:
        at: the moment for which that is so.
        ended: windows whose run has ended, by their configuration and when they opened: they are no next ones.
    """

    at: datetime
    by_machine: Mapping[str, tuple[NextWindow, ...]]
    upcoming: tuple[UpcomingWindow, ...]
    ended: frozenset[tuple[str, datetime]] = frozenset()


def find_windows(
    zone_schedules: tuple[ZoneSchedule, ...], now: datetime, ended: frozenset[tuple[str, datetime]] = frozenset()
) -> FleetWindows:
    """Find the next windows. ``ended``: see ``FleetWindows``."""
    coming = [
        (NextWindow(each.configuration.name, each.schedule.zone, window.start, window.end), each.machines)
        for each in zone_schedules
        if (window := _find_next_window(each, now, ended)) is not None
    ]
    found: dict[str, list[NextWindow]] = {}
    for mine, machines in sorted(coming, key=lambda pair: pair[0].start):
        for name in machines:
            found.setdefault(name, []).append(mine)
    by_machine = {name: tuple(windows) for name, windows in found.items()}
    return FleetWindows(now, by_machine, tuple(_list_upcoming(zone_schedules, now, ended)), ended)


def _list_upcoming(
    zone_schedules: tuple[ZoneSchedule, ...], now: datetime, ended: frozenset[tuple[str, datetime]]
) -> list[UpcomingWindow]:
    starts = []
    for number, each in enumerate(zone_schedules):
        begin, moment = now - timedelta(minutes=each.schedule.minutes), now
        for window in iterate_occurrences(each.schedule, begin, until=now + SEARCH_HORIZON):
            if (each.configuration.name, window.start) in ended:
                moment = max(moment, window.end)
            elif window.end > moment:
                starts.append((window.start, number, moment))
                break
    chosen = ((zone_schedules[number], moment) for _, number, moment in sorted(starts)[:UPCOMING_COUNT])
    return [window for each, moment in chosen for window in find_upcoming_windows([each], moment, 1)]


def build_snapshot(
    sources: FleetSources,
    windows: FleetWindows,
    states: Mapping[str, MachineState],
    last_runs: Mapping[str, LastRun],
    oldest: OldUpdate | None,
    now: datetime,
    fits: tuple[WindowFit, ...] = (),
) -> FleetSnapshot:
    """Join what the files say with the states of machines."""
    inventory, names = sources.inventory, sources.configurations_by_machine
    rows = {
        each.name: MachineRow(
            each,
            states.get(each.name),
            # No configuration may patch the others, although its scope may select them.
            windows.by_machine.get(each.name, ()) if each.owner is PatchOwner.FLEETPATCH else (),
            names.get(each.name, ()),
            last_runs.get(each.name),
            is_automatic=each.name in sources.automatic_machines,
        )
        for each in (inventory.machines if inventory is not None else ())
    }
    return FleetSnapshot(
        at=now,
        rows=rows,
        inventory=inventory,
        configurations=sources.configurations,
        zone_schedules=sources.zone_schedules,
        problems=sources.problems,
        upcoming=windows.upcoming,
        oldest=oldest,
        disabled_schedules=sources.disabled_schedules,
        managed=sources.managed,
        fits=fits,
        ended=windows.ended,
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
