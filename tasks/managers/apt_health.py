"""How apt and dpkg are: what is broken, what could not be read, and who else is at work. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.errors import ListsUnread, ManagerBusy, ManagerError, RepositoryError
from tasks.managers.apt_parse import Simulation
from tasks.managers.sections import Section, integer_of, text_of
from tasks.model import UnfinishedPackage
from tasks.seams.transport import ScriptRecord

_UNFINISHED = {"unpacked", "half-configured", "half-installed"}  # triggers that wait are run by apt itself
_PERIODIC = re.compile(r'^APT::Periodic::([\w-]+) "(\w*)";$', re.MULTILINE)
_UPDATERS = {"apt-daily": "Update-Package-Lists", "apt-daily-upgrade": "Unattended-Upgrade"}
_LOCKED = "Could not get lock "
_MOST_WARNINGS = 20
_LATEST_CLOCK = 10**11  # whatever number the machine sends


@dataclass(frozen=True, slots=True)
class Package:
    """A package of which dpkg has something to say: it is on hold, or not as it should be."""

    name: str
    arch: str
    held: bool
    reinstall: bool
    status: str
    version: str

    def full_name(self, native: str) -> str:
        """Return its name as apt writes it."""
        return self.name if self.arch in {native, "all"} else f"{self.name}:{self.arch}"


def parse_packages(text: str) -> tuple[Package, ...]:
    """Read lines of "name:arch, want, error flag, status, version", parted by tabs; others are passed over."""
    packages: list[Package] = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 5 and fields[0]:
            name, _, arch = fields[0].partition(":")
            packages.append(Package(name, arch, fields[1] == "hold", fields[2] == "reinstreq", fields[3], fields[4]))
    return tuple(packages)


def unfinished_packages(packages: Sequence[Package], native: str) -> tuple[UnfinishedPackage, ...]:
    """Return the packages that are there and not set up."""
    return tuple(
        UnfinishedPackage(each.full_name(native), each.name, each.arch, each.version, each.status)
        for each in packages
        if each.status in _UNFINISHED
    )


def find_problems(
    packages: Sequence[Package], audit: str, simulation: Simulation, *, interrupted: bool
) -> tuple[tuple[str, ...], bool]:
    """Return what is broken, and whether finishing what was interrupted may mend all of it."""
    mendable, lasting = list[str](), list[str]()
    if interrupted:
        mendable.append("dpkg was interrupted: it left a journal that is not yet in its database")
    for package in packages:
        if package.reinstall:
            lasting.append(f"{package.name} {package.version} is damaged and must be installed anew")
        elif package.status in _UNFINISHED:
            mendable.append(f"{package.name} {package.version} is {package.status}")
    if simulation.unmet:
        mendable += [f"{name} has unmet dependencies: {what}" for name, what in simulation.unmet.items()]
    elif simulation.errors:
        lasting += [f"apt: {error}" for error in simulation.errors]
    if audit.strip() and not any(package.status != "installed" or package.reinstall for package in packages):
        lasting.append("dpkg --audit: " + " ".join(audit.split())[:300])
    return (*mendable, *lasting), bool(mendable) and not lasting


def refresh_warnings(update: Section) -> tuple[str, ...]:
    """Return what ``apt-get update`` could not read, when it could read something.

    Raises:
        ManagerBusy: another process was reading the lists all the time.
        RepositoryError: not one repository answered.
        ManagerError: apt can't work at all (a malformed configuration).
    """
    lines = update.text.splitlines()
    complaints = [line[3:].strip() for line in lines if line.startswith(("E: ", "W: "))]
    if any(complaint.startswith(_LOCKED) for complaint in complaints):
        raise ManagerBusy(next(text for text in complaints if text.startswith(_LOCKED)))
    failed = [line for line in lines if line.startswith("Err:")]
    answered = [line for line in lines if line.startswith(("Hit:", "Get:"))]
    if not answered and (failed or update.exit_code != 0):
        text = "; ".join(complaints[:3]) or f"apt-get update ended with {update.exit_code}"
        if not failed and not any(line.startswith("Ign:") for line in lines):
            raise ManagerError(
                text, hint="Run apt-get update on the machine: apt does not get as far as asking anyone."
            )
        raise RepositoryError(text, hint="Can the machine reach its package repositories (network, proxy, DNS)?")
    return tuple(dict.fromkeys(complaints[:_MOST_WARNINGS]))


def require_lists(releases_known: int, *, unread: bool) -> None:
    """Refuse to call a machine up to date that knows of no package list.

    Args:
        releases_known: how many repositories apt has lists of.
        unread: whether repositories are configured, and no list of any of them was ever read.

    Raises:
        ListsUnread: the lists were never read.
        RepositoryError: no repository is configured.
    """
    if releases_known:
        return
    if unread:
        raise ListsUnread(
            "apt has never read its package lists, so what is pending is not known",
            hint="Read them: fleetpatch assess does, and so does fleetpatch doctor --refresh.",
        )
    raise RepositoryError(
        "no package source is configured, so nothing can be pending",
        hint="Give the machine package sources (/etc/apt/sources.list.d).",
    )


def lock_holder(records: Sequence[ScriptRecord]) -> str:
    """Return the processes that hold one of apt's or dpkg's locks: "name (pid N)"; "" for none."""
    holders: dict[str, None] = {}
    for record in records:
        name, pid = text_of(record, "name").strip() or "a process", integer_of(record, "pid")
        holders[f"{name} (pid {pid})" if pid else name] = None
    return ", ".join(holders)


def dpkg_at_work(records: Sequence[ScriptRecord]) -> bool:
    """Return whether somebody holds dpkg's own lock: packages are being changed at this moment."""
    return any(text_of(record, "path").startswith("/var/lib/dpkg/") for record in records)


def auto_updaters(timers: str, periodic: str, now: int) -> tuple[tuple[str, float | None], ...]:
    """Return the system's own updaters that may act, and in how many seconds (0: now; None: it can't tell).

    Args:
        timers: ``systemctl show`` of apt's timers and services, their times in UTC.
        periodic: ``apt-config dump APT::Periodic``; a timer whose work is switched off there does nothing.
        now: the machine's own clock, seconds since the epoch.
    """
    settings = dict(_PERIODIC.findall(periodic))
    units = {unit.get("Id", ""): unit for unit in map(_properties, timers.split("\n\n"))}
    found: list[tuple[str, float | None]] = []
    for name, setting in _UPDATERS.items():
        running = units.get(f"{name}.service", {}).get("ActiveState") in {"active", "activating"}
        timer = units.get(f"{name}.timer", {})
        switched_on = settings.get("Enable", "1") != "0" and settings.get(setting, "0") not in {"0", ""}
        if running:
            found.append((f"{name}.service", 0.0))
        elif switched_on and timer.get("ActiveState") == "active":
            found.append((f"{name}.timer", _seconds_until(timer.get("NextElapseUSecRealtime", ""), now)))
    return tuple(found)


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _seconds_until(when: str, now: int) -> float | None:
    """Return the seconds until a moment as systemd writes it: "Sat 2026-11-21 05:26:00 UTC"."""
    try:
        moment = datetime.strptime(when.strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - max(0, min(now, _LATEST_CLOCK)))
