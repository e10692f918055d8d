"""Turns the answers of apt_assess.sh into a PackageState, with apt's own updaters and what Ubuntu Pro's client adds."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from tasks.domain.model import PackageState, RepositoryProblem, Update
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.machines.managers.apt.dpkg_state import (
    DpkgProblems,
    block_dependent_updates,
    find_dpkg_problems,
    find_lasting_lacks,
    find_unfinished_packages,
    is_dpkg_locked,
    parse_dpkg_packages,
    parse_failed_setups,
    parse_unpacking_failures,
)
from tasks.machines.managers.apt.kernels import find_reboot_need, find_services_to_restart
from tasks.machines.managers.apt.output_parsers import (
    Release,
    parse_apt_simulation,
    parse_policy,
    parse_releases,
    parse_stanzas,
)
from tasks.machines.managers.apt.package_lists import (
    find_frozen_archives,
    find_missing_security,
    find_stale_lists,
    read_refresh,
    require_package_lists,
)
from tasks.machines.managers.apt.pending_updates import AptState, build_pending_updates, with_pro_updates
from tasks.machines.managers.apt.version_choice import find_distributions_without_security, find_security_publishers
from tasks.machines.managers.live_patch_enrolment import parse_live_patch_enrolment
from tasks.machines.managers.live_patches import parse_live_patches
from tasks.machines.managers.manager_base import JUST_ENDED_PROCESS
from tasks.machines.managers.repository_problems import build_repository_error, warn_of_unclassified
from tasks.machines.managers.running_programs import (
    build_updaters_script,
    describe_lock_holders,
    find_named_updaters,
    find_scheduled_updaters,
)
from tasks.machines.managers.script_output import (
    ScriptSection,
    get_text,
    parse_sections,
    require_boolean,
    require_integer,
    require_single_record,
    require_text,
)

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


def find_apt_updaters(timers: str, periodic: str, now: int) -> tuple[tuple[str, float | None], ...]:
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


_REQUIRED_SECTIONS = ("odd", "policy", "releases", "upgrade", "versions", "audit")
_REMARK_ON_CONTENT = "{} {}: a repository has other content under the installed version, which is no update"
_NO_SECURITY_WARNING = "no repository with security updates{} is configured, so security updates can't be recognized"


def parse_apt_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from the script's result.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
        ManagerBusy, RepositoryError, ManagerError: apt could not refresh its lists, or has no repository.
        ListsUnread: apt has never read its lists.
    """
    sections = parse_sections(result, "apt_assess", *_REQUIRED_SECTIONS)
    state, reboot = (
        require_single_record(result, "apt_assess", "state"),
        require_single_record(result, "apt_assess", "reboot"),
    )
    unread, remarks = _read_repositories(sections, state)
    releases = parse_releases(sections["releases"].text)
    is_never_read = "unread" in state and require_boolean(state, "unread")
    if unread and not releases and ("update" in sections or not is_never_read):  # why not even one was read
        raise build_repository_error(unread)
    require_package_lists(len(releases), unread=is_never_read)
    may_hide_security = any(problem.hides_fixes for problem in unread)  # the security repository may be the one
    missing = () if may_hide_security else find_missing_security(releases.values())
    packages = parse_dpkg_packages(sections["odd"].text)
    native = require_text(state, "native")
    simulation = parse_apt_simulation(sections["upgrade"].text)
    if "unmet" in sections:  # the upgrade was simulated without these
        unmet = parse_apt_simulation(sections["unmet"].text).unmet_dependencies
        simulation = replace(simulation, unmet_dependencies={**unmet, **simulation.unmet_dependencies})
    held = frozenset(package.build_full_name(native) for package in packages if package.is_held)
    stanzas = parse_stanzas(sections["versions"].text)
    policies = parse_policy(sections["policy"].text)
    remarks = (
        *remarks,
        *(_REMARK_ON_CONTENT.format(policy.name, policy.installed) for policy in policies if policy.has_other_content),
    )
    updates = build_pending_updates(
        AptState(
            native_architecture=native,
            policies=policies,
            releases=releases,
            held=held,
            stanzas=stanzas,
            changes=simulation.changes,
        )
    )
    locks = result.find_records("lock")
    setups = parse_failed_setups(get_text(sections, "unfinished"))
    failures = parse_unpacking_failures(get_text(sections, "unpacking"))
    problems = find_dpkg_problems(
        packages,
        sections["audit"].text,
        simulation,
        setups,
        interrupted=require_boolean(state, "interrupted"),
        failures=failures,
    )
    lacking = find_lasting_lacks(simulation.unmet_dependencies, failures)
    unfinished = find_unfinished_packages(packages, native, setups, lacking)
    changed = "changed" in state and require_boolean(state, "changed")
    at_work = describe_lock_holders(locks) if is_dpkg_locked(locks) else JUST_ENDED_PROCESS if changed else ""
    if (
        problems.messages and at_work
    ):  # packages that are half changed now belong to a running transaction; they are not broken
        problems, unfinished = DpkgProblems(), ()
    was_interrupted = (
        require_boolean(state, "interrupted")
        or any(problem.needs_reinstall for problem in packages)
        or any(not problem.failure for problem in unfinished)
    )
    updates = block_dependent_updates(updates, stanzas, packages, setups) if unfinished else updates
    needrestart = sections["needrestart"].text if "needrestart" in sections else None
    live = parse_live_patches(result, sections)
    updaters = _parse_auto_updaters(sections, require_integer(state, "at"))
    return PackageState(
        manager="apt",
        updates=_with_pro_updates(updates, sections, native),
        reboot=find_reboot_need(reboot, needrestart, live),
        held=tuple(sorted(held)),
        problems=problems.messages,
        repairable=problems.repairable,
        interrupted=bool(problems.messages) and was_interrupted,
        can_install_others=problems.can_install_others,
        lock_holder=describe_lock_holders(locks),
        auto_updaters=updaters,
        warnings=()
        if missing or may_hide_security
        else _describe_missing_security(releases.values())
        or warn_of_unclassified(updates, "publishers without a security archive"),
        services_to_restart=find_services_to_restart(needrestart, get_text(sections, "outdated")),
        unfinished=unfinished,
        at_work=at_work,
        updater_units=UPDATER_UNITS,
        non_installing_updaters=find_named_updaters(updaters, NON_INSTALLING_UPDATERS),
        repository_problems=(*unread, *missing),
        remarks=remarks,
        live_patching=live,
        hotpatch=parse_live_patch_enrolment(result, sections),
    )


