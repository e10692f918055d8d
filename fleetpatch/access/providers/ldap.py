"""Logs in at an LDAP server or Active Directory: searches for the person, then binds as that person.

Sources: RFC 4511, RFC 4513 (5.1.2: a bind without a password), RFC 4515 (filters).

The certificate of the server is always verified. Referrals are not followed: they could lead a password elsewhere.
"""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

from ldap3 import ANONYMOUS, AUTO_BIND_NONE, NONE, SIMPLE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException
from ldap3.core.results import RESULT_SUCCESS
from ldap3.utils.conv import escape_filter_chars

from fleetpatch.access.providers.login_file import LdapEntry
from fleetpatch.access.providers.person import LoginRefused, Person, ProviderAway
from inventory.credentials import resolve_credential

_SECONDS: Final = 5
"""How long to wait for a connection, and for each answer. ldap3 takes no fractions."""
_INVALID_CREDENTIALS: Final = 49
_MAX_GROUPS: Final = 5000
_DISABLED: Final = 0x2
"""The bit of Active Directory's userAccountControl that says that an account is disabled."""
_PORTS: Final = {"ldap": 389, "ldaps": 636}


class VerifiedTls(Tls):  # type: ignore[misc]  # ldap3 has no types
    """TLS whose certificate and name OpenSSL verifies. ldap3 compares names by a function that Python has removed."""

    def wrap_socket(self, connection: Connection, do_handshake: bool = False) -> None:
        """Encrypt the socket of a connection."""
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        connection.socket = context.wrap_socket(
            connection.socket, do_handshake_on_connect=do_handshake, server_hostname=connection.server.host
        )


