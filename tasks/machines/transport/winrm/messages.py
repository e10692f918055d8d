"""Sends WS-Management messages with pywinrm, on one connection, within a time.

What pywinrm leaves open is closed here: it follows redirects, reads the environment (proxies, .netrc), takes answers of
any length, and takes answers over HTTP that are not encrypted. What a fault means is told by its code (wsmerror.h,
winerror.h), because its text is localised.
"""

import binascii
import re
import struct
from collections.abc import Callable
from typing import Final, TypeVar, cast

import requests
import spnego.exceptions
import urllib3.exceptions
from defusedxml.ElementTree import ParseError
from winrm.exceptions import WinRMError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol
from winrm.transport import Transport

from inventory.data_class import dataclass
from tasks.domain.errors import ConnectionLost, DeadlineExceeded, PrivilegeError, ProtocolViolation, TransportError
from tasks.machines.transport.winrm.http_line import AnswerTooLong, HttpLine, LineBroken
from tasks.machines.transport.winrm.kerberos import (
    KerberosFailed,
    allow_one_login,
    describe_kerberos_error,
    is_kerberos_error,
)

TIMED_OUT: Final = 2150858793
SHELL_NOT_FOUND: Final = 2150858843
ABORTED: Final = 995
STALE_PROFILE: Final = 2147943418
ACCESS_DENIED: Final = frozenset({5, 2147942405})
SHELL_QUOTAS: Final = frozenset({2150859173, 2150859240})
OPERATION_QUOTAS: Final = frozenset({2150859174, 2150859175, 2150859176, 2150859239, 2150859241})
"""Faults of Create and Command after which nothing ran: the same request may succeed later, or in a new shell."""
LOST_SHELL: Final = frozenset({SHELL_NOT_FOUND, STALE_PROFILE})


class WsmanFault(Exception):
    """A fault that the machine answered: the login worked, and the request did not.

    Attributes:
        code: its code, without a sign; 0 if it has none.
        reason: its text, in the machine's language.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (0x{code:08X})")
        self.code = code
        self.reason = " ".join(reason.split())

    @property
    def is_lost_shell(self) -> bool:
        """Whether the shell is gone, and all that ran in it."""
        return self.code in LOST_SHELL

    @property
    def is_quota(self) -> bool:
        """Whether a quota was full, so that nothing ran."""
        return self.code in SHELL_QUOTAS | OPERATION_QUOTAS


@dataclass(frozen=True, slots=True)
class _Meaning:
    error: type[TransportError] | type[ProtocolViolation]
    message: str
    hint: str


_SHELL_QUOTA: Final = _Meaning(
    ConnectionLost,
    "the machine allows this login no further shell",
    "Shells of broken connections end after two hours. Raise MaxShellsPerUser: winrm set winrm/config/winrs "
    '@{MaxShellsPerUser="100"}.',
)
_OPERATION_QUOTA: Final = _Meaning(
    ConnectionLost,
    "the machine allows this login no further operation now",
    'Raise the quota: winrm set winrm/config/service @{MaxConcurrentOperationsPerUser="1500"}.',
)
_ACCESS_DENIED: Final = _Meaning(
    PrivilegeError,
    "the login works, and may not use remote shells",
    "It must be in the machine's group Administrators. A local account other than the built-in Administrator also "
    "needs LocalAccountTokenFilterPolicy = 1 (DWORD) in "
    "HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System.",
)
_MEANINGS: Final = {
    **dict.fromkeys(SHELL_QUOTAS, _SHELL_QUOTA),
    **dict.fromkeys(OPERATION_QUOTAS, _OPERATION_QUOTA),
    **dict.fromkeys(ACCESS_DENIED, _ACCESS_DENIED),
    SHELL_NOT_FOUND: _Meaning(
        ConnectionLost,
        "the shell on the machine is gone: it restarted, or its WinRM service did",
        "Ask again; what ran in the shell was ended.",
    ),
    STALE_PROFILE: _Meaning(
        ConnectionLost,
        "the machine still unloads the profile of an earlier login",
        "Ask again; if it stays so, restart the WinRM service there.",
    ),
    ABORTED: _Meaning(
        ConnectionLost,
        "the command was ended on the machine",
        "Did it run out of the memory of a shell (MaxMemoryPerShellMB, 1024 or more), or was WinRM stopped?",
    ),
    TIMED_OUT: _Meaning(DeadlineExceeded, "the machine did not carry out the request in time", "Is it overloaded?"),
}
_DEFAULT_HINT: Final = "Look at the machine's event log: Microsoft-Windows-WinRM/Operational."


def build_fault_error(fault: WsmanFault) -> TransportError | ProtocolViolation:
    """Return the error for a fault that nothing repaired."""
    meaning = _MEANINGS.get(fault.code)
    fault_text = f" (WS-Management fault {fault.code}: {fault.reason[:300]})"
    if meaning is None:
        return TransportError(f"the machine refused the request{fault_text}", hint=_DEFAULT_HINT)
    return meaning.error(f"{meaning.message}{fault_text}", hint=meaning.hint)


CONNECT_TIMEOUT_SECONDS: Final = 30.0
"""For TCP and TLS. That the port is open was probed before, with a shorter time."""
OPERATION_SECONDS: Final = 20
"""How long the machine waits for output before it answers that there is none yet."""
SLOW_OPERATION_SECONDS: Final = 60
"""How long it may take to do anything else: the first shell of a login makes its profile. WinRM allows no more."""
ANSWER_GRACE_SECONDS: Final = 15.0
"""How much longer than that an answer may take to arrive."""
_CODE_PAGE_UTF8: Final = 65001
_INVALID_ANSWERS: Final = (
    ParseError, LookupError, ValueError, TypeError, AttributeError, AssertionError, StopIteration, RuntimeError,
    binascii.Error, struct.error,
)  # fmt: skip
"""What pywinrm raises if an answer is not what it expects."""
_BROKEN: Final = (
    AnswerTooLong, LineBroken, requests.RequestException, urllib3.exceptions.HTTPError, OSError,
    spnego.exceptions.SpnegoError, WinRMError,
)  # fmt: skip

_LOGIN_LIBRARIES: Final = ("requests_credssp", "winrm.vendor.requests_kerberos")
"""The packages whose errors say why a login failed. They are optional, so their types can't be named here."""
_MESSAGE_ID: Final = re.compile(rb"MessageID[^>]*>\s*uuid:([0-9A-Fa-f-]{36})")
_RELATES_TO: Final = re.compile(rb"RelatesTo[^>]*>\s*uuid:([0-9A-Fa-f-]{36})")

