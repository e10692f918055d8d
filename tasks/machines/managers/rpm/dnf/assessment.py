"""Turns the answers of rpm_assess.sh with dnf 4, dnf 5 or yum into a PackageState."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.errors import (
    READ_LISTS_REMEDY,
    ListsUnread,
    ManagerBusy,
    ManagerError,
    ProtocolViolation,
    RepositoryError,
)
from tasks.domain.model import PackageState, RepositoryProblem, Update
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Classification
from tasks.machines.managers.pending_updates import describe_unclassified
from tasks.machines.managers.repository_problems import build_repository_error, build_repository_problem
from tasks.machines.managers.rpm.advisories import Advisory, index_advisories, parse_advisories
from tasks.machines.managers.rpm.dnf.holds import Holds, parse_holds
from tasks.machines.managers.rpm.dnf.offers import parse_offered_packages
from tasks.machines.managers.rpm.dnf.pending_updates import DnfState, build_pending_updates
from tasks.machines.managers.rpm.dnf.transaction import LOCKED_EXIT_CODE, parse_transaction
from tasks.machines.managers.rpm.kernels import find_rpm_reboot_need
from tasks.machines.managers.rpm.packages import InstalledPackage, build_update_id, parse_reboot_suggestions
from tasks.machines.managers.rpm.repositories import (
    RefreshTimes,
    RepositoryCopy,
    find_unread_repositories,
    has_no_fixes,
    parse_repository_priorities,
)
from tasks.machines.managers.rpm.system_state import parse_rpm_system
from tasks.machines.managers.script_output import (
    ScriptSection,
    get_text,
    group_values,
    parse_natural,
    parse_sections,
    split_rows,
)
from tasks.machines.managers.tool_errors import find_tool_error

_REQUIRED_SECTIONS: Final = ("repositories", "advisory_sources", "upgrades", "advisories", "transaction")
_DISTRIBUTION_NAMES: Final = frozenset({"bash", "glibc", "openssl-libs", "rpm", "systemd"})
"""Packages that each distribution has. The scripts ask for the same ones."""
_REGISTER: Final = "Enable the distribution's repositories (/etc/yum.repos.d), or renew the machine's subscription."
_SILENT_SOURCES: Final = "repositories without advisories"
_UNPACKERS: Final = frozenset({"gzip", "xz", "zstd", "bzip2"})


def build_dnf_assessment(
    result: ScriptResult,
    *,
    manager: str,
    read_advisories: Callable[[str], Sequence[Advisory]],
    read_holds: Callable[[str], Holds],
) -> PackageState:
    """Return the package state from the script's result.

    Args:
        result: what the script reports.
        manager: name of the package manager.
        read_advisories: reads the section "advisories"; raises ValueError if it is no answer.
        read_holds: reads the section "holds".

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
        ManagerBusy, RepositoryError, ManagerError: dnf could not read its repositories, or has none.
        ListsUnread: dnf has never read its repositories.
    """
    sections = parse_sections(result, "rpm_assess", *_REQUIRED_SECTIONS)
    system = parse_rpm_system(result, manager)
    sources = parse_advisory_sources(sections["advisory_sources"].text)
    suggested = parse_reboot_suggestions(get_text(sections, "reboot_suggested"))
    reboot = find_rpm_reboot_need(
        system.reboot,
        system.installed,
        suggested=suggested,
        extra_names=frozenset(get_text(sections, "restart_names").split()),
        live=system.state.live_patching,
    )
    problems: tuple[RepositoryProblem, ...] = ()
    updates: tuple[Update, ...] = ()
    holds = read_holds(get_text(sections, "holds"))
    if system.installed:  # without rpm's database, dnf takes every package for a new one
        problems = _find_unread_repositories(result, sections, manager)
        # an error, such as a read-only /var, must not look like a machine without repositories
        _require_answers({"repositories": sections["repositories"]}, manager)
        unread = _find_never_read(parse_dnf_repository_ids(sections["repositories"].text), sources, manager)
        named = {problem.repository for problem in problems}
        problems += tuple(problem for problem in unread if problem.repository not in named)
        _require_answers(sections, manager)
        if not any(problem.hides_fixes for problem in problems):
            problems += _find_missing_releases(sections, system.installed)
        additions = parse_offered_packages(get_text(sections, "new_packages"), system.native)
        installed_ids = {package.id for package in system.installed}
        try:
            advisories = read_advisories(sections["advisories"].text)
        except ValueError as error:
            raise ProtocolViolation(f"{manager} gave no list of advisories: {error}") from error
        updates = build_pending_updates(
            DnfState(
                installed=system.installed,
                offers=(*parse_offered_packages(sections["upgrades"].text, system.native), *additions),
                hidden_offers=parse_offered_packages(get_text(sections, "all_upgrades"), system.native),
                # kernels have an older version, beside the new one
                new_packages=tuple({p.id: p for p in additions if p.id not in installed_ids}.values()),
                needed_by=parse_needed_by(get_text(sections, "needed_by"), system.native),
                advisories=index_advisories(
                    (*advisories, *parse_advisories(get_text(sections, "other_advisories"), knows_epochs=True))
                ),
                advisory_sources=sources,
                reboot_suggested=suggested,
                transaction=parse_transaction(sections["transaction"].text),
                holds=holds,
                priorities=parse_repository_priorities(get_text(sections, "priorities")),
            )
        )
    # the fixes of the distribution itself are to be recognised; what repositories of others publish is theirs to say
    own = {*get_text(sections, "distribution_repositories").split()}
    unclear = [update for update in updates if not own or not own.isdisjoint(update.origins)]
    foreign = [update for update in updates if update not in unclear]
    warnings = (*_warn_of_unread_reboots(sections), *describe_unclassified(unclear, _SILENT_SOURCES))
    return replace(
        system.state,
        updates=updates,
        reboot=reboot,
        held=_list_held(holds.list_held(system.installed), updates),
        warnings=tuple(dict.fromkeys((*system.state.warnings, *warnings))),
        remarks=(*describe_unclassified(foreign, _SILENT_SOURCES), *_remark_on_silence(updates)),
        repository_problems=(*system.state.repository_problems, *problems),
    )


def _list_held(packages: Iterable[str], updates: Iterable[Update]) -> tuple[str, ...]:
    """Return the ids of what is held: not a package of which the locks and exclusions let a newer version come.

    "versionlock add --raw bash-5.*" lets bash 5.3 come, and the exclusion of a repository is none of the others.
    """
    updates = tuple(updates)
    free = {update.id.partition("=")[0] for update in updates if not update.held}
    return tuple(sorted({*packages} - free | {update.id for update in updates if update.held}))


def _find_unread_repositories(
    result: ScriptResult, sections: Mapping[str, ScriptSection], manager: str
) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that ``makecache`` could not read, or whose copies are too old.

    Raises:
        ManagerBusy: another process had dnf's lock all the time.
        RepositoryError: no repository answered.
    """
    update = sections.get("update")
    if update is not None and update.exit_code == LOCKED_EXIT_CODE:
        raise ManagerBusy(_shorten(update.text) or f"another process uses {manager}")
    times = RefreshTimes.parse(result, update)
    enabled = parse_dnf_repository_ids(sections["repositories"].text)
    copies = _parse_copies(get_text(sections, "copies"))
    problems = find_unread_repositories(
        enabled,
        copies if times.began is not None or update is None else {},
        times,
        update.text if update is not None else "",
    )
    failed = {problem.repository for problem in problems}
    is_refused = update is not None and update.exit_code != 0 and not times.was_ended
    # a refresh that was ended did not come to all: earlier copies count, though the judgement stays open
    has_copies = any(copies[name].read_at for name in enabled if name in copies)
    is_nothing_known = bool(enabled) and failed.issuperset(enabled) and not (times.was_ended and has_copies)
    if update is not None and (is_refused or is_nothing_known):
        raise build_repository_error(problems, update.text)
    return problems


