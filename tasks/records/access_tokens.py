"""Stores who may use the pages and the API: access tokens, and the browsers that are logged in with one.

No token and no cookie is stored, only their SHA-256 digests. All threads of a process may share the objects.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, delete, insert, select, update

from tasks.errors import RecordsError, RequestError
from tasks.records.page_tables import access_tokens, web_sessions
from tasks.records.storage.database import Database
from tasks.records.token_signatures import is_signed, sign_token

logger = logging.getLogger(__name__)

END_WARNING: Final = timedelta(days=14)
"""How long before its end people are warned."""
USE_INTERVAL: Final = timedelta(minutes=1)
"""The last use of a token is stored as exactly as this: not each request writes."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A login of a person or a program.

    Attributes:
        name: who it is, in records and in the audit log.
        roles: what it may do: words of ``deployments.web.access.roles.Role``.
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

    def add(self, token: AccessToken, digest: str) -> None:
        """Sign and store a new token.

        Raises:
            RequestError: the name is taken.
            RecordsError: the records can't be written, or this process can't sign tokens.
        """
        signature = sign_token(
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
            connection.execute(delete(web_sessions).where(web_sessions.c.name == name))
            return connection.execute(delete(access_tokens).where(access_tokens.c.name == name)).rowcount > 0

    def list_tokens(self) -> Sequence[AccessToken]:
        """Return all tokens by name."""
        with self._database.begin_read("read the access tokens") as connection:
            return [_build(row) for row in connection.execute(select(access_tokens).order_by(access_tokens.c.name))]

    def find_by_token(self, digest: str, now: datetime) -> AccessToken | None:
        """Return the token with this digest, if its signature fits and it has not expired."""
        return self._find(select(access_tokens).where(access_tokens.c.digest == digest), now)

    def find_by_session(self, digest: str, now: datetime) -> AccessToken | None:
        """Return the token of a session, if neither has expired."""
        query = (
            select(access_tokens)
            .join(web_sessions, web_sessions.c.name == access_tokens.c.name)
            .where(web_sessions.c.digest == digest, web_sessions.c.expires_at > now)
        )
        return self._find(query, now)

    def open_session(self, digest: str, name: str, now: datetime, expires_at: datetime) -> None:
        """Store that a browser is logged in, and forget sessions that have expired."""
        row = {"digest": digest, "name": name, "created_at": now, "expires_at": expires_at}
        with self._database.begin_write("open a session") as connection:
            connection.execute(delete(web_sessions).where(web_sessions.c.expires_at <= now))
            connection.execute(insert(web_sessions).values(row))

    def close_session(self, digest: str) -> None:
        """End a session. There may be none."""
        with self._database.begin_write("end a session") as connection:
            connection.execute(delete(web_sessions).where(web_sessions.c.digest == digest))

    def _find(self, query: Select[Any], now: datetime) -> AccessToken | None:
        with self._database.begin_read("read an access token") as connection:
            row = connection.execute(query).first()
        token = _build(row) if row is not None else None
        if token is not None and not token.is_signed:
            logger.warning("the access token %s has no signature that fits: it opens nothing", token.name)
            return None
        return None if token is None or token.has_expired(now) else token

    def store_use(self, name: str, at: datetime) -> None:
        """Store the last use of a token.

        Raises:
            RecordsError: the records can't be written.
        """
        with self._database.begin_write("store the use of an access token") as connection:
            connection.execute(update(access_tokens).where(access_tokens.c.name == name).values(used_at=at))


class TokenUses:
    """Stores the last use of tokens in the background: who may look is known, and waits for no other writer.

    A use that can't be stored is lost. All threads of a process may share an object.
    """

    def __init__(self, database: Database) -> None:
        self._tokens = SqlAccessTokens(database)
        self._lock = threading.Lock()
        self._noted: dict[str, datetime] = {}
        self._waiting: dict[str, datetime] = {}
        self._writer: threading.Thread | None = None

    def note(self, token: AccessToken, now: datetime) -> None:
        """Have the use of a token stored, unless one of the last minute is or will be."""
        with self._lock:
            known = [each for each in (token.used_at, self._noted.get(token.name)) if each is not None]
            if known and now - max(known) < USE_INTERVAL:
                return
            self._noted[token.name] = self._waiting[token.name] = now
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write, name="token uses", daemon=True)
                self._writer.start()

    def wait(self, seconds: float) -> None:
        """Wait until all uses are stored or lost, but not longer."""
        writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    return
                name, at = self._waiting.popitem()
            try:
                self._tokens.store_use(name, at)
            except RecordsError as error:
                logger.warning("the last use of the access token %s is not stored: %s", name, error)


def _build(row: Any) -> AccessToken:  # noqa: ANN401 - SQLAlchemy's row
    roles = tuple(each for each in row.roles.split(",") if each)
    fits = is_signed(
        row.signature,
        name=row.name,
        digest=row.digest,
        roles=roles,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
    return AccessToken(row.name, roles, row.created_by, row.created_at, row.expires_at, row.used_at, fits)
