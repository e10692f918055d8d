"""The system's own updaters: whether they are as the machine's owner says, and how they are switched on or off. Pure.

What an assessment says counts. A switch uses only means that the vendor documents: the timers of dnf-automatic and of
image-based systems, apt's settings APT::Periodic, the policy of Automatic Updates. Packages are never installed for
that: where the updater is missing, the plan says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from inventory.machine import PatchOwner
from inventory.name_lists import join_first_names
from tasks.domain.model import PackageState

APT_FILE: Final = "/etc/apt/apt.conf.d/zz-fleetpatch-updaters"
"""It is read after all others of Debian and Ubuntu: names there are sorted."""
_APT_COMMENT: Final = "// Written by fleetpatch. To undo it, remove this file."
APT_PROGRAM: Final = "unattended-upgrade"
WINDOWS: Final = "windows-update"
AUTOMATIC_UPDATES: Final = "Automatic Updates"
"""The name of Windows' own updater, in assessments and in the records of the script that pauses it."""
_APT: Final = "apt"


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
class _Means:
    """How a package manager's own updater is switched on.

    Attributes:
        candidates: units, the best first: the first that the machine has is switched on.
        with_settings: those of them that do what their file says, which is not read.
        missing: the remedy where it has none.
    """

    candidates: tuple[str, ...]
    with_settings: frozenset[str] = frozenset()
    missing: str = "Install one, or let fleetpatch patch the machine."


