"""The system's own updaters: whether they are as the machine's owner says, and how they are switched on or off. Pure.

What an assessment says counts. A switch uses only means that the vendor documents (``UpdaterMeans``). Packages are
never installed for that: where the updater is missing, the plan says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum

from inventory.data_class import dataclass
from inventory.machine import PatchOwner
from inventory.name_lists import join_first_names
from tasks.domain.model import PackageState
from tasks.domain.protocols.package_manager import UpdaterMeans


class UpdaterAction(StrEnum):
    """What people can ask for."""

    ON = "on"
    OFF = "off"


def build_switch_act(action: UpdaterAction) -> str:
    """Return the act of orders that switch updaters."""
    return f"updaters {action}"


class UpdaterStatus(StrEnum):
    """Whether a machine updates itself, by its last answer."""

    ON = "On"
    OFF = "Off"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class UpdaterRequest:
    """What people last switched on a machine, with success."""

    action: UpdaterAction
    at: datetime
    by: str = ""


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A unit of systemd, in its words."""

    load: str
    enabled: str = ""
    active: str = ""

    @property
    def is_there(self) -> bool:
        """Whether the machine has it."""
        return self.load != "not-found"

    @property
    def is_on(self) -> bool:
        """Whether it acts now, and after a reboot."""
        return self.active == "active" and self.enabled.startswith("enabled")


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """What a machine says of its updaters."""

    means: UpdaterMeans | None  # of its package manager; None: how its updaters are switched is not known
    installing: tuple[str, ...] = ()  # names of what installs by itself, by an assessment just now
    units: Mapping[str, UnitFacts] = field(default_factory=dict)  # those that were looked at
    has_program: bool | None = None  # whether it has the program of the means; None: not asked
    unread: str = ""  # why the units could not be looked at, or ""


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """What a switch does on one machine. Without a refusal and without steps, nothing is to do."""

    refusal: str = ""
    remedy: str = ""
    steps: tuple[str, ...] = ()  # in words
    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    file_text: str = ""  # the text of the means' file; "": it is not written
    policy_values: tuple[str, ...] = ()  # NAME=NUMBER of a policy
    note: str = ""  # what people should know, or ""


def find_installing_updaters(packages: PackageState) -> tuple[str, ...]:
    """Return the names of what installs updates on a machine by itself."""
    return tuple(name for name, _ in packages.auto_updaters if name not in packages.non_installing_updaters)


def find_updater_status(installing: Sequence[str] | None) -> UpdaterStatus:
    """Return whether a machine updates itself. ``installing`` is None if it has never said so."""
    if installing is None:
        return UpdaterStatus.UNKNOWN
    return UpdaterStatus.ON if installing else UpdaterStatus.OFF


def refuse_switch(action: UpdaterAction, owner: PatchOwner) -> str:
    """Return why the owner of a machine forbids a switch, or "".

    Two that patch a machine, or nobody: each would be a fault of the inventory. So the owner is set first.
    """
    if action is UpdaterAction.ON and owner is not PatchOwner.OS:
        return f"its owner is {owner}, so its own updater would be a second one that patches it"
    if action is UpdaterAction.OFF and not owner.is_patchable:
        who = "its own updater" if owner is PatchOwner.OS else "people"
        return f"its owner is {owner}: {who} may need it, and fleetpatch does not patch it"
    return ""


def list_units_to_look_at(means: UpdaterMeans | None, installing: Sequence[str]) -> tuple[str, ...]:
    """Return the units that a plan asks about: those of the package manager, and those that install by themselves."""
    units = [name for name in installing if name.endswith((".timer", ".service"))]
    timers = [_name_timer(name) for name in installing if name.endswith(".service")]
    return tuple(dict.fromkeys([*(means.units if means is not None else ()), *units, *timers]))


def plan_switch(action: UpdaterAction, facts: SwitchFacts) -> SwitchPlan:
    """Return what a switch does on a machine."""
    wanted = UpdaterStatus.ON if action is UpdaterAction.ON else UpdaterStatus.OFF
    if find_updater_status(facts.installing) is wanted:
        return SwitchPlan()
    if facts.means is None:
        return SwitchPlan("how its own updaters are switched is not known", "Switch them on the machine itself.")
    if facts.means.policy_on:
        return _plan_policy(action, facts.means, facts.installing)
    if facts.unread:
        return SwitchPlan(facts.unread, "Look at it on the machine itself.")
    return _plan_on(facts.means, facts) if action is UpdaterAction.ON else _plan_off(facts.means, facts)


