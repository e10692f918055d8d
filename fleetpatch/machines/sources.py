"""Reads inventory and configurations when their files have changed, and keeps the last good ones."""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import date, datetime
from pathlib import Path
from typing import Final

from deployments.configuration.loader import NoConfigurations, find_configurations, load_configurations
from deployments.configuration.model import Configurations, Inventories
from deployments.maintenance.groups import HoldGroups, build_groups
from deployments.preview.automatic_status import count_managed_machines
from deployments.preview.zone_schedules import ZoneSchedule, build_zone_schedules
from fleetpatch.settings import WebSettings
from flows.automatic.fleet_view import select_managed_machines
from flows.hotpatch.baseline_file import BASELINES_VARIABLE, load_baseline_calendar
from flows.request.automatic_request import AutomaticRequest
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory
from tasks.rules.hotpatch import BaselineCalendar

Stamp = frozenset[tuple[str, int, int]]
"""Each file's path, the time of its last change in nanoseconds, and its size."""

_VARIABLE_FOLDERS = ("group_vars", "host_vars")
_MAX_FILES = 20_000


def read_stamp(paths: Iterable[Path]) -> Stamp:
    """Return the stamp of files, and of all files in folders.

    The folders with the variables of an Ansible inventory count with the file beside them. What can't be read has no
    part in the stamp, so that the stamp changes once it can be.
    """
    files: set[tuple[str, int, int]] = set()
    for path in paths:
        for file in _iterate_files(path):
            try:
                status = file.stat()
            except OSError:
                continue
            files.add((str(file), status.st_mtime_ns, status.st_size))
            if len(files) >= _MAX_FILES:
                return frozenset(files)
    return frozenset(files)


def _iterate_files(path: Path) -> Iterator[Path]:
    yield path
    folders = [path] if path.is_dir() else [path.parent / name for name in _VARIABLE_FOLDERS]
    for folder in folders:
        for parent, subfolders, names in os.walk(folder):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from (Path(parent) / name for name in names)


logger = logging.getLogger(__name__)

RELOAD_SECONDS: Final = 600.0
"""After this time all files are read again. Calendars of freezes may lie anywhere, so their stamps are not known."""


@dataclass(frozen=True, eq=False)
class FleetSources:
    """What the files say."""

    inventory: Inventory | None = None  # None if it could never be read
    configurations: Configurations | None = None  # None if there are none, or if they could never be read
    zone_schedules: tuple[ZoneSchedule, ...] = ()  # the windows of the enabled configurations
    # Names of the configurations that select a machine.
    configurations_by_machine: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()  # what can't be read now, for the pages
    disabled_schedules: tuple[ZoneSchedule, ...] = ()  # those of the disabled ones, for their past
    # Names of the machines that automatic patching patches; none if it is off.
    automatic_machines: frozenset[str] = frozenset()
    managed: int | None = None  # how many machines are patched automatically; None: it is not on, or not known
    baselines: BaselineCalendar | None = None  # of machines with hotpatches; None: they can't be read
    held: HoldGroups | None = None  # the groups of configurations that hold updates; None: configurations were not read


