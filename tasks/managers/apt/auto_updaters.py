"""Finds apt's own timers and services that may install updates, and when they start next. Pure."""

import re
from datetime import UTC, datetime
from typing import Final

UPDATER_UNITS: Final = ("apt-daily*", "unattended-upgrades.service")
"""Masks of the services that update packages by themselves."""

_PERIODIC_PATTERN = re.compile(r'^APT::Periodic::([\w-]+) "(\w*)";$', re.MULTILINE)
_SETTING_BY_UPDATER = {"apt-daily": "Update-Package-Lists", "apt-daily-upgrade": "Unattended-Upgrade"}
_MAX_EPOCH_SECONDS = 10**11  # limit for the number that the machine sends


def find_auto_updaters(timers: str, periodic: str, now: int) -> tuple[tuple[str, float | None], ...]:
    """Return the system's own updaters that may start, with the seconds until then (0: running; None: not known).

    Args:
        timers: ``systemctl show`` of apt's timers and services, with times in UTC.
        periodic: ``apt-config dump APT::Periodic``. A timer whose work is disabled there does nothing.
        now: the machine's own clock, seconds since the epoch.
    """
    settings = dict(_PERIODIC_PATTERN.findall(periodic))
    units = {unit.get("Id", ""): unit for unit in map(_parse_properties, timers.split("\n\n"))}
    found: list[tuple[str, float | None]] = []
    for name, setting in _SETTING_BY_UPDATER.items():
        running = units.get(f"{name}.service", {}).get("ActiveState") in {"active", "activating"}
        timer = units.get(f"{name}.timer", {})
        switched_on = settings.get("Enable", "1") != "0" and settings.get(setting, "0") not in {"0", ""}
        if running:
            found.append((f"{name}.service", 0.0))
        elif switched_on and timer.get("ActiveState") == "active":
            found.append((f"{name}.timer", _parse_seconds_until(timer.get("NextElapseUSecRealtime", ""), now)))
    return tuple(found)


def _parse_properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _parse_seconds_until(when: str, now: int) -> float | None:
    """Return the seconds until a time in systemd's format: "Sat 2026-11-21 05:26:00 UTC"."""
    try:
        moment = datetime.strptime(when.strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - max(0, min(now, _MAX_EPOCH_SECONDS)))
