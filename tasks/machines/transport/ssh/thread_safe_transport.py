"""A paramiko Transport for many threads: it separates their errors, counts sent credentials, and checks the server."""

import threading
import time
from typing import Any, Final

import paramiko
from paramiko.common import (
    MSG_USERAUTH_INFO_RESPONSE,
    MSG_USERAUTH_REQUEST,
    cMSG_CHANNEL_CLOSE,
    cMSG_GLOBAL_REQUEST,
)
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

    Attributes:
        credentials_sent: how often a credential was sent; a request for the accepted methods does not count.
        disconnect_message: the server's message when it ended the connection.
    """

    credentials_sent: int = 0
    disconnect_message: str = ""

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
        self._request_sign_of_life()
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

    def _request_sign_of_life(self) -> None:
        """Send a request that no server knows: each server must answer it, and at once."""
        question = Message()
        question.add_byte(cMSG_GLOBAL_REQUEST)
        question.add_string("keepalive@openssh.com")
        question.add_boolean(True)  # noqa: FBT003 - the library's own
        self._send_user_message(question)  # type: ignore[attr-defined]  # the stubs know nothing private

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
        number, theirs = message.get_int(), message.get_int()
        if self._channels.get(number) is None:  # type: ignore[attr-defined]  # nothing waits for it any more
            close = Message()
            close.add_byte(cMSG_CHANNEL_CLOSE)
            close.add_int(theirs)
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
            self._count_credentials(message)
        super()._send_message(message)  # type: ignore[misc]  # the stubs know nothing private

    def _count_credentials(self, message: Message) -> None:
        sent = Message(message.asbytes())
        kind = sent.get_byte()[0]
        if kind == MSG_USERAUTH_INFO_RESPONSE:
            self.credentials_sent += sent.get_int() > 0
        elif kind == MSG_USERAUTH_REQUEST:
            _user, _service, method = sent.get_text(), sent.get_text(), sent.get_text()
            self.credentials_sent += method in {"password", "publickey"}
