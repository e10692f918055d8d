"""The plan of a deploy: compares configurations with a server, applies the changes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.types.names import BANNED_CHARACTERS

from deployments.checks.configuration_checks import find_blocking_findings
from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.loader import find_configurations, load_configurations
from deployments.configuration.model import Configurations, Inventories
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from deployments.preview.zone_schedules import is_all_over, list_over
from deployments.sync.actual_state import (
    find_foreign_deployments,
    find_foreign_sites,
    read_actual_state,
    read_waiting_runs,
)
from deployments.sync.change_applier import apply_changes, cancel_waiting_run
from deployments.sync.desired_state import RULE_COMPARISON_REACH, build_desired_state
from deployments.sync.diff import find_changes, find_outdated_runs, is_up_to_date, keep_pauses
from deployments.sync.model import AnyFlow, Change, ChangeAction, Deployment, DeploymentSet, ScheduleSpec
from deployments.sync.next_windows import NextWindows, find_next_windows
from flows.ports.caller import read_os_actor
from flows.prefect_api.tags import DEFAULT_FLEET, build_fleet_tag, build_site_name, find_tagged_fleets
from inventory.data_class import dataclass
from inventory.loader import find_inventory, load_inventory
from inventory.machine import DEFAULT_SITE, Inventory
from inventory.named_files import COMPONENTS_FILE, IMAGES_FILE
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.records.audit.deployed_policies import is_deployed, record_deployed_policy
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.rules.calendar.prefect_schedule import PrefectSchedule, PrefectScheduleKind, iterate_prefect_starts
from tasks.rules.policy.model import Policy


def is_policy_recorded(fleet: str, policy: Policy) -> bool:
    """Return whether a policy is the one that was recorded last, so that no process begins a run without it.

    Without a file nothing is looked at.

    Raises:
        RecordsError: the records can't be read.
    """
    if not policy.files:
        return True
    with open_records(fleet=fleet) as records:
        return is_deployed(SqlAuditLog(records.database), fleet, policy.files)


def record_policy(fleet: str, policy: Policy) -> bool:
    """Record a policy, or that there is none any more. Return whether that is news.

    Raises:
        RecordsError: the records can't be read or written.
    """
    actor = read_os_actor()
    actor_fields = (actor.who, actor.source, actor.claimed, actor.address)
    with open_records(fleet=fleet) as records:
        return record_deployed_policy(
            SqlAuditLog(records.database), fleet, policy.files, actor_fields, SystemClock().now()
        )


CLIENT_RETRIES = 5
"""How often a request is retried if the server is busy. A repeated request does no harm here."""


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Desired state, actual state, and the changes between them."""

    configurations: Configurations
    inventories: Mapping[str, Inventory]  # by the name of the configuration, "automatic" included
    default_inventory: Path  # for deployments that need no configuration
    desired: DeploymentSet
    actual: DeploymentSet
    changes: tuple[Change, ...]
    now: datetime
    fleet: str = DEFAULT_FLEET
    kept_pauses: tuple[str, ...] = ()  # pauses that a person set in Prefect, and that this plan does not lift

    @property
    def is_up_to_date(self) -> bool:
        """Whether there are no changes."""
        return is_up_to_date(self.changes)

    @property
    def is_over(self) -> bool:
        """Whether all windows are over, so that no schedule patches anything any more."""
        return is_all_over(self.configurations, list_over(self.configurations, self._inventories_by_path, self.now))

    def find_blocking_findings(self) -> tuple[ConfigurationFinding, ...]:
        """Return the blocking findings of `config check`."""
        return find_blocking_findings(self.configurations, self._inventories_by_path, self.now)

    @property
    def _inventories_by_path(self) -> Inventories:
        paths = {
            configuration.name: configuration.inventory_path for configuration in self.configurations.all_configurations
        }
        if self.configurations.automatic is not None:
            paths[AUTOMATIC_NAME] = self.configurations.automatic.inventory
        return Inventories({path: self.inventories[name] for name, path in paths.items()})

    def require_no_blocking_findings(self, findings: Sequence[ConfigurationFinding]) -> None:
        """Prevent changes while an enabled configuration has a blocking finding.

        Raises:
            RequestError: there is such a finding, and the plan has changes.
        """
        names = {configuration.name for configuration in self.configurations.enabled_configurations}
        automatic = self.configurations.automatic
        names |= {AUTOMATIC_NAME} if automatic is not None and automatic.enabled else set()
        affected = sorted({finding.configuration for finding in findings if finding.configuration in names})
        if affected and not self.is_up_to_date:
            raise RequestError(
                f"nothing was changed: {', '.join(affected)} can't work as written",
                hint="Correct the faults above (`fleetpatch config check` shows them too), or write `enabled: false`.",
            )

    def apply(self, client: SyncPrefectClient, report_change: Callable[[Change], None]) -> None:
        """Apply the changes. Then cancel runs that Prefect's scheduler made with the old request in the meantime."""
        apply_changes(client, self.changes, self.desired, self.actual, report_change)
        names = {
            self.actual.prefect_ids[f"deployment {deployment.full_name}"]: deployment.full_name
            for deployment in self.actual.deployments
        }
        remaining = replace(
            self.actual, waiting_runs=tuple(read_waiting_runs(client, build_fleet_tag(self.fleet), names))
        )
        for run, reason in find_outdated_runs(self.desired, remaining, prune=False):
            cancel_waiting_run(client, run, reason)

    def find_next_windows(self, now: datetime) -> tuple[NextWindows, ...]:
        """Return the next windows of each configuration."""
        requests = {deployment.full_name: _get_request(deployment) for deployment in self.desired.deployments}
        return find_next_windows(self.configurations, self.inventories, requests, now)

    def extend_dates(self, client: SyncPrefectClient, report_change: Callable[[Change], None]) -> tuple[Change, ...]:
        """Apply only changes that extend the dates of schedules in otherwise unchanged deployments.

        Return the other changes, which a person must apply.
        """
        date_changes = [change for change in self.changes if self._is_date_extension(change)]
        apply_changes(client, date_changes, self.desired, self.actual, report_change)
        return tuple(
            change for change in self.changes if change.action is not ChangeAction.KEEP and change not in date_changes
        )

    def _is_date_extension(self, change: Change) -> bool:
        if change.action is not ChangeAction.UPDATE or change.kind != "deployment":
            return False
        desired, actual = (
            next(deployment for deployment in setup.deployments if deployment.full_name == change.name)
            for setup in (self.desired, self.actual)
        )
        return replace(desired, schedules=actual.schedules) == actual and _has_extended_dates(desired, actual, self.now)


