"""The forwarder of scheduled events: only on machines whose owners agree, and where the policy allows it."""

from pathlib import Path
from typing import Any

import pytest

from flows.event_forwarding import ForwarderOrder, ForwarderState, change_forwarders, parse_target
from inventory.event_delivery import EventDelivery
from inventory.machine import OsFamily, PatchOwner
from tasks.domain.errors import PolicyRefused, RequestError
from tasks.domain.protocols.transport import Script
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

TARGET = "fleet.example.org:4281"
LAY = ForwarderOrder(TARGET)


class Orders:
    """Keeps what machines are ordered, and answers for them."""

    def __init__(self, answer: dict[str, object]) -> None:
        self.params: list[Any] = []
        self.answer = answer

    def __call__(self, script: Script) -> Any:
        self.params.append(script.params)
        return self.answer


def change(fleet: SimFleet, order: ForwarderOrder = LAY) -> list[tuple[ForwarderState, str]]:
    return [(each.state, each.message) for each in change_forwarders(fleet.described, fleet.ports(), order, 5)]


def add(fleet: SimFleet, answer: dict[str, object], **described: Any) -> Orders:
    machine, orders = fleet.add("web", [FakePackage("a")], **described), Orders(answer)
    machine.answer("event_forwarder", orders)
    return orders


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ({}, "scheduled_events is endpoint"),
        ({"scheduled_events": EventDelivery.FILE}, "scheduled_events is file"),
        ({"scheduled_events": EventDelivery.FORWARDER, "owner": PatchOwner.MANUAL}, "its owner is manual"),
        ({"scheduled_events": EventDelivery.FORWARDER, "os": OsFamily.WINDOWS}, "Linux only"),
    ],
)
def test_without_consent_no_machine_is_touched(fleet: SimFleet, described: dict[str, Any], why: str) -> None:
    orders = add(fleet, {"kind": "changed", "state": "laid"}, **described)

    ((state, message),) = change(fleet)

    assert (state, why in message, orders.params) == (ForwarderState.REFUSED, True, [])


def test_with_consent_it_is_laid_down(fleet: SimFleet) -> None:
    answer: dict[str, object] = {"kind": "changed", "state": "laid", "target": TARGET}
    orders = add(fleet, answer, scheduled_events=EventDelivery.FORWARDER)

    assert change(fleet) == [(ForwarderState.LAID, "")]
    assert orders.params == [{"work": "lay", "target": TARGET}]


def test_it_is_taken_away_from_any_machine(fleet: SimFleet) -> None:
    orders = add(fleet, {"kind": "changed", "state": "absent"})

    assert change(fleet, ForwarderOrder(is_removal=True)) == [(ForwarderState.ABSENT, "")]
    assert orders.params == [{"work": "remove", "target": ""}]


def test_what_a_machine_refuses_is_said(fleet: SimFleet) -> None:
    add(fleet, {"kind": "refused", "why": "Azure"}, scheduled_events=EventDelivery.FORWARDER)

    assert change(fleet) == [(ForwarderState.REFUSED, "Azure")]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("freezes: [{start: 2026-03-01, end: 2026-03-30, reason: holidays}]", "holidays"),
        ("forbid: [forwarder]", "forwarder: laying the forwarder"),
    ],
)
def test_nothing_is_laid_down_where_the_policy_forbids_it(
    fleet: SimFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, words: str
) -> None:
    orders = add(fleet, {"kind": "changed"}, scheduled_events=EventDelivery.FORWARDER)
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"policy: {{rules: [{{name: all, scope: '*', ask: the team, {rule}}}]}}")
    monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))

    with pytest.raises(PolicyRefused, match=words):
        change(fleet)
    assert orders.params == []
    assert change(fleet, ForwarderOrder(TARGET, dry_run=True))


@pytest.mark.parametrize(
    "text", ["", "host", "host:0", "host:70000", "host:80 x", "ho st:80", "host:80\nExecStart=x", "$(id):80"]
)
def test_a_target_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(RequestError):
        parse_target(text)


@pytest.mark.parametrize("text", [TARGET, "192.0.2.1:80", "[2001:db8::1]:4281"])
def test_these_are(text: str) -> None:
    assert parse_target(text) == text
