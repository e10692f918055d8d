"""A small SSH server on the loopback network, made of paramiko's server side; each fault is a switch."""

import base64
import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    load_ssh_public_identity,
)
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
)
from paramiko.server import InteractiveQuery

PASSWORD = "right"


def new_key(path: Path) -> paramiko.PKey:
    """Write a new private key of mode 0600, and return it."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return paramiko.PKey.from_path(path)


@dataclass
class Server:
    """What answers at a port.

    Attributes:
        drops: connections that are closed before the greeting.
        silent: whether it accepts and then says nothing.
        silent_after: "greeting" or "keys": what it still does before it says nothing more.
        deaf: whether it never answers a request to run something.
        cuts: whether the line is cut once a command runs.
        cuts_logins: whether the line is cut instead of an answer to a credential.
        refuses: whether it refuses every password.
        banner: what it says before a login.
        takes: the kinds of credential that it takes.
        takes_authority: the public key of an authority whose certificates it takes for their principals.
        asks: what it asks by keyboard-interactive, one after the other; the first answer has to be the password.
        tries: refused credentials after which it ends the line; 0: as many as one likes.
        slow: seconds until a machine behind it answers, by port; None: it never does.
        prohibited: ports behind it that nobody may go to.
        frozen: whether it answers nothing any more, and keeps its lines.
        logins: every credential that was shown.
        answers: what it was answered by keyboard-interactive.
        tunnels: ports that it was asked to go to.
    """

    host_key: paramiko.PKey
    user_key: paramiko.PKey | None = None
    drops: int = 0
    silent: bool = False
    silent_after: str = ""
    deaf: bool = False
    cuts: int = 0
    cuts_logins: bool = False
    second_factor: bool = False
    refuses: bool = False
    banner: str = ""
    takes: str = "publickey,password"
    takes_authority: str = ""
    asks: tuple[str, ...] = ("Password: ",)
    tries: int = 0
    slow: dict[int, float | None] = field(default_factory=dict)
    prohibited: set[int] = field(default_factory=set)
    frozen: bool = False
    logins: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    tunnels: list[int] = field(default_factory=list)
    accepted: int = 0
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[paramiko.Transport | socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # closing alone leaves it listening while accept waits
        self._socket.close()
        self.cut()

    def cut(self) -> None:
        """Cut all lines."""
        for line in self._open:
            with contextlib.suppress(Exception):
                line.close()
        self._open.clear()

    def freeze_lines(self) -> None:
        """Answer nothing any more on the present lines, as if it had been started anew, and keep them."""
        for line in self._open:
            if isinstance(line, _Transport):
                line.is_frozen = True

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            if self.drops > 0:
                self.drops -= 1
                line.close()
            elif self.silent:
                self._open.append(line)
            elif self.silent_after == "greeting":
                line.sendall(b"SSH-2.0-Silent\r\n")
                self._open.append(line)
            else:
                transport = _Transport(line, self)
                transport.add_server_key(self.host_key)
                self._open.append(transport)
                with contextlib.suppress(Exception):
                    transport.start_server(event=threading.Event(), server=_Behaviour(self, transport))


class _Transport(paramiko.Transport):
    """The library's server opens channels one after the other; a real one waits for a slow one in the background."""

    def __init__(self, line: socket.socket, server: Server) -> None:
        super().__init__(line)
        self._server = server
        self.is_frozen = False

    def _parse_channel_open(self, m):
        kind, _, _, _ = m.get_text(), m.get_int(), m.get_int(), m.get_int()
        port = (m.get_text(), m.get_int())[1] if kind == "direct-tcpip" else 0
        m.rewind()
        if self.is_frozen or self._server.frozen:
            return
        if port:
            self._server.tunnels.append(port)
        if port not in self._server.slow:
            super()._parse_channel_open(m)  # type: ignore[misc]  # the stubs know nothing private
        elif (seconds := self._server.slow[port]) is not None:
            threading.Timer(seconds, super()._parse_channel_open, (m,)).start()  # type: ignore[misc]

    def _parse_global_request(self, m):
        if not (self.is_frozen or self._server.frozen):
            super()._parse_global_request(m)  # type: ignore[misc]


