"""Errors of ``apt-get update``, and whether apt has package lists at all. Pure."""

from collections.abc import Sequence

from tasks.errors import ListsUnread, ManagerBusy, ManagerError, RepositoryError
from tasks.managers.repository_problems import MAX_PROBLEMS, build_repository_error, build_repository_problem
from tasks.managers.script_output import ScriptSection
from tasks.model import RepositoryProblem

_LOCK_ERROR_PREFIX = "Could not get lock "
_SUMMARY_PREFIX = "Some index files failed to download"


def find_refresh_problems(update: ScriptSection) -> tuple[RepositoryProblem, ...]:
    """Return the complaints of ``apt-get update``, if it could read something.

    Raises:
        ManagerBusy: another process was reading the lists all the time.
        RepositoryError: no repository answered.
        ManagerError: apt can't work at all (a malformed configuration).
    """
    lines = update.text.splitlines()
    complaints = [line[3:].strip() for line in lines if line.startswith(("E: ", "W: "))]
    if any(complaint.startswith(_LOCK_ERROR_PREFIX) for complaint in complaints):
        raise ManagerBusy(next(text for text in complaints if text.startswith(_LOCK_ERROR_PREFIX)))
    failed = [line for line in lines if line.startswith("Err:")]
    answered = [line for line in lines if line.startswith(("Hit:", "Get:"))]
    if not answered and (failed or update.exit_code != 0):
        if not failed and not any(line.startswith("Ign:") for line in lines):
            raise ManagerError(
                "; ".join(complaints[:3]) or f"apt-get update ended with {update.exit_code}",
                hint="Run apt-get update on the machine: apt does not get as far as asking anyone.",
            )
        raise build_repository_error(_build_problems(complaints), f"apt-get update ended with {update.exit_code}")
    return _build_problems(complaints)


def _build_problems(complaints: Sequence[str]) -> tuple[RepositoryProblem, ...]:
    """Return the problems. apt's summary counts only if there is nothing else."""
    single = [text for text in complaints if not text.startswith(_SUMMARY_PREFIX)] or complaints
    return tuple(dict.fromkeys(build_repository_problem("", [text]) for text in single[:MAX_PROBLEMS]))


def require_package_lists(releases_known: int, *, unread: bool) -> None:
    """Raise if apt has no package list: such a machine must not count as up to date.

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
