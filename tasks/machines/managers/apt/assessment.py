"""Turns the answers of apt_assess.sh into a PackageState, with apt's own updaters and what Ubuntu Pro's client adds."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from tasks.domain.errors import ManagerError
from tasks.domain.model import PackageState, RepositoryProblem
from tasks.domain.protocols.package_manager import UpdaterMeans
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.machines.managers.apt.dpkg_refusals import find_refusals, find_remounted, parse_audit
from tasks.machines.managers.apt.dpkg_state import (
    DpkgProblems,
    block_dependent_updates,
    build_dpkg_name,
    find_dpkg_problems,
    find_lasting_unmet_dependencies,
    find_unfinished_packages,
    is_dpkg_locked,
    parse_dpkg_packages,
    parse_failed_setups,
    parse_unpacking_failures,
)
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
from tasks.machines.managers.apt.reboot_need import find_apt_reboot_need
from tasks.machines.managers.apt.version_choice import find_distributions_without_security, find_security_publishers
from tasks.machines.managers.live_patch_enrolment import parse_live_patch_enrolment
from tasks.machines.managers.live_patches import parse_live_patches
from tasks.machines.managers.manager_base import JUST_ENDED_PROCESS
from tasks.machines.managers.pending_updates import describe_unclassified
from tasks.machines.managers.repository_problems import build_repository_error
from tasks.machines.managers.running_programs import (
    build_updaters_script,
    describe_lock_holders,
    find_scheduled_updaters,
    find_services_to_restart,
)
from tasks.machines.managers.script_output import (
    ScriptSection,
    describe_unread,
    find_pro_attribute,
    get_text,
    parse_sections,
    require_boolean,
    require_integer,
    require_single_record,
    require_text,
    split_rows,
)
from tasks.machines.managers.tool_errors import describe_failure, find_tool_error

UPDATER_UNITS: Final = ("apt-daily*", "unattended-upgrades.service")
"""Masks of the services that update packages by themselves."""
NON_INSTALLING_UPDATERS: Final = ("apt-daily.timer", "apt-daily.service")
"""They read the package lists, and download."""

_SETTING_BY_TIMER: Final = {"apt-daily.timer": "Update-Package-Lists", "apt-daily-upgrade.timer": "Unattended-Upgrade"}
_PERIODIC_PATTERN = re.compile(r'^APT::Periodic::([\w-]+) "(\w*)";$', re.MULTILINE)

# not unattended-upgrades.service: it only waits for a shutdown, and stopping it may make it install at once
UPDATERS_SCRIPT: Final = build_updaters_script("tasks.machines.managers.apt", tuple(_SETTING_BY_TIMER))
"""Pauses and restores apt's own timers."""

_FILE_COMMENT: Final = "// Written by fleetpatch. To undo it, remove this file.\n"
UPDATER_MEANS: Final = UpdaterMeans(
    units=tuple(_SETTING_BY_TIMER),
    needs_all_units=True,
    program="unattended-upgrade",
    missing="Install it: apt-get install unattended-upgrades.",
    file="/etc/apt/apt.conf.d/zz-fleetpatch-updaters",  # apt reads them in the order of their names
    text_on=f'{_FILE_COMMENT}APT::Periodic::Enable "1";\nAPT::Periodic::Update-Package-Lists "1";\n'
    'APT::Periodic::Unattended-Upgrade "1";\n',
    text_off=f'{_FILE_COMMENT}APT::Periodic::Unattended-Upgrade "0";\n',
)
"""The timers also read the package lists, which is no update: so a setting switches the updates off."""


