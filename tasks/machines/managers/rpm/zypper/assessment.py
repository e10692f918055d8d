"""Turns the answers of rpm_assess.sh about zypper into a PackageState. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from tasks.domain.errors import READ_LISTS_REMEDY, ListsUnread, ManagerBusy
from tasks.domain.model import PackageState, RepositoryProblem
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.pending_updates import describe_unclassified
from tasks.machines.managers.repository_problems import build_repository_error, build_repository_problem
from tasks.machines.managers.rpm.kernels import find_rpm_reboot_need
from tasks.machines.managers.rpm.packages import InstalledPackage, parse_reboot_suggestions, parse_rpm_packages
from tasks.machines.managers.rpm.repositories import (
    RefreshTimes,
    RepositoryCopy,
    find_rpm_repository_problems,
    find_unread_repositories,
    has_no_fixes,
    parse_repository_priorities,
)
from tasks.machines.managers.rpm.system_state import RpmSystem, parse_rpm_system
from tasks.machines.managers.rpm.zypper.offers import (
    ZypperRepository,
    parse_obstacles,
    parse_zypper_candidates,
    parse_zypper_offers,
)
from tasks.machines.managers.rpm.zypper.patches import (
    ZypperDescription,
    index_patches,
    parse_descriptions,
    parse_patches,
)
from tasks.machines.managers.rpm.zypper.pending_updates import ZypperState, build_pending_updates
from tasks.machines.managers.rpm.zypper.xml_answer import (
    build_no_repository_error,
    get_attribute,
    get_child_text,
    parse_answer,
    parse_install_summary,
)
from tasks.machines.managers.script_output import (
    ENDED_CODES,
    ScriptSection,
    get_text,
    parse_natural,
    parse_sections,
    require_text,
    split_rows,
)
from tasks.machines.managers.versions import RpmVersion
from tasks.rules.machine_checks.report_limits import MAX_LOCKS, MAX_REPOSITORIES, require_count

_SCRIPT: Final = "rpm_assess"
_MAX_MASK: Final = 200
_ALL_FAILED: Final = "Could not refresh the repositories"
_BEGUN_PATTERN: Final = re.compile(r"name=\"Retrieving repository '([^'\"]{1,300})' metadata\" value=")
"""What zypper writes as it begins to read a repository."""
_MEDIUM_WORDS: Final = "a disc, which is not inserted. It has no newer packages"
_PAGE_WORDS: Final = "a web page answered in its place"


def parse_zypper_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from the script's result.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing, malformed or not complete.
        RepositoryError, ManagerError: zypper could not refresh its data, or has no repository.
        ListsUnread: zypper has never read its repositories.
    """
    system = parse_rpm_system(result, "zypper")
    sections = parse_sections(result, _SCRIPT)
    suggested = parse_rpm_packages(get_text(sections, "reboot_suggested"), system.native)
    reboot = find_rpm_reboot_need(
        system.reboot,
        system.installed,
        suggested={
            *((package.name, package.version) for package in suggested),
            *parse_reboot_suggestions(get_text(sections, "patch_reboots")),
        },
        live=system.state.live_patching,
    )
    state = replace(system.state, reboot=reboot)
    # without rpm's database, zypper takes every package for a new one
    return _add_report(state, result, system) if system.installed else state


