"""What the tests of SSH have in common: servers on loopback, their keys, and sessions to them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from inventory.credentials import Credential, resolve_credential
from inventory.machine import HostKeyPolicy, HostKeySettings, Inventory, Machine, PrivilegeMethod
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Script
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.session import Session
from tasks.machines.transport.session_factory import build_session
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool
from tests.contract.transport_subjects import scripts
from tests.support.ssh_server import Server, new_key

GREET = Script("greet", {"name": "x"})
CLOCK = SystemClock()


class World:
    """Servers, keys and known hosts of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = new_key(folder / "id")
        self.known_hosts = folder / "known_hosts"
        self.policy = HostKeyPolicy.PINNED
        self.bastions = JumpHostPool()
        self.logins = LockoutGuard()
        self.servers: list[Server] = []
        self.sessions: list[Session] = []
        self.machines: tuple[Machine, ...] = ()
        self.secrets: Callable[[str], Credential] = resolve_credential

    def server(self, *, pinned: bool = True, **switches: Any) -> Server:
        server = Server(new_key(self.folder / f"host{len(self.servers)}"), user_key=self.key, **switches)
        self.servers.append(server)
        if pinned:
            self.pin(server, server.host_key)
        return server

    def pin(self, server: Server, key) -> None:
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{server.port} {key.get_name()} {key.get_base64()}\n")

    def machine(self, server: Server, name: str = "m", **fields: Any) -> Machine:
        machine = Machine(
            name,
            "127.0.0.1",
            port=server.port,
            user="patch",
            credential=f"key:{self.folder / 'id'}",
            privilege=PrivilegeMethod.NONE,
        )
        return replace(machine, **fields)

    def session(self, server: Server, **fields: Any) -> Session:
        machine = self.machine(server, **fields)
        inventory = Inventory((machine, *self.machines), HostKeySettings(self.policy, self.known_hosts))
        session = build_session(
            machine,
            inventory,
            clock=CLOCK,
            resolve_credential=self.secrets,
            jump_hosts=self.bastions,
            lockout_guard=self.logins,
            script_loader=scripts,
        )
        self.sessions.append(session)
        return session

    def close(self) -> None:
        closing: list[Session | JumpHostPool | Server] = [*self.sessions, self.bastions, *self.servers]
        for each in closing:
            each.close()


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def outcomes(sessions: list[Session], seconds: float = 60.0) -> list[FleetpatchError | None]:
    """Ask all at the same time; return the error of each."""
    told: list[FleetpatchError | None] = [None] * len(sessions)

    def ask(number: int) -> None:
        try:
            sessions[number].run_script(GREET, deadline=soon(seconds))
        except FleetpatchError as error:
            told[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told
