"""Errors of ``apt-get update``, and whether apt has package lists at all. Pure."""

from tasks.errors import ListsUnread, ManagerBusy, ManagerError, RepositoryError
from tasks.managers.script_output import ScriptSection

_LOCK_ERROR_PREFIX = "Could not get lock "


_MAX_WARNINGS = 20


def parse_refresh_warnings(update: ScriptSection) -> tuple[str, ...]:
    """Return the errors of ``apt-get update`` as warnings, if it could read something.

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
        text = "; ".join(complaints[:3]) or f"apt-get update ended with {update.exit_code}"
        if not failed and not any(line.startswith("Ign:") for line in lines):
            raise ManagerError(
                text, hint="Run apt-get update on the machine: apt does not get as far as asking anyone."
            )
        raise RepositoryError(text, hint="Can the machine reach its package repositories (network, proxy, DNS)?")
    return tuple(dict.fromkeys(complaints[:_MAX_WARNINGS]))


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