def find_apt_updaters(timers: str, periodic: str, now: int) -> tuple[tuple[str, float | None], ...]:
    """Return the system's own updaters that may start, with the seconds until then (0: running; None: not known).

    Args:
        timers: ``systemctl show`` of apt's timers and services, with times in UTC.
        periodic: ``apt-config dump APT::Periodic``. A timer whose work is disabled there does nothing.
        now: the machine's own clock, seconds since the epoch.
    """
    settings = dict(_PERIODIC_PATTERN.findall(periodic))
    is_enabled = settings.get("Enable", "1") != "0"
    off = {t for t, setting in _SETTING_BY_TIMER.items() if not is_enabled or settings.get(setting, "0") in {"0", ""}}
    updaters = find_scheduled_updaters(timers, tuple(_SETTING_BY_TIMER), now)
    return tuple((name, seconds) for name, seconds in updaters if name not in off)


_UNREADABLE_CODE: Final = 66
"""The exit code of apt_assess.sh if dpkg can't read its database."""
_REQUIRED_SECTIONS = ("odd", "policy", "releases", "upgrade", "versions", "audit")
_QUESTIONS: Final = {
    "outdated": "which services run replaced files is not known: their open files",
    "lists": "how old the lists of the repositories are is not known: their files",
    "timers": "which updaters may start is not known: the timers of systemd",
    "periodic": "which updaters may start is not known: APT::Periodic",
}
_REMARK_ON_CONTENT = "{} {}: a repository has other content under the installed version, which is no update"
_FOREIGN_SOURCES = "publishers without a security archive"
_NO_SECURITY_WARNING = "no repository with security updates{} is configured, so security updates can't be recognized"


