"""The freezes of the fleet's configurations, for every run: also for one that a person starts without a configuration.

They are read from the files by the process that executes the run, as the policy is. A run of a configuration has those
freezes in its request that were deployed; a file may have later ones.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

from flows.engine.run_info import is_rollout_run
from flows.freezes.freeze_files import build_freezes
from flows.freezes.time_values import MACHINE_ZONE, parse_time_zone
from flows.policy.policy_file import CONFIGURATIONS_VARIABLE, POLICY_FILE_NAME
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import FreezeRequest
from inventory.data_class import dataclass
from inventory.errors import InvalidFiles, InvalidInventory, InventoryError
from inventory.files.located_yaml import iterate_entries, parse_yaml
from inventory.files.paths import expand_home, find_named_or_default_path
from inventory.files.problems import LocatedData, ProblemCollector
from inventory.files.text_files import list_directory_names, read_text_file
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.domain.errors import Frozen
from tasks.domain.model import Window
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.timing.admission import describe_freeze

DEFAULT_FILE_NAMES: Final = ("configurations", "configurations.yaml")
_FILE_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_MAX_FILES: Final = 10_000
_OFF: Final = frozenset({"false", "no", "off", "n", "f", "0"})
"""The words for "no", as pydantic reads them: files are read without a schema here."""
_OVERRIDE = (
    "give a reason to override it, which is recorded: `override_freeze`, in the command --override-freeze REASON."
)
_ASK = f"Wait until it ends, move the window, or {_OVERRIDE}"
_CORRECT = f"Correct the file (`fleetpatch config check` shows all faults), or {_OVERRIDE}"


class InvalidFreezes(InvalidFiles):
    """Freezes that can't be read."""

    subject = "freezes"


class _NoConfigurations(InventoryError):
    """There are no configurations."""


@dataclass(frozen=True, slots=True)
class ConfigurationFreezes:
    """The own freezes of one enabled configuration, and for which machines they hold."""

    name: str
    scope: Scope
    zone: str  # IANA name of the zone in which they are read; "": that of each machine
    freezes: tuple[FreezeRequest, ...]


@dataclass(frozen=True, slots=True)
class FleetFreezes:
    """All freezes of the files of configurations."""

    common: tuple[FreezeRequest, ...] = ()  # those that stand beside the configurations: for the whole fleet
    own: tuple[ConfigurationFreezes, ...] = ()  # those of single configurations

    def find(self, request: PatchRequest, machines: Sequence[Machine], now: datetime) -> tuple[Freeze, ...]:
        """Return the freezes that hold for a run and are not over, as instants.

        For a run of a configuration they are the common ones and its own, by the clocks of its window. For another run
        they are read by the clocks of its machines, and those of each configuration that selects one of them hold, too.

        Raises:
            RequestError: a zone is unknown, or a freeze ends before it begins.
        """
        name = request.configuration
        zones = {request.window.zone} if name else {machine.zone for machine in machines}
        freezes = [freeze_form.to_freeze(zone) for freeze_form in self.common for zone in sorted(zones)]
        for configuration in self.own:
            members = [machine for machine in machines if configuration.scope.matches(machine)]
            if configuration.name == name if name else members and not is_rollout_run(request):
                member_zones = {configuration.zone} if configuration.zone else {machine.zone for machine in members}
                own_zones = sorted(zones if name else member_zones)
                freezes += [freeze_form.to_freeze(zone) for freeze_form in configuration.freezes for zone in own_zones]
        return tuple(dict.fromkeys(freeze for freeze in freezes if freeze.end > now))


def enforce_freezes(
    request: PatchRequest,
    read_machines: Callable[[], Sequence[Machine]],
    window: Window,
    now: datetime,
    configurations: Path | None = None,
) -> None:
    """Refuse a run whose window touches a freeze of the fleet's configurations.

    A download, and a run whose request overrides freezes, are not refused. If the files can't be read, a run of a
    configuration or of automatic patching goes by the freezes of its request; another one is refused.

    ``read_machines`` is not called if there are no freezes. A freeze that is over holds no more. ``configurations`` is
    the file or folder that this process uses; None: as every command finds it.

    Raises:
        Frozen: a freeze touches the window, or it is not known whether one does.
        RequestError: a freeze is not valid.
    """
    if request.override_freeze or request.download_only:
        return
    try:
        fleet = load_fleet_freezes(now.date(), configurations)
    except InventoryError as error:
        if request.configuration or is_rollout_run(request):
            return
        raise Frozen(f"it is not known whether a freeze holds: {error.message}", hint=_CORRECT) from error
    if not fleet.common and not fleet.own:
        return
    freeze = find_freeze(window, fleet.find(request, read_machines(), now))
    if freeze is not None:
        raise Frozen(describe_freeze(freeze, window), hint=_ASK)