class LdapProvider:
    """An LDAP server. All threads may share an object: each question has a connection of its own."""

    def __init__(self, entry: LdapEntry) -> None:
        self._entry = entry

    def log_in(self, name: str, password: str) -> Person:
        """Return who somebody is who knows a password.

        Raises:
            LoginRefused: the name or the password is wrong. Nothing says which.
            ProviderAway: the server does not answer, or refuses the account that searches.
        """
        # A bind with a name and no password is an anonymous one, which succeeds (RFC 4513, 5.1.2).
        if not name or not password or "\0" in name + password:
            raise LoginRefused("the name or the password is not right")
        with self._search_as_service() as connection:
            user_filter = self._entry.user_filter.replace("{name}", escape_filter_chars(name))
            entry = self._find_one(connection, self._entry.base, user_filter, SUBTREE)
            if entry is None:
                raise LoginRefused("the name or the password is not right")
            self._require_password(str(entry["dn"]), password)
            return self._build_person(connection, entry)

    def check(self, subject: str, ticket: str) -> Person:  # noqa: ARG002 - nothing is wanted but the DN
        """Return what a person is now. The person's password is not kept, so a change of it ends no session.

        Raises:
            LoginRefused: the person is not there any more, or may not log in.
            ProviderAway: the server does not answer, or refuses the account that searches.
        """
        with self._search_as_service() as connection:
            user_filter = self._entry.user_filter.replace("{name}", "*")
            entry = self._find_one(connection, subject, user_filter, "BASE")
            if entry is None:
                raise LoginRefused("the person is not at the login provider any more")
            return self._build_person(connection, entry)

    @contextmanager
    def _search_as_service(self) -> Iterator[Connection]:
        credential = resolve_credential(self._entry.bind_password)
        password = credential.secret.reveal() if credential.secret is not None else ""
        with self._connect(self._entry.bind_dn, password) as connection:
            try:
                if not connection.bind():
                    raise self._build_away(f"the account that searches is refused: {connection.result['description']}")
                yield connection
            except LDAPException as error:
                raise self._build_away(type(error).__name__) from error

    @contextmanager
    def _connect(self, user: str, password: str) -> Iterator[Connection]:
        """Yield a connection with verified TLS, before its bind."""
        parts = urlsplit(self._entry.url)
        ca = str(self._entry.ca) if self._entry.ca is not None else None
        is_encrypted = parts.scheme == "ldaps"
        try:
            server = Server(
                parts.hostname,
                port=parts.port or _PORTS[parts.scheme],
                use_ssl=is_encrypted,
                tls=VerifiedTls(validate=ssl.CERT_REQUIRED, ca_certs_file=ca),
                get_info=NONE,
                connect_timeout=_SECONDS,
            )
        except LDAPException as error:
            raise self._build_away(f"its settings can't be used: {error}") from error
        connection = Connection(
            server,
            user=user or None,
            password=password or None,
            authentication=SIMPLE if user else ANONYMOUS,
            auto_bind=AUTO_BIND_NONE,
            auto_referrals=False,
            read_only=True,
            receive_timeout=_SECONDS,
            raise_exceptions=False,
        )
        try:
            connection.open()
            if not is_encrypted and not connection.start_tls():
                raise self._build_away("it does not speak StartTLS")
            yield connection
        except (LDAPException, OSError) as error:
            raise self._build_away(f"{type(error).__name__}: {str(error)[:200]}") from error
        finally:
            with suppress(LDAPException):
                connection.unbind()
            if connection.socket is not None:  # ldap3 leaves it open if no connection was made
                connection.socket.close()

    def _require_password(self, dn: str, password: str) -> None:
        with self._connect(dn, password) as connection:
            if connection.bind():
                return
            if connection.result["result"] == _INVALID_CREDENTIALS:
                raise LoginRefused("the name or the password is not right")
            raise LoginRefused(f"the login provider says no: {connection.result['description']}")

    def _find_one(self, connection: Connection, base: str, wanted: str, scope: str) -> Mapping[str, Any] | None:
        attributes = [self._entry.name_attribute, self._entry.member_of, "userAccountControl"]
        entries = self._search(connection, base, wanted, attributes, scope, most=2)
        if len(entries) > 1:
            raise LoginRefused("the name is that of more than one person")
        return entries[0] if entries else None

    def _search(
        self, connection: Connection, base: str, wanted: str, attributes: list[str], scope: str, most: int
    ) -> list[Mapping[str, Any]]:
        connection.search(base, wanted, search_scope=scope, attributes=attributes, size_limit=most, time_limit=_SECONDS)
        code = connection.result["result"]
        entries = [entry for entry in connection.response or [] if entry["type"] == "searchResEntry"]
        if code == 32:  # noSuchObject
            return []
        if code != RESULT_SUCCESS and not entries:
            raise self._build_away(f"it does not search: {connection.result['description']}")
        return entries

    def _build_person(self, connection: Connection, entry: Mapping[str, Any]) -> Person:
        attributes, dn = entry["attributes"], str(entry["dn"])
        names = _list_texts(attributes.get(self._entry.name_attribute))
        if not names:
            raise LoginRefused(f"the login provider gives no name: {self._entry.name_attribute!r} is missing")
        control = "".join(_list_texts(attributes.get("userAccountControl")))
        if control.isdecimal() and int(control) & _DISABLED:
            raise LoginRefused("the account is disabled")
        groups = tuple(self._list_groups(connection, dn, attributes))
        return Person(names[0], groups, dn, is_case_ignored=True)

    def _list_groups(self, connection: Connection, dn: str, attributes: Mapping[str, Any]) -> list[str]:
        groups = _list_texts(attributes.get(self._entry.member_of))
        if self._entry.group_filter:
            group_filter = self._entry.group_filter.replace("{dn}", escape_filter_chars(dn))
            base, name = self._entry.group_base or self._entry.base, self._entry.group_attribute
            for group in self._search(connection, base, group_filter, [name], SUBTREE, most=_MAX_GROUPS):
                groups += [*_list_texts(group["attributes"].get(name)), str(group["dn"])]
        return list(dict.fromkeys(groups))

    def _build_away(self, reason: str) -> ProviderAway:
        return ProviderAway(
            f"the login provider does not answer: {self._entry.url}: {reason}",
            hint="Try again later. Until then, an access token logs in: fleetpatch web token add NAME",
        )


def _list_texts(value: object) -> list[str]:
    """Return the texts of an attribute. Without the server's schema, all values are lists of bytes or of texts."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in values]
