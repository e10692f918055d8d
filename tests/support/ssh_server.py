"""A small SSH server on the loopback network, made of paramiko's server side; each fault is a switch."""

import contextlib
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
)

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
        deaf: whether it never answers a request to run something.
        cuts: whether the line is cut once a command runs.
        logins: every credential that was shown.
    """

    host_key: paramiko.PKey
    user_key: paramiko.PKey | None = None
    drops: int = 0
    silent: bool = False
    deaf: bool = False
    cuts: int = 0
    second_factor: bool = False
    logins: list[str] = field(default_factory=list)
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
            else:
                transport = paramiko.Transport(line)
                transport.add_server_key(self.host_key)
                self._open.append(transport)
                with contextlib.suppress(Exception):
                    transport.start_server(event=threading.Event(), server=_Behaviour(self, transport))


class _Behaviour(paramiko.ServerInterface):
    def __init__(self, server: Server, transport: paramiko.Transport) -> None:
        self._server = server
        self._transport = transport

    def get_allowed_auths(self, username):
        return "publickey,password"

    def check_auth_publickey(self, username, key):
        self._server.logins.append(key.get_name())
        if key != self._server.user_key:
            return AUTH_FAILED
        return AUTH_PARTIALLY_SUCCESSFUL if self._server.second_factor else AUTH_SUCCESSFUL

    def check_auth_password(self, username, password):
        self._server.logins.append("password")
        return AUTH_SUCCESSFUL if password == PASSWORD else AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, chanid, origin, destination):
        try:
            line = socket.create_connection(destination, timeout=5)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        threading.Thread(target=_forward, args=(self._transport, line), daemon=True).start()
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
    stdin = b""
    while data := channel.recv(65_536):
        stdin += data
    done = subprocess.run(["/bin/sh", "-c", command], input=stdin, capture_output=True, check=False)
    with contextlib.suppress(Exception):
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


def _forward(transport: paramiko.Transport, line: socket.socket) -> None:
    channel = transport.accept(5)
    if channel is None:
        return

    def pump(source: socket.socket | paramiko.Channel, sink: socket.socket | paramiko.Channel) -> None:
        with contextlib.suppress(Exception):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (line, channel):
            with contextlib.suppress(Exception):
                end.close()

    threading.Thread(target=pump, args=(line, channel), daemon=True).start()
    pump(channel, line)
