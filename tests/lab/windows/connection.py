"""One connection to a host: TLS, logins, encryption, and the faults that meet it."""

import contextlib
import hashlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from cryptography import x509
from spnego.channel_bindings import GssChannelBindings

from tests.lab.windows import mishaps
from tests.lab.windows.accounts import Accounts, Logon
from tests.lab.windows.authentication import Authenticator, Method
from tests.lab.windows.fault_schedule import Fault, Schedule, What
from tests.lab.windows.http_messages import BadRequest, Request, Response, read_request
from tests.lab.windows.messages import Message, parse
from tests.lab.windows.ports import end
from tests.lab.windows.sealing import BadSeal, seal, unseal
from tests.lab.windows.service import MAX_ENVELOPE, Reply, Service
from tests.lab.windows.shells import ClientGone
from tests.lab.windows.wsman_faults import WSManFault, too_large

_HANDSHAKE_SECONDS = 60.0


@dataclass
class Settings:
    """What all connections to a host have in common; may be changed while it runs.

    Attributes:
        offered: the kinds of login, by port.
        allow_unencrypted: whether messages in the clear are taken over HTTP.
        in_the_clear: how many messages came in the clear over HTTP, with a login: anybody could have read them.
        strict_bindings: whether NTLM over HTTPS must be bound to the certificate.
        tls: how HTTPS is spoken.
    """

    accounts: Accounts
    service: Service
    schedule: Schedule
    offered: dict[str, frozenset[Method]]
    tls: ssl.SSLContext
    certificate: Callable[[], bytes]
    happen: Callable[[Fault], None]
    allow_unencrypted: bool = False
    in_the_clear: int = 0
    strict_bindings: bool = False


