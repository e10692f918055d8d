"""Turns the answers of rpm_assess.sh with dnf 4, dnf 5 or yum into a PackageState."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from tasks.machines.managers.repository_problems import (
    build_repository_error,
    build_repository_problem,
    warn_of_unclassified,
)
from tasks.machines.managers.rpm.advisories import Advisory, index_advisories, parse_advisories
from tasks.machines.managers.rpm.dnf.holds import Holds
from tasks.machines.managers.rpm.dnf.offers import OfferedPackage, parse_offered_packages
from tasks.machines.managers.rpm.dnf.output_parsers import (
    LOCKED_EXIT_CODE,
    parse_repository_priorities,
    parse_transaction,
)
from tasks.machines.managers.rpm.dnf.pending_updates import DnfState, build_pending_updates
from tasks.machines.managers.rpm.kernels import find_reboot_need
from tasks.machines.managers.rpm.packages import InstalledPackage, build_update_id, format_version, parse_natural
from tasks.machines.managers.rpm.repository_problems import (
    RefreshTimes,
    RepositoryCopy,
    find_unread_repositories,
    has_no_fixes,
)
from tasks.machines.managers.rpm.system_state import RpmSystem, parse_rpm_system
from tasks.machines.managers.script_output import (
    ENDED_CODES,
    ScriptSection,
    get_text,
    parse_sections,
    require_integer,
    require_single_record,
)

_REQUIRED_SECTIONS: Final = ("repositories", "advisory_sources", "upgrades", "advisories", "transaction")
_DISTRIBUTION_NAMES: Final = frozenset({"bash", "glibc", "openssl-libs", "rpm", "systemd"})
"""Packages that each distribution has. The scripts ask for the same ones."""
_REGISTER: Final = "Enable the distribution's repositories (/etc/yum.repos.d), or renew the machine's subscription."
_UNPACKERS: Final = frozenset({"gzip", "xz", "zstd", "bzip2"})


@dataclass(frozen=True, slots=True)
class DnfAnswers:
    """What distinguishes the answers of dnf 4 and of dnf 5.

    Attributes:
        manager: name of the package manager.
        parse_advisories: reads the section "advisories"; raises ValueError if it is no answer.
        parse_holds: reads the section "holds".
    """

    manager: str
    parse_advisories: Callable[[str], Sequence[Advisory]]
    parse_holds: Callable[[str], Holds]


def build_dnf_assessment(result: ScriptResult, *, answers: DnfAnswers) -> PackageState:
    """Return the package state from the script's result.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
        ManagerBusy, RepositoryError, ManagerError: dnf could not read its repositories, or has none.
        ListsUnread: dnf has never read its repositories.
    """
    sections = parse_sections(result, "rpm_assess", *_REQUIRED_SECTIONS)
    system = parse_rpm_system(result, answers.manager)
    sources = parse_advisory_sources(sections["advisory_sources"].text)
    suggested = parse_reboot_suggestions(get_text(sections, "reboot_suggested"))
    reboot = find_reboot_need(
        system.reboot,
        system.installed,
        suggested=suggested,
        extra_names=frozenset(get_text(sections, "restart_names").split()),
        live=system.state.live_patching,
    )
    problems: tuple[RepositoryProblem, ...] = ()
    updates: tuple[Update, ...] = ()
    holds = answers.parse_holds(get_text(sections, "holds"))
    if system.installed:  # without rpm's database, dnf takes every package for a new one
        problems = _find_unread_repositories(result, sections, answers.manager)
        # an error, such as a read-only /var, must not look like a machine without repositories
        _require_answers({"repositories": sections["repositories"]}, answers.manager)
        unread = _find_never_read(parse_repository_ids(sections["repositories"].text), sources, answers.manager)
        named = {problem.repository for problem in problems}
        problems += tuple(problem for problem in unread if problem.repository not in named)
        _require_answers(sections, answers.manager)
        if not any(problem.hides_fixes for problem in problems):
            problems += _find_release_lock(sections) or _find_lost_distribution(sections, system.installed)
        additions = parse_offered_packages(get_text(sections, "new_packages"), system.native)
        updates = build_pending_updates(
            DnfState(
                installed=system.installed,
                offers=(*parse_offered_packages(sections["upgrades"].text, system.native), *additions),
                hidden_offers=parse_offered_packages(get_text(sections, "all_upgrades"), system.native),
                new_packages=_find_new_packages(additions, system),
                needed_by=parse_needed_by(get_text(sections, "needed_by"), system.native),
                advisories=index_advisories(
                    (
                        *_read_advisories(sections["advisories"], answers),
                        *parse_advisories(get_text(sections, "other_advisories"), knows_epochs=True),
                    )
                ),
                advisory_sources=sources,
                reboot_suggested=suggested,
                transaction=parse_transaction(sections["transaction"].text),
                holds=holds,
                priorities=parse_repository_priorities(get_text(sections, "priorities")),
            )
        )
    warnings = (*_warn_of_unread_reboots(sections), *warn_of_unclassified(updates, "repositories without advisories"))
    return replace(
        system.state,
        updates=updates,
        reboot=reboot,
        held=_list_held(holds.list_held(system.installed), updates),
        warnings=tuple(dict.fromkeys((*system.state.warnings, *warnings))),
        remarks=_remark_on_silence(updates),
        repository_problems=(*system.state.repository_problems, *problems),
    )


def _list_held(packages: Iterable[str], updates: Iterable[Update]) -> tuple[str, ...]:
    """Return the ids of what is held: not a package of which the locks and exclusions let a newer version come.

    "versionlock add --raw bash-5.*" lets bash 5.3 come, and the exclusion of a repository is none of the others.
    """
    updates = tuple(updates)
    free = {update.id.partition("=")[0] for update in updates if not update.held}
    return tuple(sorted({*packages} - free | {update.id for update in updates if update.held}))


def _read_advisories(section: ScriptSection, answers: DnfAnswers) -> Sequence[Advisory]:
    try:
        return answers.parse_advisories(section.text)
    except ValueError as error:
        raise ProtocolViolation(f"{answers.manager} gave no list of advisories: {error}") from error


def _find_new_packages(additions: Iterable[OfferedPackage], system: RpmSystem) -> tuple[OfferedPackage, ...]:
    """Return what the transaction would install without an older version. Kernels have one, beside the new one."""
    installed_ids = {package.id for package in system.installed}
    return tuple({offer.id: offer for offer in additions if offer.id not in installed_ids}.values())


def _find_unread_repositories(
    result: ScriptResult, sections: Mapping[str, ScriptSection], manager: str
) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that ``makecache`` could not read, or whose copies are too old.

    Raises:
        ManagerBusy: another process had dnf's lock all the time.
        RepositoryError: no repository answered.
    """
    state, update = require_single_record(result, "rpm_assess", "state"), sections.get("update")
    if update is not None and update.exit_code == LOCKED_EXIT_CODE:
        raise ManagerBusy(_shorten(update.text) or f"another process uses {manager}")
    was_ended = update is not None and update.exit_code in ENDED_CODES
    began = require_integer(state, "began") if update is not None and "began" in state else None
    enabled = parse_repository_ids(sections["repositories"].text)
    copies = _parse_copies(get_text(sections, "copies"))
    problems = find_unread_repositories(
        enabled,
        copies if began is not None or update is None else {},
        RefreshTimes(began, require_integer(state, "at"), was_ended),
        update.text if update is not None else "",
    )
    failed = {problem.repository for problem in problems}
    is_refused = update is not None and update.exit_code != 0 and not was_ended
    # a refresh that was ended did not come to all: earlier copies count, though the judgement stays open
    has_copies = any(copies[name].read_at for name in enabled if name in copies)
    is_nothing_known = bool(enabled) and failed.issuperset(enabled) and not (was_ended and has_copies)
    if update is not None and (is_refused or is_nothing_known):
        raise build_repository_error(problems, update.text)
    return problems


