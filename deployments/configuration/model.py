"""A maintenance configuration, checked: what a run of it is asked, and when its windows open."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deployments.configuration.file_format import SHARED_FIELDS, ConfigurationForm
from deployments.configuration.prefect_names import build_slug
from deployments.configuration.scope_algebra import build_union, narrow_scope
from deployments.configuration.time_zones import MACHINE_ZONE
from flows.request.patch_request import PatchRequest, WindowRequest
from flows.request.policies import FreezeRequest
from inventory.files.source_location import SourceLocation
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Schedule
from tasks.rules.recurrence.parser import parse_recurrence


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """The windows of a configuration by the clocks of one zone, and what a run in them is asked.

    Attributes:
        slug: stable and unique among all openings of loaded configurations: for names of schedules.
        zone: IANA name.
        schedule: the windows. Prefect starts a run ``build_request.window.lead_minutes`` earlier.
        request: without a window's start: that comes from the schedule.
    """

    slug: str
    zone: str
    schedule: Schedule
    request: PatchRequest


@dataclass(frozen=True, slots=True)
class Configuration:
    """One maintenance configuration.

    Attributes:
        form: what its file says; paths are absolute.
        source_location: where its name stands.
        freezes: its own and the common ones, those of iCalendar files spelt out.
    """

    form: ConfigurationForm
    source_location: SourceLocation
    freezes: tuple[FreezeRequest, ...] = ()

    @property
    def name(self) -> str:
        """Unique among those that were loaded together."""
        return self.form.name

    @property
    def description(self) -> str:
        """What it is for, for people."""
        return self.form.description

    @property
    def is_enabled(self) -> bool:
        """Whether its windows open."""
        return self.form.enabled

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels for its deployments and runs."""
        return tuple(dict.fromkeys(self.form.tags))

    @property
    def inventory_path(self) -> Path | None:
        """Absolute; None: the one that every command finds."""
        return self.form.inventory

    @property
    def zone(self) -> str:
        """IANA name, or MACHINE_ZONE."""
        return self.form.window.zone

    @property
    def window_minutes(self) -> float:
        """How long a window is open."""
        return self.form.window.length

    @property
    def lead_minutes(self) -> float:
        """How long before its window a run starts."""
        return self.form.lead

    @property
    def stage_ahead_minutes(self) -> float | None:
        """How long before its window updates are downloaded; None: inside it."""
        return self.form.stage_ahead

    @property
    def recurrence(self) -> str:
        """As it was written; "Once" when it was not."""
        return self.form.window.recurrence

    @property
    def start(self) -> datetime:
        """Wall time in its zone, naive."""
        return self.form.window.start

    @property
    def expires(self) -> datetime | None:
        """Wall time in its zone, naive."""
        return self.form.window.expires

    @property
    def scope(self) -> str:
        """The dynamic expression and the static machines as one scope."""
        return self._build_scope("")

    def select_machines(self, inventory: Inventory) -> tuple[Machine, ...]:
        """Return the machines that it is for, as of now.

        Raises:
            InventoryError: there is none, or no machine has the tag that the scope asks for.
        """
        return Scope.parse(self.scope).select_machines(inventory)

    def find_zones(self, inventory: Inventory) -> tuple[str, ...]:
        """Return the zones by whose clocks its windows open.

        Raises:
            InventoryError: it is for each machine's own, and there is no machine.
        """
        if self.zone != MACHINE_ZONE:
            return (self.zone,)
        return tuple(sorted({machine.zone for machine in self.select_machines(inventory)}))

    def build_request(self, zone: str = "") -> PatchRequest:
        """Return what a run is asked.

        Args:
            zone: the zone of the window; only for MACHINE_ZONE, where the scope is narrowed to that zone's machines.
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
            freezes=list(self.freezes),
        )

    def build_schedule(self, zone: str) -> Schedule:
        """Return its windows by the clocks of a zone.

        Raises:
            RequestError: they can't be meant.
        """
        return Schedule(parse_recurrence(self.recurrence), self.start, self.window_minutes, zone, self.expires)

    def build_freezes(self, zone: str) -> tuple[Freeze, ...]:
        """Return its freezes; those without an offset by the clocks of a zone."""
        return tuple(one.to_freeze(zone) for one in self.freezes)

    def build_scheduled_requests(self, inventory: Inventory) -> tuple[ScheduledRequest, ...]:
        """Return its windows and requests, one for each zone.

        Raises:
            InventoryError: it is for each machine's own zone, and there is no machine.
        """
        return tuple(
            ScheduledRequest(self._build_slug(zone), zone, self.build_schedule(zone), self.build_request(zone))
            for zone in self.find_zones(inventory)
        )

    def build_schedules(self, inventory: Inventory) -> tuple[Schedule, ...]:
        """Return its windows, one schedule for each zone.

        Raises:
            InventoryError: it is for each machine's own zone, and there is no machine.
        """
        return tuple(opening.schedule for opening in self.build_scheduled_requests(inventory))

    def _build_slug(self, zone: str) -> str:
        return build_slug(self.name, zone if self.zone == MACHINE_ZONE else "")

    def _build_scope(self, zone: str) -> str:
        static = f"name={'|'.join(self.form.machines)}" if self.form.machines else ""
        whole = build_union(part for part in (self.form.scope, static) if part)
        return narrow_scope(whole, f"zone={zone}") if zone else whole


@dataclass(frozen=True, slots=True)
class Configurations:
    """All configurations that a file or a folder describes, those that are switched off as well.

    Attributes:
        all_configurations: in the order of the files.
        source_path: the file or folder.
    """

    all_configurations: tuple[Configuration, ...]
    source_path: Path

    @property
    def enabled_configurations(self) -> tuple[Configuration, ...]:
        """Those whose windows open."""
        return tuple(each for each in self.all_configurations if each.is_enabled)

    def get_configuration(self, name: str) -> Configuration:
        """Return the configuration of that name.

        Raises:
            KeyError: there is none.
        """
        for each in self.all_configurations:
            if each.name == name:
                return each
        raise KeyError(name)
