"""Opens an SSH connection: socket, banner, key exchange, host key, login. The deadline bounds each step."""

import getpass
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Final

import paramiko

from inventory.credentials import CredentialKind, CredentialResolver
from inventory.data_class import dataclass
from inventory.host_key_store import load_host_key_store
from inventory.machine import HostKeySettings, Machine
from tasks.domain.errors import ConnectionLost, CredentialError, DeadlineExceeded, HostKeyUnknown, TransportError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.open_port import DEFAULT_PORT
from tasks.machines.transport.ssh.authentication import LOGIN_TIMEOUT_SECONDS, LoginContext, authenticate
from tasks.machines.transport.ssh.host_key_verifier import HostKeyVerifier
from tasks.machines.transport.ssh.private_keys import load_private_key
from tasks.machines.transport.ssh.restricted_transport import RestrictedTransport
from tasks.machines.transport.tcp_connection import (
    ConnectionDropped,
    ConnectionSilent,
    Service,
    describe_connection_error,
    open_tcp_connection,
    try_connection,
)

CONNECT_TIMEOUT_SECONDS: Final = 10.0
GREETING_TIMEOUT_SECONDS: Final = 15.0
"""For the server's first line."""
KEYS_TIMEOUT_SECONDS: Final = 30.0
"""For the greeting and the exchange of keys together."""
KEEPALIVE_INTERVAL_SECONDS: Final = 15
TCP_USER_TIMEOUT_MILLISECONDS: Final = 30_000
IDLE_WAKE_SECONDS: Final = 1.0
"""How often the thread of an idle connection wakes: with paramiko's 0.1 s, an idle minute costs two logins."""
_NO_TIME: Final = "no time was left to log in"
_SSH: Final = Service(
    "SSH",
    name_hint="Correct it, or the DNS. fleetpatch does not read ~/.ssh/config: for a Host of it, write what "
    "`ssh -G` shows (hostname, user, port, proxyjump) into the inventory.",
    refused_hint="Is it up, is its SSH server running, and is that its port?",
    dropped_hint="Does an SSH server listen there? It may refuse this address, or so many logins at once: MaxStartups, "
    "PerSourcePenalties, hosts.deny.",
)

# paramiko's threads log tracebacks of errors that are raised to the caller anyway
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True, slots=True)
class SshSettings:
    """What all connections of one inventory share. The clock also judges the validity of certificates."""

    host_keys: HostKeySettings
    resolve_credential: CredentialResolver
    clock: Clock
    lockout_guard: LockoutGuard


# opens the socket: a TCP connection, or a channel through a jump host; the context lasts for the handshake
Dialer = Callable[[Deadline], AbstractContextManager[Any]]


def connect(machine: Machine, dial: Dialer, settings: SshSettings, *, deadline: Deadline) -> RestrictedTransport:
    """Open a connection and log in.

    If the connection breaks before a credential was sent, there are three attempts in all. A server that falls silent,
    a refused login or host key is not tried again.

    Raises:
        Unreachable: there is no answer, or no SSH with an allowed algorithm.
        HostKeyMismatch, HostKeyUnknown: the host key is wrong, or not known.
        AuthenticationFailed: the machine refused the credential or did not answer it, now or earlier in this run.
        DeadlineExceeded: the deadline has passed.
        CredentialError: the credential can't be resolved.
    """
    return try_connection(lambda: _connect_once(machine, dial, settings, deadline), machine, settings.clock, deadline)


def read_host_key(machine: Machine, dial: Dialer, settings: SshSettings, *, deadline: Deadline) -> bytes:
    """Return the host key that a machine shows and has. Nothing is sent to it: there is no login.

    Raises:
        Unreachable, DeadlineExceeded, TransportError: as for ``connect``.
        HostKeyUnknown, HostKeyMismatch: those of a jump host on the way.
    """

    def read() -> bytes:
        with _open_transport(machine, dial, settings, deadline) as transport:
            try:
                return transport.host_key_blob
            finally:
                transport.close()

    return try_connection(read, machine, settings.clock, deadline)


def build_tcp_dialer(machine: Machine, clock: Clock) -> Dialer:
    """Return a dialer that connects directly."""

    def dial(deadline: Deadline) -> AbstractContextManager[socket.socket]:
        seconds = deadline.require_seconds(clock, CONNECT_TIMEOUT_SECONDS, message="no time was left to connect")
        sock = open_tcp_connection(machine.address, machine.port or DEFAULT_PORT, seconds, _SSH)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(AttributeError, OSError):  # only Linux has it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MILLISECONDS)
        return nullcontext(sock)

    return dial


