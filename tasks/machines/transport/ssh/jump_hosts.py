"""Connections to jump hosts, and tunnels through them. The whole process shares one connection for each jump host."""

import copy
import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeAlias

import paramiko

from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.host_key_store import find_known_hosts
from inventory.machine import HostKeySettings, Inventory, Machine, TransportKind
from tasks.domain.errors import ConnectionLost, DeadlineExceeded, Unreachable, WayUnreachable
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.open_port import DEFAULT_PORT
from tasks.machines.transport.ssh.connection import Dialer, SshSettings, build_tcp_dialer, connect
from tasks.machines.transport.ssh.restricted_transport import ChannelTimeout, ThreadSafeTransport
from tasks.machines.transport.tcp_connection import describe_connection_error

MAX_CONCURRENT_HANDSHAKES: Final = 50
"""The maximum of connections that open through one jump host at the same time."""
CHANNEL_TIMEOUT_SECONDS: Final = 15.0
JUMP_HOST_TIMEOUT_SECONDS: Final = 60.0
"""For the connection to a jump host, all attempts together."""
_CONNECT_FAILED: Final = 2
"""The code of SSH for a connection that the jump host has tried."""
SLOW_FAILURE_SECONDS: Final = 1.0
FAILURE_REUSE_SECONDS: Final = 30.0
"""How long a slow failure of a jump host is reused, so that not each machine waits for it again."""

_RouteKey: TypeAlias = tuple[tuple[str, ...], ...]


class Tunnel:
    """A channel through a jump host, used as the socket of another connection.

    paramiko releases a channel's lock before it sends, so that a close may overtake data. sshd then ends the whole
    connection ("data packet referred to nonexistent channel"), and with it all other tunnels through it. So here,
    sending and closing exclude each other.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._is_closed = False

    def send(self, data: bytes) -> int:
        """Send, unless the tunnel is closed."""
        with self._lock:
            if self._is_closed:
                raise EOFError
            return self._channel.send(data)

    def close(self) -> None:
        """Close, after any send in progress."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._channel.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # recv, settimeout and the like are the channel's
        return getattr(self._channel, name)


@dataclass(frozen=True, slots=True)
class _JumpHostAccess:
    """How one caller reaches a jump host."""

    machine: Machine
    dial: Dialer
    settings: SshSettings


