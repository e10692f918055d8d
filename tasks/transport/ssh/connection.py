"""Opening an SSH connection: socket, banner, keys, trust, login; each step bounded by the deadline."""

import getpass
import logging
import random
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import paramiko

from inventory.credentials import Credential, CredentialKind
from inventory.machine import HostKeySettings, Machine
from tasks.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyUnknown,
    TransportError,
    Unreachable,
)
from tasks.protocols.clock import Clock, Deadline
from tasks.transport.lockout_guard import CredentialWithheld, LockoutGuard
from tasks.transport.ssh.algorithms import RestrictedTransport
from tasks.transport.ssh.authentication import LOGIN_TIMEOUT_SECONDS, CredentialResolver, LoginContext, authenticate
from tasks.transport.ssh.host_key_verifier import HostKeyVerifier, load_host_key_store
from tasks.transport.ssh.private_keys import load_private_key

DEFAULT_PORT: Final = 22
CONNECT_TIMEOUT_SECONDS: Final = 10.0
BANNER_TIMEOUT_SECONDS: Final = 30.0
KEEPALIVE_INTERVAL_SECONDS: Final = 15
TCP_USER_TIMEOUT_MILLISECONDS: Final = 30_000
RETRY_DELAYS_SECONDS: Final = (2.0, 5.0)
"""Longest waits before the second and the third try; sshd that starts up, or MaxStartups, drops lines early."""

# paramiko's threads write tracebacks of errors that are raised to us anyway
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True, slots=True)
class SshSettings:
    """What every connection of one inventory shares.

    Attributes:
        host_keys: where host keys are pinned, and the policy.
        resolve_credential: fetches credentials.
        clock: for deadlines, waits and the validity of certificates.
        lockout_guard: what became of logins in this run.
    """

    host_keys: HostKeySettings
    resolve_credential: CredentialResolver
    clock: Clock
    lockout_guard: LockoutGuard


class ConnectionDropped(Exception):
    """The line broke before anybody could log in; worth another try."""

    hint: ClassVar[str] = "Does an SSH server listen there, and does its MaxStartups allow so many at once?"

    @property
    def message(self) -> str:
        """What became of the line, for people."""
        return f"the line was dropped before the login: {self}"


class ConnectionRefused(ConnectionDropped):
    """Nothing listens there: the machine is off or just starting up, or so is its SSH server."""

    hint: ClassVar[str] = "Is it up, is its SSH server running, and is that its port?"

    @property
    def message(self) -> str:
        """Who refuses, for people."""
        return str(self)


# makes the socket: a TCP connection, or a channel through a jump host; held during the handshake
Dialer = Callable[[Deadline], AbstractContextManager[Any]]


def connect(machine: Machine, dial: Dialer, settings: SshSettings, *, deadline: Deadline) -> RestrictedTransport:
    """Open a connection and log in.

    A line that breaks before a credential was sent is tried three times in all; a refused login or host key is not.

    Raises:
        Unreachable: nobody answers, or not with SSH that we speak.
        HostKeyMismatch, HostKeyUnknown: the host is not who it should be, or nobody knows.
        AuthenticationFailed: it refused the credential or did not answer it, or did so earlier in this run.
        DeadlineExceeded: time is over.
        CredentialError: the credential leads nowhere.
    """
    for pause in (*RETRY_DELAYS_SECONDS, None):
        try:
            return _connect_once(machine, dial, settings, deadline)
        except ConnectionDropped as dropped:
            wait = random.uniform(pause / 2, pause) if pause is not None else None  # noqa: S311  # jitter
            if wait is None or deadline.remaining_seconds(settings.clock) <= wait:
                raise Unreachable(dropped.message, machine=machine.name, hint=dropped.hint) from dropped
            settings.clock.sleep(wait)
        except FleetpatchError as error:
            error.machine = error.machine or machine.name
            raise
    raise AssertionError("the loop returns or raises")


