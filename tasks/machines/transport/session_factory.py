"""Builds a Session for a machine of the inventory, from a table of the kinds of transport."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from inventory.credentials import Credential, resolve_credential
from inventory.errors import PASSWORD_FORMS, CredentialError
from inventory.machine import Inventory, Machine, TransportKind
from tasks.domain.errors import UnsupportedSystem
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.channel import ShellChannel
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.lockout_guard import LockoutGuard, LoginAttempt
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.powershell_host import PowerShellHost
from tasks.machines.transport.script_library import ScriptLoader
from tasks.machines.transport.session import POLL_TIMEOUT_SECONDS, Connection, ConnectionOpener, Session
from tasks.machines.transport.ssh.channel import SshShellChannel
from tasks.machines.transport.ssh.connection import SshSettings, connect
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool

CredentialResolver = Callable[[str], Credential]

SHARED_JUMP_HOSTS: Final = JumpHostPool()
"""The open jump hosts of this process."""


@dataclass(frozen=True, slots=True)
class _SessionRequest:
    """The parameters of a row of the table."""

    machine: Machine
    inventory: Inventory
    clock: Clock
    resolve_credential: CredentialResolver
    jump_hosts: JumpHostPool
    lockout_guard: LockoutGuard
    job_root: str
    script_loader: ScriptLoader | None


def build_session(
    machine: Machine,
    inventory: Inventory,
    *,
    clock: Clock,
    resolve_credential: CredentialResolver = resolve_credential,
    jump_hosts: JumpHostPool = SHARED_JUMP_HOSTS,
    lockout_guard: LockoutGuard | None = None,
    job_root: str = "",
    script_loader: ScriptLoader | None = None,
) -> Session:
    """Return a Session for a machine. It connects at its first call.

    Args:
        machine: the machine.
        inventory: where its jump hosts and the host keys are found.
        clock: for deadlines and waits.
        resolve_credential: fetches a credential by its reference; pass ``functools.partial(resolve, blocks=…)`` if
            Prefect blocks can be read.
        jump_hosts: the open jump hosts; all sessions of a process share them.
        lockout_guard: the logins of the run; all its sessions share it. None: a new one.
        job_root: directory of jobs on the machine; "" for the default.
        script_loader: gives a script's text by its name; None: the scripts of fleetpatch for the machine's system.

    Raises:
        UnsupportedSystem: its kind of transport is not supported.
        InventoryError: its jump hosts are not valid, or known_hosts can't be read.
    """
    build_opener = _OPENER_BUILDERS.get(machine.transport)
    if build_opener is None:
        kinds_text = ", ".join(sorted(kind.value for kind in _OPENER_BUILDERS))
        raise UnsupportedSystem(
            f"there is no transport '{machine.transport.value}' in this version",
            machine=machine.name,
            hint=f"Reach it by one of: {kinds_text}; or remove it from the scope.",
        )
    request = _SessionRequest(
        machine,
        inventory,
        clock,
        resolve_credential,
        jump_hosts,
        lockout_guard or LockoutGuard(),
        job_root,
        script_loader,
    )
    poll_seconds = _POLL_TIMEOUTS.get(machine.transport, POLL_TIMEOUT_SECONDS)
    return Session(build_opener(request), machine=machine.name, clock=clock, poll_timeout_seconds=poll_seconds)


def _build_ssh_opener(request: _SessionRequest) -> ConnectionOpener:
    settings = SshSettings(
        request.inventory.host_keys, request.resolve_credential, request.clock, request.lockout_guard
    )
    dial = request.jump_hosts.build_dialer(request.machine, request.inventory, settings)
    privilege = _build_privilege_escalator(request)

    def open_connection(deadline: Deadline) -> Connection:
        transport = connect(request.machine, dial, settings, deadline=deadline)
        return _build_posix_shell(SshShellChannel(transport, request.clock), request, privilege)

    return open_connection


def _build_local_opener(request: _SessionRequest) -> ConnectionOpener:
    privilege = _build_privilege_escalator(request)

    def open_connection(deadline: Deadline) -> Connection:  # noqa: ARG001  # there is nothing to wait for
        return _build_posix_shell(LocalShellChannel(request.clock), request, privilege)

    return open_connection


def _build_winrm_opener(request: _SessionRequest) -> ConnectionOpener:
    # imported here: no other transport needs requests and what it brings
    from tasks.machines.transport.winrm.channel import connect as connect_winrm  # noqa: PLC0415
    from tasks.machines.transport.winrm.login import WinrmEnvironment  # noqa: PLC0415

    environment = WinrmEnvironment(request.resolve_credential, request.clock, request.lockout_guard)
    shells_to_delete: list[str] = []
    is_first = True

    def open_connection(deadline: Deadline) -> Connection:
        nonlocal is_first
        channel = connect_winrm(
            request.machine, environment, deadline=deadline, shells_to_delete=shells_to_delete, is_first=is_first
        )
        is_first = False
        return PowerShellHost(
            channel,
            machine=request.machine.name,
            clock=request.clock,
            job_root=request.job_root,
            script_loader=request.script_loader,
        )

    return open_connection


_OPENER_BUILDERS: Final[Mapping[TransportKind, Callable[[_SessionRequest], ConnectionOpener]]] = MappingProxyType(
    {
        TransportKind.SSH: _build_ssh_opener,
        TransportKind.WINRM: _build_winrm_opener,
        TransportKind.LOCAL: _build_local_opener,
    }
)


_POLL_TIMEOUTS: Final = MappingProxyType({TransportKind.WINRM: 90.0})
"""A new PowerShell takes seconds to start, and much longer while Windows installs updates."""


def _build_posix_shell(channel: ShellChannel, request: _SessionRequest, privilege: PrivilegeEscalator) -> PosixShell:
    return PosixShell(
        channel,
        machine=request.machine.name,
        privilege=privilege,
        clock=request.clock,
        job_root=request.job_root,
        script_loader=request.script_loader,
    )


def _build_privilege_escalator(request: _SessionRequest) -> PrivilegeEscalator:
    """Return how the login becomes root. A session has only one, so that its result is kept over reconnections."""
    reference = request.machine.privilege_password
    if reference is None:
        return PrivilegeEscalator(request.machine.privilege)

    def read_password() -> Credential:
        credential = request.resolve_credential(reference)
        if credential.kind != "password" or credential.secret is None:
            raise CredentialError(
                "privilege_password is no password",
                machine=request.machine.name,
                hint=f"Write {PASSWORD_FORMS}.",
            )
        return credential

    def open_attempt(user: str, credential: Credential, deadline: Deadline) -> AbstractContextManager[LoginAttempt]:
        return request.lockout_guard.open_attempt(
            request.machine.name, user, credential, clock=request.clock, deadline=deadline
        )

    return PrivilegeEscalator(request.machine.privilege, read_password=read_password, open_attempt=open_attempt)
