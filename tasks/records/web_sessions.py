"""Stores the browsers that are logged in at the pages, the links that log in once, and last uses.

No cookie and no code is stored, only their SHA-256 digests. The pages seal what they store: see
``fleetpatch.access.sessions``. The last uses of tokens and sessions are stored in the background: who may look is
known, and waits for no writer. All threads of a process may share an object.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, insert, select, union, update

from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.records.page_schema import login_links, web_sessions
from tasks.records.statements import build_row
from tasks.records.storage.database import Database


@dataclass(frozen=True, slots=True)
class WebSession:
    """A browser that is logged in."""

    digest: str  # the SHA-256 of its cookie
    name: str  # who it is, in records and in the audit log
    roles: tuple[str, ...]  # what it may do, as words
    source: str  # how it logged in: "token", "link", "oidc" or "ldap"
    subject: str  # who it is for the source: a token's digest, or the provider's name for the person
    created_at: datetime
    expires_at: datetime  # its end, however much it is used
    used_at: datetime  # its last use, exact to a minute
    checked_at: datetime  # when the source last said who it is
    ticket: str = ""  # what the source wants at the next check, encrypted; "" for nothing
    seal: str = ""  # the pages' signature of all above, but the last use


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A link that logs in once."""

    digest: str  # the SHA-256 of its code
    name: str  # whom it logs in
    roles: tuple[str, ...]  # what they may do then, as words
    expires_at: datetime  # its end, used or not
    seal: str = ""  # the signature of who made it


class SqlWebSessions:
    """Sessions and links in the database of the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, session: WebSession, now: datetime) -> None:
        """Store that a browser is logged in, and forget sessions that are over."""
        with self._database.begin_write("open a session") as connection:
            connection.execute(delete(web_sessions).where(web_sessions.c.expires_at <= now))
            connection.execute(
                insert(web_sessions).values(build_row(web_sessions, session, roles="\n".join(session.roles)))
            )

    def find(self, digest: str) -> WebSession | None:
        """Return a session, also one that is over."""
        with self._database.begin_read("read a session") as connection:
            row = connection.execute(select(web_sessions).where(web_sessions.c.digest == digest)).first()
        if row is None:
            return None
        return WebSession(**{**row._mapping, "roles": tuple(row.roles.splitlines())})  # noqa: SLF001 - public in SQLAlchemy

    def update(self, session: WebSession) -> None:
        """Store what a check has changed, if the session is still there."""
        row = build_row(web_sessions, session, roles="\n".join(session.roles))
        del row["used_at"]
        with self._database.begin_write("renew a session") as connection:
            connection.execute(update(web_sessions).where(web_sessions.c.digest == session.digest).values(row))

    def store_use(self, digest: str, at: datetime) -> None:
        """Store the last use of a session."""
        with self._database.begin_write("store the use of a session") as connection:
            connection.execute(update(web_sessions).where(web_sessions.c.digest == digest).values(used_at=at))

    def remove(self, digest: str) -> None:
        """End a session. There may be none."""
        with self._database.begin_write("end a session") as connection:
            connection.execute(delete(web_sessions).where(web_sessions.c.digest == digest))

    def remove_of_subject(self, source: str, subject: str) -> int:
        """End all sessions of a person, and return how many there were."""
        query = delete(web_sessions).where(web_sessions.c.source == source, web_sessions.c.subject == subject)
        with self._database.begin_write("end the sessions of a person") as connection:
            return connection.execute(query).rowcount

    def remove_of_name(self, name: str) -> int:
        """End all sessions and links of a name, and return how many sessions there were."""
        with self._database.begin_write("end the sessions of a name") as connection:
            connection.execute(delete(login_links).where(login_links.c.name == name))
            return connection.execute(delete(web_sessions).where(web_sessions.c.name == name)).rowcount

    def list_names(self) -> tuple[str, ...]:
        """Return the names that have sessions or links, sorted."""
        with self._database.begin_read("list the sessions") as connection:
            names = union(select(web_sessions.c.name), select(login_links.c.name))
            return tuple(sorted(connection.execute(names).scalars()))

    def add_link(self, link: LoginLink, now: datetime) -> None:
        """Store a link, and forget those that are over."""
        row = build_row(login_links, link, roles="\n".join(link.roles))
        with self._database.begin_write("store a login link") as connection:
            connection.execute(delete(login_links).where(login_links.c.expires_at <= now))
            connection.execute(insert(login_links).values(row))

    def take_link(self, digest: str) -> LoginLink | None:
        """Return a link and remove it: of several that ask, one gets it."""
        with self._database.begin_write("use a login link") as connection:
            row = connection.execute(select(login_links).where(login_links.c.digest == digest)).first()
            if (
                row is None
                or connection.execute(delete(login_links).where(login_links.c.digest == digest)).rowcount != 1
            ):
                return None
        return LoginLink(row.digest, row.name, tuple(row.roles.splitlines()), row.expires_at, row.seal)


logger = logging.getLogger(__name__)

USE_INTERVAL: Final = timedelta(minutes=1)
"""The last use is stored as exactly as this: not each request writes."""


class UseTimes:
    """The last use of each of several things. A use that can't be stored is lost. All threads may share an object.

    Args:
        store: stores the last use of one of them. It may raise RecordsError.
        noun: what they are, in plural, for the log.
    """

    def __init__(self, store: Callable[[str, datetime], None], noun: str) -> None:
        self._store = store
        self._noun = noun
        self._lock = threading.Lock()
        self._noted: dict[str, datetime] = {}
        self._waiting: dict[str, datetime] = {}
        self._writer: threading.Thread | None = None

    def note(self, key: str, stored: datetime | None, now: datetime) -> None:
        """Have a use stored, unless one of the last minute is or will be.

        Args:
            key: which of them.
            stored: its last use that is stored; None: none.
            now: the time of this use.
        """
        with self._lock:
            known_times = [moment for moment in (stored, self._noted.get(key)) if moment is not None]
            if known_times and now - max(known_times) < USE_INTERVAL:
                return
            self._noted[key] = self._waiting[key] = now
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write, name=f"uses of {self._noun}", daemon=True)
                self._writer.start()

    def find_latest(self, key: str, stored: datetime) -> datetime:
        """Return the last use, also one that is not stored yet."""
        with self._lock:
            return max(stored, self._noted.get(key, stored))

    def forget(self, key: str) -> None:
        """Keep nothing about something that is over."""
        with self._lock:
            self._noted.pop(key, None)

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
                key, at = self._waiting.popitem()
            try:
                self._store(key, at)
            except RecordsError as error:
                logger.warning("a last use of %s is not stored: %s", self._noun, error)