def build_tcp_dialer(machine: Machine, clock: Clock) -> Dialer:
    """Return a dial that goes there directly."""

    def dial(deadline: Deadline) -> AbstractContextManager[socket.socket]:
        seconds = min(CONNECT_TIMEOUT_SECONDS, deadline.remaining_seconds(clock))
        if seconds <= 0:
            raise DeadlineExceeded("no time was left to connect")
        place = f"{machine.address} port {machine.port or DEFAULT_PORT}"
        try:
            sock = socket.create_connection((machine.address, machine.port or DEFAULT_PORT), timeout=seconds)
        except socket.gaierror as error:
            raise Unreachable(
                f"the address {machine.address} can't be resolved: {error.strerror}", hint="Correct it, or the DNS."
            ) from error
        except ConnectionRefusedError as error:  # sshd may just be restarting
            raise ConnectionRefused(
                f"{machine.address} refuses connections on port {machine.port or DEFAULT_PORT}"
            ) from error
        except ConnectionResetError as error:
            raise ConnectionDropped(error.strerror or str(error)) from error
        except OSError as error:
            why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise Unreachable(
                f"nothing answers at {place}: {why}", hint="Is it switched on, and does a firewall let SSH through?"
            ) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(AttributeError, OSError):  # Linux has it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MILLISECONDS)
        return nullcontext(sock)

    return dial


def _connect_once(machine: Machine, dial: Dialer, settings: SshSettings, deadline: Deadline) -> RestrictedTransport:
    verifier = HostKeyVerifier(
        settings.host_keys.policy,
        load_host_key_store(settings.host_keys),
        host=machine.address,
        port=machine.port or DEFAULT_PORT,
        now=settings.clock.now,
    )
    algorithms = verifier.select_algorithms()
    credential = settings.resolve_credential(machine.credential)
    if credential.kind is CredentialKind.KEY:
        load_private_key(credential)  # a bad one is told before the machine is bothered
    with dial(deadline) as sock:
        transport = RestrictedTransport(sock)
        transport.daemon = True
        try:
            transport.set_offered_algorithms(algorithms, legacy=machine.legacy_crypto)
            _negotiate_keys(transport, verifier, settings.clock, deadline)
            verifier.verify_host_key(transport.host_key_blob)
            _authenticate(transport, machine, credential, settings, deadline)
        except BaseException:
            transport.close()
            raise
    transport.set_keepalive(KEEPALIVE_INTERVAL_SECONDS)
    return transport


def _authenticate(
    transport: RestrictedTransport, machine: Machine, credential: Credential, settings: SshSettings, deadline: Deadline
) -> None:
    user = machine.user or getpass.getuser()
    try:
        with settings.lockout_guard.open_attempt(
            machine.name, user, credential, clock=settings.clock, deadline=deadline
        ) as attempt:
            authenticate(
                LoginContext(
                    transport, user, attempt, lambda most: _require_seconds_left(settings.clock, deadline, most)
                ),
                credential,
            )
    except CredentialWithheld as kept:
        raise AuthenticationFailed(kept.message, hint=kept.hint) from kept
    except ConnectionLost as lost:
        raise ConnectionDropped(lost.message) from lost


def _negotiate_keys(
    transport: RestrictedTransport, verifier: HostKeyVerifier, clock: Clock, deadline: Deadline
) -> None:
    seconds = _require_seconds_left(clock, deadline, BANNER_TIMEOUT_SECONDS)
    transport.banner_timeout = transport.handshake_timeout = seconds
    transport.channel_timeout = LOGIN_TIMEOUT_SECONDS
    try:
        transport.start_client(timeout=seconds)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise _build_incompatible_error(str(error), verifier) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        if deadline.has_passed(clock):
            raise DeadlineExceeded("the SSH server did not greet in the time it was given") from error
        raise ConnectionDropped(str(error) or type(error).__name__) from error
    if not transport.host_key_blob:  # start_client returns without a word when its time is over
        if deadline.has_passed(clock):
            raise DeadlineExceeded("the SSH server did not greet in the time it was given")
        raise ConnectionDropped(f"no greeting within {seconds:.0f} s")


def _build_incompatible_error(why: str, verifier: HostKeyVerifier) -> TransportError:
    if "host key" in why and verifier.requires_certificate:
        return HostKeyUnknown(
            "it shows no host certificate, and the inventory asks for one (policy ca)",
            hint="Set HostCertificate in its sshd_config, or use the policy pinned.",
        )
    return TransportError(
        f"its SSH server speaks none of the algorithms that are allowed: {why}",
        hint="Allow curve25519, AES-GCM or AES-CTR and SHA-2 there; for an old system set legacy_crypto. "
        "Servers that know SHA-1 or chacha20 alone are not supported.",
    )


def _require_seconds_left(clock: Clock, deadline: Deadline, most: float) -> float:
    left = deadline.remaining_seconds(clock)
    if left <= 0:
        raise DeadlineExceeded("no time was left to log in")
    return min(left, most)
