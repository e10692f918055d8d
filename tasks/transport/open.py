"""From a machine of the inventory to its Session: one table of the kinds of transport."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from inventory.credentials import Credential, resolve
from inventory.errors import CredentialError
from inventory.machine import Inventory, Machine, TransportKind
from tasks.errors import UnsupportedSystem
from tasks.seams.clock import Clock, Deadline
from tasks.transport.framing import load_script
from tasks.transport.line import Line
from tasks.transport.local import LocalLine
from tasks.transport.logins import Attempt, Logins
from tasks.transport.posix import PosixShell, ScriptSource
from tasks.transport.privilege import Privilege
from tasks.transport.session import Connection, Opener, Session
from tasks.transport.ssh.connect import Surroundings, connect
from tasks.transport.ssh.jump import Bastions
from tasks.transport.ssh.line import SshLine

Secrets = Callable[[str], Credential]

SHARED_BASTIONS: Final = Bastions()
"""The jump hosts of this process."""


@dataclass(frozen=True, slots=True)
class _Request:
    """All that a row of the table may need."""

    machine: Machine
    inventory: Inventory
    clock: Clock
    secrets: Secrets
    bastions: Bastions
    logins: Logins
    job_root: str
    scripts: ScriptSource


def open_session(
    machine: Machine,
    inventory: Inventory,
    *,
    clock: Clock,
    secrets: Secrets = resolve,
    bastions: Bastions = SHARED_BASTIONS,
    logins: Logins | None = None,
    job_root: str = "",
    scripts: ScriptSource = load_script,
) -> Session:
    """Return a Session for a machine. Nothing is connected before its first call.

    Args:
        machine: who.
        inventory: where its jump hosts and the host keys are found.
        clock: for deadlines and waits.
        secrets: fetches a credential by its reference; give ``functools.partial(resolve, blocks=…)`` where Prefect
            blocks can be read.
        bastions: the jump hosts in use, shared by all sessions of a process.
        logins: what became of logins, shared by all sessions of a run; None: nothing is known of others.
        job_root: where jobs are kept on the machine; "" for the usual place.
        scripts: gives a script's text by its name.

    Raises:
        UnsupportedSystem: its kind of transport is not there yet.
        InventoryError: its jump hosts make no sense, or known_hosts can't be read.
    """
    row = _OPENERS.get(machine.transport)
    if row is None:
        known = ", ".join(sorted(kind.value for kind in _OPENERS))
        raise UnsupportedSystem(
            f"there is no transport '{machine.transport.value}' in this version",
            machine=machine.name,
            hint=f"Reach it by one of: {known}; or take it out of the scope.",
        )
    request = _Request(machine, inventory, clock, secrets, bastions, logins or Logins(), job_root, scripts)
    return Session(row(request), machine=machine.name, clock=clock)


def _ssh(request: _Request) -> Opener:
    around = Surroundings(request.inventory.host_keys, request.secrets, request.clock, request.logins)
    dial = request.bastions.dial(request.machine, request.inventory, around)
    privilege = _privilege(request)

    def opener(deadline: Deadline) -> Connection:
        transport = connect(request.machine, dial, around, deadline=deadline)
        return _shell(SshLine(transport, request.clock), request, privilege)

    return opener


def _local(request: _Request) -> Opener:
    privilege = _privilege(request)

    def opener(deadline: Deadline) -> Connection:  # noqa: ARG001  # there is nothing to wait for
        return _shell(LocalLine(request.clock), request, privilege)

    return opener


_OPENERS: Final[Mapping[TransportKind, Callable[[_Request], Opener]]] = MappingProxyType(
    {TransportKind.SSH: _ssh, TransportKind.LOCAL: _local}
)


def _shell(line: Line, request: _Request, privilege: Privilege) -> PosixShell:
    return PosixShell(
        line,
        machine=request.machine.name,
        privilege=privilege,
        clock=request.clock,
        job_root=request.job_root,
        scripts=request.scripts,
    )


def _privilege(request: _Request) -> Privilege:
    """Return the way to root, made once for a session, so that what was found outlives a reconnect."""
    reference = request.machine.privilege_password
    if reference is None:
        return Privilege(request.machine.privilege)

    def password() -> Credential:
        credential = request.secrets(reference)
        if credential.kind != "password" or credential.secret is None:
            raise CredentialError(
                "privilege_password is no password",
                machine=request.machine.name,
                hint="Write env:NAME, file:PATH or prefect:BLOCK.",
            )
        return credential

    def attempts(user: str, credential: Credential, deadline: Deadline) -> AbstractContextManager[Attempt]:
        return request.logins.attempt(request.machine.name, user, credential, clock=request.clock, deadline=deadline)

    return Privilege(request.machine.privilege, password=password, attempts=attempts)