def build_plan(
    client: SyncPrefectClient,
    path: Path | None,
    inventory: Path | None,
    *,
    fleet: str,
    pool: str,
    refresh_flow: AnyFlow,
    prune: bool = True,
    lifts_pauses: bool = True,
    clock: Clock | None = None,
) -> SyncPlan:
    """Compare configurations with a server. This changes nothing.

    Without paths, the configurations and the inventory are looked for in the default places; a configuration may name
    its inventory. ``prune`` removes unwanted objects. With ``lifts_pauses``, pauses that a person set in Prefect are
    differences to correct.

    Raises:
        InventoryError: the configurations or the inventory can't be used.
        RequestError: Prefect can't represent the windows of a configuration, two deployments would have one name, or a
            deployment with such a name belongs to another fleet or a person, or a work pool would have two sites.
    """
    now = (clock or SystemClock()).now()
    configurations = load_configurations(find_configurations(path), now.date())
    inventory_paths = {
        configuration.name: find_inventory(configuration.inventory_path or inventory).absolute()
        for configuration in configurations.all_configurations
    }
    if configurations.automatic is not None:
        inventory_paths[AUTOMATIC_NAME] = find_inventory(configurations.automatic.inventory or inventory).absolute()
    inventories_by_path = {
        inventory_path: load_inventory(inventory_path) for inventory_path in set(inventory_paths.values())
    }
    inventories = {name: inventories_by_path[inventory_path] for name, inventory_path in inventory_paths.items()}
    default_inventory = _find_default_inventory(configurations, inventory)
    site_inventories = [*inventories_by_path.values()]
    if default_inventory not in inventories_by_path:
        site_inventories.append(load_inventory(default_inventory))
    sites = {site for site_inventory in site_inventories for site in site_inventory.sites}
    sites_by_pool = {build_site_name(pool, site): site for site in sorted({DEFAULT_SITE, *sites})}
    require_pools_of_one_site(sites_by_pool, find_foreign_sites(client, sites_by_pool, fleet))
    actual = read_actual_state(client, fleet, list(sites_by_pool))
    current_schedules = {
        (deployment.full_name, line.slug): line for deployment in actual.deployments for line in deployment.schedules
    }
    desired = build_desired_state(
        configurations,
        inventories,
        now,
        inventory_paths=inventory_paths,
        fleet=fleet,
        pool=pool,
        inventory=default_inventory,
        sites=sites,
        current_schedules=current_schedules,
        refresh_flow=refresh_flow,
        has_components=COMPONENTS_FILE.is_used(default_inventory) or IMAGES_FILE.is_used(default_inventory),
    )
    known_names = {deployment.full_name for deployment in actual.deployments}
    missing_names = {deployment.full_name for deployment in desired.deployments} - known_names
    require_names_not_taken(find_foreign_deployments(client, missing_names, fleet), fleet)
    kept_names: tuple[str, ...] = ()
    if not lifts_pauses:
        desired, kept_names = keep_pauses(desired, actual)
    required_changes = find_changes(desired, actual, prune=prune)
    return SyncPlan(
        configurations, inventories, default_inventory, desired, actual, required_changes, now, fleet, kept_names
    )


