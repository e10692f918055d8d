"""Deploying from files to a server, in one object: examined first, applied when that is wanted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.types.names import BANNED_CHARACTERS

from deployments.config.configuration import Configurations
from deployments.config.finding import Finding
from deployments.config.findings import blocking
from deployments.config.fleets import Fleets
from deployments.config.load import find_configurations, load_configurations
from deployments.deploying.ahead import Ahead, ahead
from deployments.deploying.apply import apply
from deployments.deploying.cancel import cancel
from deployments.deploying.changes import changes, outdated, settled
from deployments.deploying.found import fleet_of, found, strays, waiting
from deployments.deploying.model import Change, Deployment, Doing, ScheduleLine, Setup
from deployments.deploying.wanted import FAR, wanted
from flows.tags import DEFAULT_FLEET, OURS, fleet_tag
from inventory.load import find_inventory, load_inventory
from inventory.machine import Inventory
from tasks.errors import RequestError
from tasks.rules.calendar.spoken import Spoken, SpokenKind, prefect_would
from tasks.seams.clock import Clock, SystemClock

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

RETRIES = 5
"""How often the server is asked again when it is busy: everything here may be done twice."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the files want, what the server has, and what has to be done."""

    configurations: Configurations
    inventories: Mapping[str, Inventory]  # by a configuration's name
    inventory: Path  # of what is not about one configuration
    wanted: Setup
    found: Setup
    changes: tuple[Change, ...]
    now: datetime
    fleet: str = DEFAULT_FLEET

    @property
    def settled(self) -> bool:
        """Whether nothing has to be done."""
        return settled(self.changes)

    def faults(self) -> tuple[Finding, ...]:
        """Return what `config check` calls a fault."""
        fleets = Fleets({each.inventory: self.inventories[each.name] for each in self.configurations.every})
        return blocking(self.configurations, fleets, self.now)

    def refuse_faults(self, faults: Sequence[Finding]) -> None:
        """Let nothing be changed while a configuration that is switched on can't work as it is.

        Args:
            faults: see ``faults``.

        Raises:
            RequestError: there is one, and something would be changed.
        """
        names = {each.name for each in self.configurations.enabled}
        hit = sorted({each.configuration for each in faults if each.configuration in names})
        if hit and not self.settled:
            raise RequestError(
                f"nothing was changed: {', '.join(hit)} can't work as {'it is' if len(hit) == 1 else 'they are'}",
                hint="Mend what is said above (`fleetpatch config check` says it too), or write `enabled: false`.",
            )

    def apply(self, client: "SyncPrefectClient", tell: Callable[[Change], None]) -> None:
        """Do it, and cancel what Prefect's scheduler has made with the old request meanwhile."""
        apply(client, self.changes, self.wanted, self.found, tell)
        names = {self.found.ids[f"deployment {each.full_name}"]: each.full_name for each in self.found.deployments}
        left = replace(self.found, waiting=tuple(waiting(client, fleet_tag(self.fleet), names)))
        for run, why in outdated(self.wanted, left, prune=False):
            cancel(client, run, why)

    def ahead(self, now: datetime) -> tuple[Ahead, ...]:
        """Return the next window of each configuration."""
        asked = {each.full_name: _asked(each) for each in self.wanted.deployments}
        return ahead(self.configurations, self.inventories, asked, now)

    def refresh(self, client: "SyncPrefectClient", tell: Callable[[Change], None]) -> tuple[Change, ...]:
        """Write only anew what time itself has changed: the dates of deployments whose rest is as it should be.

        Returns:
            The other changes, which are a person's business.
        """
        due = [change for change in self.changes if self._only_dates(change)]
        apply(client, due, self.wanted, self.found, tell)
        return tuple(change for change in self.changes if change.doing is not Doing.KEEP and change not in due)

    def _only_dates(self, change: Change) -> bool:
        if change.doing is not Doing.UPDATE or change.kind != "deployment":
            return False
        ours, theirs = (
            next(each for each in setup.deployments if each.full_name == change.name)
            for setup in (self.wanted, self.found)
        )
        return replace(ours, schedules=theirs.schedules) == theirs and _ran_out(ours, theirs, self.now)


def examine(
    client: "SyncPrefectClient",
    path: Path | None,
    inventory: Path | None,
    *,
    fleet: str,
    pool: str,
    prune: bool = True,
    clock: Clock | None = None,
) -> Examined:
    """Compare configurations with what a server has. Changes nothing.

    Args:
        client: of the server.
        path: of the configurations; None: where they usually are.
        inventory: of the machines; None: what a configuration names, or else where it usually is.
        fleet: names this set of configurations on the server.
        pool: the work pool.
        prune: whether what is not wanted any more is removed.
        clock: tells the present.

    Raises:
        InventoryError: the configurations or the inventory can't be used.
        RequestError: a configuration's windows can't be told, two deployments would have one name, or somebody else
            has a deployment of such a name.
    """
    now = (clock or SystemClock()).now()
    configurations = load_configurations(find_configurations(path), now.date())
    places = {each.name: find_inventory(each.inventory or inventory).absolute() for each in configurations.every}
    loaded = {place: load_inventory(place) for place in set(places.values())}
    inventories = {name: loaded[place] for name, place in places.items()}
    whole = _whole(configurations, inventory)
    there = found(client, fleet, pool)
    told = {(each.full_name, line.slug): line for each in there.deployments for line in each.schedules}
    aim = wanted(configurations, inventories, now, places=places, fleet=fleet, pool=pool, inventory=whole, told=told)
    there = _with_adopted(client, aim, there, fleet)
    done = changes(aim, there, prune=prune)
    return Examined(configurations, inventories, whole, aim, there, done, now, fleet)


