"""Whether a machine accepts connections again: a question that costs it nothing and asks for no login."""

import socket
from typing import Final

from inventory.machine import Machine, TransportKind

DEFAULT_PORT: Final = 22
"""Of SSH."""
ANSWER_SECONDS: Final = 0.5
"""An answer within a network takes milliseconds. One that is lost is asked for again, and the kernel waits longer."""


def is_port_open(machine: Machine) -> bool | None:
    """Return whether a machine accepts connections at its SSH port; None: that can't be told from here.

    Behind a jump host nobody can tell it without a login there.
    """
    if machine.transport is not TransportKind.SSH or machine.jump:
        return None
    try:
        socket.create_connection((machine.address, machine.port or DEFAULT_PORT), timeout=ANSWER_SECONDS).close()
    except (OSError, UnicodeError):
        return False
    return True
