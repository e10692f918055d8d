"""The groups of maintenance control: configurations that hold updates, or their parts in one time zone."""

from collections.abc import Iterator
from dataclasses import field

from deployments.configuration.model import Configuration, Configurations, Inventories, ScheduledRequest
from flows.request.request_parts import NotifyRequest
from inventory.data_class import dataclass
from inventory.errors import EmptyScopeError, FleetpatchError, InventoryError
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.rules.maintenance.model import HoldPolicy
from tasks.rules.timing.admission import check_patch_owner


@dataclass(frozen=True, slots=True)
class HoldGroup:
    """A configuration that holds updates, or the part of it in one time zone."""

    name: str  # unique among all loaded configurations; also the name of its deployment in Prefect
    configuration: Configuration
    scheduled: ScheduledRequest  # its windows, and the request of its runs
    machines: tuple[Machine, ...] = ()  # those that its windows may patch now
    others: int = 0  # how many machines of its scope somebody else patches
    problem: str = ""  # why its machines can't be read; "": they can

    @property
    def policy(self) -> HoldPolicy:
        """How its updates are held."""
        hold = self.scheduled.request.maintenance
        assert hold is not None  # noqa: S101 - for the type checker: it is a group
        return hold.to_policy(self.configuration.window_minutes)

    @property
    def notify(self) -> tuple[NotifyRequest, ...]:
        """Who is told."""
        return tuple(self.configuration.form.notify)

    @property
    def zone(self) -> str:
        """The zone of its windows."""
        return self.scheduled.zone


@dataclass(frozen=True, slots=True)
class UnknownGroups:
    """A configuration that holds updates, whose machines or windows are not known now, and why."""

    configuration: Configuration
    problem: str


@dataclass(frozen=True, slots=True)
class HoldGroups:
    """All groups, and what could not be read."""

    by_name: dict[str, HoldGroup] = field(default_factory=dict)  # the groups
    # Configurations whose groups are not known, by name. Their groups are not removed.
    unknown: dict[str, UnknownGroups] = field(default_factory=dict)

    @property
    def problems(self) -> dict[str, str]:
        """Why it is not known what is held, by configuration or group."""
        problems = {name: unknown.problem for name, unknown in self.unknown.items()}
        return problems | {name: group.problem for name, group in self.by_name.items() if group.problem}


def build_groups(configurations: Configurations, inventories: Inventories) -> HoldGroups:
    """Return the groups of the enabled configurations that hold updates.

    The windows of a configuration with each machine's own zone are known only with its machines.
    """
    groups = HoldGroups()
    for configuration in configurations.enabled_configurations:
        if configuration.form.maintenance is None:
            continue
        inventory = inventories.get_inventory(configuration)
        try:
            if inventory is None:
                raise inventories.errors.get(configuration.inventory_path) or InventoryError("it has no inventory")
            scheduled_requests = configuration.build_scheduled_requests(inventory)
        except FleetpatchError as error:
            groups.unknown[configuration.name] = UnknownGroups(configuration, error.message.splitlines()[0])
            continue
        groups.by_name.update(
            (group.name, group) for group in _iterate_groups(configuration, inventories, scheduled_requests)
        )
    return groups


def _iterate_groups(
    configuration: Configuration, inventories: Inventories, scheduled_requests: tuple[ScheduledRequest, ...]
) -> Iterator[HoldGroup]:
    inventory = inventories.get_inventory(configuration)
    for scheduled in scheduled_requests:
        machines: tuple[Machine, ...] = ()
        problem = ""
        try:
            assert inventory is not None  # noqa: S101 - for the type checker
            machines = Scope.parse(scheduled.request.scope).select_machines(inventory)
        except EmptyScopeError as error:
            problem = error.message
        own = tuple(machine for machine in machines if not check_patch_owner(machine, configuration.name))
        yield HoldGroup(scheduled.slug, configuration, scheduled, own, len(machines) - len(own), problem)
