"""Jump hosts: a route of machines to go through, and one connection a jump host that the whole process shares."""

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import paramiko

from inventory.errors import InventoryError
from inventory.machine import HostKeys, Inventory, Machine, TransportKind
from tasks.errors import ConnectionLost, DeadlineExceeded, Unreachable
from tasks.seams.clock import Deadline
from tasks.transport.ssh.connect import PORT, Dial, Surroundings, connect, tcp
from tasks.transport.ssh.protocol import CorrectedTransport, NoAnswer
from tasks.transport.ssh.trust import known_hosts_of

HANDSHAKES: Final = 50
"""Connections that may be opening through one jump host at the same time."""
CHANNEL_SECONDS: Final = 15.0
OPENING_SECONDS: Final = 60.0
"""For the connection to a jump host, all tries together."""
LONG_SECONDS: Final = 1.0
REMEMBERED_SECONDS: Final = 30.0
"""A jump host that did not open after a long wait is not waited for again so soon, by one machine after the other."""

_Key: TypeAlias = tuple[tuple[str, ...], ...]


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


@dataclass(frozen=True, slots=True)
class _Way:
    """How one caller gets to a jump host."""

    machine: Machine
    dial: Dial
    around: Surroundings


class _Opening:
    """One try to open the connection to a jump host, in a thread of its own, for all who wait for it.

    It has a deadline of its own: whoever began it may have little time, and others wait for it as well.
    """

    def __init__(self, way: _Way) -> None:
        self._way = way
        self._over = threading.Event()
        self._abandoned = threading.Event()
        self._transport: CorrectedTransport | None = None
        self._error: Exception | None = None
        self._began = self._ended = time.monotonic()
        threading.Thread(target=self._open, name=f"jump host {way.machine.name}", daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether the connection is there, as far as one can tell without asking."""
        return self._transport is not None and self._transport.is_active()

    @property
    def counts(self) -> bool:
        """Whether who comes now shares it: it goes on, or it failed after a long wait that need not be repeated."""
        if not self._over.is_set():
            return True
        took = self._ended - self._began
        return (
            self._error is not None
            and took >= LONG_SECONDS
            and time.monotonic() - self._ended < min(took, REMEMBERED_SECONDS)
        )

    def result(self, seconds: float) -> CorrectedTransport:
        """Return the connection.

        Raises:
            TimeoutError: it is not over after these seconds.
            Exception: why there is none.
        """
        if not self._over.wait(max(0.0, seconds)):
            raise TimeoutError
        if self._transport is None:
            raise _copied(self._error)
        return self._transport

    def abandon(self) -> None:
        """Close what it opens, or has opened."""
        self._abandoned.set()
        if self._transport is not None:
            self._transport.close()

    def _open(self) -> None:
        way = self._way
        try:
            deadline = Deadline.after(way.around.clock, OPENING_SECONDS)
            self._transport = connect(way.machine, way.dial, way.around, deadline=deadline)
        except DeadlineExceeded as error:  # of no caller's own time
            self._error = Unreachable(
                f"the jump host {way.machine.name} did not open in {OPENING_SECONDS:.0f} s: {error.message}",
                machine=error.machine,
                hint=error.hint or "Look at its SSH server: it takes connections, and says nothing.",
            )
        except Exception as error:  # noqa: BLE001 - it is raised again for each who waits
            self._error = error
        finally:
            self._ended = time.monotonic()
            self._over.set()
        if self._abandoned.is_set() and self._transport is not None:
            self._transport.close()


def _copied(error: Exception | None) -> Exception:
    """Return an error for one of several threads, for each writes its machine and its traceback into it."""
    return copy.copy(error) if error is not None else ConnectionLost("the connection to the jump host was given up")


class _Bastion:
    """A jump host's connection, dialled when it is first needed and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._opening: _Opening | None = None

    @contextmanager
    def through(self, way: _Way, address: str, port: int, deadline: Deadline) -> Iterator[Tunnel]:
        """Open a way to an address behind it; the context is the time of its handshake."""
        if not self._handshakes.acquire(timeout=max(0.0, deadline.remaining(way.around.clock))):
            raise DeadlineExceeded(f"too many connections were opening through {way.machine.name} at the same time")
        try:
            yield Tunnel(self._channel(way, address, port, deadline))
        finally:
            self._handshakes.release()

    def close(self) -> None:
        with self._lock:
            if self._opening is not None:
                self._opening.abandon()
                self._opening = None

    def _channel(self, way: _Way, address: str, port: int, deadline: Deadline) -> paramiko.Channel:
        name, place = way.machine.name, f"{address} port {port}"
        opening, fresh = self._held(way)
        while True:
            transport = self._opened(opening, way, deadline)
            seconds = min(CHANNEL_SECONDS, deadline.remaining(way.around.clock))
            if seconds <= 0:
                raise DeadlineExceeded(f"no time was left to go through {name}")
            try:
                return transport.open_tunnel(address, port, seconds)
            except paramiko.ChannelException as error:
                raise _no_way_through(name, place, error.text) from error
            except NoAnswer as error:
                if deadline.passed(way.around.clock):
                    raise DeadlineExceeded(f"{place} gave no answer through the jump host {name} in time") from error
                raise _no_way_through(name, place, str(error)) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                transport.close()
                if fresh:
                    raise _no_way_through(name, place, f"its own connection was lost: {error}") from error
            opening, fresh = self._held(way)[0], True  # it had died unnoticed: once more

    def _held(self, way: _Way) -> tuple[_Opening, bool]:
        """Return the connection that is there or about to be, and whether it is new."""
        with self._lock:
            held = self._opening
            if held is not None and (held.is_open or held.counts):
                return held, not held.is_open
            self._opening = _Opening(way)
            return self._opening, True

    def _opened(self, opening: _Opening, way: _Way, deadline: Deadline) -> CorrectedTransport:
        try:
            return opening.result(deadline.remaining(way.around.clock))
        except TimeoutError:
            raise DeadlineExceeded(
                f"the jump host {way.machine.name} did not open in the time that was given", machine=way.machine.name
            ) from None


def _no_way_through(name: str, place: str, why: str) -> Unreachable:
    return Unreachable(
        f"the jump host {name} does not get through to {place}: {why}",
        hint="Is the machine up, does the jump host resolve that address, does a firewall let it pass, and does the "
        "jump host's sshd allow TCP forwarding?",
    )


class Bastions:
    """The jump hosts that are in use in this process, one connection for each route and login."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[_Key, _Bastion] = {}

    def dial(self, machine: Machine, inventory: Inventory, around: Surroundings) -> Dial:
        """Return the dial for a machine: directly, or through its jump hosts.

        Raises:
            InventoryError: its jump hosts make no sense.
        """
        hops = route(machine, inventory)
        dial = tcp(hops[0] if hops else machine, around.clock)
        for position, hop in enumerate(hops):
            bastion = self._bastion(hops[: position + 1], around.host_keys)
            behind = hops[position + 1] if position + 1 < len(hops) else machine
            dial = _behind(bastion, _Way(hop, dial, around), behind)
        return dial

    def close(self) -> None:
        """Hang up on all of them, the farthest first."""
        with self._lock:
            for _, bastion in sorted(self._open.items(), key=lambda item: -len(item[0])):
                bastion.close()
            self._open.clear()

    def _bastion(self, hops: tuple[Machine, ...], host_keys: HostKeys) -> _Bastion:
        with self._lock:
            return self._open.setdefault(_key(hops, host_keys), _Bastion())


def _key(hops: tuple[Machine, ...], host_keys: HostKeys) -> _Key:
    """Return what two ways must have in common to share a connection: all that decides who is trusted, and as whom."""
    known_hosts = str(known_hosts_of(host_keys))
    return tuple(
        (
            hop.user or "",
            hop.address,
            str(hop.port or PORT),
            hop.credential,
            str(hop.legacy_crypto),
            host_keys.policy.value,
            known_hosts,
        )
        for hop in hops
    )


def _behind(bastion: _Bastion, way: _Way, target: Machine) -> Dial:
    def dial(deadline: Deadline) -> AbstractContextManager[Tunnel]:
        return bastion.through(way, target.address, target.port or PORT, deadline)

    return dial
