"""Members of machine sets: other inventories, records that fail, orders of roles that contradict each other."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.member_questions import MemberQuestions
from flows.local_run import LocalRunner
from inventory.machine import RoleSource
from tasks.domain.errors import RecordsError
from tasks.domain.protocols.leases import LeaseHolder, SetSlot
from tasks.domain.states import OperationState
from tasks.steps.context.machine_context import MachineContext
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fleet import outcome_of
from tests.support.set_fleet import RUN, SetFleet

OTHER = "20260310-000000-bbbbbb"
ROLE = RoleSource(command="ask-role")


@pytest.fixture
def fleet() -> SetFleet:
    made = SetFleet()
    made.add_members("web-1", "web-2", "web-3")
    made.add_set("web", "web-1", "web-2", "web-3")
    return made


def hold(fleet: SetFleet, set_name: str, machine: str) -> None:
    """Let a run with another inventory have a machine out of service."""
    fleet.records.save(make.make_run(id=OTHER, state=OperationState.IN_PROGRESS))
    slot = SetSlot(set_name, machine, OTHER, fleet.clock.now(), "their domain")
    fleet.slots.stored[set_name, machine] = slot


def test_a_member_that_another_inventory_has_in_a_set_of_another_name_counts(fleet: SetFleet) -> None:
    hold(fleet, "shop", "web-2")
    report = fleet.run(fleet.request(minutes=60, scope="name=web-1"))
    assert outcome_of(report, "web-1").state is OperationState.NOT_STARTED
    assert f"set web: run {OTHER} has web-2" in outcome_of(report, "web-1").reason
    assert fleet.story == []


def test_machines_of_another_inventory_in_a_set_of_the_same_name_do_not_count(fleet: SetFleet) -> None:
    hold(fleet, "web", "theirs-1")
    report = fleet.run(fleet.request(minutes=60, scope="name=web-1"))
    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED


def test_the_update_domain_of_a_slot_is_that_of_this_inventory() -> None:
    fleet = SetFleet()
    for name, rack in (("web-1", "a"), ("web-2", "a"), ("web-3", "b")):
        fleet.add_members(name, tags={"rack": rack})
    fleet.add_set("web", "web-1", "web-2", "web-3", max_unavailable=2, update_domain="rack")
    hold(fleet, "shop", "web-2")
    report = fleet.run(fleet.request(minutes=60, scope="name=web-[13]"))
    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED
    assert outcome_of(report, "web-3").state is OperationState.NOT_STARTED


@pytest.mark.parametrize("is_held", [True, False])
def test_who_waits_for_a_run_without_a_process_is_told_the_remedy(fleet: SetFleet, is_held: bool) -> None:
    hold(fleet, "web", "web-2")
    fleet.leases = FakeLeases(fleet.records, fleet.clock)
    fleet.leases.acquire(OTHER, LeaseHolder("other", "hilltop", 4711, "anne"), 1e6 if is_held else 1.0)
    fleet.clock.advance(2)
    report = fleet.run(fleet.request(minutes=60, scope="name=web-1"))
    reason = outcome_of(report, "web-1").reason
    assert f"run {OTHER} has web-2" in reason
    remedy = f"no process executes it: `fleetpatch resume {OTHER}`, or `fleetpatch resume {OTHER} --finalize`"
    assert (remedy in reason) is not is_held


@pytest.mark.parametrize("is_trouble", [False, True])
def test_the_end_of_a_turn_that_the_records_never_take_is_told_at_once(
    fleet: SetFleet, monkeypatch: pytest.MonkeyPatch, is_trouble: bool
) -> None:
    def fail(*_: object) -> None:
        raise RecordsError("the disk is full", hint="")

    monkeypatch.setattr(fleet.slots, "release", fail)
    monkeypatch.setattr(fleet.slots, "keep", fail)
    if is_trouble:
        fleet.fails["undrain web-1"] = "no balancer"
    began = fleet.clock.now()

    report = fleet.run(fleet.request(minutes=240, waves={"failure_budget_count": 9, "at_once": 1}))

    for name in ("web-2", "web-3"):
        assert outcome_of(report, name).state is OperationState.NOT_STARTED
        assert (
            "web-1 is still out of service: its turn ended, but the records did not take it"
            in outcome_of(report, name).reason
        )
        assert "the disk is full" in outcome_of(report, name).reason
    assert fleet.clock.now() - began < timedelta(minutes=30)


def contradict(fleet: SetFleet, first: tuple[str, str], second: tuple[str, str]) -> None:
    fleet.add_members("a", "b")
    fleet.roles = {"a": "replica", "b": "primary"}
    fleet.add_set("one", "a", "b", role=ROLE, order=first)
    fleet.add_set("two", "a", "b", role=ROLE, order=second)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (("replica", "primary"), ("primary", "replica"), "a"),
        (("primary", "replica"), ("replica", "primary"), "b"),
    ],
)
def test_of_orders_that_contradict_each_other_that_of_the_first_set_counts(
    first: tuple[str, str], second: tuple[str, str], winner: str, at_once: int
) -> None:
    fleet = SetFleet()
    contradict(fleet, first, second)
    began = fleet.clock.now()

    report = fleet.run(fleet.request(minutes=240, waves={"at_once": at_once}))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert fleet.story[0] == f"drain {winner}"
    assert fleet.clock.now() - began < timedelta(minutes=30)
    (warning,) = [note for note in report.notes if "contradict" in note]
    assert warning.startswith("the orders of the sets one and two contradict each other, for ")
    assert warning.endswith(": that of set one counts")


def count_checks(fleet: SetFleet) -> int:
    """Return how often members were asked for their health or their role."""
    return sum(call.name == "probe" for machine in fleet.machines.values() for call in machine.calls)


class SharedClock(FakeClock):
    """The clock of ten machines that sleep at once. Without it, a machine whose thread waits would miss its limits."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 10)