class SourceReader:
    """Reads the files again only if they have changed. Only one thread may use it at a time."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._stamp: Stamp = frozenset()
        self._inventory_paths: tuple[Path, ...] = ()
        self._named_inventories: dict[Path, Inventory] = {}
        self._read_at = 0.0
        self._day: date | None = None
        self._sources = FleetSources()

    def read(self, now: datetime) -> FleetSources:
        """Return what the files say. It is the same object as long as nothing has changed."""
        paths = [*self._find_paths(), *self._inventory_paths]
        stamp = read_stamp(paths)
        is_old = time.monotonic() - self._read_at > RELOAD_SECONDS
        if self._day is not None and stamp == self._stamp and self._day == now.date() and not is_old:
            return self._sources
        self._sources = self._load(now.date())
        # The stamp is of before the reading: a change meanwhile is seen the next time.
        self._stamp = stamp | read_stamp(set(self._inventory_paths) - set(paths))
        self._day, self._read_at = now.date(), time.monotonic()
        return self._sources

    def _find_paths(self) -> list[Path]:
        problems = []
        for find, explicit in (
            (find_inventory, self._settings.inventory),
            (find_configurations, self._settings.configurations),
        ):
            try:
                problems.append(find(explicit).expanduser())
            except (FleetpatchError, RuntimeError):
                continue
        baselines = os.environ.get(BASELINES_VARIABLE)
        return [*problems, Path(baselines)] if baselines else problems

    def _load(self, today: date) -> FleetSources:
        problems: list[str] = []
        inventory = self._load_inventory(problems)
        configurations = self._load_configurations(today, problems)
        inventories = self._load_inventories(configurations, inventory, problems)
        baselines = self._load_baselines(problems)
        if configurations is None:
            return FleetSources(inventory, problems=tuple(problems), baselines=baselines)
        schedules = build_zone_schedules(configurations, inventories)
        automatic = configurations.automatic
        own = inventories.by_path.get(automatic.inventory) if automatic is not None else None
        names_by_machine: dict[str, dict[str, None]] = {}
        for zone_schedule in schedules:
            for name in zone_schedule.machines:
                names_by_machine.setdefault(name, {})[zone_schedule.configuration.name] = None
        return FleetSources(
            inventory,
            configurations,
            schedules,
            {name: tuple(names) for name, names in names_by_machine.items()},
            tuple(problems),
            build_zone_schedules(configurations, inventories, enabled=False),
            _find_automatic_machines(automatic, own),
            count_managed_machines(automatic, own) if automatic is not None else None,
            baselines,
            build_groups(configurations, inventories),
        )

    def _load_baselines(self, problems: list[str]) -> BaselineCalendar | None:
        try:
            return load_baseline_calendar()
        except FleetpatchError as error:
            problems.append(_describe("baselines of hotpatches", error, is_kept=self._sources.baselines is not None))
            return self._sources.baselines

    def _load_inventory(self, problems: list[str]) -> Inventory | None:
        last = self._sources.inventory
        try:
            return load_inventory(find_inventory(self._settings.inventory))
        except FleetpatchError as error:
            problems.append(_describe("inventory", error, is_kept=last is not None))
            return last

    def _load_configurations(self, today: date, problems: list[str]) -> Configurations | None:
        last = self._sources.configurations
        try:
            return load_configurations(find_configurations(self._settings.configurations), today)
        except FleetpatchError as error:
            if last is not None or not isinstance(
                error, NoConfigurations
            ):  # who has none, and wants none, has no problem
                problems.append(_describe("configurations", error, is_kept=last is not None))
            return last

    def _load_inventories(
        self, configurations: Configurations | None, default: Inventory | None, problems: list[str]
    ) -> Inventories:
        """Load the inventories that configurations name. The default one is read already."""
        loaded = Inventories()
        if default is not None:
            loaded.by_path[None] = default
        named = {one.inventory_path for one in configurations.all_configurations} if configurations else set()
        named |= {configurations.automatic.inventory} if configurations and configurations.automatic else set()
        self._inventory_paths = tuple(sorted(path for path in named if path is not None))
        for path in self._inventory_paths:
            try:
                loaded.by_path[path] = load_inventory(path)
            except FleetpatchError as error:
                loaded.errors[path] = error
                last = self._named_inventories.get(path)
                problems.append(_describe("inventory of a configuration", error, is_kept=last is not None))
                if last is not None:
                    loaded.by_path[path] = last
        self._named_inventories = {path: inventory for path, inventory in loaded.by_path.items() if path is not None}
        return loaded


def _describe(what: str, error: FleetpatchError, *, is_kept: bool) -> str:
    """Return an error with its remedy, on lines of its own as in an error of several faults."""
    remark = "\n    What was read before the fault stays in use." if is_kept else ""
    return f"{what}: {error.message}" + (f"\n    {error.hint}" if error.hint else "") + remark


def _find_automatic_machines(automatic: AutomaticRequest | None, inventory: Inventory | None) -> frozenset[str]:
    if automatic is None or not automatic.enabled or inventory is None:
        return frozenset()
    return frozenset(managed_machine.name for managed_machine in select_managed_machines(automatic.scope, inventory))
