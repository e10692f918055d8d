"""Deploying from files to a server, in one object: examined first, applied when that is wanted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.config.configuration import Configurations
from deployments.config.finding import Finding
from deployments.config.findings import findings
from deployments.config.fleets import Fleets
from deployments.config.load import find_configurations, load_configurations
from deployments.deploying.ahead import Ahead, ahead
from deployments.deploying.apply import apply
from deployments.deploying.changes import changes, settled
from deployments.deploying.found import found, others
from deployments.deploying.model import Change, Deployment, Doing, ScheduleLine, Setup
from deployments.deploying.wanted import FAR, wanted
from inventory.load import find_inventory, load_inventory
from inventory.machine import Inventory
from tasks.errors import RequestError
from tasks.rules.calendar.overlaps import Severity
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

    @property
    def settled(self) -> bool:
        """Whether nothing has to be done."""
        return settled(self.changes)

    def faults(self) -> tuple[Finding, ...]:
        """Return what `config check` calls a fault: it is deployed as it is, for it may be meant for another day."""
        fleets = Fleets({each.inventory: self.inventories[each.name] for each in self.configurations.every})
        found = findings(self.configurations, fleets, self.now)
        return tuple(each for each in found if each.severity is Severity.BLOCKS)

    def apply(self, client: "SyncPrefectClient", tell: Callable[[Change], None]) -> None:
        """Do it."""
        apply(client, self.changes, self.wanted, self.found, tell)

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
        RequestError: a configuration's windows can't be told, or the server has another fleet's deployments.
    """
    now = (clock or SystemClock()).now()
    configurations = load_configurations(find_configurations(path), now.date())
    places = {each.name: find_inventory(each.inventory or inventory).absolute() for each in configurations.every}
    loaded = {place: load_inventory(place) for place in set(places.values())}
    inventories = {name: loaded[place] for name, place in places.items()}
    whole = _whole(configurations, inventory)
    there = found(client, fleet)
    told = {line.slug: line for each in there.deployments for line in each.schedules}
    aim = wanted(configurations, inventories, now, places=places, fleet=fleet, pool=pool, inventory=whole, told=told)
    done = changes(aim, there, prune=prune)
    if any(change.doing is Doing.CREATE and change.kind == "deployment" for change in done):
        refuse_taken(done, others(client, fleet), fleet)
    return Examined(configurations, inventories, whole, aim, there, done, now)


def refuse_taken(done: Sequence[Change], taken: Mapping[str, str], fleet: str) -> None:
    """Refuse to take another fleet's deployments over: Prefect tells them apart by their names alone.

    Args:
        done: what would be done.
        taken: the deployments of other fleets: their fleet, by full name.
        fleet: ours.

    Raises:
        RequestError: something that would be created is another fleet's.
    """
    hit = {change.name: taken[change.name] for change in done if change.doing is Doing.CREATE and change.name in taken}
    if hit:
        name, theirs = next(iter(hit.items()))
        what = f"{name} and {len(hit) - 1} more belong" if len(hit) > 1 else f"{name} belongs"
        raise RequestError(
            f"{what} to the fleet {theirs!r} on this server, and not to {fleet!r}",
            hint=f"Deploy with --fleet {theirs}, or give this fleet a Prefect server of its own.",
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
