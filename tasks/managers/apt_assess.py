"""From the answers of apt_assess.sh to a PackageState."""

from collections.abc import Mapping

from tasks.errors import ProtocolViolation
from tasks.managers.apt_health import (
    auto_updaters,
    dpkg_at_work,
    find_problems,
    lock_holder,
    parse_packages,
    refresh_warnings,
    require_lists,
    unfinished_packages,
)
from tasks.managers.apt_parse import parse_policy, parse_releases, parse_simulation, parse_stanzas
from tasks.managers.apt_reboot import reboot_need, services_to_restart
from tasks.managers.apt_updates import AptKnowledge, is_security, pending_updates, with_pro
from tasks.managers.sections import Section, integer_of, sections_of, text_of, truth_of
from tasks.model import PackageState, Update
from tasks.seams.transport import ScriptRecord, ScriptResult

_REQUIRED = ("odd", "policy", "releases", "upgrade", "versions", "audit")
JUST_ENDED = "a process that has just ended"
_NO_SECURITY = "no repository with security updates is configured, so updates can't be told apart"


def read_assessment(result: ScriptResult) -> PackageState:
    """Read what the script gave back.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or not formed as it should be.
        ManagerBusy, RepositoryError, ManagerError: apt could not refresh its lists, or has no repository.
        ListsUnread: apt has never read its lists.
    """
    sections = sections_of(result, "apt_assess", *_REQUIRED)
    state, reboot = _only(result, "state"), _only(result, "reboot")
    warnings = list(refresh_warnings(sections["update"])) if "update" in sections else []
    releases = parse_releases(sections["releases"].text)
    require_lists(len(releases), unread="unread" in state and truth_of(state, "unread"))
    if not any(is_security(release) for release in releases.values()):
        warnings.append(_NO_SECURITY)
    packages = parse_packages(sections["odd"].text)
    native = text_of(state, "native")
    simulation = parse_simulation(sections["upgrade"].text)
    held = frozenset(package.full_name(native) for package in packages if package.held)
    updates = pending_updates(
        AptKnowledge(
            native=native,
            policies=parse_policy(sections["policy"].text),
            releases=releases,
            held=held,
            stanzas=parse_stanzas(sections["versions"].text),
            changes=simulation.changes,
            deferred=frozenset(simulation.deferred),
        )
    )
    locks = result.of_kind("lock")
    problems, repairable = find_problems(
        packages, sections["audit"].text, simulation, interrupted=truth_of(state, "interrupted")
    )
    unfinished = unfinished_packages(packages, native)
    changed = "changed" in state and truth_of(state, "changed")
    at_work = lock_holder(locks) if dpkg_at_work(locks) else JUST_ENDED if changed else ""
    if problems and at_work:  # what is half done now is somebody's work in progress, not broken
        problems, repairable, unfinished = (), False, ()
    needrestart = sections["needrestart"].text if "needrestart" in sections else None
    return PackageState(
        manager="apt",
        updates=_with_pro(updates, sections, native),
        reboot=reboot_need(reboot, needrestart),
        held=tuple(sorted(held)),
        problems=problems,
        repairable=repairable,
        lock_holder=lock_holder(locks),
        auto_updaters=_updaters(sections, integer_of(state, "at")),
        warnings=tuple(warnings),
        services_to_restart=services_to_restart(
            needrestart, sections["outdated"].text if "outdated" in sections else ""
        ),
        unfinished=unfinished,
        at_work=at_work,
    )


def _only(result: ScriptResult, kind: str) -> ScriptRecord:
    records = result.of_kind(kind)
    if len(records) != 1:
        raise ProtocolViolation(f"apt_assess gave {len(records)} records of kind {kind!r}, not one")
    return records[0]


def _with_pro(updates: tuple[Update, ...], sections: Mapping[str, Section], native: str) -> tuple[Update, ...]:
    if "pro" not in sections or "installed" not in sections:
        return updates
    installed = dict(line.split("\t", 1) for line in sections["installed"].text.splitlines() if "\t" in line)
    return with_pro(updates, sections["pro"].text, native, installed)


def _updaters(sections: Mapping[str, Section], now: int) -> tuple[tuple[str, float | None], ...]:
    if "timers" not in sections or "periodic" not in sections:
        return ()
    return auto_updaters(sections["timers"].text, sections["periodic"].text, now)