@dataclass(slots=True)
class RereadFreezes:
    """Freezes that are read anew at each call: one may be declared while a run waits.

    If they can't be read meanwhile, those that were known at the last call hold, and a message says so.
    """

    read: Callable[[], tuple[Freeze, ...]]  # returns the freezes. It may raise InventoryError.
    unreadable_text: str  # the message, without the reason
    print_message: Callable[[str], None]
    read_others: Callable[[], Sequence[Freeze]]  # returns freezes of other places, which stand behind these
    _known: tuple[Freeze, ...] = ()

    def __call__(self) -> tuple[Freeze, ...]:
        """Return these freezes, and all others that are declared now. It raises nothing."""
        try:
            self._known = self.read()
        except InventoryError as error:
            self.print_message(f"{self.unreadable_text}: {error.message}")
        return (*self._known, *self.read_others())


def load_fleet_freezes(today: date, configurations: Path | None = None) -> FleetFreezes:
    """Load the freezes of the configurations that this process finds; none if there are no configurations.

    Args:
        today: events of iCalendar files are expanded from the start of this year.
        configurations: a file or folder; None: $FLEETPATCH_CONFIGURATIONS, or ``configurations`` in the working
            directory or in the user's configuration.

    Raises:
        InventoryError: a file can't be read, or a freeze in it.
    """
    try:
        path = configurations or find_named_or_default_path(
            None,
            CONFIGURATIONS_VARIABLE,
            DEFAULT_FILE_NAMES,
            what="file or folder",
            explicit_origin="",
            remedy="name the configurations",
            build_missing_error=lambda _folders: _NoConfigurations("there are no configurations"),
        )
    except _NoConfigurations:
        return FleetFreezes()
    problems = ProblemCollector()
    common: list[FreezeRequest] = []
    own: list[ConfigurationFreezes] = []
    try:
        for file in list_configuration_files(expand_home(path), problems):
            _read_file(file, today, problems, common, own)
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidFreezes(error.problems) from error
    return FleetFreezes(tuple(common), tuple(own))


def has_fleet_freezes(today: date) -> bool:
    """Return whether the configurations have freezes, or can't be read. See ``load_fleet_freezes``."""
    try:
        fleet = load_fleet_freezes(today)
    except InventoryError:
        return True
    return bool(fleet.common or fleet.own)


def list_configuration_files(path: Path, problems: ProblemCollector) -> Iterator[Path]:
    """Yield the files of configurations: the path itself, or those in its folder, but for the policy."""
    if not path.is_dir():
        yield path
        return
    names = list_directory_names(
        path,
        problems,
        max_entries=_MAX_FILES,
        unreadable_hint="Make it readable.",
        too_many_hint="Give a folder that holds nothing but configurations.",
    )
    for name in names:
        if os.path.splitext(name)[1] in _FILE_SUFFIXES and not name.startswith(".") and name != POLICY_FILE_NAME:  # noqa: PTH122
            yield path / name


def _read_file(
    file: Path, today: date, problems: ProblemCollector, common: list[FreezeRequest], own: list[ConfigurationFreezes]
) -> None:
    text = read_text_file(file, problems)
    if text is None or "freezes" not in text:  # a file without the word has none, whatever else is wrong with it
        return
    located = parse_yaml(file, text, problems)
    if located is None or not isinstance(located.data, dict) or "policy" in located.data:
        return
    if "name" in located.data:
        own += _read_configuration(located, today, problems)
        return
    common += build_freezes(located, today, problems)
    for entry in iterate_entries(located, "configurations", problems):
        own += _read_configuration(entry, today, problems)


def _read_configuration(
    located: LocatedData, today: date, problems: ProblemCollector
) -> Iterator[ConfigurationFreezes]:
    """Yield the freezes of a configuration, if it has some and is enabled. `config check` says what else is wrong."""
    data = located.data
    if not isinstance(data, dict) or not data.get("freezes") or str(data.get("enabled")).lower() in _OFF:
        return
    window = data.get("window")
    zone = window.get("zone") if isinstance(window, dict) else None
    named = data.get("machines")
    names = named.replace(",", " ").split() if isinstance(named, str) else list(named or ())
    static = f"name={'|'.join(map(str, names))}" if names else ""
    try:
        scope = Scope.parse(" or ".join(part for part in (str(data.get("scope") or ""), static) if part) or "*")
        zone_found = parse_time_zone(zone) if isinstance(zone, str) else MACHINE_ZONE
    except (InventoryError, ValueError):
        scope, zone_found = Scope.parse("*"), MACHINE_ZONE  # its machines are not known: it may be any
    freezes = build_freezes(located, today, problems)
    yield ConfigurationFreezes(str(data.get("name")), scope, "" if zone_found == MACHINE_ZONE else zone_found, freezes)