def _add_report(state: PackageState, result: ScriptResult, system: RpmSystem) -> PackageState:
    """Return the package state with what zypper says."""
    sections = parse_sections(result, _SCRIPT, "patches", "updates", "upgrade", "repositories")
    refresh_text, not_refreshed = _read_refresh(sections.get("update"))
    answers = {name: parse_answer(sections[name], f"its {name}") for name in ("patches", "updates", "upgrade")}
    tool_text = f"{refresh_text}\n{answers['updates'].text}"  # only a query tells that a repository's data have expired
    repositories = _parse_repositories(sections["repositories"].text)
    unread = _find_unread_repositories(
        result, tool_text, repositories, None if not_refreshed else sections.get("update")
    )
    _require_repositories(repositories, tool_text)
    upgrade = parse_install_summary(answers["upgrade"])
    locked = _find_locked_names(sections.get("locks"), system.installed)
    patches = parse_patches(answers["patches"])
    tool = result.find_records("tool")
    is_rolling = bool(tool) and require_text(tool[0], "upgrade") == "dup"
    candidates = parse_zypper_candidates(answers["updates"])
    updates = build_pending_updates(
        ZypperState(
            native=system.native,
            newest={p.id: p for p in sorted(system.installed, key=lambda package: RpmVersion(package.version))},
            patches=patches,
            patched=index_patches(patches, get_text(sections, "patch_details")),
            candidates=candidates,
            upgrade=upgrade,
            packages=_index_names(get_text(sections, "package_details")),
            new_packages=_index_names(get_text(sections, "new_packages")),
            repositories=repositories,
            offers=parse_zypper_offers(get_text(sections, "versions")),
            priorities=parse_repository_priorities(get_text(sections, "priorities")),
            obstacles=parse_obstacles(
                parse_answer(sections["obstacles"], "why it leaves out updates"),
                [candidate.package for candidate in candidates],
            )
            if "obstacles" in sections
            else {},
            locked=locked,
            is_rolling=is_rolling,
        )
    )
    lost = _find_missing_patches(repositories, is_rolling=is_rolling)
    media = {
        name for repository in repositories if repository.is_medium for name in (repository.name, repository.alias)
    }
    incomplete: list[str] = []
    if not upgrade.is_complete:  # then new dependencies are not known
        reasons = "; ".join(upgrade.refusals[:3])
        incomplete = [f"zypper can't say what installing all updates would do: {reasons}"]
    unclassified = () if lost else describe_unclassified(updates, "repositories without patches")
    warnings = (
        *state.warnings,
        *filter(None, [not_refreshed]),
        *incomplete,
        *(unclassified if is_rolling else ()),  # its own repositories have no patches
    )
    problems = (problem for problem in unread if problem.repository not in media)
    return replace(
        state,
        updates=updates,
        held=tuple(sorted({*locked, *(patch.name for patch in patches if patch.is_locked)})),
        warnings=tuple(dict.fromkeys(warnings)),
        remarks=(
            *(f"{problem.repository}: {_MEDIUM_WORDS}" for problem in unread if problem.repository in media),
            *(() if is_rolling else unclassified),
        ),
        repository_problems=(*state.repository_problems, *problems, *lost),
    )


def _read_refresh(section: ScriptSection | None) -> tuple[str, str]:
    """Return what ``zypper refresh`` tool_text ("" without a refresh), and a warning if another process had the lock.

    A download keeps that lock to its end, another run's, too. The data of the last read are as good as that process's.

    Raises:
        RepositoryError: no repository answered, or none is enabled.
    """
    if section is None or section.exit_code in ENDED_CODES:  # then its XML has no end
        return "", ""
    try:
        answer = parse_answer(section, "the refresh of its repositories")
    except ManagerBusy as busy:
        return str(busy), f"zypper could not read its repositories again: {busy}"
    if any(text.startswith(_ALL_FAILED) for text in answer.errors):
        raise build_repository_error(find_rpm_repository_problems(answer.text), answer.text)
    return answer.text, ""


def _parse_repositories(text: str) -> tuple[ZypperRepository, ...]:
    require_count(len(text.splitlines()), MAX_REPOSITORIES, "repositories")
    return tuple(
        ZypperRepository(
            alias=alias,
            name=name,
            is_read=read == "yes",
            has_patches=patches == "yes",
            is_page=read == "page",
            read_at=parse_natural("".join(details[:1])) or 0,
            is_medium=details[1:] in (["cd"], ["dvd"]),
        )
        for alias, name, read, patches, *details in split_rows(text, 4, 5, 6)
    )


