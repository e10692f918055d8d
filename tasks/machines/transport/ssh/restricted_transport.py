"""paramiko's Transport for many threads, with the allowed algorithms only.

It separates the threads' errors, counts sent credentials, and checks the server. The algorithms are listed here because
paramiko's defaults still have 3des-cbc, MD5 and SHA-1.
"""

import threading
import time
from typing import Any, Final

import paramiko
from paramiko.common import MSG_USERAUTH_INFO_RESPONSE, MSG_USERAUTH_REQUEST, cMSG_CHANNEL_CLOSE, cMSG_GLOBAL_REQUEST
from paramiko.message import Message

SERVER_ANSWER_SECONDS: Final = 5.0
"""A server that is up answers a request within this time, also under load."""
_MAX_MESSAGE_CHARACTERS: Final = 200  # the part of a server's message that is kept


class ChannelTimeout(Exception):
    """A channel did not open in time. The server answers, or had too little time to show that it does."""


class ThreadSafeTransport(paramiko.Transport):
    """A paramiko Transport for many threads at once.

    paramiko stores the reason of a refused channel in one place for all threads. So one thread takes the reason of
    another, and a thread that finds none treats the connection as dead. A channel that does not open in time looks the
    same.
    """

    credentials_sent: int = 0  # how often a credential was sent; a request for the accepted methods does not count
    disconnect_message: str = ""  # the server's message when it ended the connection

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(*arguments, **options)
        self._thread_state = threading.local()
        self._channel_refusals: dict[int, paramiko.ChannelException] = {}
        self._last_answer_at = 0.0

    @property
    def login_banner(self) -> str:
        """The server's last message before or at the login: its banner, or why logins are refused."""
        banner = getattr(self.auth_handler, "banner", None) or b""
        text = banner.decode("utf-8", "replace") if isinstance(banner, bytes) else str(banner)
        return " ".join(text.replace("\x00", "").split())[-_MAX_MESSAGE_CHARACTERS:]

    def open_tunnel(self, address: str, port: int, seconds: float) -> paramiko.Channel:
        """Open a channel to an address behind the server.

        At the same time, the server gets a request that it must answer: the address may be down although the server is
        up.

        Raises:
            paramiko.ChannelException: the server refused, or got no connection.
            ChannelTimeout: the address did not answer in that time, and nothing shows that the server is down.
            paramiko.SSHException, EOFError, OSError: the server is down; the connection is closed.
        """
        asked_at = time.monotonic()
        question = Message()
        question.add_byte(cMSG_GLOBAL_REQUEST)
        question.add_string("keepalive@openssh.com")
        question.add_boolean(True)  # noqa: FBT003 - the library's own
        self._send_user_message(question)  # type: ignore[attr-defined]  # the stubs know nothing private
        try:
            return self.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=seconds)
        except paramiko.ChannelException:
            raise
        except paramiko.SSHException as error:
            if not self.is_active():
                raise
            if self._last_answer_at < asked_at and seconds >= SERVER_ANSWER_SECONDS:
                self.close()
                raise paramiko.SSHException(f"it answers nothing since {seconds:.0f} s") from error
            raise ChannelTimeout(f"no answer in {seconds:.0f} s") from error

    def open_channel(self, *arguments: Any, **options: Any) -> paramiko.Channel:  # noqa: ANN401 - the library's own
        """Open a channel. A refusal is raised in its own thread, and a channel that opens too late is closed."""
        try:
            return super().open_channel(*arguments, **options)
        except paramiko.SSHException as error:
            number = getattr(self._thread_state, "number", -1)
            with self.lock:
                self.channel_events.pop(number, None)
                refusal = self._channel_refusals.pop(number, None)
            self._channels.delete(number)  # type: ignore[attr-defined]  # the stubs know nothing private
            if refusal is not None:
                raise refusal from error
            raise

    def _next_channel(self) -> int:
        number: int = super()._next_channel()  # type: ignore[misc]  # the stubs know nothing private
        self._thread_state.number = number
        return number

    def _parse_request_success(self, message: Message) -> None:
        self._last_answer_at = time.monotonic()
        super()._parse_request_success(message)  # type: ignore[misc]  # the stubs know nothing private

    def _parse_request_failure(self, message: Message) -> None:
        self._last_answer_at = time.monotonic()
        super()._parse_request_failure(message)  # type: ignore[misc]  # the stubs know nothing private

    def _parse_channel_open_success(self, message: Message) -> None:
        number, server_number = message.get_int(), message.get_int()
        if self._channels.get(number) is None:  # type: ignore[attr-defined]  # nothing waits for it any more
            close = Message()
            close.add_byte(cMSG_CHANNEL_CLOSE)
            close.add_int(server_number)
            self._send_message(close)
            return
        message.rewind()
        super()._parse_channel_open_success(message)  # type: ignore[misc]  # the stubs know nothing private

    def _parse_channel_open_failure(self, message: Message) -> None:
        number, reason, text = message.get_int(), message.get_int(), message.get_text()
        reason_text = paramiko.common.CONNECTION_FAILED_CODE.get(reason, f"reason {reason}")
        with self.lock:
            waiting = self.channel_events.pop(number, None)
            if waiting is not None:
                self._channel_refusals[number] = paramiko.ChannelException(
                    reason, f"{reason_text}: {text}" if text else reason_text
                )
        self._channels.delete(number)  # type: ignore[attr-defined]  # the stubs know nothing private
        if waiting is not None:
            waiting.set()

    def _parse_disconnect(self, message: Message) -> None:
        message.get_int()
        self.disconnect_message = " ".join(message.get_text().split())[:_MAX_MESSAGE_CHARACTERS]

    def _send_message(self, message: Message) -> None:
        if not self.is_authenticated():
            sent = Message(message.asbytes())
            kind = sent.get_byte()[0]
            if kind == MSG_USERAUTH_INFO_RESPONSE:
                self.credentials_sent += sent.get_int() > 0
            elif kind == MSG_USERAUTH_REQUEST:
                _user, _service, method = sent.get_text(), sent.get_text(), sent.get_text()
                self.credentials_sent += method in {"password", "publickey"}
        super()._send_message(message)  # type: ignore[misc]  # the stubs know nothing private