def _plan_on(means: UpdaterMeans, facts: SwitchFacts) -> SwitchPlan:
    if means.program and not facts.has_program:
        return SwitchPlan(f"the program {means.program} is not installed", means.missing)
    present = [unit for unit in means.units if unit in facts.units and facts.units[unit].is_there]
    if not present:
        return SwitchPlan(f"it has no updater of its own ({join_first_names(means.units)})", means.missing)
    chosen = present if means.needs_all_units else present[:1]
    masked = [unit for unit in chosen if facts.units[unit].load == "masked"]
    if masked:
        return SwitchPlan(f"masked on the machine: {join_first_names(masked)}", f"systemctl unmask {' '.join(masked)}")
    off = tuple(unit for unit in chosen if not facts.units[unit].is_on)
    note = "what it installs is said in its own file" if means.with_settings.intersection(chosen) else ""
    steps = _describe(means, off, "enable", means.text_on)
    if not steps:
        remedy = "Look at its own settings on the machine."
        return SwitchPlan(f"switched on already, and installs nothing: {join_first_names(chosen)}", remedy)
    return SwitchPlan(steps=steps, enable=off, file_text=means.text_on, note=note)


def _plan_off(means: UpdaterMeans, facts: SwitchFacts) -> SwitchPlan:
    units = {name: _find_unit_to_disable(means, name, facts) for name in facts.installing}
    others = [name for name, unit in units.items() if not unit]
    if others:
        return SwitchPlan(f"no unit switches it off: {join_first_names(others)}", "Switch it off there.")
    if means.text_off and set(units.values()) <= set(means.units):
        return SwitchPlan(steps=_describe(means, (), "disable", means.text_off), file_text=means.text_off)
    disable = tuple(dict.fromkeys(units.values()))
    return SwitchPlan(steps=_describe(means, disable, "disable", ""), disable=disable)


def _find_unit_to_disable(means: UpdaterMeans, name: str, facts: SwitchFacts) -> str:
    """Return the unit that is switched off for an updater: never a service that may change packages; "": none."""
    if name.endswith(".timer") or name in means.stoppable:
        return name
    timer = _name_timer(name)
    is_there = timer in means.units or (timer in facts.units and facts.units[timer].is_there)
    return timer if name.endswith(".service") and is_there else ""


def _name_timer(service: str) -> str:
    return f"{service.removesuffix('.service')}.timer"


def _plan_policy(action: UpdaterAction, means: UpdaterMeans, installing: Sequence[str]) -> SwitchPlan:
    others = [name for name in installing if name not in means.policy_names]
    if others and action is UpdaterAction.OFF:
        return SwitchPlan(f"another patch manager is at work: {join_first_names(others)}", "Switch it off there.")
    values = means.policy_on if action is UpdaterAction.ON else means.policy_off
    steps = tuple(f"set {value.replace('=', ' = ')} in the policy of Automatic Updates" for value in values)
    return SwitchPlan(steps=steps, policy_values=values, note="policies of a domain win with their next refresh")


def _describe(means: UpdaterMeans, units: Sequence[str], verb: str, text: str) -> tuple[str, ...]:
    setting = f"write {means.file}: {text.splitlines()[-1]}" if text else ""
    return tuple(filter(None, [setting, *(f"systemctl {verb} --now {unit}" for unit in units)]))


def describe_drift(owner: PatchOwner | None, installing: Sequence[str] | None, request: UpdaterRequest | None) -> str:
    """Return how a machine's own updater differs from what its owner says, or from the last switch; "" if it does not.

    A machine that has said nothing does not differ: that it is unknown is said elsewhere.
    """
    if owner is None or installing is None:
        return ""
    names = join_first_names(installing)
    if owner is PatchOwner.OS and not installing:
        return "its own updater patches it, by the inventory, and none is switched on"
    if owner is PatchOwner.MANUAL and installing:
        return f"people patch it, by the inventory, and {names} installs updates by itself"
    if owner.is_patchable and installing and request is not None and request.action is UpdaterAction.OFF:
        who = request.by or "somebody"
        return f"{names} installs updates by itself again: {who} switched that off on {request.at:%Y-%m-%d}"
    return ""
