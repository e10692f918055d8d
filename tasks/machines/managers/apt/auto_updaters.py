"""Finds apt's own timers and services that may install updates, and when they start next. Pure."""

import re
from typing import Final

from tasks.machines.managers.native_updaters import build_updaters_script, find_scheduled_updaters

UPDATER_UNITS: Final = ("apt-daily*", "unattended-upgrades.service")
"""Masks of the services that update packages by themselves."""
NON_INSTALLING_UPDATERS: Final = ("apt-daily.timer", "apt-daily.service")
"""They read the package lists, and download."""

_SETTING_BY_TIMER: Final = {
    "apt-daily.timer": "Update-Package-Lists",
    "apt-daily-upgrade.timer": "Unattended-Upgrade",
}
_PERIODIC_PATTERN = re.compile(r'^APT::Periodic::([\w-]+) "(\w*)";$', re.MULTILINE)

# not unattended-upgrades.service: it only waits for a shutdown, and stopping it may make it install at once
UPDATERS_SCRIPT: Final = build_updaters_script("tasks.machines.managers.apt", tuple(_SETTING_BY_TIMER))
"""Pauses and restores apt's own timers."""


def find_auto_updaters(timers: str, periodic: str, now: int) -> tuple[tuple[str, float | None], ...]:
    """Return the system's own updaters that may start, with the seconds until then (0: running; None: not known).

    Args:
        timers: ``systemctl show`` of apt's timers and services, with times in UTC.
        periodic: ``apt-config dump APT::Periodic``. A timer whose work is disabled there does nothing.
        now: the machine's own clock, seconds since the epoch.
    """
    settings = dict(_PERIODIC_PATTERN.findall(periodic))
    switched_on = {
        timer
        for timer, setting in _SETTING_BY_TIMER.items()
        if settings.get("Enable", "1") != "0" and settings.get(setting, "0") not in {"0", ""}
    }
    scheduled_updaters = find_scheduled_updaters(timers, tuple(_SETTING_BY_TIMER), now)
    return tuple(
        scheduled_updater
        for scheduled_updater in scheduled_updaters
        if scheduled_updater[0] in switched_on or scheduled_updater[0].endswith(".service")
    )
