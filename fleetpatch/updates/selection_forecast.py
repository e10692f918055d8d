"""Says in which window a machine will get an update, or why in none: by the request of its next window."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from fleetpatch.machines.automatic_patching import AutomaticState
from fleetpatch.machines.snapshot import FleetMachine, FleetSnapshot
from inventory.data_class import dataclass
from inventory.machine import PatchOwner
from tasks.domain.assessment import build_update_key
from tasks.domain.errors import FleetpatchError
from tasks.domain.model import PackageState, RebootNeed, Selection, Update
from tasks.domain.states import SUCCESSFUL_UPDATE_STATES, Classification, UpdateState, YesNoUnknown
from tasks.records.automatic.sightings import with_first_seen
from tasks.records.queries.updates import LastResult, PendingUpdateRow
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import RolloutState
from tasks.rules.updates.selection import select_updates

_OWNERS = {
    PatchOwner.OS: "the updater of its own system patches it, not fleetpatch",
    PatchOwner.MANUAL: "people patch it, not fleetpatch",
}

_AUTOMATIC = ("", "")
"""Stands for automatic patching where windows have their configuration and their zone."""

_Key = tuple[str, str, str]
"""Name, architecture and version of an update."""


@dataclass(frozen=True, slots=True)
class UpdateForecast:
    """What comes next of an update on a machine."""

    why: str  # why it is not installed
    run_id: str = ""  # the run that says so, or ""
    window_start: datetime | None = None  # the start of the window that will install it; None: none is known
    window: str = ""  # the configuration of that window, or the phase of automatic patching
    zone: str = "UTC"  # the zone of the window


class Forecaster:
    """Forecasts for one page.

    Args:
        fleet: the fleet.
        automatic: what automatic patching does.
        results: the last result of the update on each machine.
        packages: the newest answers of some machines. The selection of a request needs more of an update than the rows
            have: of the other machines, it is taken from a machine here that lacks the same version.
        database: the records, which know when updates were first seen.
    """

    def __init__(
        self,
        fleet: FleetSnapshot,
        automatic: AutomaticState,
        results: Mapping[str, LastResult],
        packages: Mapping[str, PackageState],
        database: Database,
    ) -> None:
        self._fleet = fleet
        self._automatic = automatic
        self._results = results
        self._packages = packages
        self._database = database
        self._examples = {
            update.key: replace(update, given_up="")  # so it failed on that machine only
            for state in packages.values()
            for update in state.updates
        }
        configurations = fleet.configurations.all_configurations if fleet.configurations is not None else ()
        self._configurations = {configuration.name: configuration for configuration in configurations}
        self._selections: dict[tuple[str, str], Selection | None] = {}
        self._reasons: dict[tuple[object, ...], str] = {}
        self._machine_reasons: dict[tuple[str, str, str], dict[_Key, str]] = {}

    def forecast(self, row: PendingUpdateRow, machine: FleetMachine) -> UpdateForecast:
        """Return what comes next of a pending update."""
        owner = machine.machine.owner
        if owner in _OWNERS:
            return self._build_past(row, _OWNERS[owner])
        if owner is PatchOwner.MANAGED:
            return self._forecast_automatic(row, machine)
        objections = []
        for window in machine.windows:
            reason = self._find_objection(row, window.configuration, window.zone)
            if not reason:
                past = self._build_past(row, "waits for its window", is_coming=True)
                return UpdateForecast(past.why, past.run_id, window.start, window.configuration, window.zone)
            objections.append(f"{window.configuration} will not install it: {reason}")
        otherwise = "; ".join(objections) or "no configuration with a window selects this machine"
        return self._build_past(row, otherwise)

    def _forecast_automatic(self, row: PendingUpdateRow, machine: FleetMachine) -> UpdateForecast:
        if not machine.is_automatic:
            automatic = self._fleet.configurations.automatic if self._fleet.configurations is not None else None
            is_on = automatic is not None and automatic.enabled
            otherwise = "does not select this machine" if is_on else "is not on"
            return self._build_past(row, f"automatic patching {otherwise}")
        if paused := self._automatic.paused.get(row.machine):
            return self._build_past(row, f"automatic patching is {paused}")
        if reason := self._find_objection(row, *_AUTOMATIC):
            return self._build_past(row, f"automatic patching will not install it: {reason}")
        key = build_update_key(row.name, row.update_id, row.available)
        if held := self._automatic.held.get(key) or self._automatic.held.get((row.name, row.available)):
            return self._build_past(row, f"held by automatic patching: {held}")
        past = self._build_past(row, "waits for its night", is_coming=True)
        window = "" if row.held or row.blocked else self._describe_phase(row.name, machine)
        return UpdateForecast(past.why, past.run_id, None, window, machine.machine.zone)

    def _describe_phase(self, name: str, machine: FleetMachine) -> str:
        rollout = self._automatic.rollout
        # Of an update whose newest version came later, an earlier one may be in the rollout.
        if (
            rollout is None
            or rollout.state is not RolloutState.ROLLING_FORWARD
            or all(name != rollout_name for rollout_name, _ in rollout.updates)
        ):
            return "automatic patching, in its next rollout"
        for phase in rollout.phases:
            if machine.machine.location in phase.locations:
                return f"automatic patching, phase {phase.number} of {len(rollout.phases)}"
        return "automatic patching"

    def _build_past(self, row: PendingUpdateRow, otherwise: str, *, is_coming: bool = False) -> UpdateForecast:
        """Return why it is pending: what the machine says first, then the last run, then what is known otherwise.

        ``is_coming``: nothing prevents it from now on, so the last run says more.
        """
        if row.blocked:
            return UpdateForecast(f"blocked: {row.blocked}")
        if row.held:
            return UpdateForecast("an administrator holds it on the machine")
        last = self._results.get(row.machine)
        if is_coming and last is not None and last.state not in {*SUCCESSFUL_UPDATE_STATES, UpdateState.PENDING}:
            return UpdateForecast(f"{last.state}: {last.reason}" if last.reason else last.state, last.run_id)
        return UpdateForecast(otherwise)

    def _find_objection(self, row: PendingUpdateRow, configuration: str, zone: str) -> str:
        """Return why the request of a configuration would not select an update, or ""."""
        selection = self._find_selection(configuration, zone)
        if selection is None:
            return ""
        own_reasons = self._list_reasons(row.machine, configuration, zone, selection)
        if (update_key := (row.name, row.arch, row.available)) in own_reasons:
            return own_reasons[update_key]
        marks = (row.classification, row.severity, row.held, row.blocked, row.kb, row.title, row.published)
        key = (configuration, zone, row.name, row.update_id, row.arch, row.available, *marks)
        if key not in self._reasons:
            update = _build_update(row, self._examples.get(build_update_key(row.name, row.update_id, row.available)))
            _, skipped = select_updates(PackageState("", (update,), RebootNeed(YesNoUnknown.UNKNOWN)), selection)
            self._reasons[key] = skipped[0].reason if skipped else ""
        return self._reasons[key]

    def _list_reasons(self, machine: str, configuration: str, zone: str, selection: Selection) -> dict[_Key, str]:
        """Return why a request would not select each update of a machine whose newest answer is known, or ""."""
        key = (machine, configuration, zone)
        packages = self._packages.get(machine)
        if packages is None:
            return {}
        if key not in self._machine_reasons:
            _, skipped = select_updates(packages, selection)
            reasons = {skipped_update.update.id: skipped_update.reason for skipped_update in skipped}
            self._machine_reasons[key] = {
                (skipped_update.name, skipped_update.arch, skipped_update.available): reasons.get(skipped_update.id, "")
                for skipped_update in packages.updates
            }
        return self._machine_reasons[key]

    def _find_selection(self, configuration: str, zone: str) -> Selection | None:
        key = (configuration, zone)
        if key not in self._selections:
            try:
                self._selections[key] = self._build_selection(configuration, zone)
            except FleetpatchError:  # checks of configurations report it
                self._selections[key] = None
        return self._selections[key]

    def _build_selection(self, configuration: str, zone: str) -> Selection | None:
        if (configuration, zone) == _AUTOMATIC:
            automatic = self._fleet.configurations.automatic if self._fleet.configurations is not None else None
            policy = automatic.to_policy() if automatic is not None else None
            return Selection(classifications=policy.classifications, exclude=policy.exclude) if policy else None
        known_configuration = self._configurations.get(configuration)
        if known_configuration is None:
            return None
        selection = known_configuration.build_request(zone).to_patch_options().selection
        return with_first_seen(self._database, selection, self._packages.values())


def _build_update(row: PendingUpdateRow, example: Update | None) -> Update:
    if example is not None:
        return replace(example, arch=row.arch, installed=row.installed, held=row.held, blocked=row.blocked)
    return Update(
        id=row.update_id,
        name=row.name,
        arch=row.arch,
        installed=row.installed,
        available=row.available,
        classification=Classification(row.classification),
        severity=row.severity,
        held=row.held,
        blocked=row.blocked,
        kb=row.kb,
        published=row.published,
        title=row.title or "",
    )
