"""What a person is told if nothing answers at a machine's address."""

import socket

import pytest

from inventory.machine import Machine
from tasks.domain.errors import FleetpatchError, Unreachable, WayUnreachable
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.tcp_connection import (
    ConnectionDropped,
    ConnectionRefused,
    ConnectionSilent,
    Service,
    open_tcp_connection,
    try_connection,
)
from tests.support.fake_clock import FakeClock

ASK = " `fleetpatch providers web-1` says whether it runs."


@pytest.mark.parametrize(
    ("kind", "provider", "hint"),
    [
        (Unreachable, "rack", f"Is it on?{ASK}"),
        (Unreachable, "", "Is it on?"),
        (WayUnreachable, "rack", "Is it on?"),
    ],
)
def test_the_provider_of_a_machine_that_does_not_answer_is_named(
    kind: type[FleetpatchError], provider: str, hint: str
) -> None:
    clock = FakeClock()
    machine = Machine(name="web-1", address="10.0.0.1", provider=provider)

    def attempt() -> None:
        raise kind("nothing answers", hint="Is it on?")

    with pytest.raises(kind) as raised:
        try_connection(attempt, machine, clock, Deadline.after(clock, 9))
    assert raised.value.hint == hint


@pytest.mark.parametrize(
    ("kind", "is_silent"), [(ConnectionRefused, True), (ConnectionDropped, False), (ConnectionSilent, False)]
)
def test_a_machine_that_accepts_a_connection_is_not_silent(kind: type[ConnectionDropped], is_silent: bool) -> None:
    clock = FakeClock()

    def attempt() -> None:
        raise kind("it broke", "hint")

    with pytest.raises(Unreachable) as raised:
        try_connection(attempt, Machine(name="web-1", address="10.0.0.1"), clock, Deadline.after(clock, 60))
    assert raised.value.is_silent is is_silent


@pytest.mark.parametrize(
    ("fault", "is_silent"),
    [
        (TimeoutError(), True),
        (OSError(113, "No route to host"), True),
        (socket.gaierror(), False),
        (OSError(101, "Network is unreachable"), False),
        (OSError(24, "Too many open files"), False),
    ],
)
def test_an_address_that_nothing_answers_at_is_silent(
    fault: OSError, is_silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(Unreachable) as raised:
        open_tcp_connection("10.0.0.1", 22, 1, Service("SSH", "", "", ""))
    assert raised.value.is_silent is is_silent
