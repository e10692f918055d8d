"""What `fleetpatch calendar` shows: the next windows, long times without one, and machines that have none at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from deployments.config.coming import Coming, Gap, coming, long_gaps
from deployments.config.configuration import Configurations
from deployments.config.fleets import Fleets
from deployments.config.lanes import Lane, lanes_of
from deployments.config.zones import MACHINE
from inventory.errors import InventoryError
from inventory.machine import PatchOwner
from inventory.places import did_you_mean


@dataclass(frozen=True, slots=True)
class Agenda:
    """The coming time.

    Attributes:
        now: when it was looked at.
        machine: the one that it is about, or "" for all.
        windows: the next ones.
        gaps: long times without a window.
        left_out: machines that fleetpatch owns and no configuration is for.
        switched_off: names of configurations whose windows don't open.
        unknown: names of configurations whose windows can't be said, as their machines aren't known.
        faults: why inventories could not be read.
    """

    now: datetime
    machine: str
    windows: tuple[Coming, ...]
    gaps: tuple[Gap, ...]
    left_out: tuple[str, ...]
    switched_off: tuple[str, ...]
    unknown: tuple[str, ...]
    faults: tuple[str, ...]


def agenda_of(
    configurations: Configurations, fleets: Fleets, now: datetime, count: int, machine: str | None = None
) -> Agenda:
    """Look ahead.

    Args:
        configurations: all of them.
        fleets: their machines.
        now: aware.
        count: how many windows.
        machine: only those that this machine is in.

    Raises:
        InventoryError: there is no such machine, or no inventory to find it in.
    """
    lanes = lanes_of(configurations, fleets)
    if machine:
        _check_machine(fleets, machine)
        lanes = tuple(lane for lane in lanes if machine in lane.machines)
    laned = {lane.configuration.name for lane in lanes}
    return Agenda(
        now=now,
        machine=machine or "",
        windows=coming(lanes, now, count),
        gaps=tuple(_gaps(lanes, now, machine)),
        left_out=() if machine else tuple(_left_out(lanes, fleets)),
        switched_off=tuple(one.name for one in configurations.every if not one.enabled),
        unknown=tuple(
            one.name for one in configurations.enabled if one.zone == MACHINE and one.name not in laned and not machine
        ),
        faults=tuple(error.message for error in fleets.faults.values()),
    )


def _check_machine(fleets: Fleets, machine: str) -> None:
    names = [each.name for each in fleets.machines()]
    if machine in names:
        return
    if fleets.faults and not names:
        error = next(iter(fleets.faults.values()))
        raise InventoryError(error.message, hint=error.hint)
    raise InventoryError(
        f"there is no machine {machine!r} in the inventory",
        hint=f"{did_you_mean(machine, names)}`fleetpatch inventory list` has all.",
    )


def _gaps(lanes: Sequence[Lane], now: datetime, machine: str | None) -> Iterator[Gap]:
    if machine:
        yield from long_gaps(lanes, machine, now)
        return
    for lane in lanes:
        yield from long_gaps([lane], lane.configuration.name, now)


def _left_out(lanes: Sequence[Lane], fleets: Fleets) -> Iterator[str]:
    taken = {name for lane in lanes for name in lane.machines}
    for machine in fleets.machines():
        if machine.owner is PatchOwner.FLEETPATCH and machine.name not in taken:
            yield machine.name