_Result = TypeVar("_Result")


class NoOutputYet(Exception):
    """The command runs and has said nothing since the last question."""


class MessageLost(Exception):
    """There is no answer that can be used, and the connection is of no use any more.

    Attributes:
        status: the HTTP status of the answer; 0 without one.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class WinrmLoginRefused(Exception):
    """Status 401, or the library of the login gave up.

    Attributes:
        offered: the header WWW-Authenticate.
        reason: what the library says; "" for status 401.
    """

    def __init__(self, offered: str, reason: str = "") -> None:
        super().__init__(reason or offered)
        self.offered = offered
        self.reason = reason


class _LineTransport(Transport):
    """pywinrm's transport on one HttpLine."""

    def __init__(self, line: HttpLine, base: Transport) -> None:
        self.__dict__.update(base.__dict__)
        self._line = line
        self._message_id = b""
        self._is_prepared = False
        self._is_https = self.endpoint.startswith("https://")
        self.timeouts = (CONNECT_TIMEOUT_SECONDS, OPERATION_SECONDS + ANSWER_GRACE_SECONDS)

    def build_session(self) -> requests.Session:
        if self.session is None:
            self._prepare(super().build_session())
        return cast("requests.Session", self.session)

    def setup_encryption(self, session: requests.Session) -> None:
        self._prepare(session)
        super().setup_encryption(session)

    def send_message(self, message: str | bytes) -> bytes:
        self.build_session()
        if not self._is_https and self.encryption is None:
            raise LineBroken("the login did not end in encryption")  # pywinrm would go on in the clear
        sent = message.encode() if isinstance(message, str) else message
        self._message_id = _find_first(_MESSAGE_ID, sent)
        return bytes(super().send_message(sent))

    def _prepare(self, session: requests.Session) -> None:
        session.trust_env = False
        session.proxies = {}
        session.adapters.clear()
        session.mount(self.endpoint, self._line)
        session.headers["Accept-Encoding"] = "identity"
        if self.auth_method == "kerberos" and not self._is_prepared:
            allow_one_login(session.auth, is_https=self._is_https)
        self._is_prepared = True

    def _send_message_request(
        self, session: requests.Session, prepared_request: requests.PreparedRequest
    ) -> requests.Response:
        response = session.send(prepared_request, timeout=self.timeouts, allow_redirects=False)
        status = response.status_code
        if status == 401:
            raise WinrmLoginRefused(response.headers.get("WWW-Authenticate", ""))
        if 200 <= status < 300:
            return response
        text = self._get_message_response_text(response) if response.content else b""
        raise WinRMTransportError("http", status, text.decode("utf-8", "replace"))

    def _get_message_response_text(self, response: requests.Response) -> bytes:
        if self.encryption is not None and "encrypted" not in response.headers.get("Content-Type", ""):
            raise MessageLost(
                f"an answer is not encrypted (HTTP status {response.status_code})", status=response.status_code
            )
        text = bytes(super()._get_message_response_text(response))
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise MessageLost("an answer has a document type, which WS-Management forbids")
        if _find_first(_RELATES_TO, text) != self._message_id:  # pywinrm takes any answer to some requests
            raise MessageLost("an answer is no WS-Management, or belongs to another request")
        return text


