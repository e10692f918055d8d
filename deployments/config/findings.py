"""What a person should know about configurations before a night shows it. Pure: files were read before."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from deployments.config.configuration import Configuration, Configurations
from deployments.config.finding import Finding
from deployments.config.fleets import Fleets
from deployments.config.lanes import Crossing, crossings, lanes_of
from deployments.config.wave_findings import about_canaries, about_waves
from deployments.config.zones import MACHINE
from inventory.errors import EmptyScopeError, InventoryError
from inventory.machine import Inventory, PatchOwner
from inventory.places import did_you_mean
from inventory.scope import Scope
from tasks.rules.calendar.clocks import wall_at
from tasks.rules.calendar.freezes import frozen
from tasks.rules.calendar.overlaps import Severity, check
from tasks.rules.calendar.schedule import Occurrence, Schedule, windows_between
from tasks.rules.window import say_duration
from tasks.states import RebootPolicy

AHEAD = timedelta(days=366)
"""How far configurations are looked at. Every window that is not rarer than yearly is seen."""

_LAST_RUN = "last:"
_NAMED = 8


def findings(configurations: Configurations, fleets: Fleets, now: datetime) -> tuple[Finding, ...]:
    """Return what is wrong or surprising, in the order of the configurations.

    Args:
        configurations: checked ones, those that are switched off as well.
        fleets: their machines; what could not be read is not looked at.
        now: aware.
    """
    found = [finding for one in configurations.every for finding in _about(one, configurations, fleets, now)]
    return (*found, *_overlaps(configurations, fleets, now))


def blocking(configurations: Configurations, fleets: Fleets, now: datetime) -> tuple[Finding, ...]:
    """Return what keeps configurations from being deployed; see ``findings``."""
    found = (finding for one in configurations.every for finding in _about(one, configurations, fleets, now))
    return tuple(each for each in found if each.severity is Severity.BLOCKS)


def _about(one: Configuration, every: Configurations, fleets: Fleets, now: datetime) -> Iterator[Finding]:
    if one.enabled:
        yield from _about_windows(one, fleets, now)
    yield from _about_request(one, every)
    inventory = fleets.of(one)
    if inventory is not None:
        yield from _about_machines(one, inventory, fleets)


def _about_windows(one: Configuration, fleets: Fleets, now: datetime) -> Iterator[Finding]:
    for zone in known_zones(one, fleets):
        schedule = one.schedule(zone)
        about = f" ({zone})" if one.zone == MACHINE else ""
        for each in check(schedule, now):
            yield Finding(one.name, each.severity, "window", f"{each.message}{about}", each.remedy)
        yield from _about_freezes(one, schedule, now)
        yield from _about_runs(one, schedule, now)


def known_zones(one: Configuration, fleets: Fleets) -> tuple[str, ...]:
    """Return the zones by whose clocks its windows open; UTC stands for those of machines that aren't known."""
    if one.zone != MACHINE:
        return (one.zone,)
    try:
        zones = {machine.zone for machine in fleets.machines_of(one)}
    except InventoryError:
        zones = set()  # another check reports that there are no machines
    return tuple(sorted(zones)) or ("UTC",)


def _about_freezes(one: Configuration, schedule: Schedule, now: datetime) -> Iterator[Finding]:
    freezes = one.frozen_times(schedule.zone)
    windows = windows_between(schedule, now, now + AHEAD) if freezes else ()
    if windows and freezes and all(frozen(window, freezes) for window in windows):
        reason = frozen(windows[0], freezes)
        named = f", the first of {reason.reason!r}" if reason and reason.reason else ""
        message = f"freezes take away all of its {len(windows)} windows of the coming year{named}"
        yield Finding(one.name, Severity.WARNS, "freezes", message, "Move the windows, or end the freezes.")


def _about_runs(one: Configuration, schedule: Schedule, now: datetime) -> Iterator[Finding]:
    """Look at when runs start: a run may not start while the one before it goes on, nor may a download."""
    freezes = one.frozen_times(schedule.zone)
    windows = [each for each in windows_between(schedule, now, now + AHEAD) if frozen(each, freezes) is None]
    lead = timedelta(minutes=one.lead_minutes)
    for window, following in pairwise(windows):
        if lead and window.end <= following.start <= window.end + lead:
            yield _cancelled(one, window, following)
            break
    if one.stage_ahead_minutes is not None:
        yield from _about_downloads(one, windows, timedelta(minutes=one.stage_ahead_minutes), schedule.zone)


def _cancelled(one: Configuration, window: Occurrence, following: Occurrence) -> Finding:
    kept, period = one.lead_minutes + one.minutes, following.start - window.start
    message = (
        f"a run takes {say_duration(kept * 60)} (its lead and its window), and the next one is due "
        f"{say_duration(period.total_seconds())} after it: Prefect cancels the run of the window of "
        f"{following.local:%Y-%m-%d %H:%M}, as the run before it still goes on"
    )
    return Finding(one.name, Severity.BLOCKS, "lead", message, "Make `lead` or the window shorter.")


