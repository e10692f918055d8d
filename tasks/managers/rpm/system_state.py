"""What rpm_assess.sh reads on the machines of all RPM families: rpm's database, locks and services. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasks.managers.live_patch_enrolment import parse_live_patch_enrolment
from tasks.managers.live_patches import parse_live_patches
from tasks.managers.lock_holders import describe_lock_holders
from tasks.managers.native_updaters import find_named_updaters
from tasks.managers.outdated_programs import find_outdated_services
from tasks.managers.rpm.auto_updaters import (
    NON_INSTALLING_UPDATERS,
    UPDATER_UNITS,
    find_unpausable_updaters,
    parse_auto_updaters,
)
from tasks.managers.rpm.packages import InstalledPackage, build_update_id, parse_installed
from tasks.managers.rpm.reboot_need import RebootFacts, parse_reboot_facts
from tasks.managers.script_output import (
    ScriptSection,
    parse_sections,
    require_boolean,
    require_integer,
    require_single_record,
    require_text,
)
from tasks.managers.settled_state import JUST_ENDED_PROCESS
from tasks.model import (
    HotpatchEnrolment,
    LivePatching,
    PackageState,
    RebootNeed,
    RepositoryProblem,
    UnfinishedPackage,
    Update,
)
from tasks.protocols.transport import ScriptRecord, ScriptResult

_CHANGE_LOCK_NAMES: Final = (".rpm.lock", "rpmdb_lock.pid", "rpmtransaction.lock")
"""Locks that are held only while packages change; the others are held for reading, too."""
_PACKAGE_PATTERN: Final = re.compile(r"(\S+)-([^-\s]+-[^-\s]+)\.([^.\s]+)")


@dataclass(frozen=True, slots=True)
class RpmSystem:
    """An RPM machine's own state, without what its package manager says about repositories.

    Attributes:
        installed: all installed packages; empty when the database can't be read.
        unfinished: packages that an interrupted transaction left in two versions.
        at_work: the process that changed packages during the query; "" for none.
        problems: faults of the database and of interrupted transactions.
        repairable: whether finishing the interrupted transaction may repair the problems.
    """

    native: str
    installed: tuple[InstalledPackage, ...]
    reboot: RebootFacts
    lock_holder: str = ""
    at_work: str = ""
    problems: tuple[str, ...] = ()
    repairable: bool = False
    unfinished: tuple[UnfinishedPackage, ...] = ()
    services_to_restart: tuple[str, ...] = ()
    auto_updaters: tuple[tuple[str, float | None], ...] = ()
    live_patching: LivePatching | None = None
    hotpatch: HotpatchEnrolment | None = None


def build_package_state(
    system: RpmSystem,
    *,
    manager: str,
    updates: Sequence[Update],
    reboot: RebootNeed,
    held: Sequence[str] = (),
    warnings: Sequence[str] = (),
    repository_problems: Sequence[RepositoryProblem] = (),
) -> PackageState:
    """Return the package state: the system's part, and what its package manager said."""
    return PackageState(
        manager=manager,
        updates=tuple(updates),
        reboot=reboot,
        held=tuple(held),
        problems=system.problems,
        repairable=system.repairable,
        lock_holder=system.lock_holder,
        auto_updaters=system.auto_updaters,
        warnings=tuple(dict.fromkeys(warnings)),
        services_to_restart=system.services_to_restart,
        unfinished=system.unfinished,
        at_work=system.at_work,
        updater_units=UPDATER_UNITS,
        live_patching=system.live_patching,
        hotpatch=system.hotpatch,
        repository_problems=tuple(repository_problems),
        unpausable_updaters=find_unpausable_updaters(system.auto_updaters),
        non_installing_updaters=find_named_updaters(system.auto_updaters, NON_INSTALLING_UPDATERS),
    )


def parse_rpm_system(result: ScriptResult) -> RpmSystem:
    """Return what rpm_assess.sh reports about the system.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
    """
    sections = parse_sections(result, "rpm_assess", "installed", "duplicates")
    state = require_single_record(result, "rpm_assess", "state")
    native, locks = require_text(state, "native"), result.find_records("lock")
    installed = parse_installed(sections["installed"].text, native)
    unfinished = parse_duplicates(sections["duplicates"].text, native)
    database = _describe_database_error(sections["installed"])
    problems = (*database, *(f"{each.name} {each.version} is {each.status}" for each in unfinished))
    at_work = _describe_work(locks, changed=require_boolean(state, "changed"))
    if at_work:  # what is half changed now belongs to a running transaction; it is not broken
        problems, unfinished = (), ()
    return RpmSystem(
        native=native,
        installed=() if database else installed,
        reboot=parse_reboot_facts(require_single_record(result, "rpm_assess", "reboot")),
        lock_holder=describe_lock_holders(locks),
        at_work=at_work,
        problems=problems,
        repairable=bool(problems),
        unfinished=unfinished,
        services_to_restart=find_outdated_services(sections["outdated"].text if "outdated" in sections else ""),
        auto_updaters=parse_auto_updaters(result, sections, require_integer(state, "at")),
        live_patching=parse_live_patches(result, sections),
        hotpatch=parse_live_patch_enrolment(result, sections),
    )


def _describe_work(locks: Sequence[ScriptRecord], *, changed: bool) -> str:
    if any(require_text(lock, "path").endswith(_CHANGE_LOCK_NAMES) for lock in locks):
        return describe_lock_holders(locks)
    return JUST_ENDED_PROCESS if changed else ""


def _describe_database_error(section: ScriptSection) -> tuple[str, ...]:
    complaints = [line for line in section.stderr.splitlines() if line.startswith("error:")]
    if section.exit_code == 0 and not complaints:
        return ()
    text = "; ".join(complaints[:3])[:300] or f"rpm ended with {section.exit_code}"
    return (f"rpm can't read its database: {text}",)


def parse_duplicates(text: str, native: str) -> tuple[UnfinishedPackage, ...]:
    """Read lines "NEW OLD": an old version that an interrupted transaction left beside the new one."""
    found: list[UnfinishedPackage] = []
    for line in text.splitlines():
        new, _, old = line.partition(" ")
        if package := _PACKAGE_PATTERN.fullmatch(new):
            name, version, arch = package.groups()
            status = f"installed beside its older version {old[:200]}"
            found.append(UnfinishedPackage(build_update_id(name, arch, native), name, arch, version, status))
    return tuple(found)
