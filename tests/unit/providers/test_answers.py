"""No provider ends a run by an answer that can't be read, or touches another machine by its name."""

from typing import Any

import pytest

from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import PowerState, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.machines.providers.host_commands import HostCommands
from tasks.machines.providers.libvirt.provider import open_libvirt
from tasks.machines.providers.registry import GuardedProvider, ProviderPorts
from tests.support.fake_clock import FakeClock
from tests.support.provider_records import KeptRecords, NoGuard, NoWatch

CLOCK = FakeClock()
IN_TIME = Deadline.after(CLOCK, 60)


class GarbledProvider:
    kind = "garbled"
    acts = frozenset(ProviderAct)

    def __init__(self, error: Exception, *, is_read: bool = False) -> None:
        self._error, self._is_read = error, is_read

    def read_machine(self, *, deadline: Deadline) -> Any:
        if not self._is_read:
            raise self._error
        return ProvidedMachine("web", PowerState.RUNNING)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        raise self._error


@pytest.mark.parametrize("error", [KeyError("State"), ValueError("no number"), TypeError("None"), AttributeError("x")])
def test_an_answer_that_cannot_be_read_does_not_tell_whether_an_order_was_carried_out(error: Exception) -> None:
    provider = GuardedProvider(GarbledProvider(error), CLOCK, 60, NoGuard(), NoWatch())
    with pytest.raises(ProviderError, match=type(error).__name__) as raised:
        provider.read_machine(deadline=IN_TIME)
    assert not raised.value.transient
    provider = GuardedProvider(GarbledProvider(error, is_read=True), CLOCK, 60, NoGuard(), NoWatch())
    with pytest.raises(ProviderUnavailable, match=r"an answer of the provider \(garbled\) can't be read"):
        provider.carry_out(ProviderOrder(ProviderAct.REVERT, "s1"), deadline=IN_TIME)


@pytest.mark.parametrize(
    ("name", "words"), [("7", "takes 7 for the number of any domain that runs"), ("-c", "no name of a domain")]
)
def test_a_name_that_virsh_takes_for_something_else_is_refused(name: str, words: str) -> None:
    settings = ProviderSettings("rack", ProviderKind.LIBVIRT, host="host")
    ports = ProviderPorts(CLOCK, lambda _name: pytest.fail("asked"), KeptRecords())
    with pytest.raises(ProviderError, match=words) as raised:
        open_libvirt(settings, Machine("web", "10.0.0.1", provider=f"rack/{name}"), ports)
    assert raised.value.hint


@pytest.mark.parametrize("name", [";", "web\n;\nreboot"])
def test_no_name_begins_another_command(name: str) -> None:
    host = HostCommands(None, CLOCK, "rack")  # type: ignore[arg-type]  # it is not reached
    with pytest.raises(ProviderError, match="is a semicolon, or has a line break"):
        host.order("virsh", "start", "--domain", name, deadline=IN_TIME)