class _Behaviour(paramiko.ServerInterface):
    def __init__(self, server: Server, transport: paramiko.Transport) -> None:
        self._server = server
        self._transport = transport
        self._refused = 0
        self._to_ask: list[str] = []
        self._lines: dict[int, socket.socket] = {}

    def get_allowed_auths(self, username):
        if self._server.silent_after == "keys":
            threading.Event().wait(5)
        return self._server.takes

    def get_banner(self):
        return self._server.banner or None, "en-US"

    def check_auth_publickey(self, username, key):
        if self._server.takes_authority and key.public_blob is not None:
            self._server.logins.append(key.public_blob.key_type)
            return self._judged(AUTH_SUCCESSFUL if self._is_signed(username, key) else AUTH_FAILED)
        self._server.logins.append(key.get_name())
        if key != self._server.user_key or "publickey" not in self._server.takes:
            return self._judged(AUTH_FAILED)
        return self._judged(AUTH_PARTIALLY_SUCCESSFUL if self._server.second_factor else AUTH_SUCCESSFUL)

    def _is_signed(self, username, key):
        blob = base64.b64encode(key.public_blob.key_blob)
        certificate = load_ssh_public_identity(b" ".join((key.public_blob.key_type.encode(), blob)))
        assert isinstance(certificate, SSHCertificate)
        certificate.verify_cert_signature()
        authority = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        names = certificate.valid_principals
        return authority.split()[:2] == self._server.takes_authority.split()[:2] and username.encode() in names

    def check_auth_password(self, username, password):
        self._server.logins.append("password")
        good = password == PASSWORD and "password" in self._server.takes and not self._server.refuses
        return self._judged(AUTH_SUCCESSFUL if good else AUTH_FAILED)

    def check_auth_interactive(self, username, submethods):
        self._to_ask = list(self._server.asks)
        return self._question()

    def check_auth_interactive_response(self, responses):
        self._server.answers += responses
        if not self._to_ask:
            return self._judged(AUTH_SUCCESSFUL if responses == [PASSWORD] else AUTH_FAILED)
        return self._question()

    def _question(self):
        query = InteractiveQuery()
        query.add_prompt(self._to_ask.pop(0), echo=False)
        return query

    def _judged(self, verdict):
        """Return the verdict; or end the line instead, as sshd does after MaxAuthTries."""
        self._refused += verdict == AUTH_FAILED
        if self._server.cuts_logins:
            self._transport.close()
        elif verdict == AUTH_FAILED and self._refused == self._server.tries:
            goodbye = paramiko.Message()
            goodbye.add_byte(paramiko.common.cMSG_DISCONNECT)
            goodbye.add_int(2)
            goodbye.add_string("Too many authentication failures")
            goodbye.add_string("")
            self._transport._send_message(goodbye)  # type: ignore[attr-defined]
            self._transport.close()
        return verdict

    def check_channel_request(self, kind, chanid):
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, chanid, origin, destination):
        if destination[1] in self._server.prohibited:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            line = socket.create_connection(destination, timeout=30)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        line.settimeout(None)  # a tunnel through which nothing goes for a while stays
        self._lines[chanid] = line
        threading.Thread(target=_forward, args=(self._transport, self._lines), daemon=True).start()
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        self._server.commands.append(command.decode())
        if self._server.deaf:
            threading.Event().wait(5)
        if self._server.cuts > 0:
            self._server.cuts -= 1
            threading.Timer(0.05, _hang_up, (self._transport,)).start()
            return True
        threading.Thread(target=_run, args=(channel, command.decode()), daemon=True).start()
        return True


def _hang_up(transport: paramiko.Transport) -> None:
    with contextlib.suppress(EOFError):  # the client was quicker
        transport.close()


def _run(channel: paramiko.Channel, command: str) -> None:
    """Run a command as a real server does: what it gets and says goes through at once."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(["/bin/sh", "-c", command], bufsize=0, **pipes) as child:  # type: ignore[call-overload]

        def give() -> None:
            with contextlib.suppress(Exception):
                while data := channel.recv(65_536):
                    child.stdin.write(data)
            child.stdin.close()

        def take(stream: IO[bytes], send: Callable[[bytes], object]) -> None:
            with contextlib.suppress(Exception):
                while data := os.read(stream.fileno(), 65_536):
                    send(data)

        threading.Thread(target=give, daemon=True).start()
        errors = threading.Thread(target=take, args=(child.stderr, channel.sendall_stderr), daemon=True)
        errors.start()
        take(child.stdout, channel.sendall)
        errors.join()
        child.wait()
    with contextlib.suppress(Exception):
        channel.send_exit_status(child.returncode)
        channel.close()


def _forward(transport: paramiko.Transport, lines: dict[int, socket.socket]) -> None:
    """Join a channel that was opened to its line; which of them the library hands out is left to it."""
    while (channel := transport.accept(0.1)) is None:  # it may hand none out to who was woken for one
        if not transport.is_active() or not lines:
            return
    line = lines.pop(channel.get_id())

    def pump(source: socket.socket | paramiko.Channel, sink: socket.socket | paramiko.Channel) -> None:
        with contextlib.suppress(Exception):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (line, channel):
            with contextlib.suppress(Exception):
                end.close()

    threading.Thread(target=pump, args=(line, channel), daemon=True).start()
    pump(channel, line)