def require_fleet_name(fleet: str) -> str:
    """Return the name of a fleet if it is valid. It is a part of the names of deployments.

    Raises:
        RequestError: Prefect does not allow the name.
    """
    if not fleet.strip() or set(fleet) & set(BANNED_CHARACTERS):
        hint = f"Leave out {' '.join(BANNED_CHARACTERS)}, and don't leave it empty."
        raise RequestError(f"{fleet!r} is no usable name for a fleet", hint=hint)
    return fleet


def require_pools_of_one_site(sites_by_pool: Mapping[str, str], foreign_sites: Mapping[str, Sequence[str]]) -> None:
    """Prevent that one worker executes the runs of two sites: it would reach for machines that are not where it is.

    ``sites_by_pool`` are the pools of this fleet; ``foreign_sites`` those whose runs other fleets start in a pool.

    Raises:
        RequestError: a pool is that of another site of another fleet.
    """
    for pool, site in sites_by_pool.items():
        for other_site in foreign_sites.get(pool, ()):
            if other_site != site:
                raise RequestError(
                    f"the work pool {pool} would have the runs of the site {site} of this fleet, and it has those of "
                    f"the site {other_site} of another fleet: a worker reaches the machines of one site",
                    hint="Deploy with another --pool, or give the site another name.",
                )


def require_names_not_taken(foreign: Mapping[str, Deployment], fleet_name: str) -> None:
    """Prevent the replacement of deployments of others. Prefect identifies deployments only by name.

    ``foreign`` has, by full name, deployments with a name that this fleet needs, and that this fleet did not create.

    Raises:
        RequestError: one of them belongs to another fleet or to a person.
    """
    fleets = [next(iter(find_tagged_fleets(deployment.tags)), None) for deployment in foreign.values()]
    for name, fleet in zip(foreign, fleets, strict=True):
        if fleet is None:
            raise RequestError(
                f"{name} exists in Prefect, and fleetpatch did not create it",
                hint="Give the configuration another name; or remove that one: "
                f"fleetpatch prefect deployment delete '{name}'",
            )
        count = fleets.count(fleet)
        subject = f"{name} and {count - 1} more belong" if count > 1 else f"{name} belongs"
        raise RequestError(
            f"{subject} to the fleet {fleet!r} on this server, and not to {fleet_name!r}",
            hint=f"Deploy with --fleet {fleet}, or give the configuration another name.",
        )


def _has_extended_dates(desired: Deployment, actual: Deployment, now: datetime) -> bool:
    """Return whether the schedules of two deployments differ only in the end of their date lists."""
    if [(line.slug, line.active) for line in desired.schedules] != [
        (line.slug, line.active) for line in actual.schedules
    ]:
        return False  # a person has removed or disabled a schedule
    return all(
        desired_line == actual_line or (actual_line.is_date_list and _is_date_prefix(desired_line, actual_line, now))
        for desired_line, actual_line in zip(desired.schedules, actual.schedules, strict=True)
    )


def _is_date_prefix(desired: ScheduleSpec, actual: ScheduleSpec, now: datetime) -> bool:
    """Return whether the remaining dates of a list are the first dates of the other list, so it is unchanged."""
    far = now + RULE_COMPARISON_REACH
    try:
        remaining_dates = list(_iterate_dates(actual, now, far))
    except (ValueError, TypeError):  # dateutil can't parse the text, or it mixes naive and aware times
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
    """Return the inventory for deployments that need no configuration: the named one, or the default of the others.

    `refresh-schedules` gets it as the named inventory, so it must fit every configuration that names none.
    """
    every = [configuration.inventory_path for configuration in configurations.all_configurations]
    every += [configurations.automatic.inventory] if configurations.automatic is not None else []
    own_inventories = [inventory_path for inventory_path in every if inventory_path is not None]
    has_no_default = inventory is None and own_inventories and len(own_inventories) == len(every)
    return (own_inventories[0] if has_no_default else find_inventory(inventory)).absolute()
