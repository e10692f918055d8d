"""The plan of a deploy: it compares configurations with a server, and makes the changes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.types.names import BANNED_CHARACTERS

from deployments.checks.configuration_checks import find_blocking_findings
from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.inventories import Inventories
from deployments.configuration.loader import find_configurations, load_configurations
from deployments.configuration.model import Configurations
from deployments.sync.actual_state import find_fleet, find_foreign_deployments, read_actual_state, read_waiting_runs
from deployments.sync.builtin_deployments import AnyFlow
from deployments.sync.change_applier import apply_changes
from deployments.sync.desired_state import RULE_COMPARISON_REACH, build_desired_state
from deployments.sync.diff import find_changes, find_outdated_runs, is_up_to_date
from deployments.sync.flow_run_cancellation import cancel_waiting_run
from deployments.sync.model import (
    FORMER_ENTRYPOINTS,
    Change,
    ChangeAction,
    Deployment,
    DeploymentSet,
    ScheduleSpec,
)
from deployments.sync.next_windows import NextWindows, find_next_windows
from flows.prefect_api.tags import DEFAULT_FLEET, MANAGED_TAG, build_fleet_tag
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory
from tasks.errors import RequestError
from tasks.protocols.clock import Clock, SystemClock
from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind, iterate_prefect_starts

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

CLIENT_RETRIES = 5
"""How often the server is asked again when it is busy: everything here may be done twice."""


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The desired state, the actual state, and the changes."""

    configurations: Configurations
    inventories: Mapping[str, Inventory]  # by a configuration's name
    default_inventory: Path  # of what is not about one configuration
    desired: DeploymentSet
    actual: DeploymentSet
    changes: tuple[Change, ...]
    now: datetime
    fleet: str = DEFAULT_FLEET

    @property
    def is_up_to_date(self) -> bool:
        """Whether nothing has to be done."""
        return is_up_to_date(self.changes)

    def find_blocking_findings(self) -> tuple[ConfigurationFinding, ...]:
        """Return what `config check` calls a fault."""
        inventories = Inventories(
            {each.inventory_path: self.inventories[each.name] for each in self.configurations.all_configurations}
        )
        return find_blocking_findings(self.configurations, inventories, self.now)

    def require_no_blocking_findings(self, findings: Sequence[ConfigurationFinding]) -> None:
        """Let nothing be changed while a configuration that is switched on can't work as it is.

        Args:
            findings: see ``find_blocking_findings``.

        Raises:
            RequestError: there is one, and something would be changed.
        """
        names = {each.name for each in self.configurations.enabled_configurations}
        affected = sorted({each.configuration for each in findings if each.configuration in names})
        if affected and not self.is_up_to_date:
            raise RequestError(
                f"nothing was changed: {', '.join(affected)} can't work as written",
                hint="Mend the faults above (`fleetpatch config check` shows them too), or write `enabled: false`.",
            )

    def apply(self, client: "SyncPrefectClient", report_change: Callable[[Change], None]) -> None:
        """Do it, and cancel what Prefect's scheduler has made with the old request meanwhile."""
        apply_changes(client, self.changes, self.desired, self.actual, report_change)
        names = {
            self.actual.prefect_ids[f"deployment {each.full_name}"]: each.full_name for each in self.actual.deployments
        }
        remaining = replace(
            self.actual, waiting_runs=tuple(read_waiting_runs(client, build_fleet_tag(self.fleet), names))
        )
        for run, reason in find_outdated_runs(self.desired, remaining, prune=False):
            cancel_waiting_run(client, run, reason)

    def find_next_windows(self, now: datetime) -> tuple[NextWindows, ...]:
        """Return the next window of each configuration."""
        requests = {each.full_name: _get_request(each) for each in self.desired.deployments}
        return find_next_windows(self.configurations, self.inventories, requests, now)

    def extend_dates(self, client: "SyncPrefectClient", report_change: Callable[[Change], None]) -> tuple[Change, ...]:
        """Write only anew what time itself has changed: the dates of deployments whose rest is as it should be.

        Returns:
            The other changes, which are a person's business.
        """
        date_changes = [change for change in self.changes if self._is_date_extension(change)]
        apply_changes(client, date_changes, self.desired, self.actual, report_change)
        return tuple(
            change for change in self.changes if change.action is not ChangeAction.KEEP and change not in date_changes
        )

    def _is_date_extension(self, change: Change) -> bool:
        if change.action is not ChangeAction.UPDATE or change.kind != "deployment":
            return False
        ours, theirs = (
            next(each for each in setup.deployments if each.full_name == change.name)
            for setup in (self.desired, self.actual)
        )
        return replace(ours, schedules=theirs.schedules) == theirs and _has_extended_dates(ours, theirs, self.now)


def build_plan(
    client: "SyncPrefectClient",
    path: Path | None,
    inventory: Path | None,
    *,
    fleet: str,
    pool: str,
    refresh_flow: AnyFlow,
    prune: bool = True,
    clock: Clock | None = None,
) -> SyncPlan:
    """Compare configurations with what a server has. Changes nothing.

    Args:
        client: of the server.
        path: of the configurations; None: where they usually are.
        inventory: of the machines; None: what a configuration names, or else where it usually is.
        fleet: names this set of configurations on the server.
        pool: the work pool.
        refresh_flow: writes later dates into Prefect; it is one of the deployments.
        prune: whether what is not wanted any more is removed.
        clock: tells the present.

    Raises:
        InventoryError: the configurations or the inventory can't be used.
        RequestError: Prefect can't have a configuration's windows, two deployments would have one name, or others have
            a deployment of such a name.
    """
    now = (clock or SystemClock()).now()
    configurations = load_configurations(find_configurations(path), now.date())
    inventory_paths = {
        each.name: find_inventory(each.inventory_path or inventory).absolute()
        for each in configurations.all_configurations
    }
    inventories_by_path = {place: load_inventory(place) for place in set(inventory_paths.values())}
    inventories = {name: inventories_by_path[place] for name, place in inventory_paths.items()}
    default_inventory = _find_default_inventory(configurations, inventory)
    actual = read_actual_state(client, fleet, pool)
    current_schedules = {(each.full_name, line.slug): line for each in actual.deployments for line in each.schedules}
    desired = build_desired_state(
        configurations,
        inventories,
        now,
        inventory_paths=inventory_paths,
        fleet=fleet,
        pool=pool,
        inventory=default_inventory,
        current_schedules=current_schedules,
        refresh_flow=refresh_flow,
    )
    actual = _adopt_deployments(client, desired, actual, fleet)
    required_changes = find_changes(desired, actual, prune=prune)
    return SyncPlan(configurations, inventories, default_inventory, desired, actual, required_changes, now, fleet)