def _connect_once(machine: Machine, dial: Dialer, settings: SshSettings, deadline: Deadline) -> RestrictedTransport:
    credential = settings.resolve_credential(machine.credential)
    if credential.kind in {CredentialKind.KEY, CredentialKind.CERTIFICATE}:
        load_private_key(credential, _find_user(machine))  # report a bad key before connecting to the machine
    with _open_transport(machine, dial, settings, deadline) as transport:
        try:
            build_verifier(machine, settings).verify_host_key(transport.host_key_blob)
            user = _find_user(machine)
            with settings.lockout_guard.open_attempt(
                machine.name, user, credential, clock=settings.clock, deadline=deadline
            ) as attempt:
                login = LoginContext(
                    transport,
                    user,
                    attempt,
                    lambda most: deadline.require_seconds(settings.clock, most, message=_NO_TIME),
                )
                authenticate(login, credential)
        except BaseException as error:
            transport.close()
            if isinstance(error, ConnectionLost):
                raise _build_dropped(error.message) from error
            raise
    transport.set_keepalive(KEEPALIVE_INTERVAL_SECONDS)
    transport.sock.settimeout(IDLE_WAKE_SECONDS)
    return transport


def build_verifier(machine: Machine, settings: SshSettings) -> HostKeyVerifier:
    """Return the host key rules for a machine. Raise InventoryError if known_hosts can't be read."""
    host, port = machine.host_keys_of or (machine.address, machine.port or DEFAULT_PORT)
    return HostKeyVerifier(
        settings.host_keys.policy,
        load_host_key_store(settings.host_keys),
        host=host,
        port=port,
        now=settings.clock.now,
        machine=machine.name,
    )


@contextmanager
def _open_transport(
    machine: Machine, dial: Dialer, settings: SshSettings, deadline: Deadline
) -> Iterator[RestrictedTransport]:
    """Yield a connection whose keys are negotiated. The block lasts for the handshake; the connection stays open."""
    verifier = build_verifier(machine, settings)
    algorithms = verifier.select_algorithms()
    with dial(deadline) as sock:
        transport = RestrictedTransport(sock)
        transport.daemon = True
        try:
            transport.set_offered_algorithms(algorithms, legacy=machine.legacy_crypto)
            _negotiate_keys(transport, verifier, settings.clock, deadline)
        except BaseException:
            transport.close()
            raise
        yield transport


def _find_user(machine: Machine) -> str:
    try:
        return machine.user or getpass.getuser()
    except (KeyError, OSError) as error:
        raise CredentialError(
            "the inventory names no user for the login, and the user of this process has no name",
            hint="Write user: into the machine's entry, or into defaults.",
        ) from error


def _negotiate_keys(
    transport: RestrictedTransport, verifier: HostKeyVerifier, clock: Clock, deadline: Deadline
) -> None:
    seconds = deadline.require_seconds(clock, KEYS_TIMEOUT_SECONDS, message=_NO_TIME)
    transport.handshake_timeout = seconds
    transport.banner_timeout = min(seconds, GREETING_TIMEOUT_SECONDS)
    transport.channel_timeout = LOGIN_TIMEOUT_SECONDS
    began = time.monotonic()
    cause: Exception | None = None
    try:
        transport.start_client(timeout=seconds)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise _build_incompatible_error(str(error), verifier) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        cause = error
    if transport.host_key_blob and cause is None:
        return
    # start_client returns without an error when its time is over
    if deadline.has_passed(clock):
        raise DeadlineExceeded("the SSH server did not greet in the time it was given") from cause
    waited, is_greeted = time.monotonic() - began, bool(transport.remote_version)
    if cause is None or waited >= (seconds if is_greeted else transport.banner_timeout):
        event = "greets, and does not go on" if is_greeted else "accepts the connection, and sends no greeting"
        raise ConnectionSilent(
            f"its SSH server {event} within {waited:.0f} s",
            "It accepts connections, and its SSH server hangs or is overloaded: look at that machine.",
        ) from cause
    raise _build_dropped(describe_connection_error(cause)) from cause


def _build_dropped(reason: str) -> ConnectionDropped:
    return ConnectionDropped(f"the connection was closed before the login: {reason}", _SSH.dropped_hint)


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
