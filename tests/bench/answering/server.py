"""A real SSH server on the loopback whose machines answer from a recording: one machine for each address.

    python -m tests.bench.answering.server FOLDER PORT COUNT JOB_SECONDS

FOLDER has ``host_key`` and ``user_key.pub``; ``installs.json`` is written there at the end (SIGTERM): how many
installations each machine was told to begin. What can't be answered is in its stderr, and the session ends with it.
"""

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED

from tasks.machines.transport.posix_shell import SCRIPT_END
from tests.bench.answering.machine import AnsweringMachine, Recording, Unasked

BACKLOG = 1024
USER = "patch"


def list_addresses(count: int) -> Iterator[str]:
    """Give the addresses of machines: 127.1.0.1 and so on."""
    for number in range(1, count + 1):
        yield f"127.1.{number >> 8}.{number & 255}"


class _Session(paramiko.ServerInterface):
    """What the server decides for one connection."""

    def __init__(self, machine: AnsweringMachine, user_key: paramiko.PKey) -> None:
        self._machine, self._user_key = machine, user_key

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL if username == USER and key == self._user_key else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del chanid
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        del command  # a shell for its stdin, always
        threading.Thread(target=self._run, args=(channel,), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel) -> None:
        with suppress(OSError, EOFError):
            received = bytearray()
            try:
                while piece := channel.recv(1 << 20):
                    received += piece
                    if received.endswith(SCRIPT_END):
                        channel.sendall(self._machine.answer(bytes(received)))
                        received.clear()
                channel.send_exit_status(0)
            except Unasked as error:
                print(error, file=sys.stderr, flush=True)
                channel.send_exit_status(70)
            channel.close()


def serve(listener: socket.socket, machines: dict[str, AnsweringMachine], host_key: Any, user_key: Any) -> None:
    """Accept connections until the listener is closed."""
    while True:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        transport = paramiko.Transport(line)
        transport.add_server_key(host_key)
        machine = machines[line.getsockname()[0]]
        with suppress(paramiko.SSHException, OSError, EOFError):
            transport.start_server(event=threading.Event(), server=_Session(machine, user_key))


def main(words: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    folder, port, count, seconds = Path(words[0]), int(words[1]), int(words[2]), float(words[3])
    recording = Recording()
    machines = {
        address: AnsweringMachine(number, recording, seconds)
        for number, address in enumerate(list_addresses(count), start=1)
    }
    host_key = paramiko.PKey.from_path(folder / "host_key")
    user_key = paramiko.PKey.from_path(folder / "user_key")
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with socket.create_server(("", port), backlog=BACKLOG) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")  # no other network reaches it
        threading.Thread(target=serve, args=(listener, machines, host_key, user_key), daemon=True).start()
        print("ready", flush=True)
        over.wait()
    installs = {address: machine.installs for address, machine in machines.items()}
    (folder / "installs.json").write_text(json.dumps(installs), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