def _describe_missing_security(releases: Iterable[Release]) -> tuple[str, ...]:
    """Return a warning for each distribution without its security archive.

    If no publisher has such an archive, return one warning for the machine.
    """
    releases = tuple(releases)
    if lacking := find_distributions_without_security(releases):
        return tuple(_NO_SECURITY_WARNING.format(f" of {name}") for name in lacking)
    return () if find_security_publishers(releases) else (_NO_SECURITY_WARNING.format(""),)


def _read_repositories(
    sections: Mapping[str, ScriptSection], state: ScriptRecord
) -> tuple[tuple[RepositoryProblem, ...], tuple[str, ...]]:
    """Return the repositories that were not read, and apt's remarks on the others."""
    texts = {name: get_text(sections, name) for name in ("sources", "partial", "lists", "validity")}
    now = require_integer(state, "at")
    frozen = find_frozen_archives(texts["sources"], texts["lists"], now)
    if "update" in sections:
        unread, remarks = read_refresh(sections["update"], texts["sources"], texts["partial"])
        return _join_problems(unread, frozen), remarks
    if "lists" not in sections:
        return (), ()
    lists_at = state.get("lists_at")
    stale = find_stale_lists(
        texts["sources"],
        texts["lists"],
        texts["validity"],
        lists_at=lists_at if isinstance(lists_at, int) else 0,
        now=now,
    )
    return _join_problems(stale, frozen), ()


def _join_problems(
    unread: tuple[RepositoryProblem, ...], frozen: tuple[RepositoryProblem, ...]
) -> tuple[RepositoryProblem, ...]:
    """Return both, without the archives whose problem was told already."""
    repositories = tuple(problem.repository for problem in unread)
    return (
        *unread,
        *(problem for problem in frozen if not any(name.startswith(problem.repository) for name in repositories)),
    )


def _with_pro_updates(
    updates: tuple[Update, ...], sections: Mapping[str, ScriptSection], native: str
) -> tuple[Update, ...]:
    if "pro" not in sections or "installed" not in sections:
        return updates
    installed = dict(line.split("\t", 1) for line in sections["installed"].text.splitlines() if "\t" in line)
    return with_pro_updates(updates, sections["pro"].text, native, installed)


def _parse_auto_updaters(sections: Mapping[str, ScriptSection], now: int) -> tuple[tuple[str, float | None], ...]:
    if "timers" not in sections or "periodic" not in sections:
        return ()
    return find_apt_updaters(sections["timers"].text, sections["periodic"].text, now)
