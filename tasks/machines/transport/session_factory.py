"""Builds a Session for a machine of the inventory: one way for each kind of transport."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from inventory.credentials import Credential, CredentialResolver, resolve_credential
from inventory.errors import PASSWORD_FORMS, CredentialError
from inventory.machine import Inventory, Machine, TransportKind
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.lockout_guard import LockoutGuard, LoginAttempt
from tasks.machines.transport.own_site import require_own_site
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.powershell_host import PowerShellChannel, PowerShellHost
from tasks.machines.transport.script_library import ScriptLoader
from tasks.machines.transport.session import POLL_TIMEOUT_SECONDS, Connection, ConnectionOpener, Session
from tasks.machines.transport.ssh.channel import SshShellChannel
from tasks.machines.transport.ssh.connection import SshSettings, connect
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool

SHARED_JUMP_HOSTS: Final = JumpHostPool()
"""The open jump hosts of this process."""
WINRM_POLL_TIMEOUT_SECONDS: Final = 90.0
"""A new PowerShell takes seconds to start, and much longer while Windows installs updates."""


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
        InventoryError: its jump hosts are not valid, or known_hosts can't be read.
        OtherSite: the machine is reached from another site only.
    """
    require_own_site(machine)
    guard = lockout_guard or LockoutGuard()
    poll_seconds = POLL_TIMEOUT_SECONDS
    opener: ConnectionOpener
    privilege = _build_privilege_escalator(machine, resolve_credential, clock, guard)
    if machine.transport is TransportKind.WINRM:
        build_host = partial(
            PowerShellHost, machine=machine.name, clock=clock, job_root=job_root, script_loader=script_loader
        )
        opener = _build_winrm_opener(machine, resolve_credential, clock, guard, build_host)
        poll_seconds = WINRM_POLL_TIMEOUT_SECONDS
    else:
        build_shell = partial(
            PosixShell,
            machine=machine.name,
            privilege=privilege,
            clock=clock,
            job_root=job_root,
            script_loader=script_loader,
        )
        if machine.transport is TransportKind.LOCAL:
            opener = lambda _deadline: build_shell(LocalShellChannel(clock))  # noqa: E731
        else:
            settings = SshSettings(inventory.host_keys, resolve_credential, clock, guard)
            dial = jump_hosts.build_dialer(machine, inventory, settings)
            opener = lambda deadline: build_shell(  # noqa: E731
                SshShellChannel(connect(machine, dial, settings, deadline=deadline), clock)
            )
    return Session(
        opener,
        machine=machine.name,
        clock=clock,
        poll_timeout_seconds=poll_seconds,
        forget_privilege=privilege.forget,
    )


def _build_winrm_opener(
    machine: Machine,
    resolve_credential: CredentialResolver,
    clock: Clock,
    guard: LockoutGuard,
    build_host: Callable[[PowerShellChannel], PowerShellHost],
) -> ConnectionOpener:
    # imported here: no other transport needs requests and what it brings
    from tasks.machines.transport.winrm.channel import connect as connect_winrm  # noqa: PLC0415
    from tasks.machines.transport.winrm.login import WinrmEnvironment  # noqa: PLC0415

    environment = WinrmEnvironment(resolve_credential, clock, guard)
    shells_to_delete: list[str] = []
    is_first = True

    def open_connection(deadline: Deadline) -> Connection:
        nonlocal is_first
        channel = connect_winrm(
            machine, environment, deadline=deadline, shells_to_delete=shells_to_delete, is_first=is_first
        )
        is_first = False
        return build_host(channel)

    return open_connection


def _build_privilege_escalator(
    machine: Machine, resolve_credential: CredentialResolver, clock: Clock, guard: LockoutGuard
) -> PrivilegeEscalator:
    """Return how the login becomes root. A session has only one, so that its result is kept over broken connections."""
    reference = machine.privilege_password
    if reference is None:
        return PrivilegeEscalator(machine.privilege)

    def read_password() -> Credential:
        credential = resolve_credential(reference)
        if credential.kind != "password" or credential.secret is None:
            hint = f"Write {PASSWORD_FORMS}."
            raise CredentialError("privilege_password is no password", machine=machine.name, hint=hint)
        return credential

    def open_attempt(user: str, credential: Credential, deadline: Deadline) -> AbstractContextManager[LoginAttempt]:
        return guard.open_attempt(machine.name, user, credential, clock=clock, deadline=deadline)

    return PrivilegeEscalator(machine.privilege, read_password=read_password, open_attempt=open_attempt)
