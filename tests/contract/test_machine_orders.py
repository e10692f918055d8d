"""Orders to machines outside of runs: recorded before they begin, whatever becomes of them."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from flows.orders.carrying_out import ChangeResult, Order, carry_out_order, refuse_other_owners
from inventory.machine import Machine, PatchOwner
from tasks.domain.errors import ConnectionLost, RecordsError
from tasks.domain.states import ChangeState
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.retention import prune_history
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.machine_context import MachineContext
from tests.support.builders import START
from tests.support.fake_orders import FakeOrders
from tests.support.fleet import SimFleet

BEGUN, CHANGED, UNCHANGED, PLANNED, REFUSED, FAILED = ChangeState


def test_an_order_is_read_back_with_its_end(records: SqlRecords) -> None:
    orders = SqlMachineOrders(records.database)
    for name in ("b", "a"):
        orders.begin("o1", "updaters off", name, "anne", START)
    orders.begin("o2", "hotpatch enroll", "a", "bob", START + timedelta(hours=1))
    end = START + timedelta(minutes=1)
    orders.end("o1", "a", CHANGED, end, message="done", remedy="", steps=("systemctl disable x.timer",))
    first, second = orders.read_order("o1")
    assert (first.machine, first.result, first.ended_at, first.steps) == (
        "a",
        CHANGED,
        end,
        ("systemctl disable x.timer",),
    )
    assert (second.machine, second.result, second.ended_at, second.by) == ("b", BEGUN, None, "anne")
    assert [(row.order_id, row.machine) for row in orders.read_newest(2)] == [("o2", "a"), ("o1", "a")]
    assert orders.read_order("none") == ()


def test_old_orders_go_with_the_history(records: SqlRecords) -> None:
    orders = SqlMachineOrders(records.database)
    orders.begin("o1", "updaters off", "a", "anne", START)
    orders.begin("o2", "updaters off", "a", "anne", START + timedelta(days=2))
    prune_history(records, START + timedelta(days=1))
    assert [row.order_id for row in orders.read_newest(9)] == ["o2"]


def test_the_last_switch_of_updaters_is_kept_for_good(records: SqlRecords) -> None:
    orders = SqlMachineOrders(records.database)
    for number, (machine, state) in enumerate(
        [("a", CHANGED), ("a", UNCHANGED), ("a", FAILED), ("b", REFUSED), ("c", CHANGED)], start=1
    ):
        moment = START + timedelta(hours=number)
        orders.begin(f"o{number}", "updaters off", machine, "anne", moment)
        orders.end(f"o{number}", machine, state, moment, message="", remedy="", steps=())
    prune_history(records, START + timedelta(days=1))
    assert {row.order_id for row in orders.read_newest(9)} == {"o2", "o5"}
    assert set(orders.read_switches()) == {"a", "c"}


class Deed:
    """What is done on each machine, and what the journal said at that moment."""

    def __init__(self) -> None:
        self.orders = FakeOrders()
        self.seen: list[ChangeState] = []
        self.act: Callable[[MachineContext], ChangeResult] = lambda context: ChangeResult(context.name, CHANGED)

    def change(self, context: MachineContext) -> ChangeResult:
        self.seen.append(self.orders.states["o", context.name])
        return self.act(context)

    def carry_out(self, *machines: Machine, dry_run: bool = False) -> tuple[ChangeResult, ...]:
        fleet = SimFleet()
        for machine in machines:
            fleet.add(machine.name, [])
        order = Order("o", "x", "anne", self.orders, dry_run=dry_run)
        return carry_out_order(machines, fleet.ports(), order, self.change, refuse_other_owners)


def test_it_is_in_the_journal_before_it_acts() -> None:
    deed = Deed()
    (result,) = deed.carry_out(Machine("a", "192.0.2.1"))
    assert (result.state, deed.seen, deed.orders.told) == (CHANGED, [BEGUN], [("a", BEGUN), ("a", CHANGED)])


def test_an_error_of_one_machine_is_its_result_and_hides_no_other() -> None:
    deed = Deed()

    def act(context: MachineContext) -> ChangeResult:
        if context.name == "a":
            raise ConnectionLost("cut")
        if context.name == "b":
            raise ValueError("a fault")
        return ChangeResult(context.name, UNCHANGED)

    deed.act = act
    results = deed.carry_out(*(Machine(name, f"192.0.2.{number}") for number, name in enumerate("abc", 1)))
    assert [(result.machine, result.state) for result in results] == [("a", FAILED), ("b", FAILED), ("c", UNCHANGED)]
    assert deed.orders.states == {("o", "a"): FAILED, ("o", "b"): FAILED, ("o", "c"): UNCHANGED}


def test_a_machine_of_others_is_refused_without_a_connection() -> None:
    deed = Deed()
    (result,) = deed.carry_out(Machine("a", "192.0.2.1", owner=PatchOwner.MANUAL))
    assert (result.state, deed.seen) == (REFUSED, [])
    assert deed.orders.states == {("o", "a"): REFUSED}


class NoRecords(FakeOrders):
    """Records that can't be written from some entry on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RecordsError("the disk is full")

    def begin(self, order_id: str, act: str, machine: str, by: str, at: datetime) -> None:
        self._count()
        super().begin(order_id, act, machine, by, at)

    def end(self, *args: object, **texts: object) -> None:
        self._count()


@pytest.mark.parametrize(("entries", "state", "acts"), [(0, FAILED, 0), (1, CHANGED, 1)])
def test_what_can_not_be_recorded_is_not_begun_and_what_was_done_is_told(
    entries: int, state: ChangeState, acts: int
) -> None:
    deed = Deed()
    deed.orders = NoRecords(entries)
    (result,) = deed.carry_out(Machine("a", "192.0.2.1"))
    assert (result.state, len(deed.seen)) == (state, acts)
    assert "the disk is full" in result.message


def test_a_dry_run_records_nothing() -> None:
    deed = Deed()
    deed.orders.states["o", "a"] = PLANNED
    deed.carry_out(Machine("a", "192.0.2.1"), dry_run=True)
    assert deed.orders.told == []