def checked_fleet(fleet: str) -> str:
    """Return a fleet's name, which is a part of deployments' names.

    Raises:
        RequestError: Prefect takes no such name.
    """
    if not fleet.strip() or set(fleet) & set(BANNED_CHARACTERS):
        hint = f"Leave out {' '.join(BANNED_CHARACTERS)}, and don't leave it empty."
        raise RequestError(f"{fleet!r} is no usable name for a fleet", hint=hint)
    return fleet


def _with_adopted(client: "SyncPrefectClient", aim: Setup, there: Setup, fleet: str) -> Setup:
    """Return what is there with what `python -m deployments.serve` has put there: from now on it is the fleet's.

    Raises:
        RequestError: see ``refuse_taken``.
    """
    known = {each.full_name for each in there.deployments}
    ours = {each.full_name: each for each in aim.deployments if each.full_name not in known}
    if not ours:
        return there
    taken = strays(client, ours, fleet)
    refuse_taken(ours, {name: each for name, (_, each) in taken.items()}, fleet)
    ids = {**there.ids, **{f"deployment {name}": known for name, (known, _) in taken.items()}}
    return replace(there, deployments=(*there.deployments, *(each for _, each in taken.values())), ids=ids)


def refuse_taken(ours: Mapping[str, Deployment], taken: Mapping[str, Deployment], fleet: str) -> None:
    """Refuse to take over what others have deployed: Prefect tells deployments apart by their names alone.

    Args:
        ours: what is not there yet, by full name.
        taken: what is there under such a name, and was not put there by this fleet.
        fleet: ours.

    Raises:
        RequestError: one of them is another fleet's, or a person's own.
    """
    fleets = {name: fleet_of(each) for name, each in taken.items()}
    for name, theirs in fleets.items():
        if theirs is not None:
            count = sum(each == theirs for each in fleets.values())
            what = f"{name} and {count - 1} more belong" if count > 1 else f"{name} belongs"
            raise RequestError(
                f"{what} to the fleet {theirs!r} on this server, and not to {fleet!r}",
                hint=f"Deploy with --fleet {theirs}, or give the configuration another name.",
            )
        each = taken[name]
        if OURS not in each.tags or each.entrypoint != ours[name].entrypoint:
            raise RequestError(
                f"{name} is there in Prefect, and was not put there by fleetpatch",
                hint=f"Give the configuration another name; or remove that one: prefect deployment delete '{name}'",
            )


def _ran_out(ours: Deployment, theirs: Deployment, now: datetime) -> bool:
    """Whether two deployments' schedules differ in nothing but how far lists of dates reach."""
    if [(line.slug, line.active) for line in ours.schedules] != [(line.slug, line.active) for line in theirs.schedules]:
        return False  # taken away, or switched off: by somebody
    return all(
        mine == told or (told.dates and _begins(mine, told, now))
        for mine, told in zip(ours.schedules, theirs.schedules, strict=True)
    )


def _begins(mine: ScheduleLine, told: ScheduleLine, now: datetime) -> bool:
    """Whether all dates that are left of a list are the first ones of another: it was not changed, it ends."""
    far = now + FAR
    try:
        left = list(_dates(told, now, far))
    except (ValueError, TypeError):  # what dateutil raises for texts that it can't read, or whose times don't match
        return False
    return left == list(islice(_dates(mine, now, far), len(left)))


def _dates(line: ScheduleLine, now: datetime, far: datetime) -> Iterator[datetime]:
    return prefect_would(Spoken(SpokenKind.RDATE, line.rule, line.zone, None), now, far)


def _asked(deployment: Deployment) -> Mapping[str, object]:
    request = deployment.parameters.get("request")
    return request if isinstance(request, Mapping) else {}


def _whole(configurations: Configurations, inventory: Path | None) -> Path:
    """Return the inventory of what is not about one configuration: the one that was named, or that others fall back to.

    `refresh-schedules` is given it as the named one, so it has to be that of every configuration that names none.
    """
    own = [each.inventory for each in configurations.every if each.inventory is not None]
    everybody = inventory is None and own and len(own) == len(configurations.every)
    return (own[0] if everybody else find_inventory(inventory)).absolute()
