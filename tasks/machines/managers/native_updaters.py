"""The system's own updaters as systemd shows them, and the script that pauses them. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tasks.domain.protocols.transport import Script

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


def find_scheduled_updaters(shown: str, timers: Sequence[str], now: int) -> tuple[tuple[str, float | None], ...]:
    """Return the updaters that run or are scheduled, with the seconds until then (0: running; None: not known).

    Args:
        shown: ``systemctl show -p Id,ActiveState,NextElapseUSecRealtime`` of timers and their services, times in UTC.
        timers: the timers among them.
        now: the machine's own clock, seconds since the epoch.
    """
    units = {unit.get("Id", ""): unit for unit in map(_parse_properties, shown.split("\n\n"))}
    found: list[tuple[str, float | None]] = []
    for timer in timers:
        service, of_timer = _name_service(timer), units.get(timer, {})
        if units.get(service, {}).get("ActiveState") in _RUNNING_STATES:
            found.append((service, 0.0))
        elif of_timer.get("ActiveState") == "active":
            found.append((timer, _parse_seconds_until(of_timer.get("NextElapseUSecRealtime", ""), now)))
    return tuple(found)


def find_named_updaters(found: Sequence[tuple[str, float | None]], names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the updaters found that are among these names."""
    return tuple(name for name, _ in found if name in names)


def is_active(shown: str, unit: str) -> bool:
    """Return whether a unit is active, by the same text."""
    units = map(_parse_properties, shown.split("\n\n"))
    return any(
        properties.get("Id") == unit and properties.get("ActiveState") in _RUNNING_STATES for properties in units
    )


def _name_service(timer: str) -> str:
    return f"{timer.removesuffix('.timer')}.service"


def _parse_properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _parse_seconds_until(when: str, now: int) -> float | None:
    """Return the seconds until a time in systemd's format: "Sat 2026-11-21 05:26:00 UTC"."""
    try:
        moment = datetime.strptime(when.strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - max(0, min(now, _MAX_EPOCH_SECONDS)))