def _parse_copies(text: str) -> Mapping[str, RepositoryCopy]:
    """Read lines "REPOSITORY<tab>SECONDS<tab>yes or no". Of several copies of a repository, the newest one counts."""
    copies_by_repository: dict[str, RepositoryCopy] = {}
    for name, digits, is_being_read in split_rows(text, 3):
        if (read_at := parse_natural(digits)) is not None:
            former = copies_by_repository.get(name, RepositoryCopy(0))
            copies_by_repository[name] = RepositoryCopy(
                max(former.read_at, read_at), former.is_being_read or is_being_read == "yes"
            )
    return copies_by_repository


def _find_never_read(
    enabled: Sequence[str], sources: Mapping[str, bool], manager: str
) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that were never read.

    Raises:
        RepositoryError: no repository is enabled.
        ListsUnread: none of them was ever read: such a machine must not count as up to date.
    """
    if not enabled:
        raise RepositoryError(
            "no package repository is enabled, so nothing can be pending",
            hint="Enable repositories (/etc/yum.repos.d), or register the system with its subscription.",
        )
    unread = [name for name in enabled if name not in sources]
    if len(unread) == len(enabled):
        raise ListsUnread(
            f"{manager} has never read its repositories, so what is pending is not known", hint=READ_LISTS_REMEDY
        )
    return tuple(
        build_repository_problem(name, ["it was never read"], hides_fixes=not has_no_fixes(name)) for name in unread
    )


def _find_missing_releases(
    sections: Mapping[str, ScriptSection], installed: Iterable[InstalledPackage]
) -> tuple[RepositoryProblem, ...]:
    """Return a problem if the repositories are locked to a release, or none has packages of the distribution itself."""
    if release := get_text(sections, "release_lock").strip()[:100]:
        message = f"the repositories are locked to release {release}: updates of later releases are not seen"
        return (RepositoryProblem("", message, 'To see the newest ones, write "latest" to /etc/dnf/vars/releasever.'),)
    section = sections.get("distribution_repositories")
    core = sorted({package.name for package in installed} & _DISTRIBUTION_NAMES)
    if not core or section is None or section.exit_code != 0 or section.text.strip():
        return ()
    message = (
        f"no enabled repository has packages of the distribution itself ({', '.join(core)}): its fixes are not seen"
    )
    return (RepositoryProblem("", message, _REGISTER),)


def _require_answers(sections: Mapping[str, ScriptSection], manager: str) -> None:
    """Raise an error if the package manager gave no list of updates.

    Raises:
        ManagerBusy: another process had dnf's lock all the time.
        ManagerError: the package manager can't work.
    """
    for name in ("repositories", "upgrades", "advisories", "all_upgrades"):
        section = sections.get(name)
        if section is None or section.exit_code == 0:
            continue
        if section.exit_code == LOCKED_EXIT_CODE:
            raise ManagerBusy(_shorten(section.stderr) or f"another process uses {manager}")
        raise ManagerError(
            find_tool_error(f"{section.text}\n{section.stderr}") or f"{manager} ended with {section.exit_code}",
            hint=f"Run {manager} check-update on the machine: {manager} does not get as far as an answer.",
        )


def _shorten(text: str) -> str:
    return " ".join(text.split())[:500]


def _warn_of_unread_reboots(sections: Mapping[str, ScriptSection]) -> tuple[str, ...]:
    lacking = sorted(_UNPACKERS.intersection(get_text(sections, "lacking_unpackers").split()))
    if not lacking:
        return ()
    return (
        f"advisories can't be read for the reboots that they ask for: the machine lacks {' and '.join(lacking)}. "
        "Install it, or set when the machine reboots",
    )


def _remark_on_silence(updates: Iterable[Update]) -> tuple[str, ...]:
    """Return a remark on updates of which the advisories of their repositories say nothing.

    They are no security updates for "dnf --security" and "dnf updateinfo", either. Only their publisher knows whether
    it has advisories for all that it publishes.
    """
    silent = [u for u in updates if u.classification is Classification.OTHER and not u.advisories and not u.needed_by]
    repositories = sorted({origin for update in silent for origin in update.origins})
    if not repositories:
        return ()
    return (
        f"{', '.join(repositories)}: no advisory is about {join_first_names(sorted({u.name for u in silent}))}, so "
        f"{'it counts as no security update' if len(silent) == 1 else 'they count as no security updates'}",
    )


def parse_dnf_repository_ids(text: str) -> tuple[str, ...]:
    """Read ``dnf -q repolist``: the ids of the enabled repositories, below the line "repo id …", or one a line.

    Plugins (subscription-manager's, for example) write sentences above it.
    """
    _, heading, rows = f"\n{text}".partition("\nrepo id ")
    lines = [line.split() for line in (rows.splitlines()[1:] if heading else text.splitlines())]
    ids = (cells[0] for cells in lines if cells and (heading or len(cells) == 1))
    return tuple(repository_id.lstrip("!*") for repository_id in ids if repository_id != "repolist:")


def parse_advisory_sources(text: str) -> Mapping[str, bool]:
    """Read lines "repository<tab>true/false", the newest first: whether a repository that was read has advisories."""
    return {repository: answer == "true" for repository, answer in reversed([*split_rows(text, 2)])}


def parse_needed_by(text: str, native: str) -> Mapping[str, tuple[str, ...]]:
    """Read lines "new<tab>needer", both "name.arch": id of a new package -> ids of the packages that need it."""

    def build_id(package: str) -> str:
        name, _, arch = package.rpartition(".")
        return build_update_id(name, arch, native)

    return group_values((build_id(new), build_id(needer)) for new, needer in split_rows(text, 2))


_YUM_JOURNAL_FORMAT: Final = "%Y-%m-%d.%H:%M.%S"


def parse_yum_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from yum 3's answers, written in the form of dnf 4's. Errors: see build_assessment."""
    read_advisories = partial(parse_advisories, knows_epochs=True)
    state = build_dnf_assessment(result, manager="yum", read_advisories=read_advisories, read_holds=parse_holds)
    sections = parse_sections(result, "rpm_assess", "unfinished_transactions")
    times = list[str]()
    for line in sections["unfinished_transactions"].text.splitlines():
        with suppress(ValueError):  # another line than a time
            datetime.strptime(line, _YUM_JOURNAL_FORMAT).replace(tzinfo=UTC)
            times.append(line)
    if state.at_work or not times:  # at work: what a running transaction has not done yet
        return state
    warning = (
        f"yum did not end {len(times)} of its transactions, the last one of {max(times)}. What they left undone is "
        "pending again. yum-complete-transaction --cleanup-only makes yum forget them; do not complete them: they "
        "could install older versions"
    )
    return replace(state, warnings=(*state.warnings, warning))
