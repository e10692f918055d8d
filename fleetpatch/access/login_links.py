"""Makes links that log in once, for pages without TLS, and ends sessions: for the command."""

from collections.abc import Collection, Iterable

from fleetpatch.access.roles import Role
from fleetpatch.access.sessions import BOUND_SESSION_LENGTH, KEY_NAME, SessionLimits, Sessions
from fleetpatch.access.token_admin import check_name, list_roles, record_command
from flows.ports.caller import current_caller, find_starter_name
from inventory.files.private_keys import ensure_key
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.records.access_tokens import SqlAccessTokens
from tasks.records.audit.log import SqlAuditLog
from tasks.records.sql_records import SqlRecords
from tasks.records.web_sessions import LoginLink, SqlWebSessions


def create_login_link(
    records: SqlRecords, url: str, name: str = "", roles: Iterable[str] = (), clock: Clock | None = None
) -> tuple[str, LoginLink]:
    """Make a link that logs in once, within minutes, and return its address with it.

    The code stands behind "#": browsers send that part to no server, so it is in no log of one.

    Args:
        records: the open records of the pages.
        url: the address of the pages, without a slash at its end.
        name: whom it logs in; "": the account of this process.
        roles: words of ``Role``; none: all. The account can give itself each of them anyway.
        clock: the present time.

    Raises:
        RequestError: the name is not valid, or a role does not exist.
        KeyFileError: the key of the pages can't be read.
        RecordsError: the records can't be written.
    """
    if name:
        check_name(name)
    clock, role_names = clock or SystemClock(), list(roles) or [role.value for role in Role]
    limits = SessionLimits(BOUND_SESSION_LENGTH, BOUND_SESSION_LENGTH)
    sessions = Sessions(records.database, ensure_key(KEY_NAME), limits, clock)
    code, link = sessions.add_link(name or find_starter_name(current_caller()), list_roles(role_names))
    record_command(records, clock, "add login link", link.name, f"roles {', '.join(link.roles)}")
    return f"{url}/login#{code}", link


def end_sessions(records: SqlRecords, name: str, clock: Clock | None = None) -> int:
    """End all sessions and login links of a name, and return how many sessions there were.

    Raises:
        RequestError: no session, token or entry of the audit log has this name.
        RecordsError: the records can't be written.
    """
    sessions = SqlWebSessions(records.database)
    names = sessions.list_names()
    number = sessions.remove_of_name(name)
    if name not in names:
        _require_known(records, name, names)
    record_command(records, clock, "end sessions", name, f"{number} sessions")
    return number


def _require_known(records: SqlRecords, name: str, logged_in: Collection[str]) -> None:
    tokens = [token.name for token in SqlAccessTokens(records.database).list_tokens()]
    actors, _ = SqlAuditLog(records.database).read_names()
    if name in {*tokens, *actors}:
        return
    listed = f"Logged in: {', '.join(logged_in)}." if logged_in else "Nobody is logged in."
    raise RequestError(f"nobody is named {name!r}", hint=f"{did_you_mean(name, logged_in)}{listed}")
