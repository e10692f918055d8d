"""What runs on a machine beside fleetpatch: updaters, holders of locks, and services with replaced files. Pure.

systemd shows the updaters; package_locks.sh and outdated_programs.sh write the others.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.machines.managers.script_output import require_integer, require_text
from tasks.rules.machine_checks.listeners import find_service_unit
from tasks.rules.machine_checks.services import SYSTEM_MANAGER

_MAX_EPOCH_SECONDS: Final = 10**11  # limit for the number that the machine sends
_RUNNING_STATES: Final = frozenset({"active", "activating"})


def build_updaters_script(package: str, timers: Sequence[str], *, activated: Sequence[str] = ()) -> Script:
    """Return the script that pauses and restores these updaters (see PackageManager).

    Args:
        package: the package manager's Python package.
        timers: units that are stopped and masked, also while they are active: timers, services that run no program,
            and agents that are only clients of a daemon, which completes what they ordered. For each timer the service
            of that name is looked at, and never stopped.
        activated: services that others start when they need them. They are masked, and never stopped.
    """
    services = (*(_name_service(timer) for timer in timers if timer.endswith(".timer")), *activated)
    params = {"units": tuple(timers), "activated": tuple(activated), "services": services}
    return Script("updaters", params, read_only=False, package=package)


def parse_units(shown: str) -> list[dict[str, str]]:
    """Return the properties of each unit in the text of ``systemctl show``: an empty line separates two units."""
    blocks = (dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n"))
    return [properties for properties in blocks if properties]


def find_scheduled_updaters(shown: str, timers: Sequence[str], now: int) -> tuple[tuple[str, float | None], ...]:
    """Return the updaters that run or are scheduled, with the seconds until then (0: running; None: not known).

    ``shown`` is ``systemctl show -p Id,ActiveState,NextElapseUSecRealtime`` of timers and their services, times in UTC;
    ``now`` is the machine's own clock, seconds since the epoch.
    """
    units = {unit.get("Id", ""): unit for unit in parse_units(shown)}
    updaters: list[tuple[str, float | None]] = []
    for timer in timers:
        service, of_timer = _name_service(timer), units.get(timer, {})
        if units.get(service, {}).get("ActiveState") in _RUNNING_STATES:
            updaters.append((service, 0.0))
        elif of_timer.get("ActiveState") == "active":
            updaters.append((timer, _parse_seconds_until(of_timer.get("NextElapseUSecRealtime", ""), now)))
    return tuple(updaters)


def is_unit_active(shown: str, unit: str) -> bool:
    """Return whether a unit is active, by the same text."""
    return any(each.get("Id") == unit and each.get("ActiveState") in _RUNNING_STATES for each in parse_units(shown))


def _name_service(timer: str) -> str:
    return f"{timer.removesuffix('.timer')}.service"


def _parse_seconds_until(when: str, now: int) -> float | None:
    """Return the seconds until a time in systemd's format: "Sat 2026-11-21 05:26:00 UTC"."""
    try:
        moment = datetime.strptime(when.strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - max(0, min(now, _MAX_EPOCH_SECONDS)))


def describe_lock_holders(records: Sequence[ScriptRecord]) -> str:
    """Return the processes that hold a lock: "name (pid N)", or "" for none."""
    holders: dict[str, None] = {}
    for record in records:
        name, pid = require_text(record, "name").strip() or "a process", require_integer(record, "pid")
        holders[f"{name} (pid {pid})" if pid else name] = None
    return ", ".join(holders)


def _parse_service(line: str) -> str:
    uid, _, process = line.partition("\t")
    program, _, cgroup = process.rpartition("\t")
    if cgroup.strip("/") == "init.scope":
        return SYSTEM_MANAGER
    unit = find_service_unit(int(uid) if uid.isascii() and uid.isdigit() else None, program, cgroup)
    return unit if unit.endswith(".service") else ""


NEEDRESTART_PATTERN: Final = re.compile(r"^NEEDRESTART-(\w+): *(.*)$", re.MULTILINE)


def find_services_to_restart(outdated: str, needrestart: str | None = None) -> tuple[str, ...]:
    """Return the services that run replaced files, without those of our own jobs.

    A job that replaced its own shell or systemd is then at its end or near it: there is nothing to restart.

    Args:
        outdated: a line "uid<tab>program<tab>cgroup" for each process that runs replaced files.
        needrestart: the output of ``needrestart -b``, which is used in its place; None if it is not installed.
    """
    if needrestart is None:
        units = sorted({_parse_service(line) for line in outdated.splitlines()})
    else:
        names = [value.strip() for key, value in NEEDRESTART_PATTERN.findall(needrestart) if key == "SVC"]
        units = [SYSTEM_MANAGER if name == "systemd-manager" else name for name in names]
    return tuple(unit for unit in dict.fromkeys(units) if unit and not unit.startswith("fleetpatch-"))