class WsmanClient:
    """One logged-in connection. Used by one thread. ``protocol`` is pywinrm's, not connected yet."""

    def __init__(self, protocol: Protocol, line: HttpLine) -> None:
        self._line = line
        self._protocol = protocol
        self._transport = _LineTransport(line, protocol.transport)
        self._protocol.transport = self._transport

    @property
    def credentials_sent(self) -> int:
        """How many requests had a part of a login."""
        return self._line.credentials_sent

    def log_in(self, seconds: float) -> None:
        """Log in, if the messages are encrypted; else the first request does it.

        Raises:
            WinrmLoginRefused, MessageLost, KerberosFailed: it failed.
        """
        self._ask(self._transport.build_session, seconds)
        self._line.is_logged_in = self._transport.encryption is not None

    def open_shell(self, seconds: float) -> str:
        """Return the id of a new shell."""
        return str(self._ask(lambda: self._protocol.open_shell(codepage=_CODE_PAGE_UTF8), seconds))

    def start_command(self, shell_id: str, command_line: str, seconds: float) -> str:
        """Return the id of a command that has begun, and waits for its input."""
        return str(
            self._ask(lambda: self._protocol.run_command(shell_id, command_line, console_mode_stdin=False), seconds)
        )

    def send_input(self, shell_id: str, command_id: str, data: bytes, *, end: bool, seconds: float) -> None:
        """Send input to a command."""
        self._ask(lambda: self._protocol.send_command_input(shell_id, command_id, data, end=end), seconds)

    def receive(self, shell_id: str, command_id: str, seconds: float) -> tuple[bytes, bytes, int | None]:
        """Return the next output (stdout, stderr), and the exit code if the command has ended.

        Raises:
            NoOutputYet: there is none yet.
        """
        try:
            stdout, stderr, exit_code, is_done = self._ask(
                lambda: self._protocol.get_command_output_raw(shell_id, command_id),
                seconds,
                most_seconds=OPERATION_SECONDS,
            )
        except WsmanFault as fault:
            if fault.code == TIMED_OUT:
                raise NoOutputYet from None
            raise
        return stdout, stderr, exit_code if is_done else None

    def end_command(self, shell_id: str, command_id: str, seconds: float) -> None:
        """Let the machine forget a command; if it still runs, it is ended."""
        self._ask(lambda: self._protocol.cleanup_command(shell_id, command_id), seconds)

    def delete_shell(self, shell_id: str, seconds: float) -> None:
        """Delete a shell, and end what runs in it."""
        self._ask(lambda: self._protocol.close_shell(shell_id, close_session=False), seconds)

    def close(self) -> None:
        """Close the connection. Shells stay."""
        self._line.close()

    def _ask(
        self, request: Callable[[], _Result], seconds: float, *, most_seconds: int = SLOW_OPERATION_SECONDS
    ) -> _Result:
        """Send one request.

        Raises:
            WinrmLoginRefused, KerberosFailed: see there.
            WsmanFault: the machine answered with a fault.
            MessageLost: there is no usable answer.
        """
        operation_seconds = max(1, min(most_seconds, int(seconds - 0.5)))
        self._protocol.operation_timeout_sec = operation_seconds
        self._transport.timeouts = (
            min(CONNECT_TIMEOUT_SECONDS, max(0.1, seconds)),
            operation_seconds + ANSWER_GRACE_SECONDS,
        )
        try:
            with self._line.limit_time(seconds):
                result = request()
        except WinRMOperationTimeoutError:
            self._line.is_logged_in = True
            raise WsmanFault(TIMED_OUT, "nothing in the time of the operation") from None
        except WSManFaultError as error:
            self._line.is_logged_in = True
            code = error.wsman_fault_code or error.wmierror_code or 0
            raise WsmanFault(int(code) & 0xFFFFFFFF, str(error.reason or "")) from None
        except WinRMTransportError as error:
            raise MessageLost(f"HTTP status {error.code} without a fault", status=int(error.code)) from error
        except (WinrmLoginRefused, MessageLost, KerberosFailed):
            raise
        except Exception as error:
            if not self._line.is_logged_in and type(error).__module__.startswith(_LOGIN_LIBRARIES):
                raise WinrmLoginRefused("", _describe_error(error)) from error
            if is_kerberos_error(error):
                raise MessageLost(describe_kerberos_error(error)[0]) from error
            if isinstance(error, _BROKEN):
                raise MessageLost(_describe_error(error)) from error
            if isinstance(error, _INVALID_ANSWERS):
                text = f"an answer is no WS-Management: {type(error).__name__}: {error}"
                raise MessageLost(text[:300]) from error
            raise
        self._line.is_logged_in = True
        return result


def _find_first(pattern: re.Pattern[bytes], text: bytes) -> bytes:
    match = pattern.search(text)
    return match[1].lower() if match else b""


def _describe_error(error: BaseException) -> str:
    """Return the innermost reason of an error: requests and urllib3 wrap it several times."""
    visited: set[int] = set()
    while id(error) not in visited:
        visited.add(id(error))
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
        error = inner if isinstance(inner, BaseException) else error
    return str(error) or type(error).__name__