def _about_downloads(
    one: Configuration, windows: Sequence[Occurrence], ahead: timedelta, zone: str
) -> Iterator[Finding]:
    for number, window in enumerate(windows):
        starts, ends = window.start - ahead, window.start - ahead + (window.end - window.start)
        met = next((each for each in windows[:number] if each.start < ends and starts < each.end), None)
        if met is not None:
            message = (
                f"the download for the window of {window.local:%Y-%m-%d %H:%M} may last from "
                f"{wall_at(starts, zone):%Y-%m-%d %H:%M} to {wall_at(ends, zone):%H:%M} and meets the window "
                f"of {met.local:%Y-%m-%d %H:%M}: a machine that still downloads is left alone by that window's run"
            )
            yield Finding(one.name, Severity.WARNS, "stage_ahead", message, "Let it start after that window's end.")
            return


def _about_request(one: Configuration, every: Configurations) -> Iterator[Finding]:
    form = one.form
    if not form.updates.classifications and not form.updates.include and not form.updates.as_in_run:
        message = "it chooses no updates: no classifications, and none by name"
        yield Finding(one.name, Severity.BLOCKS, "updates", message, "Name classifications, or masks under `include`.")
    if form.reboot is not RebootPolicy.NEVER and form.reboot_reserve_minutes >= one.minutes:
        kept = say_duration(form.reboot_reserve_minutes * 60)
        message = (
            f"{kept} of its {say_duration(one.minutes * 60)} are kept for a reboot, so that nothing can be installed"
        )
        remedy = "Make the window longer, `reboot_reserve_minutes` smaller, or write `reboot: Never`."
        yield Finding(one.name, Severity.BLOCKS, "window", message, remedy)
    if form.approval.required and not one.lead_minutes:
        message = "people can approve only while its window is open: the run starts with it"
        yield Finding(one.name, Severity.WARNS, "lead", message, "Give it a `lead`, such as 8h.")
    if one.stage_ahead_minutes is not None and not form.stage:
        message = "updates are staged ahead, but `stage` is off"
        yield Finding(one.name, Severity.WARNS, "stage_ahead", message, "Leave one of the two out.")
    yield from about_waves(one)
    yield from _about_rings(one, every)


def _about_rings(one: Configuration, every: Configurations) -> Iterator[Finding]:
    wanted = one.form.updates.as_in_run
    names = [each.name for each in every.every]
    if wanted.startswith(_LAST_RUN) and wanted.removeprefix(_LAST_RUN).strip() not in names:
        named = wanted.removeprefix(_LAST_RUN).strip()
        message = f"it takes over the updates of the configuration {named!r}, which isn't here"
        yield Finding(one.name, Severity.WARNS, "updates", message, f"{did_you_mean(named, names)}Correct the name.")


def _about_machines(one: Configuration, inventory: Inventory, fleets: Fleets) -> Iterator[Finding]:
    names = {machine.name for machine in inventory.machines} if one.form.machines else set()
    for name in one.form.machines or ():
        if name not in names:
            remedy = f"{did_you_mean(name, names)}Correct the name, or remove it."
            yield Finding(
                one.name, Severity.WARNS, "machines", f"there is no machine {name!r} in the inventory", remedy
            )
    try:
        if one.form.scope and one.form.machines:
            Scope.parse(one.form.scope).select(inventory)
        machines = fleets.machines_of(one)
    except EmptyScopeError as error:
        yield Finding(one.name, Severity.WARNS, "scope", error.message, error.hint)
    except InventoryError as error:
        yield Finding(one.name, Severity.BLOCKS, "scope", error.message, error.hint)
    else:
        yield from about_canaries(one, len(machines))
        others = [machine.name for machine in machines if machine.owner is not PatchOwner.FLEETPATCH]
        if others:
            share = (
                "all of its machines"
                if len(others) == len(machines)
                else f"{len(others)} of its {len(machines)} machines"
            )
            message = f"{share} are patched by somebody else and will only be looked at: {', '.join(others[:5])}"
            yield Finding(
                one.name, Severity.WARNS, "scope", message, "Add `owner=fleetpatch` to its scope, if that is meant."
            )


def _overlaps(configurations: Configurations, fleets: Fleets, now: datetime) -> Iterator[Finding]:
    """Give one finding for each configuration that overlaps others. A line for each pair would be thousands."""
    by_first: dict[str, list[Crossing]] = {}
    for each in crossings(lanes_of(configurations, fleets), now, now + AHEAD):
        by_first.setdefault(each.first, []).append(each)
    for name, met in by_first.items():
        each = min(met, key=lambda crossing: crossing.start)
        shown = f"{each.start:%Y-%m-%d %H:%M} UTC"
        often = f" and {each.count - 1} more times within a year" if each.count > 1 else ""
        others = [repr(other.second) for other in met if other is not each]
        message = f"its windows overlap those of {each.second!r} on {_some(each.machines)}: at {shown}{often}"
        message += f"; and those of {_some(others, _NAMED)}" if others else ""
        remedy = "One of the two patches such a machine, the other leaves it alone. Move one, or part their scopes."
        yield Finding(name, Severity.WARNS, "window", message, remedy)


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
