"""The updaters that systems with RPM packages bring along: which units they are, and which of them may act. Pure.

Image-based systems have others (tasks/machines/managers/image).
What a timer's configuration lets it do (only notify, download, or install) makes no difference here: each of them locks
the package manager.
"""

from collections.abc import Mapping
from typing import Final

from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.machines.managers.native_updaters import build_updaters_script, find_scheduled_updaters, is_active
from tasks.machines.managers.script_output import ScriptSection, require_boolean, require_text

TIMERS: Final = (
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "dnf-automatic-download.timer",
    "dnf-automatic-notifyonly.timer",
    "dnf5-automatic.timer",
    "os-update.timer",
    "packagekit-background.timer",
)
"""All of them, on every system: a timer that a system does not have costs nothing."""

YUM_CRON_UNIT: Final = "yum-cron.service"
"""It runs no program. While it is active, a file exists, and the jobs of cron that call yum-cron look for that file."""
_PACKAGEKIT_UNIT: Final = "packagekit.service"
"""D-Bus starts it when a desktop or a web console asks. It ends when it is idle, and holds no lock then. While it is
masked, nothing can start it; a running one is not stopped, because it may be at work."""
OFFLINE_UPDATE: Final = "system-update.target"
"""The next boot installs prepared updates (systemd.offline-updates(7))."""

NON_INSTALLING_UPDATERS: Final = (
    "dnf-automatic-download.timer",
    "dnf-automatic-download.service",
    "dnf-automatic-notifyonly.timer",
    "dnf-automatic-notifyonly.service",
    _PACKAGEKIT_UNIT,
)
"""They download, notify, or install what a person asks for. What others do is in their files, which are not read."""

UPDATER_UNITS: Final = (
    "dnf-automatic*",
    "dnf5-automatic*",
    YUM_CRON_UNIT,
    "packagekit*",
    "os-update*",
)
"""Masks of the services that update packages by themselves."""


def build_rpm_updaters_script(package: str) -> Script:
    """Return the script that pauses and restores the updaters of a system with RPM packages.

    Args:
        package: the Python package of the package manager.
    """
    return build_updaters_script(package, (*TIMERS, YUM_CRON_UNIT), activated=(_PACKAGEKIT_UNIT,))


def parse_auto_updaters(
    result: ScriptResult, sections: Mapping[str, ScriptSection], now: int
) -> tuple[tuple[str, float | None], ...]:
    """Return the updaters that may act, from what assess_updaters (updater_facts.sh) wrote.

    Raises:
        ProtocolViolation: the record is malformed.
    """
    shown = sections["updaters"].text if "updaters" in sections else ""
    records = result.find_records("updaters")
    jobs = require_text(records[0], "jobs") if records else ""
    is_prepared = bool(records) and require_boolean(records[0], "offline_update")
    return find_auto_updaters(shown, jobs, now, offline_update=is_prepared)


def find_auto_updaters(
    shown: str, jobs: str, now: int, *, offline_update: bool = False
) -> tuple[tuple[str, float | None], ...]:
    """Return the system's own updaters that may act, with the seconds until then (0: running; None: not known).

    Args:
        shown: ``systemctl show`` of the units that updater_facts.sh names, with times in UTC.
        jobs: paths of switched-on jobs of cron that update packages, one a line.
        now: the machine's own clock, seconds since the epoch.
        offline_update: whether the next boot installs prepared updates.
    """
    updaters = [*find_scheduled_updaters(shown, TIMERS, now)]
    updaters += [(unit, None) for unit in (YUM_CRON_UNIT, _PACKAGEKIT_UNIT) if is_active(shown, unit)]
    updaters += [(path, None) for path in jobs.splitlines()[:20] if path.startswith("/") and path.isprintable()]
    return (*updaters, (OFFLINE_UPDATE, None)) if offline_update else tuple(updaters)


def find_unpausable_updaters(found: tuple[tuple[str, float | None], ...]) -> tuple[str, ...]:
    """Return the names of the updaters that no run pauses: jobs of cron, and prepared updates."""
    return tuple(name for name, _ in found if name.startswith("/") or name == OFFLINE_UPDATE)
