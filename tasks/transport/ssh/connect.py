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
from inventory.machine import HostKeys, Machine
from tasks.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyUnknown,
    TransportError,
    Unreachable,
)
from tasks.seams.clock import Clock, Deadline
from tasks.transport.logins import Logins, NotSent
from tasks.transport.ssh.crypto import PinnedTransport
from tasks.transport.ssh.login import LOGIN_SECONDS, Login, Secrets, load_key, log_in
from tasks.transport.ssh.trust import Trust, store_for

PORT: Final = 22
CONNECT_SECONDS: Final = 10.0
BANNER_SECONDS: Final = 30.0
KEEPALIVE_SECONDS: Final = 15
DEAD_PEER_MILLISECONDS: Final = 30_000
PAUSES: Final = (2.0, 5.0)
"""Longest waits before the second and the third try; sshd that starts up, or MaxStartups, drops lines early."""

# paramiko's threads write tracebacks of errors that are raised to us anyway
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every connection of one inventory shares.

    Attributes:
        host_keys: where host keys are pinned, and the policy.
        secrets: fetches credentials.
        clock: for deadlines, waits and the validity of certificates.
        logins: what became of logins in this run.
    """

    host_keys: HostKeys
    secrets: Secrets
    clock: Clock
    logins: Logins


class Dropped(Exception):
    """The line broke before anybody could log in; worth another try."""

    hint: ClassVar[str] = "Does an SSH server listen there, and does its MaxStartups allow so many at once?"

    @property
    def message(self) -> str:
        """What became of the line, for people."""
        return f"the line was dropped before the login: {self}"


class Refused(Dropped):
    """Nothing listens there: the machine is off or just starting up, or so is its SSH server."""

    hint: ClassVar[str] = "Is it up, is its SSH server running, and is that its port?"

    @property
    def message(self) -> str:
        """Who refuses, for people."""
        return str(self)


# makes the socket: a TCP connection, or a channel through a jump host; held during the handshake
Dial = Callable[[Deadline], AbstractContextManager[Any]]


def connect(machine: Machine, dial: Dial, around: Surroundings, *, deadline: Deadline) -> PinnedTransport:
    """Open a connection and log in.

    A line that breaks before a credential was sent is tried three times in all; a refused login or host key is not.

    Raises:
        Unreachable: nobody answers, or not with SSH that we speak.
        HostKeyMismatch, HostKeyUnknown: the host is not who it should be, or nobody knows.
        AuthenticationFailed: it refused the credential or did not answer it, or did so earlier in this run.
        DeadlineExceeded: time is over.
        CredentialError: the credential leads nowhere.
    """
    for pause in (*PAUSES, None):
        try:
            return _try(machine, dial, around, deadline)
        except Dropped as dropped:
            wait = random.uniform(pause / 2, pause) if pause is not None else None  # noqa: S311  # jitter
            if wait is None or deadline.remaining(around.clock) <= wait:
                raise Unreachable(dropped.message, machine=machine.name, hint=dropped.hint) from dropped
            around.clock.sleep(wait)
        except FleetpatchError as error:
            error.machine = error.machine or machine.name
            raise
    raise AssertionError("the loop returns or raises")


def tcp(machine: Machine, clock: Clock) -> Dial:
    """Return a dial that goes there directly."""

    def dial(deadline: Deadline) -> AbstractContextManager[socket.socket]:
        seconds = min(CONNECT_SECONDS, deadline.remaining(clock))
        if seconds <= 0:
            raise DeadlineExceeded("no time was left to connect")
        place = f"{machine.address} port {machine.port or PORT}"
        try:
            sock = socket.create_connection((machine.address, machine.port or PORT), timeout=seconds)
        except socket.gaierror as error:
            raise Unreachable(
                f"the address {machine.address} can't be resolved: {error.strerror}", hint="Correct it, or the DNS."
            ) from error
        except ConnectionRefusedError as error:  # sshd may just be restarting
            raise Refused(f"{machine.address} refuses connections on port {machine.port or PORT}") from error
        except ConnectionResetError as error:
            raise Dropped(error.strerror or str(error)) from error
        except OSError as error:
            why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise Unreachable(
                f"nothing answers at {place}: {why}", hint="Is it switched on, and does a firewall let SSH through?"
            ) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(AttributeError, OSError):  # Linux has it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        return nullcontext(sock)

    return dial


def _try(machine: Machine, dial: Dial, around: Surroundings, deadline: Deadline) -> PinnedTransport:
    trust = Trust(
        around.host_keys.policy,
        store_for(around.host_keys),
        host=machine.address,
        port=machine.port or PORT,
        now=around.clock.now,
    )
    wanted = trust.wanted()
    credential = around.secrets(machine.credential)
    if credential.kind is CredentialKind.KEY:
        load_key(credential)  # a bad one is told before the machine is bothered
    with dial(deadline) as sock:
        transport = PinnedTransport(sock)
        transport.daemon = True
        try:
            transport.offer(wanted, legacy=machine.legacy_crypto)
            _negotiate(transport, trust, around.clock, deadline)
            trust.check(transport.host_key_blob)
            _log_in(transport, machine, credential, around, deadline)
        except BaseException:
            transport.close()
            raise
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return transport


def _log_in(
    transport: PinnedTransport, machine: Machine, credential: Credential, around: Surroundings, deadline: Deadline
) -> None:
    user = machine.user or getpass.getuser()
    try:
        with around.logins.attempt(machine.name, user, credential, clock=around.clock, deadline=deadline) as attempt:
            log_in(Login(transport, user, attempt, lambda most: _left(around.clock, deadline, most)), credential)
    except NotSent as kept:
        raise AuthenticationFailed(kept.message, hint=kept.hint) from kept
    except ConnectionLost as lost:
        raise Dropped(lost.message) from lost


def _negotiate(transport: PinnedTransport, trust: Trust, clock: Clock, deadline: Deadline) -> None:
    seconds = _left(clock, deadline, BANNER_SECONDS)
    transport.banner_timeout = transport.handshake_timeout = seconds
    transport.channel_timeout = LOGIN_SECONDS
    try:
        transport.start_client(timeout=seconds)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise _incompatible(str(error), trust) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        if deadline.passed(clock):
            raise DeadlineExceeded("the SSH server did not greet in the time it was given") from error
        raise Dropped(str(error) or type(error).__name__) from error
    if not transport.host_key_blob:  # start_client returns without a word when its time is over
        if deadline.passed(clock):
            raise DeadlineExceeded("the SSH server did not greet in the time it was given")
        raise Dropped(f"no greeting within {seconds:.0f} s")


def _incompatible(why: str, trust: Trust) -> TransportError:
    if "host key" in why and trust.certificates_only:
        return HostKeyUnknown(
            "it shows no host certificate, and the inventory asks for one (policy ca)",
            hint="Set HostCertificate in its sshd_config, or use the policy pinned.",
        )
    return TransportError(
        f"its SSH server speaks none of the algorithms that are allowed: {why}",
        hint="Allow curve25519, AES-GCM or AES-CTR and SHA-2 there; for an old system set legacy_crypto. "
        "Servers that know SHA-1 or chacha20 alone are not supported.",
    )


def _left(clock: Clock, deadline: Deadline, most: float) -> float:
    left = deadline.remaining(clock)
    if left <= 0:
        raise DeadlineExceeded("no time was left to log in")
    return min(left, most)
