"""What a person is told if nothing answers at a machine's address."""

import pytest

from inventory.machine import Machine
from tasks.domain.errors import FleetpatchError, Unreachable, WayUnreachable
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.tcp_connection import try_connection
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
