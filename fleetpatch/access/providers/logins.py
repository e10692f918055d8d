"""The providers of a web process, and the checks of its sessions with them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime, timedelta
from typing import Final

from fleetpatch.access.providers.ldap import LdapProvider
from fleetpatch.access.providers.login_file import LoginFile
from fleetpatch.access.providers.oidc import OidcProvider
from fleetpatch.access.providers.person import IdentityProvider, LoginRefused, Person, ProviderAway
from fleetpatch.access.sessions import Sessions
from inventory.data_class import dataclass
from tasks.domain.protocols.clock import Clock
from tasks.records.web_sessions import WebSession
from tasks.rules.policy.login_names import is_plain

OIDC: Final = "oidc"
LDAP: Final = "ldap"
_RETRY: Final = timedelta(seconds=30)
"""How long a provider that does not answer is not asked again."""
_SLOW_SECONDS: Final = 1.0
"""A faster failure is not remembered. It blocks no thread, and it may concern one person only."""
_MAX_LOGINS: Final = 4
"""How many logins may wait for a provider at once: each has a thread that no page has meanwhile."""
_PLACE_SECONDS: Final = 2.0
_MAX_NAME_LENGTH: Final = 255
"""The records cut longer ones."""


@dataclass
class Logins:
    """How people log in here. All threads may share an object."""

    file: LoginFile
    clock: Clock
    oidc: OidcProvider | None = None
    ldap: LdapProvider | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _checks: dict[str, threading.Lock] = field(default_factory=dict)
    _retry_at: dict[str, datetime] = field(default_factory=dict)
    _login_at: dict[str, datetime] = field(default_factory=dict)
    _places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MAX_LOGINS))

    @contextmanager
    def ask_for_login(self, source: str) -> Iterator[None]:
        """Ask a provider for a login in the block, unless it kept somebody waiting in vain a moment ago.

        Raises:
            ProviderAway: it is not asked, or does not answer.
        """
        until = self._login_at.get(source)
        if until is not None and self.clock.now() < until:
            raise _build_away("it did not answer a moment ago")
        if not self._places.acquire(timeout=_PLACE_SECONDS):
            raise _build_away("too many logins wait for it")
        begun = time.monotonic()
        try:
            yield
        except ProviderAway:
            if time.monotonic() - begun > _SLOW_SECONDS:
                self._login_at[source] = self.clock.now() + _RETRY
            raise
        finally:
            self._places.release()

    def list_roles(self, person: Person) -> tuple[str, ...]:
        """Return what a person may do. Raise LoginRefused if that is nothing, or the name can't stand in records."""
        if max(len(person.name), len(person.subject)) > _MAX_NAME_LENGTH or not person.name.isprintable():
            raise LoginRefused("the name from the login provider is too long, or has characters that names don't have")
        if not is_plain(person.name):
            raise LoginRefused("the name from the login provider has characters that can be taken for others")
        roles = self.file.list_group_roles(person.groups, is_case_ignored=person.is_case_ignored)
        if not roles:
            raise LoginRefused(f"{person.name} is in no group that has a role here")
        return roles

    def check_session(self, sessions: Sessions, session: WebSession) -> WebSession:
        """Return a session as its provider says, if that was asked long ago; else as it is.

        The provider is asked from half of the interval on. If it does not answer, the session holds until the interval
        is over.

        Raises:
            LoginRefused: the login is valid no longer, and the session has ended.
            ProviderAway: the provider was not heard for the whole interval.
            RecordsError: the records can't be read or written.
        """
        interval = timedelta(minutes=self.file.check_minutes)
        if self.clock.now() - session.checked_at < interval / 2:
            return session
        with self._lock_of(session.digest):  # a refresh token may be used once: two at a time would end the login
            newer = sessions.read(session.digest)
            if newer is None:
                raise LoginRefused("the session has ended")
            if self.clock.now() - newer.checked_at < interval / 2:
                return newer
            is_overdue = self.clock.now() - newer.checked_at >= interval
            if self.clock.now() < self._retry_at.get(session.source, newer.checked_at):
                if is_overdue:
                    raise _build_away("it did not answer a moment ago")
                return newer
            try:
                return self._ask(sessions, newer)
            except ProviderAway:
                self._retry_at[session.source] = self.clock.now() + _RETRY
                if is_overdue:
                    raise
                return newer
            except LoginRefused:
                sessions.close(newer)
                raise

    def _ask(self, sessions: Sessions, session: WebSession) -> WebSession:
        providers: dict[str, IdentityProvider | None] = {OIDC: self.oidc, LDAP: self.ldap}
        provider = providers.get(session.source)
        if provider is None:
            raise LoginRefused("this way to log in is not used any more")
        person = provider.check(session.subject, sessions.read_ticket(session))
        if person.name != session.name:
            raise LoginRefused("the person has another name now: the login is to be made again")
        return sessions.renew(session, self.list_roles(person), person.ticket)

    def _lock_of(self, digest: str) -> threading.Lock:
        with self._lock:
            if len(self._checks) > 10_000:
                self._checks = {key: lock for key, lock in self._checks.items() if lock.locked()}
            return self._checks.setdefault(digest, threading.Lock())


def _build_away(reason: str) -> ProviderAway:
    return ProviderAway(f"the login provider is not asked: {reason}", hint="Try again in half a minute.")


def build_logins(file: LoginFile, clock: Clock) -> Logins:
    """Return how people log in."""
    return Logins(
        file,
        clock,
        OidcProvider(file.oidc, clock) if file.oidc is not None else None,
        LdapProvider(file.ldap) if file.ldap is not None else None,
    )
