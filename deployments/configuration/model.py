"""The model of a loaded configuration: the requests of its runs, and the schedules of its windows."""

from collections.abc import Iterator
from dataclasses import field
from datetime import datetime
from pathlib import Path

from deployments.configuration.file_format import SHARED_FIELDS, ConfigurationForm
from deployments.configuration.prefect_names import build_slug
from flows.freezes.time_values import MACHINE_ZONE
from flows.request.automatic_request import AutomaticRequest
from flows.request.patch_request import PatchRequest, WindowRequest
from flows.request.request_parts import FreezeRequest, HoldRequest
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError, InventoryError
from inventory.files.problems import SourceLocation
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Schedule, has_window_left
from tasks.rules.recurrence.parser import parse_recurrence

_LAST_ZONE = "Etc/GMT+12"
"""Where a wall time comes last. The windows of every other zone are over by then."""


def narrow_scope(scope: str, term: str) -> str:
    """Return the scope with one more condition (``zone=Europe/Berlin``), which applies to each part of an `or`.

    Raises:
        InventoryError: the scope or the term is invalid.
    """
    full_scope, (extra,) = Scope.parse(scope), Scope.parse(term).terms
    return str(
        Scope((*full_scope.terms, extra), tuple(Scope((*part.terms, extra)) for part in full_scope.alternatives))
    )


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """The windows of a configuration in one zone, and the request of their runs."""

    slug: str  # the name of the schedule in Prefect; stable, and unique among all loaded configurations
    zone: str  # IANA name
    schedule: Schedule  # the windows. Prefect starts a run ``build_request.window.lead_minutes`` earlier.
    request: PatchRequest  # the request without the start of a window, which comes from the schedule


