"""Stores who may use the pages and the API: access tokens.

No token is stored, only its SHA-256 digest. All threads of a process may share the objects.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, delete, insert, select, update

from tasks.domain.errors import RequestError
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.page_tables import access_tokens, web_sessions
from tasks.records.storage.database import Database
from tasks.records.token_signatures import is_signed, sign_token

logger = logging.getLogger(__name__)

END_WARNING: Final = timedelta(days=14)
"""How long before its end people are warned."""
TOKEN_SOURCE: Final = "token"  # noqa: S105 - no secret
"""The source of sessions that were opened with an access token. Their subject is the token's digest."""

_REMOVED: Final = "removed"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A login of a person or a program.

    Attributes:
        name: who it is, in records and in the audit log.
        roles: what it may do: words of ``fleetpatch.access.roles.Role``.
        created_by: who made it: the account of the operating system.
        expires_at: the end of its use; None: it has none.
        used_at: its last use, exact to a minute; None: never.
        is_signed: whether its signature fits: nobody has changed it in the database.
    """

    name: str
    roles: tuple[str, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None
    is_signed: bool = True

    def ends_soon(self, now: datetime) -> bool:
        """Return whether its end comes within ``END_WARNING``."""
        return self.expires_at is not None and now < self.expires_at <= now + END_WARNING

    def has_expired(self, now: datetime) -> bool:
        """Return whether its end has come."""
        return self.expires_at is not None and self.expires_at <= now


class SqlAccessTokens:
    """Access tokens and sessions in the database of the records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decisions = SqlDecisions(database)

    def add(self, token: AccessToken, digest: str) -> None:
        """Sign and store a new token.

        Raises:
            RequestError: the name is taken.
            RecordsError: the records can't be written, or this process can't sign tokens.
        """
        signature = sign_token(
            fleet=self._database.fleet,
            name=token.name,
            digest=digest,
            roles=token.roles,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
        row = {
            "name": token.name,
            "digest": digest,
            "roles": ",".join(token.roles),
            "created_by": token.created_by,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "signature": signature,
        }
        with self._database.begin_write(f"store the access token {token.name}") as connection:
            taken = connection.execute(select(access_tokens.c.name).where(access_tokens.c.name == token.name)).first()
            if taken is not None:
                raise RequestError(
                    f"there is an access token {token.name} already",
                    hint=f"Choose another name, or end that one first: fleetpatch web token remove {token.name}",
                )
            connection.execute(insert(access_tokens).values(row))

    def remove(self, name: str) -> bool:
        """Remove a token and end its sessions at once. Return False if there is none with this name."""
        with self._database.begin_write(f"remove the access token {name}") as connection:
            connection.execute(
                delete(web_sessions).where(web_sessions.c.name == name, web_sessions.c.source == TOKEN_SOURCE)
            )
            ended = delete(access_tokens).where(access_tokens.c.name == name).returning(access_tokens.c.digest)
            digest = connection.execute(ended).scalar_one_or_none()
            if digest is not None:
                self._decisions.append(connection, DecisionKind.TOKEN, digest, _REMOVED)
        if digest is not None:
            self._decisions.note_newest()
        return digest is not None

    def list_tokens(self) -> Sequence[AccessToken]:
        """Return all tokens by name."""
        with self._database.begin_read("read the access tokens") as connection:
            rows = connection.execute(select(access_tokens).order_by(access_tokens.c.name)).all()
        return [_build(row, self._database.fleet) for row in rows]

    def find_by_token(self, digest: str, now: datetime) -> AccessToken | None:
        """Return the token with this digest, if its signature fits, it has not expired, and nobody has removed it.

        Raises:
            SealBroken: the chain of decisions is not whole: it can't be said who was removed.
        """
        return self._find(select(access_tokens).where(access_tokens.c.digest == digest), now)

    def _find(self, query: Select[Any], now: datetime) -> AccessToken | None:
        with self._database.begin_read("read an access token") as connection:
            row = connection.execute(query).first()
        token = _build(row, self._database.fleet) if row is not None else None
        if token is not None and not token.is_signed:
            logger.warning("the access token %s has no signature that fits: it opens nothing", token.name)
            return None
        if row is None or token is None or token.has_expired(now):
            return None
        if self._decisions.find(DecisionKind.TOKEN, row.digest) is not None:
            logger.warning(
                "the access token %s was removed, and was put back in the database: it opens nothing", token.name
            )
            return None
        return token

    def store_use(self, name: str, at: datetime) -> None:
        """Store the last use of a token.

        Raises:
            RecordsError: the records can't be written.
        """
        with self._database.begin_write("store the use of an access token") as connection:
            connection.execute(update(access_tokens).where(access_tokens.c.name == name).values(used_at=at))


def _build(row: Any, fleet: str) -> AccessToken:  # noqa: ANN401 - SQLAlchemy's row
    roles = tuple(part for part in row.roles.split(",") if part)
    fits = is_signed(
        row.signature,
        fleet=fleet,
        name=row.name,
        digest=row.digest,
        roles=roles,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
    return AccessToken(row.name, roles, row.created_by, row.created_at, row.expires_at, row.used_at, fits)