def _parse_copies(text: str) -> Mapping[str, RepositoryCopy]:
    """Read lines "REPOSITORY<tab>SECONDS<tab>yes or no". Of several copies of a repository, the newest one counts."""
    copies_by_repository: dict[str, RepositoryCopy] = {}
    for fields in (line.split("\t") for line in text.splitlines()):
        read_at = parse_natural(fields[1]) if len(fields) == 3 else None
        if read_at is not None:
            former = copies_by_repository.get(fields[0], RepositoryCopy(0))
            is_being_read = former.is_being_read or fields[2] == "yes"
            copies_by_repository[fields[0]] = RepositoryCopy(max(former.read_at, read_at), is_being_read)
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
            f"{manager} has never read its repositories, so what is pending is not known",
            hint=READ_LISTS_REMEDY,
        )
    return tuple(
        build_repository_problem(name, ["it was never read"], hides_fixes=not has_no_fixes(name)) for name in unread
    )


def _find_release_lock(sections: Mapping[str, ScriptSection]) -> tuple[RepositoryProblem, ...]:
    release = get_text(sections, "release_lock").strip()[:100]
    if not release:
        return ()
    message = f"the repositories are locked to release {release}: updates of later releases are not seen"
    return (RepositoryProblem("", message, 'To see the newest ones, write "latest" to /etc/dnf/vars/releasever.'),)


