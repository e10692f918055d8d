"""How a member of a set is asked: without checks of its own, whether it answers at its port."""

import socket
from collections.abc import Iterator

import pytest

from inventory.machine import Check, CheckKind, FailedCheckEffect, Machine, TransportKind, WinrmScheme, WinrmSettings
from tasks.domain.errors import Unreachable
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.machine import set_member
from tasks.steps.machine.set_member import check_member_health
from tests.support.set_fleet import SetFleet


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def context_of(machine: Machine) -> MachineContext:
    fleet = SetFleet()
    fleet.add_members("web-1")
    run = fleet.campaign(fleet.request())
    return MachineContext(run._run_context, fleet.machines["web-1"], MachineState(machine))


def test_a_member_that_answers_at_its_port_is_healthy(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    context = context_of(Machine("web-1", "127.0.0.1", port=port))
    assert check_member_health(context, ()) == ""
    listener.close()
    assert f"tcp {port}: " in check_member_health(context, ())


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({}, "22"),
        ({"port": 2200}, "2200"),
        ({"transport": TransportKind.WINRM}, "5986"),
        ({"transport": TransportKind.WINRM, "winrm": WinrmSettings(scheme=WinrmScheme.HTTP)}, "5985"),
        ({"jump": ("bastion",)}, "exit 0"),  # its port can't be reached from here
    ],
)
def test_the_port_is_that_of_its_transport(fields: dict[str, object], target: str) -> None:
    (check,) = set_member._build_default_checks(Machine("web-1", "192.0.2.1", **fields))  # type: ignore[arg-type]
    assert check.target == target


def test_this_machine_answers_always() -> None:
    assert check_member_health(context_of(Machine("here", "localhost", transport=TransportKind.LOCAL)), ()) == ""


def test_a_check_that_only_warns_does_not_count_and_one_that_can_not_be_asked_does() -> None:
    context = context_of(Machine("web-1", "192.0.2.1"))
    context.transport.answer("probe", {"kind": "probe", "exit_code": 3, "text": "no"})  # type: ignore[attr-defined]
    assert check_member_health(context, [Check("soft", CheckKind.COMMAND, "x", FailedCheckEffect.WARN)]) == ""
    assert check_member_health(context, [Check("hard", CheckKind.COMMAND, "x")]) == "hard: command x: exit code 3: no"
    context.transport.fail(Unreachable("no answer"))  # type: ignore[attr-defined]
    assert check_member_health(context, [Check("hard", CheckKind.COMMAND, "x")]) == "hard: no answer"