def parse_apt_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from the script's result.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
        ManagerBusy, RepositoryError, ManagerError: apt or dpkg can't work, or apt has no repository.
        ListsUnread: apt has never read its lists.
    """
    if result.exit_code == _UNREADABLE_CODE:
        raise ManagerError(
            describe_failure("dpkg can't read its database", result.unframed_output),
            hint="Repair it on the machine: /var/lib/dpkg/status-old and /var/backups have earlier copies.",
        )
    sections = parse_sections(result, "apt_assess", *_REQUIRED_SECTIONS)
    state = require_single_record(result, "apt_assess", "state")
    _require_answers(sections)
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
    simulation = parse_apt_simulation(sections["upgrade"].text, sections["upgrade"].exit_code)
    if "unmet" in sections:  # the upgrade was simulated without these
        unmet = parse_apt_simulation(sections["unmet"].text).unmet_dependencies
        simulation = replace(simulation, unmet_dependencies={**unmet, **simulation.unmet_dependencies})
    held = frozenset(build_dpkg_name(package.name, package.arch, native) for package in packages if package.is_held)
    stanzas = parse_stanzas(sections["versions"].text)
    policies = parse_policy(sections["policy"].text)
    remarks = (
        *remarks,
        *(_REMARK_ON_CONTENT.format(policy.name, policy.installed) for policy in policies if policy.has_other_content),
    )
    updates = build_pending_updates(AptState(native, policies, releases, held, stanzas, simulation.changes))
    locks = result.find_records("lock")
    setups = parse_failed_setups(get_text(sections, "unfinished"))
    failures = parse_unpacking_failures(get_text(sections, "unpacking"))
    audit_problems, package_remarks = parse_audit(sections["audit"])
    problems = find_dpkg_problems(
        packages,
        (*find_refusals(sections), *audit_problems),
        simulation,
        setups,
        interrupted=require_boolean(state, "interrupted"),
        failures=failures,
    )
    lacking = find_lasting_unmet_dependencies(simulation.unmet_dependencies, failures)
    unfinished = find_unfinished_packages(packages, native, setups, lacking)
    changed = "changed" in state and require_boolean(state, "changed")
    at_work = describe_lock_holders(locks) if is_dpkg_locked(locks) else JUST_ENDED_PROCESS if changed else ""
    if problems.messages and at_work:  # what is half changed now belongs to a running transaction; it is not broken
        problems, unfinished = DpkgProblems(), ()
    was_interrupted = (
        require_boolean(state, "interrupted")
        or any(problem.needs_reinstall for problem in packages)
        or any(not problem.failure for problem in unfinished)
    )
    updates = block_dependent_updates(updates, stanzas, packages, setups) if unfinished else updates
    answer = sections.get("needrestart")
    needrestart = answer.text if answer is not None and answer.exit_code == 0 else None
    live = parse_live_patches(result, sections)
    updaters = find_apt_updaters(
        get_text(sections, "timers"), get_text(sections, "periodic"), require_integer(state, "at")
    )
    installed = dict(split_rows(get_text(sections, "installed"), 2))
    warnings = () if missing or may_hide_security else _describe_missing_security(releases.values())
    is_unclear = bool(missing or may_hide_security or warnings)  # whether a publisher has a security archive
    return PackageState(
        manager="apt",
        updates=with_pro_updates(updates, get_text(sections, "pro"), native, installed),
        reboot=find_apt_reboot_need(
            require_single_record(result, "apt_assess", "reboot"), needrestart, live, has_scanned="outdated" in sections
        ),
        held=tuple(sorted(held)),
        problems=problems.messages,
        repairable=problems.repairable,
        interrupted=bool(problems.messages) and was_interrupted,
        can_install_others=problems.can_install_others,
        lock_holder=describe_lock_holders(locks),
        auto_updaters=updaters,
        warnings=(*warnings, *describe_unread(sections, _QUESTIONS)),
        services_to_restart=find_services_to_restart(get_text(sections, "outdated"), needrestart),
        unfinished=unfinished,
        at_work=at_work,
        updater_units=UPDATER_UNITS,
        non_installing_updaters=tuple(name for name, _ in updaters if name in NON_INSTALLING_UPDATERS),
        repository_problems=(*unread, *missing, *find_unread_pro(sections.get("pro"))),
        remarks=remarks if is_unclear else (*remarks, *describe_unclassified(updates, _FOREIGN_SOURCES)),
        package_remarks=package_remarks,
        remounted=find_remounted(get_text(sections, "hooks")),
        live_patching=live,
        hotpatch=parse_live_patch_enrolment(result, sections),
    )


def _require_answers(sections: Mapping[str, ScriptSection]) -> None:
    """Raise an error if apt gave no answer: it is none that nothing is configured or pending.

    Raises:
        ManagerError: with apt's own words.
    """
    for name in ("releases", "policy", "sources"):
        section = sections.get(name)
        if section is None or section.exit_code == 0 or (name == "policy" and section.text.strip()):
            continue
        raise ManagerError(
            describe_failure(f"apt can't work (exit code {section.exit_code})", section.stderr or section.text),
            hint="Correct that in apt's settings on the machine (/etc/apt): apt-cache policy says it there, too.",
        )


def find_unread_pro(section: ScriptSection | None) -> tuple[RepositoryProblem, ...]:
    """Return a problem if Ubuntu Pro's client is there, and did not tell the updates that it knows."""
    if section is None or find_pro_attribute(section.text, "updates") is not None:
        return ()
    said = "; ".join(re.findall(r'"title": *"([^"]+)"', section.text)) or find_tool_error(section.stderr)
    remedy = "Run on the machine: pro api u.pro.packages.updates.v1, and update ubuntu-pro-client if it is old."
    return (RepositoryProblem("Ubuntu Pro", f"its client does not tell its updates: {said or 'no answer'}", remedy),)


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
    lists_at, remarks = state.get("lists_at"), tuple[str, ...]()
    if "update" in sections:
        unread, remarks = read_refresh(sections["update"], texts["sources"], texts["partial"])
    elif "lists" in sections:
        unread = find_stale_lists(
            texts["sources"],
            texts["lists"],
            texts["validity"],
            lists_at=lists_at if isinstance(lists_at, int) else 0,
            now=now,
        )
    else:
        return (), ()
    names = tuple(problem.repository for problem in unread)  # their problem is told already
    return (*unread, *(p for p in frozen if not any(name.startswith(p.repository) for name in names))), remarks
