"""A maintenance configuration, checked: what a run of it is asked, and when its windows open."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deployments.config.form import TAKEN_OVER, ConfigurationForm
from deployments.config.names import slug_of
from deployments.config.scopes import either, narrowed
from deployments.config.zones import MACHINE
from flows.policy_forms import FreezeRequest
from flows.request import PatchRequest, WindowRequest
from inventory.machine import Inventory, Machine
from inventory.places import Place
from inventory.scope import Scope
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.recurrence import parse
from tasks.rules.calendar.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Opening:
    """The windows of a configuration by the clocks of one zone, and what a run in them is asked.

    Attributes:
        slug: stable and unique among all openings of loaded configurations: for names of schedules.
        zone: IANA name.
        schedule: the windows. Prefect starts a run ``request.window.lead_minutes`` earlier.
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
        place: where its name stands.
        freezes: its own and the common ones, those of iCalendar files spelt out.
    """

    form: ConfigurationForm
    place: Place
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
    def enabled(self) -> bool:
        """Whether its windows open."""
        return self.form.enabled

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels for its deployments and runs."""
        return tuple(dict.fromkeys(self.form.tags))

    @property
    def inventory(self) -> Path | None:
        """Absolute; None: the one that every command finds."""
        return self.form.inventory

    @property
    def zone(self) -> str:
        """IANA name, or MACHINE."""
        return self.form.window.zone

    @property
    def minutes(self) -> float:
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
        return self._scope_in("")

    def machines(self, inventory: Inventory) -> tuple[Machine, ...]:
        """Return the machines that it is for, as of now.

        Raises:
            InventoryError: there is none, or no machine has the tag that the scope asks for.
        """
        return Scope.parse(self.scope).select(inventory)

    def zones(self, inventory: Inventory) -> tuple[str, ...]:
        """Return the zones by whose clocks its windows open.

        Raises:
            InventoryError: it is for each machine's own, and there is no machine.
        """
        if self.zone != MACHINE:
            return (self.zone,)
        return tuple(sorted({machine.zone for machine in self.machines(inventory)}))

    def request(self, zone: str = "") -> PatchRequest:
        """Return what a run is asked.

        Args:
            zone: the zone of the window; only for MACHINE, where the scope is narrowed to that zone's machines.
        """
        asked = {key: getattr(self.form, key) for key in TAKEN_OVER}
        own = self.zone == MACHINE
        return PatchRequest(
            **asked,
            scope=self._scope_in(zone if own else ""),
            inventory=self.inventory,
            window=WindowRequest(
                minutes=self.minutes, zone=(zone or "UTC") if own else self.zone, lead_minutes=self.lead_minutes
            ),
            configuration=self.name,
            freezes=list(self.freezes),
        )

    def schedule(self, zone: str) -> Schedule:
        """Return its windows by the clocks of a zone.

        Raises:
            RequestError: they can't be meant.
        """
        return Schedule(parse(self.recurrence), self.start, self.minutes, zone, self.expires)

    def frozen_times(self, zone: str) -> tuple[Freeze, ...]:
        """Return its freezes; those without an offset by the clocks of a zone."""
        return tuple(one.read(zone) for one in self.freezes)

    def openings(self, inventory: Inventory) -> tuple[Opening, ...]:
        """Return its windows and requests, one for each zone.

        Raises:
            InventoryError: it is for each machine's own zone, and there is no machine.
        """
        return tuple(
            Opening(self._slug(zone), zone, self.schedule(zone), self.request(zone)) for zone in self.zones(inventory)
        )

    def schedules(self, inventory: Inventory) -> tuple[Schedule, ...]:
        """Return its windows, one schedule for each zone.

        Raises:
            InventoryError: it is for each machine's own zone, and there is no machine.
        """
        return tuple(opening.schedule for opening in self.openings(inventory))

    def _slug(self, zone: str) -> str:
        return slug_of(self.name, zone if self.zone == MACHINE else "")

    def _scope_in(self, zone: str) -> str:
        static = f"name={'|'.join(self.form.machines)}" if self.form.machines else ""
        whole = either(part for part in (self.form.scope, static) if part)
        return narrowed(whole, f"zone={zone}") if zone else whole


@dataclass(frozen=True, slots=True)
class Configurations:
    """All configurations that a file or a folder describes, those that are switched off as well.

    Attributes:
        every: in the order of the files.
        source: the file or folder.
    """

    every: tuple[Configuration, ...]
    source: Path

    @property
    def enabled(self) -> tuple[Configuration, ...]:
        """Those whose windows open."""
        return tuple(each for each in self.every if each.enabled)

    def named(self, name: str) -> Configuration:
        """Return the configuration of that name.

        Raises:
            KeyError: there is none.
        """
        for each in self.every:
            if each.name == name:
                return each
        raise KeyError(name)