class _ConnectionAttempt:
    """One attempt to connect to a jump host, in its own thread. All callers that need it wait for it.

    It has its own deadline: the caller that started it may have little time, and other callers wait for it too.
    """

    def __init__(self, access: _JumpHostAccess) -> None:
        self._access = access
        self._finished = threading.Event()
        self._cancelled = threading.Event()
        self._transport: ThreadSafeTransport | None = None
        self._error: Exception | None = None
        self._began = self._ended = time.monotonic()
        threading.Thread(target=self._connect, name=f"jump host {access.machine.name}", daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether the connection seems to be up. It sends nothing."""
        return self._transport is not None and self._transport.is_active()

    @property
    def is_reusable(self) -> bool:
        """Whether a new caller shares it: it is in progress, or it failed after a long wait."""
        if not self._finished.is_set():
            return True
        took = self._ended - self._began
        return (
            self._error is not None
            and took >= SLOW_FAILURE_SECONDS
            and time.monotonic() - self._ended < min(took, FAILURE_REUSE_SECONDS)
        )

    def wait_for_connection(self, seconds: float) -> ThreadSafeTransport:
        """Return the connection.

        Raises:
            TimeoutError: the attempt is not over after these seconds.
            Exception: why there is no connection.
        """
        if not self._finished.wait(max(0.0, seconds)):
            raise TimeoutError
        if self._transport is None:
            if self._error is None:
                raise ConnectionLost("the connection to the jump host was given up")
            raise copy.copy(self._error)  # each thread adds its machine and its traceback
        return self._transport

    def cancel(self) -> None:
        """Close the connection, also if it opens later."""
        self._cancelled.set()
        if self._transport is not None:
            self._transport.close()

    def _connect(self) -> None:
        access = self._access
        try:
            deadline = Deadline.after(access.settings.clock, JUMP_HOST_TIMEOUT_SECONDS)
            self._transport = connect(access.machine, access.dial, access.settings, deadline=deadline)
        except DeadlineExceeded as error:  # its own deadline, not that of a caller
            self._error = WayUnreachable(
                f"the jump host {access.machine.name} did not open in {JUMP_HOST_TIMEOUT_SECONDS:.0f} s: "
                f"{error.message}",
                machine=error.machine,
                hint=error.hint or "Look at its SSH server: it accepts connections, but does not answer.",
            )
        except Unreachable as error:  # it is the jump host that does not answer
            self._error = WayUnreachable(error.message, machine=error.machine, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - it is raised again for each who waits
            self._error = error
        finally:
            self._ended = time.monotonic()
            self._finished.set()
        if self._cancelled.is_set() and self._transport is not None:
            self._transport.close()


class _JumpHost:
    """The connection of one jump host. It connects at the first need, and again after the connection has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handshakes = threading.BoundedSemaphore(MAX_CONCURRENT_HANDSHAKES)
        self._attempt: _ConnectionAttempt | None = None

    @contextmanager
    def open_tunnel(self, access: _JumpHostAccess, address: str, port: int, deadline: Deadline) -> Iterator[Tunnel]:
        """Open a tunnel to an address behind it. The context must last for the handshake."""
        if not self._handshakes.acquire(timeout=max(0.0, deadline.remaining_seconds(access.settings.clock))):
            raise DeadlineExceeded(f"too many connections were opening through {access.machine.name} at the same time")
        try:
            yield Tunnel(self._open_channel(access, address, port, deadline))
        finally:
            self._handshakes.release()

    def close(self) -> None:
        with self._lock:
            if self._attempt is not None:
                self._attempt.cancel()
                self._attempt = None

    def _open_channel(self, access: _JumpHostAccess, address: str, port: int, deadline: Deadline) -> paramiko.Channel:
        name = access.machine.name
        attempt, is_new = self._find_or_start_attempt(access)
        while True:
            try:
                transport = attempt.wait_for_connection(deadline.remaining_seconds(access.settings.clock))
            except TimeoutError:
                message = f"the jump host {name} did not open in the time that was given"
                raise DeadlineExceeded(message, machine=name) from None
            seconds = deadline.require_seconds(
                access.settings.clock, CHANNEL_TIMEOUT_SECONDS, message=f"no time was left to go through {name}"
            )
            try:
                return transport.open_tunnel(address, port, seconds)
            except paramiko.ChannelException as error:
                is_silent = error.code == _CONNECT_FAILED
                raise _build_tunnel_error(name, address, port, error.text, is_silent=is_silent) from error
            except ChannelTimeout as error:
                if deadline.has_passed(access.settings.clock):
                    message = f"{address} port {port} gave no answer through the jump host {name} in time"
                    raise DeadlineExceeded(message) from error
                raise _build_tunnel_error(name, address, port, str(error), is_silent=True) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                transport.close()
                if is_new:
                    reason = f"its own connection was lost: {describe_connection_error(error)}"
                    raise _build_tunnel_error(name, address, port, reason, is_silent=False) from error
            # the connection had died unnoticed: try once more
            attempt, is_new = self._find_or_start_attempt(access)[0], True

    def _find_or_start_attempt(self, access: _JumpHostAccess) -> tuple[_ConnectionAttempt, bool]:
        """Return the current or a new connection attempt, and whether it is new."""
        with self._lock:
            attempt = self._attempt
            if attempt is not None and (attempt.is_open or attempt.is_reusable):
                return attempt, not attempt.is_open
            self._attempt = _ConnectionAttempt(access)
            return self._attempt, True


def _is_ip_address(address: str) -> bool:
    """Return whether the jump host need not resolve an address: else its names may be what fails."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _build_tunnel_error(name: str, address: str, port: int, why: str, *, is_silent: bool) -> Unreachable:
    """Return the error. ``is_silent``: the jump host had no answer, if not its names are what fails."""
    kind = Unreachable if is_silent and _is_ip_address(address) else WayUnreachable
    error = kind(
        f"the jump host {name} does not get through to {address} port {port}: {why}",
        hint="Is the machine up, does the jump host resolve that address, does a firewall let it pass, and does the "
        "jump host's sshd allow TCP forwarding?",
    )
    error.is_silent = is_silent and kind is Unreachable  # the jump host may not be able to resolve a name
    return error


class JumpHostPool:
    """The jump hosts that this process uses, one connection for each route and login."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jump_hosts: dict[_RouteKey, _JumpHost] = {}

    def build_dialer(self, machine: Machine, inventory: Inventory, settings: SshSettings) -> Dialer:
        """Return the dialer for a machine: directly, or through its jump hosts.

        Raises:
            InventoryError: its jump hosts are not valid.
        """
        hops = find_route(machine, inventory)
        dial = build_tcp_dialer((*hops, machine)[0], settings.clock)
        for position, (hop, target) in enumerate(pairwise((*hops, machine)), start=1):
            with self._lock:
                key = _build_route_key(hops[:position], settings.host_keys)
                jump_host = self._jump_hosts.setdefault(key, _JumpHost())
            access = _JumpHostAccess(hop, dial, settings)
            dial = partial(jump_host.open_tunnel, access, target.address, target.port or DEFAULT_PORT)
        return dial

    def close(self) -> None:
        """Close all of them, the farthest first."""
        with self._lock:
            for _, jump_host in sorted(self._jump_hosts.items(), key=lambda item: -len(item[0])):
                jump_host.close()
            self._jump_hosts.clear()


def _build_route_key(hops: tuple[Machine, ...], host_keys: HostKeySettings) -> _RouteKey:
    """Return the key of a shared connection: everything that decides which host is trusted, and the login."""
    known_hosts = str(find_known_hosts(host_keys))
    return tuple(
        (
            hop.user or "",
            hop.address,
            str(hop.port or DEFAULT_PORT),
            hop.credential,
            str(hop.legacy_crypto),
            str(hop.host_keys_of),
            host_keys.policy.value,
            known_hosts,
        )
        for hop in hops
    )


def find_route(machine: Machine, inventory: Inventory, users: tuple[str, ...] = ()) -> tuple[Machine, ...]:
    """Return the jump hosts of a machine, nearest first. A jump host may have jump hosts itself.

    ``users`` are the names of the machines whose route goes through this one.

    Raises:
        InventoryError: a jump host is not in the inventory, goes through itself, or is not reached by SSH.
    """
    names = (*users, machine.name)
    hops: list[Machine] = []
    for position, name in enumerate(machine.jump):
        if name in names or name in {hop.name for hop in hops}:
            path = " → ".join((*names, name))
            raise InventoryError(f"its jump hosts go round in a circle: {path}", machine=names[0], key="jump")
        try:
            hop = inventory.find_machine(name)
        except KeyError:
            raise InventoryError(
                f"its jump host '{name}' is not in the inventory", machine=names[0], key="jump", file=inventory.source
            ) from None
        if hop.transport is not TransportKind.SSH:
            raise InventoryError(f"its jump host '{name}' is not reached by SSH", machine=names[0], key="jump")
        if position == 0:  # only the first of a list can have its own route; the others are behind it
            hops += find_route(hop, inventory, names)
        hops.append(hop)
    return tuple(hops)