def _find_lost_distribution(
    sections: Mapping[str, ScriptSection], installed: Iterable[InstalledPackage]
) -> tuple[RepositoryProblem, ...]:
    """Return a problem if no enabled repository has the packages of the distribution itself."""
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
        lines = [*section.text.splitlines(), *section.stderr.splitlines()]
        text = _shorten("; ".join(line for line in lines if line.startswith("Error")) or section.stderr)
        if section.exit_code == LOCKED_EXIT_CODE:
            raise ManagerBusy(text or f"another process uses {manager}")
        raise ManagerError(
            text or f"{manager} ended with {section.exit_code}",
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


def parse_repository_ids(text: str) -> tuple[str, ...]:
    """Read ``dnf -q repolist``: the ids of the enabled repositories, below the line "repo id …", or one a line.

    Plugins (subscription-manager's, for example) write sentences above it.
    """
    _, heading, rows = f"\n{text}".partition("\nrepo id ")
    lines = [line.split() for line in (rows.splitlines()[1:] if heading else text.splitlines())]
    ids = (cells[0] for cells in lines if cells and (heading or len(cells) == 1))
    return tuple(repository_id.lstrip("!*") for repository_id in ids if repository_id != "repolist:")


def parse_advisory_sources(text: str) -> Mapping[str, bool]:
    """Read lines "repository<tab>true/false", the newest first: whether a repository that was read has advisories."""
    values: dict[str, bool] = {}
    for line in text.splitlines():
        repository, tab, answer = line.partition("\t")
        if tab:
            values.setdefault(repository, answer == "true")
    return values


def parse_reboot_suggestions(text: str) -> frozenset[tuple[str, str]]:
    """Read lines "name<tab>epoch<tab>version<tab>release<tab>arch": name and version."""
    rows = (line.split("\t") for line in text.splitlines())
    return frozenset((row[0], format_version(*row[1:4])) for row in rows if len(row) == 5)


def parse_needed_by(text: str, native: str) -> Mapping[str, tuple[str, ...]]:
    """Read lines "new<tab>needer", both "name.arch": id of a new package -> ids of the packages that need it."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        (new, new_arch), (needer, arch) = (part.rpartition(".")[::2] for part in (line.partition("\t")[::2]))
        key = build_update_id(new, new_arch, native)
        values.setdefault(key, []).append(build_update_id(needer, arch, native))
    return {key: tuple(needers) for key, needers in values.items()}