@dataclass(frozen=True, slots=True)
class Configuration:
    """A maintenance configuration."""

    form: ConfigurationForm  # the content of its file, with absolute paths
    source_location: SourceLocation  # the place of its name
    # Its own and the shared freezes; the events of iCalendar files are expanded.
    freezes: tuple[FreezeRequest, ...] = ()

    @property
    def name(self) -> str:
        """Name, unique among the configurations that are loaded together."""
        return self.form.name

    @property
    def is_enabled(self) -> bool:
        """Whether its windows open."""
        return self.form.enabled

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of its deployments and runs in Prefect."""
        return tuple(dict.fromkeys(self.form.tags))

    @property
    def inventory_path(self) -> Path | None:
        """Absolute path of its inventory; None: the default inventory of all commands."""
        return self.form.inventory

    @property
    def zone(self) -> str:
        """IANA name, or MACHINE_ZONE."""
        return self.form.window.zone

    @property
    def window_minutes(self) -> float:
        """Length of a window in minutes."""
        return self.form.window.length

    @property
    def lead_minutes(self) -> float:
        """Minutes from the start of a run to its window."""
        return self.form.lead

    @property
    def stage_ahead_minutes(self) -> float | None:
        """Minutes from the start of the download to the window; None: the download is in the window."""
        return self.form.stage_ahead

    @property
    def scope(self) -> str:
        """The scope that joins the dynamic expression and the static machines."""
        return self._build_scope("")

    def select_machines(self, inventory: Inventory) -> tuple[Machine, ...]:
        """Return the machines that the scope selects now.

        Raises:
            InventoryError: no machine matches, or no machine has a tag of the scope.
        """
        return Scope.parse(self.scope).select_machines(inventory)

    def find_zones(self, inventory: Inventory) -> tuple[str, ...]:
        """Return the zones of its windows.

        Raises:
            InventoryError: the windows use each machine's own zone, and there is no machine.
        """
        if self.zone != MACHINE_ZONE:
            return (self.zone,)
        return tuple(sorted({machine.zone for machine in self.select_machines(inventory)}))

    def build_request(self, zone: str = "") -> PatchRequest:
        """Return the request of a run.

        Args:
            zone: the zone of the window. Only for MACHINE_ZONE: the scope is limited to the machines of this zone.
        """
        shared_values = {key: getattr(self.form, key) for key in SHARED_FIELDS}
        uses_machine_zones = self.zone == MACHINE_ZONE
        return PatchRequest(
            **shared_values,
            scope=self._build_scope(zone if uses_machine_zones else ""),
            inventory=self.inventory_path,
            window=WindowRequest(
                minutes=self.window_minutes,
                zone=(zone or "UTC") if uses_machine_zones else self.zone,
                lead_minutes=self.lead_minutes,
            ),
            configuration=self.name,
            maintenance=self._build_hold(zone if uses_machine_zones else ""),
            freezes=list(self.freezes),
        )

    def _build_hold(self, zone: str) -> HoldRequest | None:
        form = self.form.maintenance
        if form is None:
            return None
        options = form.model_dump(exclude={"hold"})
        return HoldRequest(**options, hold_minutes=form.hold, group=build_slug(self.name, zone))

    def build_schedule(self, zone: str) -> Schedule:
        """Return the schedule of its windows in a zone. Raise RequestError if the values of the window are invalid."""
        window = self.form.window
        return Schedule(parse_recurrence(window.recurrence), window.start, window.length, zone, window.expires)

    def build_freezes(self, zone: str) -> tuple[Freeze, ...]:
        """Return its freezes. A freeze without an offset is in this zone."""
        return tuple(entry.to_freeze(zone) for entry in self.freezes)

    def build_scheduled_requests(self, inventory: Inventory) -> tuple[ScheduledRequest, ...]:
        """Return its windows and requests, one for each zone.

        Raises:
            InventoryError: the windows use each machine's own zone, and there is no machine.
        """
        return tuple(
            ScheduledRequest(
                build_slug(self.name, zone if self.zone == MACHINE_ZONE else ""),
                zone,
                self.build_schedule(zone),
                self.build_request(zone),
            )
            for zone in self.find_zones(inventory)
        )

    def build_remaining_requests(self, inventory: Inventory, now: datetime) -> tuple[ScheduledRequest, ...]:
        """Return its windows and requests; none if its windows are over and its machines are unknown.

        Raises:
            InventoryError: windows are left, they use each machine's own zone, and there is no machine.
        """
        try:
            return self.build_scheduled_requests(inventory)
        except InventoryError:
            if has_window_left(self.build_schedule(_LAST_ZONE), now):
                raise
            return ()

    def _build_scope(self, zone: str) -> str:
        static = f"name={'|'.join(self.form.machines)}" if self.form.machines else ""
        full_scope = " or ".join(part for part in (self.form.scope, static) if part)
        return narrow_scope(full_scope, f"zone={zone}") if zone else full_scope


@dataclass(frozen=True, slots=True)
class AutomaticConfiguration:
    """How managed machines are patched automatically."""

    request: AutomaticRequest  # the request of each tick, with absolute paths and all freezes
    source_location: SourceLocation


@dataclass(frozen=True, slots=True)
class Configurations:
    """All configurations of a file or folder, disabled ones included."""

    all_configurations: tuple[Configuration, ...]  # in the order of the files
    source_path: Path
    # The key `automatic` of one of the files; None: no file has it.
    automatic_configuration: AutomaticConfiguration | None = None
    common_freezes: tuple[FreezeRequest, ...] = ()  # the freezes of the whole fleet. Each configuration has them, too.

    @property
    def automatic(self) -> AutomaticRequest | None:
        """The request of automatic patching; None: no file has it."""
        return self.automatic_configuration.request if self.automatic_configuration is not None else None

    @property
    def enabled_configurations(self) -> tuple[Configuration, ...]:
        """The configurations whose windows open."""
        return tuple(configuration for configuration in self.all_configurations if configuration.is_enabled)


@dataclass(frozen=True, slots=True)
class Inventories:
    """Inventories by the path in the configurations."""

    # The loaded inventories; None is the key of the default inventory of all commands.
    by_path: dict[Path | None, Inventory] = field(default_factory=dict)
    errors: dict[Path | None, FleetpatchError] = field(default_factory=dict)  # the errors of the others
    _machines_by_scope: dict[tuple[Path | None, str], tuple[Machine, ...] | InventoryError] = field(
        default_factory=dict
    )

    def get_inventory(self, configuration: Configuration) -> Inventory | None:
        """Return the inventory of a configuration, or None if it can't be read."""
        return self.by_path.get(configuration.inventory_path)

    def select_machines(self, configuration: Configuration) -> tuple[Machine, ...]:
        """Return the machines of a configuration; none if its inventory can't be read.

        The result is cached, because checks ask for the same scope many times and a fleet may be large.

        Raises:
            InventoryError: no machine matches, or no machine has a tag of the scope.
        """
        key = (configuration.inventory_path, configuration.scope)
        if key not in self._machines_by_scope:
            inventory = self.get_inventory(configuration)
            try:
                self._machines_by_scope[key] = configuration.select_machines(inventory) if inventory is not None else ()
            except InventoryError as error:
                self._machines_by_scope[key] = error
        machines = self._machines_by_scope[key]
        if isinstance(machines, InventoryError):
            raise machines
        return machines

    def iterate_machines(self) -> Iterator[Machine]:
        """Yield each machine of each inventory."""
        for inventory in self.by_path.values():
            yield from inventory.machines


def load_inventories(configurations: Configurations, explicit: Path | None = None) -> Inventories:
    """Load the inventories that configurations name. ``explicit`` replaces the default inventory."""
    inventories = Inventories()
    paths = [entry.inventory_path for entry in configurations.all_configurations]
    paths += [configurations.automatic.inventory] if configurations.automatic is not None else []
    for path in dict.fromkeys(paths or [None]):  # freezes alone hold for the machines of every command
        try:
            inventories.by_path[path] = load_inventory(find_inventory(path or explicit))
        except FleetpatchError as error:
            inventories.errors[path] = error
    return inventories