def test_members_that_begin_together_share_answers() -> None:
    fleet = SetFleet(clock=SharedClock())
    names = [f"m{number:02}" for number in range(20)]
    fleet.add_members(*names, asks_reboot=False)
    fleet.add_set("web", *names, max_unavailable=10)
    report = fleet.run(fleet.request(minutes=2000, waves={"size": 20, "at_once": 10}))
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert count_checks(fleet) < len(names) * len(names)  # each turn has two looks at all others, and one at itself


def test_a_member_is_asked_once_at_a_time_and_only_some_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads that need the same answers wait for one question to each member, from one pool of threads."""
    fleet = SetFleet()
    names = [f"m{number:02}" for number in range(40)]
    fleet.add_members(*names)
    fleet.add_set("web", *names)
    lock, under_way, asked, most = threading.Lock(), [0], Counter[str](), [0]
    callers, all_ask = 8, threading.Event()

    def check(context: MachineContext, _checks: object) -> str:
        with lock:
            asked[context.name] += 1
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        assert all_ask.wait(60)
        with lock:
            under_way[0] -= 1
        return "sick" if context.name == "m07" else ""

    monkeypatch.setattr("flows.engine.member_questions.check_member_health", check)
    ports = fleet.ports()
    run = FleetRun(fleet.request(), ports, LocalRunner(), run_id=RUN)
    questions = MemberQuestions(ports.inventory, run._run_context)
    begun = threading.Barrier(callers + 1)

    def find_down() -> dict[str, str]:
        begun.wait(60)
        return dict(questions.find_down(fleet.sets[0], names, fresh=True))

    with ThreadPoolExecutor(callers) as pool:
        found = [pool.submit(find_down) for _ in range(callers)]
        begun.wait(60)
        all_ask.set()
        assert [each.result(60) for each in found] == [{"m07": "sick"}] * callers
    questions.close()
    assert set(asked.values()) == {1}
    assert most[0] <= 16


@pytest.mark.parametrize(("seconds", "asked"), [(4, 1), (6, 2)])
def test_just_before_a_change_an_answer_counts_for_five_seconds(fleet: SetFleet, seconds: int, asked: int) -> None:
    ports = fleet.ports()
    run = FleetRun(fleet.request(), ports, LocalRunner(), run_id=RUN)
    questions = MemberQuestions(ports.inventory, run._run_context)
    questions.find_down(fleet.sets[0], ["web-1"])
    answered = fleet.clock.now()
    fleet.clock.advance(seconds)
    questions.find_down(fleet.sets[0], ["web-1"], fresh=True)
    questions.close()
    assert count_checks(fleet) == asked
    assert fleet.clock.now() >= answered + timedelta(seconds=seconds)
