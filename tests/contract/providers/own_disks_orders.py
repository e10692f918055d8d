"""Reads and orders of a provider that takes snapshots on the machine itself."""

from typing import Any

import pytest

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import ProvidedMachine, ProviderAct, ProviderOrder
from tasks.machines.providers.btrfs import BtrfsProvider
from tasks.machines.providers.lvm import LvmProvider
from tests.support.fake_clock import FakeClock


def read(provider: LvmProvider | BtrfsProvider) -> ProvidedMachine:
    """Return the machine as it is now."""
    return provider.read_machine(deadline=Deadline.after(FakeClock(), 60))


def order(provider: LvmProvider | BtrfsProvider, act: ProviderAct, order_id: str = "s1", **more: Any) -> str:
    """Give an order. Return its note."""
    deadline = Deadline.after(provider._host.clock, 45)
    return provider.carry_out(ProviderOrder(act, order_id, **more), deadline=deadline)


def refuse(provider: LvmProvider | BtrfsProvider, act: ProviderAct, order_id: str = "s1") -> str:
    """Give an order that must be refused, with a remedy. Return the reason."""
    with pytest.raises(ProviderError) as raised:
        order(provider, act, order_id)
    assert not isinstance(raised.value, ProviderUnavailable)
    assert raised.value.hint
    return raised.value.message