CERTIFICATE_SUFFIX: Final = "-cert-v01@openssh.com"
HOST_KEY_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
HOST_CERTIFICATE_ALGORITHMS: Final = tuple(name + CERTIFICATE_SUFFIX for name in HOST_KEY_ALGORITHMS)

_CURVE25519_LIBSSH: Final = "curve25519-sha256@libssh.org"
_CURVE25519: Final = "curve25519-sha256"  # its name in RFC 8731; some hosts offer only this one
_KEX_ALGORITHMS: Final = (
    "mlkem768x25519-sha256",
    _CURVE25519,
    _CURVE25519_LIBSSH,
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
_LEGACY_KEX_ALGORITHMS: Final = (
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group-exchange-sha256",
)
# there is no public way to add a name
_KEX_CLASSES: Final[dict[str, type]] = dict(paramiko.Transport._kex_info)  # type: ignore[attr-defined]  # noqa: SLF001
_KEX_CLASSES[_CURVE25519] = _KEX_CLASSES[_CURVE25519_LIBSSH]


class RestrictedTransport(ThreadSafeTransport):
    """A Transport that uses only these algorithms, and stores the exact bytes of the host's key.

    host_key_verifier.py decides whether that key is trusted. This class checks that the host has the private key, and
    that it does not show another key at a rekey.
    """

    _kex_info = _KEX_CLASSES
    _preferred_kex = tuple(name for name in _KEX_ALGORITHMS if name in _KEX_CLASSES)
    _preferred_ciphers = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
    _preferred_macs = (
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-512",
    )
    _preferred_keys = HOST_KEY_ALGORITHMS

    host_key_blob: bytes = b""

    def set_offered_algorithms(self, host_keys: tuple[str, ...], *, legacy: bool) -> None:
        """Set the wanted types of host key, best first, and whether old Diffie-Hellman groups are allowed.

        Raises:
            ValueError: none of the types of host key is known.
        """
        self.get_security_options().key_types = host_keys
        if legacy:
            self.get_security_options().kex = (*self._preferred_kex, *_LEGACY_KEX_ALGORITHMS)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The types of host key that are offered. paramiko's own property always adds certificates."""
        return tuple(self._preferred_keys)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        if self.host_key_blob and self.host_key_blob != host_key:
            raise paramiko.SSHException("the host showed another key when keys were exchanged again")
        plain = parse_host_public_key(host_key)
        # H is the hash that both sides made of the exchange. A signature over it proves that the host has the key.
        if self.H is None or not plain.verify_ssh_sig(self.H, Message(sig)):
            raise paramiko.SSHException(f"the host's signature with its {plain.get_name()} key is wrong")
        self.host_key_blob = host_key
        self.host_key = plain


def parse_host_public_key(blob: bytes) -> paramiko.PKey:
    """Return the public key in a host key's or a host certificate's blob.

    Raises:
        paramiko.SSHException: its type is not known.
    """
    message = Message(blob)
    name = message.get_text()
    if not name.endswith(CERTIFICATE_SUFFIX):
        return paramiko.PKey.from_type_string(name, blob)
    kind = name.removesuffix(CERTIFICATE_SUFFIX)
    message.get_binary()  # the nonce; then come the fields of the plain key
    fields = {"ssh-ed25519": 1, "ssh-rsa": 2}.get(kind, 2)  # ECDSA: the curve's name, and the point
    plain = Message()
    plain.add_string(kind)
    for _ in range(fields):
        plain.add_string(message.get_binary())
    return paramiko.PKey.from_type_string(kind, plain.asbytes())