_DNF: Final = _Means(
    ("dnf-automatic-install.timer", "dnf5-automatic.timer", "dnf-automatic.timer", "yum-cron.service"),
    frozenset({"dnf5-automatic.timer", "dnf-automatic.timer", "yum-cron.service"}),
    "Install it: dnf install dnf-automatic. Its file automatic.conf says what it installs.",
)
_MEANS: Final[Mapping[str, _Means]] = {
    _APT: _Means(("apt-daily.timer", "apt-daily-upgrade.timer"), missing="apt-get install unattended-upgrades"),
    "dnf": _DNF,
    "dnf5": _DNF,
    "yum": _DNF,
    "zypper": _Means(("os-update.timer",), frozenset({"os-update.timer"}), "Install it: zypper install os-update."),
    "bootc": _Means(("bootc-fetch-apply-updates.timer",)),
    "rpm-ostree": _Means(("rpm-ostreed-automatic.timer",), frozenset({"rpm-ostreed-automatic.timer"})),
    "transactional-update": _Means(("transactional-update.timer",)),
}


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A unit of systemd, in its words."""

    load: str
    enabled: str = ""
    active: str = ""


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """What a machine says of its updaters.

    Attributes:
        manager: its package manager.
        installing: names of what installs by itself, by an assessment just now.
        units: those that were looked at.
        has_program: whether it has the program that installs; None: not asked.
        unread: why systemd could not be asked, or "".
    """

    manager: str
    installing: tuple[str, ...] = ()
    units: Mapping[str, UnitFacts] = field(default_factory=dict)
    has_program: bool | None = None
    unread: str = ""


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """What a switch does on one machine. Without a refusal and without steps, nothing is to do.

    Attributes:
        steps: in words.
        file_text: the text of APT_FILE; "": it is not written.
        policy_values: NAME=NUMBER of the policy of Automatic Updates.
        note: what people should know, or "".
    """

    refusal: str = ""
    remedy: str = ""
    steps: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    file_text: str = ""
    policy_values: tuple[str, ...] = ()
    note: str = ""


_IMAGE_MANAGERS: Final = frozenset({"bootc", "rpm-ostree", "transactional-update"})


def _list_candidates(manager: str) -> tuple[str, ...]:
    means = _MEANS.get(manager)
    return means.candidates if means is not None else ()


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


def plan_switch(action: UpdaterAction, facts: SwitchFacts) -> SwitchPlan:
    """Return what a switch does on a machine."""
    if find_updater_status(facts.installing) is (UpdaterStatus.ON if action is UpdaterAction.ON else UpdaterStatus.OFF):
        return SwitchPlan()
    if facts.manager == WINDOWS:
        return _plan_windows(action, facts)
    if facts.manager not in _MEANS:
        return SwitchPlan(f"no updater of {facts.manager} is known", "Switch it on the machine itself.")
    if facts.unread:
        return SwitchPlan(facts.unread, "Look at it on the machine itself.")
    return _plan_on(facts) if action is UpdaterAction.ON else _plan_off(facts)


def _plan_on(facts: SwitchFacts) -> SwitchPlan:
    means = _MEANS[facts.manager]
    if facts.manager == _APT and not facts.has_program:
        return SwitchPlan("unattended-upgrades is not installed", means.missing)
    present = [unit for unit in means.candidates if unit in facts.units and facts.units[unit].load != "not-found"]
    if not present:
        return SwitchPlan(f"it has no updater of its own ({join_first_names(means.candidates)})", means.missing)
    chosen = tuple(present) if facts.manager == _APT else (present[0],)
    masked = [unit for unit in chosen if facts.units[unit].load == "masked"]
    if masked:
        return SwitchPlan(f"masked on the machine: {join_first_names(masked)}", f"systemctl unmask {' '.join(masked)}")
    off = tuple(unit for unit in chosen if not _is_on(facts.units[unit]))
    text = _build_apt_text(is_on=True) if facts.manager == _APT else ""
    note = "what it installs is said in its own file" if set(chosen) & means.with_settings else ""
    return SwitchPlan(steps=_describe(off, "enable", text), enable=off, file_text=text, note=note)


def _is_on(unit: UnitFacts) -> bool:
    return unit.active == "active" and unit.enabled.startswith("enabled")


def _plan_off(facts: SwitchFacts) -> SwitchPlan:
    units = {name: _find_unit_to_disable(name, facts) for name in facts.installing}
    others = [name for name, unit in units.items() if not unit]
    if others:
        return SwitchPlan(f"no unit switches it off: {join_first_names(others)}", "Switch it off there.")
    if facts.manager == _APT:  # the timers also read the package lists, which is no update
        text = _build_apt_text(is_on=False)
        return SwitchPlan(steps=_describe((), "disable", text), file_text=text)
    disable = tuple(dict.fromkeys(units.values()))
    return SwitchPlan(steps=_describe(disable, "disable", ""), disable=disable)


def _find_unit_to_disable(name: str, facts: SwitchFacts) -> str:
    """Return the unit that is switched off for an updater: never a service that may change packages; "": there is none.

    An agent of an image-based system is only a client of the tool, and yum-cron.service runs no program.
    """
    if name.endswith(".timer"):
        return name
    if not name.endswith(".service"):
        return ""
    timer = f"{name.removesuffix('.service')}.timer"
    if facts.manager == _APT or (timer in facts.units and facts.units[timer].load != "not-found"):
        return timer
    return name if facts.manager in _IMAGE_MANAGERS or name == "yum-cron.service" else ""


def list_units_to_look_at(manager: str, installing: Sequence[str]) -> tuple[str, ...]:
    """Return the units that a plan asks about: those of the package manager, and those that install by themselves."""
    timers = [f"{name.removesuffix('.service')}.timer" for name in installing if name.endswith(".service")]
    units = [name for name in installing if name.endswith((".timer", ".service"))]
    return tuple(dict.fromkeys([*_list_candidates(manager), *units, *timers]))


def _plan_windows(action: UpdaterAction, facts: SwitchFacts) -> SwitchPlan:
    others = [name for name in facts.installing if name != AUTOMATIC_UPDATES]
    if others and action is UpdaterAction.OFF:
        return SwitchPlan(f"another patch manager is at work: {join_first_names(others)}", "Switch it off there.")
    if action is UpdaterAction.OFF:
        values: tuple[str, ...] = ("NoAutoUpdate=1",)
    else:
        values = ("NoAutoUpdate=0", "AUOptions=4", "ScheduledInstallDay=0", "ScheduledInstallTime=3")
    steps = tuple(f"set {value.replace('=', ' = ')} in the policy of Automatic Updates" for value in values)
    note = "policies of a domain win with their next refresh"
    return SwitchPlan(steps=steps, policy_values=values, note=note)


def _build_apt_text(*, is_on: bool) -> str:
    number = int(is_on)
    lists = 'APT::Periodic::Update-Package-Lists "1";\n' if is_on else ""
    return f'{_APT_COMMENT}\n{lists}APT::Periodic::Unattended-Upgrade "{number}";\n'


def _describe(units: Sequence[str], verb: str, text: str) -> tuple[str, ...]:
    setting = f"write {APT_FILE}: {text.splitlines()[-1]}" if text else ""
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