def require_fleet_name(fleet: str) -> str:
    """Return a fleet's name, which is a part of deployments' names.

    Raises:
        RequestError: Prefect takes no such name.
    """
    if not fleet.strip() or set(fleet) & set(BANNED_CHARACTERS):
        hint = f"Leave out {' '.join(BANNED_CHARACTERS)}, and don't leave it empty."
        raise RequestError(f"{fleet!r} is no usable name for a fleet", hint=hint)
    return fleet


def _adopt_deployments(
    client: "SyncPrefectClient", desired: DeploymentSet, actual: DeploymentSet, fleet: str
) -> DeploymentSet:
    """Return what is there with what `python -m deployments.serve` has put there: from now on it is the fleet's.

    Raises:
        RequestError: see ``require_names_not_taken``.
    """
    known_names = {each.full_name for each in actual.deployments}
    ours = {each.full_name: each for each in desired.deployments if each.full_name not in known_names}
    if not ours:
        return actual
    adopted = find_foreign_deployments(client, ours, fleet)
    require_names_not_taken(ours, {name: each for name, (_, each) in adopted.items()}, fleet)
    ids = {**actual.prefect_ids, **{f"deployment {name}": known for name, (known, _) in adopted.items()}}
    return replace(actual, deployments=(*actual.deployments, *(each for _, each in adopted.values())), prefect_ids=ids)


def require_names_not_taken(
    missing: Mapping[str, Deployment], existing: Mapping[str, Deployment], fleet_name: str
) -> None:
    """Refuse to replace deployments of others: Prefect identifies deployments by their names alone.

    Args:
        missing: what is not there yet, by full name.
        existing: what is there under such a name, and was not put there by this fleet.
        fleet_name: ours.

    Raises:
        RequestError: one of them is another fleet's, or a person's own.
    """
    fleets = {name: find_fleet(each) for name, each in existing.items()}
    for name, theirs in fleets.items():
        if theirs is not None:
            count = sum(each == theirs for each in fleets.values())
            what = f"{name} and {count - 1} more belong" if count > 1 else f"{name} belongs"
            raise RequestError(
                f"{what} to the fleet {theirs!r} on this server, and not to {fleet_name!r}",
                hint=f"Deploy with --fleet {theirs}, or give the configuration another name.",
            )
        each, entrypoint = existing[name], missing[name].entrypoint
        if MANAGED_TAG not in each.tags or each.entrypoint not in {entrypoint, FORMER_ENTRYPOINTS.get(entrypoint)}:
            raise RequestError(
                f"{name} exists in Prefect, and fleetpatch did not create it",
                hint=f"Give the configuration another name; or remove that one: prefect deployment delete '{name}'",
            )


def _has_extended_dates(desired: Deployment, actual: Deployment, now: datetime) -> bool:
    """Whether two deployments' schedules differ in nothing but how far lists of dates reach."""
    if [(line.slug, line.active) for line in desired.schedules] != [
        (line.slug, line.active) for line in actual.schedules
    ]:
        return False  # taken away, or switched off: by somebody
    return all(
        mine == told or (told.is_date_list and _is_date_prefix(mine, told, now))
        for mine, told in zip(desired.schedules, actual.schedules, strict=True)
    )


def _is_date_prefix(desired: ScheduleSpec, actual: ScheduleSpec, now: datetime) -> bool:
    """Whether all dates that are left of a list are the first ones of another: it was not changed, it ends."""
    far = now + RULE_COMPARISON_REACH
    try:
        remaining_dates = list(_iterate_dates(actual, now, far))
    except (ValueError, TypeError):  # what dateutil raises for texts that it can't read, or whose times don't match
        return False
    return remaining_dates == list(islice(_iterate_dates(desired, now, far), len(remaining_dates)))


def _iterate_dates(schedule: ScheduleSpec, now: datetime, far: datetime) -> Iterator[datetime]:
    return iterate_prefect_starts(
        PrefectSchedule(PrefectScheduleKind.RDATE, schedule.rule, schedule.zone, None), now, far
    )


def _get_request(deployment: Deployment) -> Mapping[str, object]:
    request = deployment.parameters.get("request")
    return request if isinstance(request, Mapping) else {}


def _find_default_inventory(configurations: Configurations, inventory: Path | None) -> Path:
    """Return the inventory of what is not about one configuration: the one that was named, or that others fall back to.

    `refresh-schedules` is given it as the named one, so it has to be that of every configuration that names none.
    """
    own_inventories = [
        each.inventory_path for each in configurations.all_configurations if each.inventory_path is not None
    ]
    has_no_default = (
        inventory is None and own_inventories and len(own_inventories) == len(configurations.all_configurations)
    )
    return (own_inventories[0] if has_no_default else find_inventory(inventory)).absolute()