class Connection:
    """Serves one connection, in its own thread."""

    def __init__(self, settings: Settings, connection: socket.socket, scheme: str) -> None:
        self._settings = settings
        self._socket = connection
        self._scheme = scheme
        self.ended = threading.Event()
        self._login: Authenticator | None = None

    def end(self, *, reset: bool) -> None:
        """Have it end, whatever it does; from any thread."""
        self.ended.set()
        end(self._socket, reset=reset)

    def serve(self) -> None:
        """Answer until one side has enough."""
        try:
            with contextlib.suppress(OSError, ClientGone, mishaps.Dropped):
                self._serve()
        finally:
            self.ended.set()
            self._socket.close()

    def _serve(self) -> None:
        fault = self._settings.schedule.next("connect")
        if fault is not None:
            self._settings.happen(fault)
            mishaps.at_connect(fault, self)
        if self._scheme == "https":
            self._socket.settimeout(_HANDSHAKE_SECONDS)
            tls = self._settings.tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._socket = tls
            if self.ended.is_set():  # end() may have met the socket that this one took the place of
                return
            tls.do_handshake()
            tls.settimeout(None)
        self._login = self._new_login()
        with self._socket.makefile("rb") as stream:
            while not self.ended.is_set() and self._serve_one(cast("BinaryIO", stream)):
                pass

    def _new_login(self) -> Authenticator:
        certificate, bindings = None, None
        if isinstance(self._socket, ssl.SSLSocket):
            certificate = self._socket.getpeercert(binary_form=True)
            if self._settings.strict_bindings:
                bindings = channel_bindings(self._settings.certificate())
        offered = self._settings.offered[self._scheme]
        return Authenticator(self._settings.accounts, offered, client_certificate=certificate, bindings=bindings)

    def _serve_one(self, stream: BinaryIO) -> bool:
        """Answer the next request; False: that was the last."""
        try:
            request = read_request(stream)
        except BadRequest:
            self.send(Response(400, close=True))
            return False
        if request is None:
            return False
        response = self._answer(request)
        self.send(response)
        return not (response.close or response.hang_up) and request.headers.get("connection", "").lower() != "close"

    def wait_ended(self, seconds: float | None) -> bool:
        """Wait until somebody ends it."""
        return self.ended.wait(seconds)

    def wait_gone(self) -> None:
        """Wait until one side has enough."""
        while not self.ended.wait(0.1) and not self.gone():
            pass

    def send(self, response: Response) -> None:
        """Send an answer, unless the connection was ended: what was found out after that is nobody's to know."""
        if self.ended.is_set():
            raise mishaps.Dropped
        self._socket.sendall(response.encoded())

    def send_half(self, response: Response) -> None:
        whole = response.encoded()
        self._socket.sendall(whole[: len(whole) // 2])

    def send_slowly(self, response: Response, seconds: float) -> None:
        """Send an answer byte by byte."""
        for byte in response.encoded():
            if self.ended.wait(seconds):
                return
            self._socket.sendall(bytes([byte]))

    def send_for_ever(self, response: Response) -> None:
        """Send an answer, and go on until the client has enough."""
        end_of_header = b"\r\n\r\n"
        header, _, start = response.encoded().partition(end_of_header)
        lines = [line for line in header.split(b"\r\n") if not line.startswith(b"Content-Length")]
        self._socket.sendall(b"\r\n".join(lines) + end_of_header + start)
        while not self.ended.is_set():
            self._socket.sendall(b" " * 65536)

    def gone(self) -> bool:
        """Whether nobody waits for an answer: while one is due, a client sends nothing but its goodbye."""
        if self.ended.is_set():
            return True
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
        except ValueError:
            return True
        return bool(poll.poll(0))

    def _answer(self, request: Request) -> Response:
        path = request.path.partition("?")[0].rstrip("/").lower()
        if path == "/wsman-anon/identify":
            return Response(*self._settings.service.identify(known=False))
        if path != "/wsman":
            return Response(404)
        if request.method != "POST":
            return Response(405)
        if request.headers.get("wsmanidentify", "").lower() == "unauthenticated":
            return Response(*self._settings.service.identify(known=False))
        return self._answer_known(request)

    def _answer_known(self, request: Request) -> Response:
        assert self._login is not None
        verdict = self._login.judge(request)
        if verdict.logon is None:
            return Response(401, headers=verdict.headers)
        if not request.body:
            return Response(200, headers=verdict.headers)
        if not request.encrypted and self._scheme == "http":
            self._settings.in_the_clear += 1
            if not self._settings.allow_unencrypted:
                return Response(500, headers=verdict.headers)
        response = self._answer_message(request, verdict.logon)
        return replace(response, headers=(*verdict.headers, *response.headers))

    def _answer_message(self, request: Request, logon: Logon) -> Response:
        try:
            envelope = self._opened(request)
        except BadSeal:
            # A real one cannot tell an attack from a confused client: it says nothing more on this connection.
            raise mishaps.Dropped from None
        if len(envelope) > MAX_ENVELOPE:
            return self._closed(request, self._settings.service.fault(too_large(), ""))
        try:
            message = parse(envelope)
        except WSManFault as wrong:
            return self._closed(request, self._settings.service.fault(wrong, ""))
        fault = self._settings.schedule.next(message.operation)
        if fault is None:
            return self._closed(request, self._settings.service.answer(message, logon, self))
        return self._answer_wrongly(request, message, logon, fault)

    def _answer_wrongly(self, request: Request, message: Message, logon: Logon, fault: Fault) -> Response:
        """Have a scheduled fault happen, before or after the operation takes effect."""
        assert self._login is not None
        reply: Reply | None = None
        if fault.acts or fault.what in mishaps.KEEP_THE_ANSWER:
            reply = self._settings.service.answer(message, logon, self)
        self._settings.happen(fault)
        if fault.what is What.UNAUTHORISED:
            self._login.forget()
        mishap = mishaps.Mishap(fault, message, self._settings.service)
        reply = mishap.reply(reply)
        challenge = self._login.challenge.headers
        response = self._closed(request, reply) if reply is not None else mishap.response(challenge)
        return mishap.send(self, response)

    def _opened(self, request: Request) -> bytes:
        if not request.encrypted:
            return request.body
        assert self._login is not None
        if self._login.sealing is None:
            raise BadSeal("nobody is logged in on this connection")
        return unseal(self._login.sealing, request.body)

    def _closed(self, request: Request, reply: Reply) -> Response:
        """A reply as it goes out: encrypted, when the request was."""
        status, body = reply
        assert self._login is not None
        if not request.encrypted or self._login.sealing is None:
            return Response(status, body)
        content_type, sealed = seal(self._login.sealing, self._login.method, body)
        return Response(status, sealed, content_type=content_type)


def channel_bindings(certificate: bytes) -> GssChannelBindings:
    """What binds a login to the TLS connection it is made over (RFC 5929, tls-server-end-point)."""
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    name = algorithm.name if algorithm and algorithm.name not in {"md5", "sha1"} else "sha256"
    return GssChannelBindings(application_data=b"tls-server-end-point:" + hashlib.new(name, certificate).digest())
