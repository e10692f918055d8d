"""What paramiko's Transport keeps to itself or mixes up: who was refused what, what was sent, and who is there."""

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
"""A server that is there answers a question within this time, however busy it is."""
_MAX_MESSAGE_CHARACTERS: Final = 200  # characters of what a server said that are kept


class ChannelTimeout(Exception):
    """A channel did not open in time. Its server is there, or was not given the time to show that."""


class ThreadSafeTransport(paramiko.Transport):
    """A paramiko Transport for many threads at once.

    The library keeps the reason of a refused channel in one place for all threads, so that one takes another's, and
    who finds none believes that the connection is dead. It takes a channel that did not open in time for the same.

    Attributes:
        credentials_sent: how often a credential was sent; to ask which kinds are taken counts for nothing.
        disconnect_message: what the server said when it ended the connection.
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
        """The last of what the server said before or at the login, for people: its banner, or why nobody gets in."""
        banner = getattr(self.auth_handler, "banner", None) or b""
        text = banner.decode("utf-8", "replace") if isinstance(banner, bytes) else str(banner)
        return " ".join(text.replace("\x00", "").split())[-_MAX_MESSAGE_CHARACTERS:]

    def open_tunnel(self, address: str, port: int, seconds: float) -> paramiko.Channel:
        """Open a channel to an address behind the server.

        The server is asked for a sign of life at the same time: what lies behind it may be off, and it is not.

        Raises:
            paramiko.ChannelException: the server refused, or got no connection.
            ChannelTimeout: the address did not answer in that time, and nothing says that the server is gone.
            paramiko.SSHException, EOFError, OSError: the server is gone; the connection is closed.
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
        """Open a channel. A refusal is this channel's own, and one that opens too late is closed again."""
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
        """Ask what no server knows: each has to say so, and none needs time for it."""
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
        if self._channels.get(number) is None:  # type: ignore[attr-defined]  # nobody waits for it any more
            close = Message()
            close.add_byte(cMSG_CHANNEL_CLOSE)
            close.add_int(theirs)
            self._send_message(close)
            return
        message.rewind()
        super()._parse_channel_open_success(message)  # type: ignore[misc]  # the stubs know nothing private

    def _parse_channel_open_failure(self, message: Message) -> None:
        number, reason, text = message.get_int(), message.get_int(), message.get_text()
        known = paramiko.common.CONNECTION_FAILED_CODE.get(reason, f"reason {reason}")
        with self.lock:
            waiting = self.channel_events.pop(number, None)
            if waiting is not None:
                self._channel_refusals[number] = paramiko.ChannelException(
                    reason, f"{known}: {text}" if text else known
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
