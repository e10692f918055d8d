"""The sessions of browsers: how they begin, what they allow, and when they end.

Everything that a session allows is sealed with a key of the pages. Who can only write the records can't make a session,
and can't give one another name, more roles or more time.
"""

import base64
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from fleetpatch.access.token_secrets import create_secret, digest_secret
from inventory.data_class import dataclass
from tasks.domain.protocols.clock import Clock
from tasks.records.fleets import DEFAULT_FLEET
from tasks.records.storage.database import Database
from tasks.records.web_sessions import LoginLink, SqlWebSessions, UseTimes, WebSession

KEY_NAME: Final = "web-sessions"
LINK_SOURCE: Final = "link"
"""The source of sessions that were opened with a link."""
SESSION_LENGTH: Final = timedelta(hours=12)
BOUND_SESSION_LENGTH: Final = timedelta(hours=1)
"""How long a session without TLS may last: any process on this machine may have its cookie."""
LINK_LENGTH: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long sessions last."""

    length: timedelta  # from the login on, however much it is used
    idle: timedelta  # from its last use on


class Sessions:
    """The sessions of one web process, for all threads. The key seals them, and encrypts their tickets."""

    def __init__(self, database: Database, key: bytes, limits: SessionLimits, clock: Clock) -> None:
        self._stored = SqlWebSessions(database)
        # A session of one fleet's pages opens nothing of another fleet.
        fleet_bytes = f"fleet {database.fleet}".encode()
        self._key = key if database.fleet == DEFAULT_FLEET else hmac.digest(key, fleet_bytes, "sha256")
        self._limits = limits
        self._clock = clock
        self.uses = UseTimes(self._stored.store_use, "sessions")

    def open(self, name: str, roles: tuple[str, ...], source: str, subject: str = "", ticket: str = "") -> str:
        """Log a browser in, and return the secret for its cookie.

        Args:
            name: who it is.
            roles: what it may do, as words.
            source: how it logs in: "token", "link", "oidc" or "ldap".
            subject: who it is for the source.
            ticket: what the source wants at the next check. It is stored encrypted.

        Raises:
            RecordsError: the records can't be written.
        """
        secret, now = create_secret(), self._clock.now()
        digest, ends_at = digest_secret(secret), now + self._limits.length
        session = WebSession(
            digest, name, roles, source, subject, now, ends_at, now, now, self._encrypt(ticket) if ticket else ""
        )
        self._stored.add(self._seal(session), now)
        return secret

    def find(self, secret: str) -> WebSession | None:
        """Return the session of a cookie, unless it is over, idle for too long, or changed by somebody else."""
        return self.read(digest_secret(secret))

    def read(self, digest: str) -> WebSession | None:
        """Return the session of the digest of a cookie, as ``find`` does."""
        session = self._stored.find(digest)
        if session is None or not hmac.compare_digest(session.seal, self._compute_seal(session)):
            return None
        session = replace(session, used_at=self.uses.find_latest(session.digest, session.used_at))
        return session if self._clock.now() < self.find_end(session) else None

    def find_end(self, session: WebSession) -> datetime:
        """Return when a session ends if it is not used again."""
        return min(session.expires_at, session.used_at + self._limits.idle)

    def note_use(self, session: WebSession) -> WebSession:
        """Note that a person uses a session now, and return it so."""
        now = self._clock.now()
        self.uses.note(session.digest, session.used_at, now)
        return replace(session, used_at=now)

    def renew(self, session: WebSession, roles: tuple[str, ...], ticket: str) -> WebSession:
        """Store what a check of a session has found, and return it so."""
        renewed = replace(
            session, roles=roles, checked_at=self._clock.now(), ticket=self._encrypt(ticket) if ticket else ""
        )
        renewed = self._seal(renewed)
        self._stored.update(renewed)
        return renewed

    def close(self, session: WebSession) -> None:
        """End a session: a copy of its cookie opens nothing any more."""
        self._stored.remove(session.digest)
        self.uses.forget(session.digest)

    def close_of_subject(self, source: str, subject: str) -> int:
        """End all sessions of a person, and return how many there were."""
        return self._stored.remove_of_subject(source, subject)

    def read_ticket(self, session: WebSession) -> str:
        """Return what the source wants at the next check; "" if there is nothing, or another key encrypted it."""
        try:
            return self._cipher.decrypt(session.ticket).decode() if session.ticket else ""
        except InvalidToken:
            return ""

    def add_link(self, name: str, roles: tuple[str, ...]) -> tuple[str, LoginLink]:
        """Make a link that logs in once, and return its code with it. It is valid for some minutes.

        Raises:
            RecordsError: the records can't be written.
        """
        code, now = create_secret(), self._clock.now()
        link = LoginLink(digest_secret(code), name, roles, now + LINK_LENGTH)
        self._stored.add_link(replace(link, seal=self._compute_link_seal(link)), now)
        return code, link

    def take_link(self, code: str) -> LoginLink | None:
        """Return the link of a code, and end it. None: there is none, it is over, or another key has made it."""
        link = self._stored.take_link(digest_secret(code))
        if link is None or link.expires_at <= self._clock.now():
            return None
        return link if hmac.compare_digest(link.seal, self._compute_link_seal(link)) else None

    def seal_text(self, text: str) -> str:
        """Return a text that a browser keeps for a while, and can neither read nor change."""
        return self._encrypt(text)

    def open_text(self, sealed: str, seconds: int) -> str | None:
        """Return a sealed text; None: it was changed, or is older than this."""
        try:
            return self._cipher.decrypt(sealed, ttl=seconds).decode()
        except (InvalidToken, ValueError):
            return None

    def _seal(self, session: WebSession) -> WebSession:
        return replace(session, seal=self._compute_seal(session))

    def _compute_seal(self, session: WebSession) -> str:
        fields = [session.digest, session.name, *session.roles, session.source, session.subject, session.ticket]
        times = [moment.timestamp() for moment in (session.created_at, session.expires_at, session.checked_at)]
        return self._sign("session", fields, times)

    def _compute_link_seal(self, link: LoginLink) -> str:
        return self._sign("link", [link.digest, link.name, *link.roles], [link.expires_at.timestamp()])

    def _sign(self, purpose: str, texts: list[str], times: list[float]) -> str:
        return hmac.digest(self._key, json.dumps([purpose, texts, times]).encode(), "sha256").hex()

    def _encrypt(self, text: str) -> str:
        return self._cipher.encrypt(text.encode()).decode()

    @cached_property
    def _cipher(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(hmac.digest(self._key, b"tickets", "sha256")))
