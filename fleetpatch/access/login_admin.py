"""Makes access tokens and links that log in once, and ends sessions: for the command."""

import re
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Final

from fleetpatch.access.roles import Role, parse_limited_role
from fleetpatch.access.sessions import BOUND_SESSION_LENGTH, KEY_NAME, SessionLimits, Sessions
from fleetpatch.access.token_secrets import create_token, digest_secret
from flows.ports.audit import build_entry
from flows.ports.caller import current_caller, find_actor, find_starter_name
from inventory.errors import InventoryError
from inventory.files.own_keys import ensure_key
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.rows.audit import AuditResult
from tasks.records.access_tokens import AccessToken, SqlAccessTokens
from tasks.records.audit.log import SqlAuditLog
from tasks.records.sql_records import SqlRecords
from tasks.records.web_sessions import LoginLink, SqlWebSessions

_MAX_ROLES_LENGTH: Final = 255
DEFAULT_DAYS: Final = 90.0
"""How long a token is valid, in days, unless said otherwise."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def create_access_token(
    records: SqlRecords, name: str, roles: Iterable[str], days: float = DEFAULT_DAYS, clock: Clock | None = None
) -> tuple[AccessToken, str]:
    """Store a new access token, and return it with its text. The text is stored nowhere.

    Args:
        records: open records.
        name: who it is for: letters, digits and ".", "_", "@", "-".
        roles: words of ``Role``; ``run@env=stage`` and ``approve@…`` are limited to machines.
        days: how long it is valid, in days.
        clock: the present time.

    Raises:
        RequestError: the name is not valid or taken, or a role does not exist.
        RecordsError: the records can't be written, or this process can't sign tokens.
    """
    check_name(name)
    role_names = list_roles(roles)
    now, text = (clock or SystemClock()).now(), create_token()
    expires_at = now + timedelta(days=days)
    token = AccessToken(name, role_names, find_starter_name(current_caller()), now, expires_at)
    SqlAccessTokens(records.database).add(token, digest_secret(text))
    record_login_command(records, clock, "add token", name, f"roles {', '.join(role_names)}")
    return token, text


def check_name(name: str) -> None:
    """Raise RequestError if a text can't be the name of a person or a program."""
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} can't be the name of a login",
            hint='Use 1 to 64 letters, digits and ".", "_", "@", "-", beginning with a letter or a digit.',
        )


def list_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """Return the roles of a login. Every login may look.

    Raises:
        RequestError: a role does not exist, or none is given.
    """
    role_names = dict.fromkeys(word for text in roles for word in re.split(r"[\s,]+", text.strip()))
    try:
        limited_roles = [parse_limited_role(word) for word in role_names]
    except InventoryError as error:
        raise RequestError(error.message, hint=error.hint) from error
    if not limited_roles:
        raise RequestError("none is no role", hint=f"Roles are {', '.join(Role)}.")
    ordered_roles = (
        Role.VIEW.value,
        *sorted(f"{role}@{scope.replace(',', '&')}" if scope else role for role, scope in limited_roles),
    )
    ordered_roles = tuple(dict.fromkeys(ordered_roles))
    if len(",".join(ordered_roles)) > _MAX_ROLES_LENGTH:
        raise RequestError(
            "these roles are too long", hint=f"They have room for {_MAX_ROLES_LENGTH} characters: use a tag or a group."
        )
    return ordered_roles


def remove_access_token(records: SqlRecords, name: str, clock: Clock | None = None) -> None:
    """End an access token, and the sessions of its browsers, at once.

    Raises:
        RequestError: there is none with this name.
        RecordsError: the records can't be written.
    """
    if not SqlAccessTokens(records.database).remove(name):
        near = did_you_mean(name, [token.name for token in SqlAccessTokens(records.database).list_tokens()])
        raise RequestError(f"there is no access token {name!r}", hint=f"{near}`fleetpatch web token list` shows all.")
    record_login_command(records, clock, "remove token", name, "")


def record_login_command(records: SqlRecords, clock: Clock | None, act: str, name: str, detail: str) -> None:
    """Record in the audit log what the command has done with logins."""
    actor = find_actor(current_caller())
    entry = build_entry(actor, clock or SystemClock(), act, name, detail, AuditResult.DONE)
    SqlAuditLog(records.database).append(entry)


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
    record_login_command(records, clock, "add login link", link.name, f"roles {', '.join(link.roles)}")
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
    record_login_command(records, clock, "end sessions", name, f"{number} sessions")
    return number


def _require_known(records: SqlRecords, name: str, logged_in: Collection[str]) -> None:
    tokens = [token.name for token in SqlAccessTokens(records.database).list_tokens()]
    actors, _ = SqlAuditLog(records.database).read_names()
    if name in {*tokens, *actors}:
        return
    listed = f"Logged in: {', '.join(logged_in)}." if logged_in else "Nobody is logged in."
    raise RequestError(f"nobody is named {name!r}", hint=f"{did_you_mean(name, logged_in)}{listed}")
