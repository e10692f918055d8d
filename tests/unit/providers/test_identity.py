"""No order of any kind reaches the provider of a machine that is not proven to be the right one."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from inventory.machine import IdentityPolicy, Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    PrivilegeError,
    ProviderError,
    ProviderUnavailable,
    TransportError,
    Unreachable,
    WayUnreachable,
)
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.provided_machines import (
    HardwareIdentity,
    IdentityState,
    PowerState,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
)
from tasks.machines.providers import registry
from tasks.machines.providers.identity import IdentityGuard
from tasks.machines.providers.registry import GuardedProvider
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport
from tests.support.provider_records import KeptRecords, NoWatch, fail_to_connect

OWN, OTHER = "4c4c4544-0044-4410-8054-b9c04f595631", "11111111-2222-4333-8444-555555555555"
CARD = "52:54:00:00:00:0a"
FOREIGN_KINDS = sorted(set(ProviderKind) - {ProviderKind.LVM, ProviderKind.BTRFS})


def make_silence(kind: type[Unreachable] = Unreachable) -> Unreachable:
    error = kind("nothing answers")
    error.is_silent = True
    return error


class World:
    """A machine that tells a UUID and a card, its provider, and the orders that this got."""

    def __init__(self, kind: str = "libvirt", identity: IdentityPolicy = IdentityPolicy.PROVEN) -> None:
        self.clock, self.records, self.orders = FakeClock(), KeptRecords(), list[ProviderAct]()
        self.kind, self.acts = kind, frozenset(ProviderAct)
        self.answers: list[ScriptRecord] = [
            {"kind": "machine", "uuid": OWN.upper(), "asset_tag": ""},
            {"kind": "card", "mac": CARD},
        ]
        self.asked, self.is_away = 0, False
        self.error: TransportError = make_silence()
        self.provided = ProvidedMachine("vm-1", PowerState.RUNNING, identity=HardwareIdentity(OWN, macs=(CARD,)))
        self.machine = Machine("web", "10.0.0.1", provider="rack/vm-1", identity=identity)
        guard = IdentityGuard(self.machine, kind, self.clock, self.connect, self.records)
        self.provider = GuardedProvider(self, self.clock, 900, guard, NoWatch())

    def connect(self, name: str) -> Any:
        assert name == "web"
        transport = FakeTransport(self.clock)
        if self.is_away:
            transport.fail(self.error)
        transport.answer("machine_identity", self.answers)
        self.asked += 1
        return transport

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        return self.provided

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        self.orders.append(order.act)
        return ""

    def order(self, act: ProviderAct = ProviderAct.REVERT) -> None:
        self.provider.carry_out(ProviderOrder(act, "s1"), deadline=Deadline.after(self.clock, 600))

    def show(self, **changes: Any) -> None:
        values: Mapping[str, Any] = {"power": PowerState.RUNNING, "identity": HardwareIdentity(OWN), **changes}
        self.provided = ProvidedMachine("vm-1", **values)


@pytest.mark.parametrize("act", ProviderAct)
@pytest.mark.parametrize("kind", FOREIGN_KINDS)
@pytest.mark.parametrize("policy", IdentityPolicy)
def test_another_machine_gets_no_order_of_any_provider_whatever_the_inventory_says(
    act: ProviderAct, kind: str, policy: IdentityPolicy
) -> None:
    world = World(kind, policy)
    world.show(identity=HardwareIdentity(OTHER))
    with pytest.raises(ProviderError, match=rf"nothing was ordered: it is another machine than rack/vm-1.*{OTHER}"):
        world.order(act)
    assert world.orders == []
    world.show()
    world.order(act)
    assert world.orders == [act]
    assert world.asked == 2
    world.order(act)
    assert world.asked == 2, "an order that is given again does not log in again"


@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_one_that_nothing_proves_gets_orders_only_if_its_owner_stands_for_it(kind: str) -> None:
    for policy in IdentityPolicy:
        world = World(kind, policy)
        world.show(identity=None)
        if policy is IdentityPolicy.UNVERIFIED:
            world.order()
        else:
            with pytest.raises(ProviderError, match="nothing was ordered") as refused:
                world.order()
            assert "identity: unverified" in str(refused.value.message)
        assert world.orders == ([ProviderAct.REVERT] if policy is IdentityPolicy.UNVERIFIED else [])
        assert world.records.rows == {}


@pytest.mark.parametrize("kind", [ProviderKind.LVM, ProviderKind.BTRFS])
def test_a_machine_that_holds_its_disks_itself_is_the_right_one(kind: str) -> None:
    world = World(kind)
    world.show(identity=None)
    world.order()
    assert (world.orders, world.asked) == ([ProviderAct.REVERT], 0)


def test_a_machine_that_is_off_is_known_by_its_last_proof_until_its_provider_shows_another_one() -> None:
    world = World()
    world.is_away = True
    world.show(power=PowerState.STOPPED)
    with pytest.raises(
        ProviderUnavailable, match=r"never proven to be rack/vm-1.*its provider says that it is Stopped"
    ):
        world.order()
    world.is_away = False
    world.show()
    world.order(ProviderAct.STOP)
    world.clock.advance(timedelta(days=3).total_seconds())
    world.is_away = True
    world.show(power=PowerState.STOPPED)
    world.order()
    assert world.orders == [ProviderAct.STOP, ProviderAct.REVERT]
    proof = world.provider.prove_identity(world.provided, deadline=Deadline.after(world.clock, 60))
    assert (proof.state, proof.proven_at is not None) == (IdentityState.PROVEN_BEFORE, True)
    assert world.clock.now() - (proof.proven_at or world.clock.now()) == timedelta(days=3)
    world.show(power=PowerState.STOPPED, identity=HardwareIdentity(OTHER))
    with pytest.raises(ProviderError, match="rack/vm-1 has become another machine since"):
        world.order()


CLONE: list[ScriptRecord] = [
    {"kind": "machine", "uuid": OWN, "asset_tag": ""},
    {"kind": "card", "mac": "52:54:00:00:00:99"},
]


@pytest.mark.parametrize("power", [PowerState.STOPPED, PowerState.PAUSED])
@pytest.mark.parametrize("seconds", [0, 3600])
@pytest.mark.parametrize("answers", [None, CLONE, [{"kind": "machine", "uuid": OTHER}], []])
def test_whatever_answers_although_its_provider_has_the_machine_off_runs_elsewhere(
    answers: list[ScriptRecord] | None, seconds: int, power: PowerState
) -> None:
    world = World(identity=IdentityPolicy.UNVERIFIED)
    world.order(ProviderAct.TAKE_SNAPSHOT)
    world.clock.advance(seconds)
    world.show(power=power, identity=HardwareIdentity(OWN, macs=(CARD,)))
    world.answers = world.answers if answers is None else answers
    for act in ProviderAct:
        with pytest.raises(ProviderError, match=f"says that it is {power}, and it answers at its address: .*rack/vm-1"):
            world.order(act)
    assert world.orders == [ProviderAct.TAKE_SNAPSHOT]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("cut off"),
        HostKeyMismatch("another key"),
        AuthenticationFailed("no such user"),
        PrivilegeError("sudo is broken"),
        DeadlineExceeded("its shell hangs"),
        Unreachable("it accepts connections, and sends no greeting"),
        WayUnreachable("the jump host is away"),
    ],
)
def test_no_order_is_given_for_a_machine_that_is_off_if_it_is_not_sure_that_nothing_answers(
    error: TransportError,
) -> None:
    world = World()
    world.order(ProviderAct.TAKE_SNAPSHOT)
    world.is_away, world.error = True, error
    for seconds in (0, 3600):
        world.clock.advance(seconds)
        world.show(power=PowerState.STOPPED)
        with pytest.raises(ProviderUnavailable if error.transient else ProviderError, match=error.message) as refused:
            world.order(ProviderAct.START)
        assert refused.type is (ProviderUnavailable if error.transient else ProviderError)
    world.error = make_silence(type(error) if isinstance(error, Unreachable) else Unreachable)
    world.order(ProviderAct.START)
    assert world.orders == [ProviderAct.TAKE_SNAPSHOT, ProviderAct.START]


def test_a_clone_that_answers_is_not_known_by_the_last_proof() -> None:
    world = World()
    world.show(identity=HardwareIdentity(OWN, macs=(CARD,)))
    world.order(ProviderAct.TAKE_SNAPSHOT)
    world.clock.advance(3600)
    world.answers = CLONE
    with pytest.raises(ProviderError, match="it has the UUID of rack/vm-1, and none of its network cards"):
        world.order()
    proof = world.provider.prove_identity(world.provided, deadline=Deadline.after(world.clock, 60))
    assert proof.state is IdentityState.UNKNOWN
    world.answers = CLONE[:1]  # no card can be read: that speaks against nothing
    world.order()
    assert world.orders == [ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT]


def test_a_proof_of_the_future_proves_nothing() -> None:
    world = World()
    world.order(ProviderAct.TAKE_SNAPSHOT)
    world.clock.advance(-3600)
    world.is_away = True
    with pytest.raises(ProviderUnavailable, match="but that is later than now: a clock is or was wrong"):
        world.order()
    right, world.is_away, world.answers = world.answers, False, [{"kind": "machine", "uuid": OTHER}]
    with pytest.raises(ProviderError, match="it is another machine than rack/vm-1"):
        world.order()
    world.answers = right
    world.order()
    world.is_away = True
    world.clock.advance(3600)
    world.order(ProviderAct.STOP)
    assert world.orders == [ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.STOP]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("nobody answers"),
        HostKeyMismatch("another key"),
        PrivilegeError("sudo is broken"),
        DeadlineExceeded("its shell hangs"),
    ],
)
def test_a_machine_that_does_not_answer_is_known_by_its_last_proof(error: TransportError) -> None:
    world = World()
    world.order(ProviderAct.TAKE_SNAPSHOT)
    world.clock.advance(3600)
    world.is_away, world.error = True, error
    world.order()
    assert world.orders == [ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT]


def test_a_machine_in_trouble_that_tells_too_little_is_known_by_its_last_proof_and_a_new_one_is_not() -> None:
    for answers in ([], [{"kind": "machine", "uuid": "", "asset_tag": ""}]):
        world = World()
        world.answers = list(answers)
        with pytest.raises(ProviderError, match="nothing was ordered"):
            world.order()
        world = World()
        world.order(ProviderAct.TAKE_SNAPSHOT)
        world.clock.advance(3600)
        world.answers = list(answers)
        world.order()
        assert world.orders == [ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT]


@pytest.mark.parametrize("kind", ProviderKind)
def test_each_kind_of_provider_is_guarded(kind: ProviderKind, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, name = registry._PLACES[kind].rpartition(".")
    monkeypatch.setattr(f"tasks.machines.providers.{module}.{name}", lambda *_: World(kind))
    ports = registry.ProviderPorts(FakeClock(), fail_to_connect, KeptRecords())
    machine = Machine("web", "10.0.0.1", provider="rack/vm-1")
    assert isinstance(registry.open_provider(ProviderSettings("rack", kind), machine, ports), GuardedProvider)
