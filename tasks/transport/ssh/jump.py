"""Jump hosts: a route of machines to go through, and one connection a jump host that the whole process shares."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import paramiko

from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine, TransportKind
from tasks.errors import DeadlineExceeded, Unreachable
from tasks.seams.clock import Deadline
from tasks.transport.ssh.connect import PORT, Dial, Surroundings, connect, tcp

HANDSHAKES: Final = 50
"""Connections that may be opening through one jump host at the same time."""
CHANNEL_SECONDS: Final = 15.0


def route(machine: Machine, inventory: Inventory) -> tuple[Machine, ...]:
    """Return the machines to go through, nearest to the controller first; jump hosts may need jump hosts themselves.

    Raises:
        InventoryError: a jump host is not in the inventory, goes through itself, or is not reached by SSH.
    """
    return _route(machine, inventory, (machine.name,))


def _route(machine: Machine, inventory: Inventory, seen: tuple[str, ...]) -> tuple[Machine, ...]:
    hops: list[Machine] = []
    for position, name in enumerate(machine.jump):
        if name in seen or name in {hop.name for hop in hops}:
            path = " → ".join((*seen, name))
            raise InventoryError(f"its jump hosts go round in a circle: {path}", machine=seen[0], key="jump")
        try:
            hop = inventory.named(name)
        except KeyError:
            raise InventoryError(
                f"its jump host '{name}' is not in the inventory", machine=seen[0], key="jump", file=inventory.source
            ) from None
        if hop.transport is not TransportKind.SSH:
            raise InventoryError(f"its jump host '{name}' is not reached by SSH", machine=seen[0], key="jump")
        if position == 0:  # only the first of a list can have a way of its own; the others are behind it
            hops += _route(hop, inventory, (*seen, name))
        hops.append(hop)
    return tuple(hops)


class Tunnel:
    """A channel through a jump host, made fit to be the socket of another connection.

    paramiko lets go of a channel's lock before it sends, so that a close may overtake data; sshd then ends the whole
    connection ("data packet referred to nonexistent channel"), and with it all others that go through it. So sending
    and closing exclude each other here.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._dead = False

    def send(self, data: bytes) -> int:
        """Send, unless it was closed."""
        with self._lock:
            if self._dead:
                raise EOFError
            return self._channel.send(data)

    def close(self) -> None:
        """Close, once nothing is being sent."""
        with self._lock:
            if not self._dead:
                self._dead = True
                self._channel.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # recv, settimeout and the like are the channel's
        return getattr(self._channel, name)


class _Bastion:
    """A jump host's connection, dialled when it is first needed and again when it has died."""

    def __init__(self, machine: Machine, dial: Dial, around: Surroundings) -> None:
        self._machine = machine
        self._dial = dial
        self._around = around
        self._lock = threading.Lock()
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._transport: paramiko.Transport | None = None

    @contextmanager
    def through(self, address: str, port: int, deadline: Deadline) -> Iterator[Tunnel]:
        """Open a way to an address behind it; the context is the time of its handshake."""
        if not self._handshakes.acquire(timeout=max(0.0, deadline.remaining(self._around.clock))):
            raise DeadlineExceeded(f"too many connections were opening through {self._machine.name} at the same time")
        try:
            yield Tunnel(self._channel(address, port, deadline))
        finally:
            self._handshakes.release()

    def close(self) -> None:
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    def _channel(self, address: str, port: int, deadline: Deadline) -> paramiko.Channel:
        transport, fresh = self._connected(None, deadline)
        try:
            return self._open(transport, address, port, deadline)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if fresh or isinstance(error, paramiko.ChannelException):
                raise self._refused(address, port, error) from error
        transport, _ = self._connected(transport, deadline)  # it had died unnoticed: once more
        try:
            return self._open(transport, address, port, deadline)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._refused(address, port, error) from error

    def _connected(self, dead: paramiko.Transport | None, deadline: Deadline) -> tuple[paramiko.Transport, bool]:
        """Return the connection and whether it is new; never the one that is known to be dead."""
        if not self._lock.acquire(timeout=max(0.0, deadline.remaining(self._around.clock))):
            raise DeadlineExceeded(f"the jump host {self._machine.name} did not open in the time that was given")
        try:
            held = self._transport
            if held is not None and held is not dead and held.is_active():
                return held, False
            if held is not None:
                held.close()
            self._transport = connect(self._machine, self._dial, self._around, deadline=deadline)
            return self._transport, True
        finally:
            self._lock.release()

    def _open(self, transport: paramiko.Transport, address: str, port: int, deadline: Deadline) -> paramiko.Channel:
        seconds = min(CHANNEL_SECONDS, deadline.remaining(self._around.clock))
        if seconds <= 0:
            raise DeadlineExceeded(f"no time was left to go through {self._machine.name}")
        return transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=seconds)

    def _refused(self, address: str, port: int, error: Exception) -> Unreachable:
        return Unreachable(
            f"the jump host {self._machine.name} does not get through to {address} port {port}: {error}",
            hint="Does it resolve that address, does a firewall let it pass, and does its sshd allow TCP forwarding?",
        )


class Bastions:
    """The jump hosts that are in use in this process, one connection for each route and login."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, ...], _Bastion] = {}

    def dial(self, machine: Machine, inventory: Inventory, around: Surroundings) -> Dial:
        """Return the dial for a machine: directly, or through its jump hosts.

        Raises:
            InventoryError: its jump hosts make no sense.
        """
        hops = route(machine, inventory)
        dial = tcp(hops[0] if hops else machine, around.clock)
        for position, hop in enumerate(hops):
            bastion = self._bastion(hops[: position + 1], hop, dial, around)
            behind = hops[position + 1] if position + 1 < len(hops) else machine
            dial = _behind(bastion, behind)
        return dial

    def close(self) -> None:
        """Hang up on all of them, the farthest first."""
        with self._lock:
            for _, bastion in sorted(self._open.items(), key=lambda item: -len(item[0])):
                bastion.close()
            self._open.clear()

    def _bastion(self, hops: tuple[Machine, ...], hop: Machine, dial: Dial, around: Surroundings) -> _Bastion:
        key = tuple(f"{each.user}@{each.address}:{each.port} {each.credential}" for each in hops)
        with self._lock:
            return self._open.setdefault(key, _Bastion(hop, dial, around))


def _behind(bastion: _Bastion, target: Machine) -> Dial:
    def dial(deadline: Deadline) -> AbstractContextManager[Tunnel]:
        return bastion.through(target.address, target.port or PORT, deadline)

    return dial
