"""Opens the TCP connection to a machine, and tries a connection again that breaks before its login."""

import re
import socket
from collections.abc import Callable
from errno import EHOSTDOWN, EHOSTUNREACH
from typing import Final, TypeVar

from tenacity import wait_chain, wait_random

from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.errors import DeadlineExceeded, FleetpatchError, Unreachable, WayUnreachable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.retry import retry

RETRY_DELAYS_SECONDS: Final = (2.0, 5.0)
"""The longest waits before the second and the third attempt: a starting sshd, or MaxStartups, drops connections, and a
Windows that boots resets them."""
_ERRNO_PATTERN: Final = re.compile(r"\s*\[Errno -?\d+\]\s*")

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Service:
    """What is to listen at a port, and what a person looks at if it does not."""

    name: str  # for messages
    name_hint: str  # if the address can't be resolved
    refused_hint: str  # if nothing listens there
    dropped_hint: str  # if the connection breaks before the login


class ConnectionDropped(Exception):
    """The connection broke before a login was possible. Another attempt may succeed.

    Attributes:
        hint: the remedy.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ConnectionRefused(ConnectionDropped):
    """Nothing listens there: the machine is off or boots, or the service is down or starts."""


class ConnectionSilent(ConnectionDropped):
    """The machine accepts connections, and stops to answer before a login. Another attempt would wait as long."""


def try_connection(
    attempt: Callable[[], _Result],
    machine: Machine,
    clock: Clock,
    deadline: Deadline,
    *,
    is_refusal_final: bool = False,
    late_message: str = "",
) -> _Result:
    """Return the result of an attempt. After ConnectionDropped, there are three attempts in all, unless it is silent.

    Args:
        attempt: opens the connection.
        machine: the machine, for errors.
        clock: measures the time.
        deadline: the last attempt begins before it.
        is_refusal_final: whether a refused connection is not tried again.
        late_message: the message if the deadline has passed; "": that of the last attempt.

    Raises:
        Unreachable: each attempt broke.
        DeadlineExceeded: the deadline has passed, and there is a message for that.
    """
    final_errors = (ConnectionSilent, ConnectionRefused) if is_refusal_final else ConnectionSilent
    try:
        return retry(
            attempt,
            ConnectionDropped,
            clock=clock,
            deadline=deadline,
            wait=wait_chain(*(wait_random(pause / 2, pause) for pause in RETRY_DELAYS_SECONDS)),
            max_attempts=len(RETRY_DELAYS_SECONDS) + 1,
            is_retryable=lambda dropped: not isinstance(dropped, final_errors),
        )
    except ConnectionDropped as dropped:
        if late_message and deadline.has_passed(clock):
            raise DeadlineExceeded(late_message, machine=machine.name) from dropped
        unreachable = Unreachable(str(dropped), machine=machine.name, hint=dropped.hint)
        unreachable.is_silent = isinstance(dropped, ConnectionRefused)
        raise unreachable from dropped
    except FleetpatchError as error:
        error.machine = error.machine or machine.name
        if machine.provider and type(error) is Unreachable:  # not if only its way is broken
            error.hint = f"{error.hint} `fleetpatch providers {machine.name}` says whether it runs."
        raise


def open_tcp_connection(address: str, port: int, seconds: float, service: Service) -> socket.socket:
    """Return a socket that is connected.

    Raises:
        WayUnreachable: the address can't be resolved.
        Unreachable: nothing answers.
        ConnectionDropped: the connection was refused or reset: the service may be starting.
    """
    try:
        return socket.create_connection((address, port), timeout=seconds)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no valid name"
        raise WayUnreachable(f"the address {address} can't be resolved: {reason}", hint=service.name_hint) from error
    except ConnectionRefusedError as error:
        raise ConnectionRefused(f"{address} refuses connections on port {port}", service.refused_hint) from error
    except ConnectionResetError as error:
        raise ConnectionDropped(f"{address} resets connections on port {port}", service.dropped_hint) from error
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else describe_connection_error(error)
        hint = f"Is it switched on, and does a firewall let {service.name} through?"
        unreachable = Unreachable(f"nothing answers at {address} port {port}: {reason}", hint=hint)
        # other errors are those of this controller: its routes, its firewall, its open files
        unreachable.is_silent = isinstance(error, TimeoutError) or error.errno in {EHOSTUNREACH, EHOSTDOWN}
        raise unreachable from error


def describe_connection_error(error: BaseException) -> str:
    """Return what happened to a connection, as the end of a sentence."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(error.strerror or "") if isinstance(error, OSError) else ""
    return text or _ERRNO_PATTERN.sub(": ", str(error)).removeprefix(": ") or "the other side closed it"