def _require_repositories(repositories: tuple[ZypperRepository, ...], tool_text: str) -> None:
    """Raise if zypper has no data of any repository: such a machine must not count as up to date."""
    if not repositories:
        raise build_no_repository_error()
    if not any(repository.is_read for repository in repositories):
        problems = find_rpm_repository_problems(tool_text)
        if problems:
            raise build_repository_error(problems, tool_text)
        raise ListsUnread(
            "zypper has never read its repositories, so what is pending is not known", hint=READ_LISTS_REMEDY
        )


def _find_unread_repositories(
    result: ScriptResult, tool_text: str, repositories: tuple[ZypperRepository, ...], update: ScriptSection | None
) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that were not read, or whose copies are too old.

    ``update`` is the refresh; None without one.

    Raises:
        RepositoryError: none of them was read before the refresh was ended.
    """
    times = RefreshTimes.parse(result, update)
    begun = _BEGUN_PATTERN.findall(update.text.replace("&apos;", "'")) if update and times.was_ended else []
    named_repositories = [problem.repository for problem in find_rpm_repository_problems(tool_text)]
    names = {
        next((name for name in named_repositories if repository.is_named(name)), repository.name): repository
        for repository in repositories
    }
    copies = {
        name: RepositoryCopy(
            repository.read_at if repository.is_read else 0, bool(begun) and repository.is_named(begun[-1])
        )
        for name, repository in names.items()
    }
    unread = find_unread_repositories(
        names, copies if times.began is not None or update is None else {}, times, tool_text
    )
    if times.was_ended and repositories and not any(repository.is_read for repository in repositories):
        raise build_repository_error(unread)
    if update is not None and update.exit_code and not (unread or times.was_ended):
        errors = parse_answer(update, "the refresh of its repositories").errors
        message = "; ".join(errors[:3]) or f"zypper refresh ended with {update.exit_code}"
        unread = (build_repository_problem("", [message]),)
    return (
        *unread,
        *(
            build_repository_problem(
                name, [_PAGE_WORDS if repository.is_page else "it was never read"], hides_fixes=not has_no_fixes(name)
            )
            for name, repository in names.items()
            if not repository.is_read and name not in {problem.repository for problem in unread}
        ),
    )


def _find_missing_patches(
    repositories: tuple[ZypperRepository, ...], *, is_rolling: bool
) -> tuple[RepositoryProblem, ...]:
    """Return a problem if no repository has patches: SUSE publishes fixes in update repositories, which have them.

    Without these (a lost registration, only the installation medium) nothing newer is offered, whatever is missing.
    """
    if is_rolling or any(repository.has_patches or not repository.is_read for repository in repositories):
        return ()
    message = "no enabled repository has patches, so missing security fixes would not be seen"
    remedy = "Enable the update repositories of the distribution (zypper repos; SUSEConnect --status)."
    return (RepositoryProblem("", message, remedy),)


def _find_locked_names(section: ScriptSection | None, installed: Iterable[InstalledPackage]) -> frozenset[str]:
    """Return the names of the installed packages that an administrator has locked (zypper addlock).

    An old zypper lists the masks of the locks, but not what they match.

    Raises:
        ManagerBusy, ProtocolViolation: zypper did not tell them; then a locked package would look pending.
        ReportTooLarge: there are more of them than any owner writes.
    """
    if section is None:
        return frozenset()
    root = parse_answer(section, "its locks").root
    locks = [lock for lock in root.iter("lock") if get_child_text(lock, "type") in {"", "package"}]
    require_count(len(locks), MAX_LOCKS, "locks")
    matches = [match for lock in locks for match in lock.iter("match") if get_attribute(match, "installed") == "true"]
    named = {get_attribute(match, "name") for match in matches}
    masks = [get_child_text(lock, "name")[:_MAX_MASK] for lock in locks if lock.find("matches") is None]
    names = {package.name for package in installed}
    return frozenset(name for name in names if name in named or any(fnmatchcase(name, mask) for mask in masks))


def _index_names(text: str) -> Mapping[str, ZypperDescription]:
    return {description.fields.get("Name", ""): description for description in parse_descriptions(text)}
