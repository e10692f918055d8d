"""Who is at the other end of a connection: Negotiate (NTLM), CredSSP, basic, or a client's certificate."""

import base64
import binascii
import contextlib
import struct
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import spnego
import spnego._ntlm as spnego_ntlm  # its store is looked up in one place
from spnego import ContextProxy, NegotiateOptions
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from tests.lab.windows.accounts import Account, Accounts, Logon
from tests.lab.windows.certificates import user_names
from tests.lab.windows.http_messages import Request

Method = Literal["negotiate", "credssp", "basic", "certificate"]
MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_NTLM = b"NTLMSSP\x00"
_STORE: ContextVar[str | None] = ContextVar("store of accounts", default=None)
_find_credential_file = spnego_ntlm._get_credential_file


def _find_store() -> str | None:
    """Return the host's own accounts. NTLM reads them from the file that a variable of the environment names.

    Hosts are threads of one process with their clients: a change of its environment would reach all of them.
    """
    return _STORE.get() or _find_credential_file()


spnego_ntlm._get_credential_file = _find_store


@contextlib.contextmanager
def _store_of(accounts: Accounts) -> Iterator[None]:
    token = _STORE.set(str(accounts.store))
    try:
        yield
    finally:
        _STORE.reset(token)


class _NoLogin(Exception):
    """A token that is no good."""


@dataclass(frozen=True)
class Verdict:
    """What came of a request's credentials: who it is, or nobody; and what the answer's headers say."""

    logon: Logon | None
    headers: tuple[tuple[str, str], ...] = ()


class Authenticator:
    """The login of one connection."""

    def __init__(
        self,
        accounts: Accounts,
        offered: frozenset[Method],
        *,
        client_certificate: bytes | None = None,
        bindings: GssChannelBindings | None = None,
    ) -> None:
        """Take credentials of the kinds offered; `bindings` are asked for at NTLM, if given."""
        self._accounts = accounts
        self._offered = offered
        self._client_certificate = client_certificate
        self._bindings = bindings
        self._logon: Logon | None = None
        self.context: ContextProxy | None = None
        self.method = ""

    @property
    def challenge(self) -> Verdict:
        """What a request is told that shows no credentials."""
        headers = []
        if "negotiate" in self._offered:
            headers.append("Negotiate")
        if "basic" in self._offered:
            headers.append('Basic realm="WSMAN"')
        if "credssp" in self._offered:
            headers.append("CredSSP")
        return Verdict(None, tuple(("WWW-Authenticate", value) for value in headers))

    @property
    def sealing(self) -> ContextProxy | None:
        """What encrypts the messages of this connection, once somebody is logged in."""
        return self.context if self._logon and self.context and self.context.complete else None

    def judge(self, request: Request) -> Verdict:
        """Whose request it is."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "basic" if "basic" in self._offered:
                return self._basic(value)
            case "negotiate" | "ntlm" if "negotiate" in self._offered:
                return self._token(scheme, value)
            case "credssp" if "credssp" in self._offered:
                return self._token(scheme, value)
            case _ if scheme == MUTUAL and "certificate" in self._offered:
                return self._certificate()
            case "" if self._logon:
                return Verdict(self._logon)
        return self.challenge

    def _basic(self, value: str) -> Verdict:
        try:
            name, _, password = base64.b64decode(value).decode().partition(":")
        except (ValueError, binascii.Error):
            name, password = "", ""
        account = self._accounts.find(name)
        if account and self._accounts.locked(account):
            self._accounts.note(name, "basic", "locked out")
        elif account and account.password == password:
            self._accounts.note(name, "basic", "ok")
            return Verdict(Logon(account, "basic"))
        else:
            self._accounts.note(name, "basic", "wrong password" if account else "unknown user")
        return self.challenge

    def _certificate(self) -> Verdict:
        names = user_names(self._client_certificate) if self._client_certificate else []
        account = self._accounts.find_upn(names)
        self._accounts.note(", ".join(names), "certificate", "ok" if account else "refused")
        return Verdict(Logon(account, "certificate")) if account else self.challenge

    def _token(self, scheme: str, value: str) -> Verdict:
        method = "credssp" if scheme.lower() == "credssp" else "negotiate"
        if self.context is None or self.context.complete:
            with _store_of(self._accounts):
                self.context = self._new_context(scheme)
            self.method, self._logon = method, None
        try:
            token = base64.b64decode(value)
        except binascii.Error:
            return self._refused()
        user = claimed_user(token)
        if user and self._accounts.locked(self._accounts.find(user)):
            self._accounts.note(user, method, "locked out")
            return self._refused()
        try:
            answer = self._step(self.context, token)
        except _NoLogin as refusal:
            self._note_refusal(user, str(refusal))
            return self._refused()
        headers: tuple[tuple[str, str], ...] = ()
        if answer:
            headers = (("WWW-Authenticate", f"{scheme} {base64.b64encode(answer).decode()}"),)
        if not self.context.complete:
            return Verdict(None, headers)
        account = self._logged_in(self.context.client_principal or "")
        self._logon = Logon(account, method) if account else None
        return Verdict(self._logon, headers)

    def _new_context(self, scheme: str) -> ContextProxy:
        if scheme.lower() == "credssp":
            return spnego.server(protocol="credssp")
        ntlm = scheme.lower() == "ntlm"
        return spnego.server(
            protocol="ntlm" if ntlm else "negotiate",
            options=NegotiateOptions.use_ntlm if ntlm else NegotiateOptions.use_negotiate,
            channel_bindings=self._bindings,
        )

    def _step(self, context: ContextProxy, token: bytes) -> bytes | None:
        try:
            with _store_of(self._accounts):
                return context.step(token)
        except (SpnegoError, ValueError, struct.error, AttributeError) as error:
            # AttributeError: pyspnego asks about a context that a bad Kerberos ticket has not begun
            raise _NoLogin(str(error)) from error

    def _note_refusal(self, user: str, why: str) -> None:
        known = bool(user) and self._accounts.find(user) is not None
        wrong = known and "Invalid NTLM response" in why
        self._accounts.note(user, self.method, "wrong password" if wrong else "refused" if known else "unknown user")

    def _logged_in(self, name: str) -> Account | None:
        account = self._accounts.find(name)
        self._accounts.note(name, self.method, "ok" if account else "refused")
        return account

    def forget(self) -> None:
        """Have the connection log in again."""
        self.context = None
        self._logon = None

    def _refused(self) -> Verdict:
        self.forget()
        return self.challenge


def claimed_user(token: bytes) -> str:
    """Whom an NTLM AUTHENTICATE message says it is from; empty: it is another message."""
    start = token.find(_NTLM)
    message = token[start:] if start >= 0 else b""
    if len(message) < 64 or message[8:12] != b"\x03\x00\x00\x00":
        return ""
    domain, user = (
        message[offset : offset + length].decode("utf-16-le", "replace")
        for length, offset in (struct.unpack_from("<HxxI", message, field) for field in (28, 36))
    )
    return f"{domain}\\{user}" if domain else user
