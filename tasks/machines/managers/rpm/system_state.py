"""What rpm_assess.sh reads on the machines of all RPM families: rpm's database, locks, services and updaters. Pure.

Image-based systems have other updaters (tasks/machines/managers/image). What a timer's configuration lets it do (only
notify, download, or install) makes no difference here: each of them locks the package manager.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import PackageState, RebootNeed, RepositoryProblem, UnfinishedPackage
from tasks.domain.protocols.package_manager import UpdaterMeans
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.live_patch_enrolment import parse_live_patch_enrolment
from tasks.machines.managers.live_patches import parse_live_patches
from tasks.machines.managers.manager_base import JUST_ENDED_PROCESS
from tasks.machines.managers.rpm.kernels import RpmRebootFacts, parse_rpm_reboot_facts
from tasks.machines.managers.rpm.packages import InstalledPackage, build_update_id, parse_rpm_packages
from tasks.machines.managers.running_programs import (
    build_updaters_script,
    describe_lock_holders,
    find_scheduled_updaters,
    find_services_to_restart,
    is_unit_active,
)
from tasks.machines.managers.script_output import (
    ScriptSection,
    describe_unread,
    get_text,
    parse_sections,
    require_boolean,
    require_integer,
    require_single_record,
    require_text,
)

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

UPDATER_UNITS: Final = ("dnf-automatic*", "dnf5-automatic*", YUM_CRON_UNIT, "packagekit*", "os-update*")
"""Masks of the services that update packages by themselves."""


UPDATER_MEANS: Final = UpdaterMeans(
    units=(
        "dnf-automatic-install.timer",
        "dnf5-automatic.timer",
        "dnf-automatic.timer",
        "os-update.timer",
        YUM_CRON_UNIT,
    ),
    with_settings=frozenset({"dnf5-automatic.timer", "dnf-automatic.timer", "os-update.timer", YUM_CRON_UNIT}),
    stoppable=frozenset({YUM_CRON_UNIT}),
    missing="Install it: dnf-automatic, yum-cron or os-update. Its own file says what it installs.",
)
"""dnf-automatic-install.timer installs whatever its file says; the others do what theirs says."""


def build_rpm_updaters_script(package: str) -> Script:
    """Return the script that pauses and restores the updaters of a system with RPM packages."""
    return build_updaters_script(package, (*TIMERS, YUM_CRON_UNIT), activated=(_PACKAGEKIT_UNIT,))


def find_rpm_updaters(
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
    updaters += [(unit, None) for unit in (YUM_CRON_UNIT, _PACKAGEKIT_UNIT) if is_unit_active(shown, unit)]
    updaters += [(path, None) for path in jobs.splitlines()[:20] if path.startswith("/") and path.isprintable()]
    return (*updaters, (OFFLINE_UPDATE, None)) if offline_update else tuple(updaters)


def find_unpausable_updaters(updaters: tuple[tuple[str, float | None], ...]) -> tuple[str, ...]:
    """Return the names of the updaters that no run pauses: jobs of cron, and prepared updates."""
    return tuple(name for name, _ in updaters if name.startswith("/") or name == OFFLINE_UPDATE)


_CHANGE_LOCK_NAMES: Final = (".rpm.lock", "rpmdb_lock.pid", "rpmtransaction.lock")
"""Locks that are held only while packages change; the others are held for reading, too."""
_DATABASE_PATTERN: Final = re.compile(r"(?i)rpmdb|\bdb\d? error|sqlite|database|\bPackages\b|rpmpkg|rpmxdb|rpmidx")
"""What the errors of rpm's database have in common, whatever its format is."""
_SKIPPED_RECORD: Final = "skipping h#"
_QUESTIONS: Final = {
    "outdated": "which services run replaced files is not known: their open files",
    "history": "whether the scripts of packages failed is not known: the history of transactions",
    "updaters": "which updaters may start is not known: the units of systemd",
    "priorities": "which repository comes first is not known: the priorities of repositories",
}
_PACKAGE_PATTERN: Final = re.compile(r"(\S+)-([^-\s]+-[^-\s]+)\.([^.\s]+)")


@dataclass(frozen=True, slots=True)
class RpmSystem:
    """An RPM machine's own state, without what its package manager says about repositories."""

    native: str
    installed: tuple[InstalledPackage, ...]  # all installed packages; empty when the database can't be read
    reboot: RpmRebootFacts
    state: PackageState  # its part of the package state: no updates and no need to reboot are known yet


def parse_rpm_system(result: ScriptResult, manager: str) -> RpmSystem:
    """Return what rpm_assess.sh reports about the system, for the package manager of that name.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
    """
    sections = parse_sections(result, "rpm_assess", "installed", "duplicates")
    state = require_single_record(result, "rpm_assess", "state")
    native, locks = require_text(state, "native"), result.find_records("lock")
    installed = parse_rpm_packages(sections["installed"].text, native)
    rows = (line.partition("\t") for line in get_text(sections, "left_over").splitlines())
    left_over = {old: failure[:300] or "its transaction could not remove it" for old, tab, failure in rows if tab}
    unfinished = parse_duplicate_packages(sections["duplicates"].text, native, left_over)
    database, errors = _split_errors(sections["installed"], installed)
    problems = (*database, *(_describe_duplicate(package, installed) for package in unfinished))
    at_work = JUST_ENDED_PROCESS if require_boolean(state, "changed") else ""
    if any(require_text(lock, "path").endswith(_CHANGE_LOCK_NAMES) for lock in locks):
        at_work = describe_lock_holders(locks)
    if at_work:  # what is half changed now belongs to a running transaction; it is not broken
        problems, unfinished = (), ()
    updater_record = next(iter(result.find_records("updaters")), None)
    updaters = find_rpm_updaters(
        get_text(sections, "updaters"),
        require_text(updater_record, "jobs") if updater_record else "",
        require_integer(state, "at"),
        offline_update=updater_record is not None and require_boolean(updater_record, "offline_update"),
    )
    return RpmSystem(
        native=native,
        installed=() if database else installed,
        reboot=parse_rpm_reboot_facts(require_single_record(result, "rpm_assess", "reboot")),
        state=PackageState(
            manager=manager,
            updates=(),
            reboot=RebootNeed(YesNoUnknown.UNKNOWN),
            problems=problems,  # faults of the database and of interrupted transactions
            repairable=bool(problems),
            interrupted=any(not package.failure for package in unfinished),
            can_install_others=bool(problems) and not database and all(package.failure for package in unfinished),
            lock_holder=describe_lock_holders(locks),
            at_work=at_work,
            warnings=(
                *(f"rpm says: {line}" for line in errors if _SKIPPED_RECORD not in line),
                *describe_unread(sections, _QUESTIONS),
            ),
            repository_problems=tuple(  # no update of these packages is seen
                RepositoryProblem("rpm's database", line, "Repair that package's record on the machine.")
                for line in errors
                if _SKIPPED_RECORD in line
            ),
            unfinished=unfinished,
            failed_scripts=_describe_failed_scripts(get_text(sections, "failed_scripts"), installed),
            services_to_restart=find_services_to_restart(get_text(sections, "outdated")),
            auto_updaters=updaters,
            updater_units=UPDATER_UNITS,
            unpausable_updaters=find_unpausable_updaters(updaters),
            non_installing_updaters=tuple(name for name, _ in updaters if name in NON_INSTALLING_UPDATERS),
            live_patching=parse_live_patches(result, sections),
            hotpatch=parse_live_patch_enrolment(result, sections),
        ),
    )


def _split_errors(
    section: ScriptSection, installed: Sequence[InstalledPackage]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why rpm can't read its database, and its other errors: of a macro, of a plugin, or of one record.

    A record that rpm skips is lost when the database is rebuilt, so that is no repair.
    """
    complaints = [line for line in section.stderr.splitlines() if line.startswith("error:")]
    faults = [line for line in complaints if _DATABASE_PATTERN.search(line) and _SKIPPED_RECORD not in line]
    if section.exit_code != 0 or not installed or faults:
        text = "; ".join((faults or complaints)[:3])[:300] or f"rpm ended with {section.exit_code}"
        return (f"rpm can't read its database: {text}",), ()
    return (), tuple(dict.fromkeys(line[:300] for line in complaints))[:5]


def _describe_duplicate(package: UnfinishedPackage, installed: Iterable[InstalledPackage]) -> str:
    times = (p.installed_at for p in installed if (p.id, p.version) == (package.id, package.version))
    since = _describe_since(next(filter(None, times), None))
    failure_text = f": {package.failure}" if package.failure else ""
    return f"{package.name} {package.version} is {package.status}{since}{failure_text}"


def _describe_since(moment: int | None) -> str:
    return f" since {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC" if moment else ""


def _describe_failed_scripts(text: str, installed: Iterable[InstalledPackage]) -> tuple[str, ...]:
    """Return the installed packages of which the section "failed_scripts" tells a failure."""
    rows = (line.partition("\t") for line in text.splitlines())
    failures = {package: failure[:300] for package, _, failure in rows}
    named = ((f"{package.name}-{package.version.rpartition(':')[2]}.{package.arch}", package) for package in installed)
    return tuple(
        f"{package.name} {package.version} is not set up{_describe_since(package.installed_at)}: {failures[full]}"
        for full, package in named
        if full in failures
    )


def parse_duplicate_packages(
    text: str, native: str, left_over: Mapping[str, str] = MappingProxyType({})
) -> tuple[UnfinishedPackage, ...]:
    """Read lines "NEW OLD": an old version that a transaction left beside the new one.

    ``left_over`` is an old version that a transaction could not remove -> how its script failed, for transactions that
    have ended. Others were interrupted.
    """
    unfinished_packages: list[UnfinishedPackage] = []
    for line in text.splitlines():
        new, _, old = line.partition(" ")
        if package := _PACKAGE_PATTERN.fullmatch(new):
            name, version, arch = package.groups()
            status = f"installed beside its older version {old[:200]}"
            identity = build_update_id(name, arch, native)
            unfinished_packages.append(UnfinishedPackage(identity, name, arch, version, status, left_over.get(old, "")))
    return tuple(unfinished_packages)
