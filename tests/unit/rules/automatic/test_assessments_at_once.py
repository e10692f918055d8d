"""How many machines are assessed at the same time, and in which order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from flows.automatic.wording import describe_decision
from flows.request.automatic_request import AutomaticRequest
from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.model import AssessMachines, AutomaticPolicy, FleetView, MachineView

NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)
HOUR, TICK = timedelta(hours=1), timedelta(minutes=15)


def make_fleet(count: int, **known: Any) -> tuple[MachineView, ...]:
    fields: dict[str, Any] = {"last_seen": None, "assessed_at": None, "asked_at": None, "is_healthy": True, **known}
    return tuple(MachineView(f"m{number:05}", "a", **fields) for number in range(count))


def ask(view: FleetView, policy: AutomaticPolicy, now: datetime = NOON) -> list[tuple[str, ...]]:
    return [each.machines for each in decide(policy, view, now).actions if isinstance(each, AssessMachines)]


def test_the_first_tick_of_a_large_fleet_starts_three_processes():
    policy = AutomaticRequest().to_policy()
    view = FleetView(make_fleet(5_000))

    assert [len(each) for each in ask(view, policy)] == [200, 200, 200]
    assert describe_decision(decide(policy, view, NOON))[-1] == "4\u202f400 machines will be assessed after these"


def test_assessments_that_wait_for_a_worker_or_run_take_their_room():
    policy, machines = AutomaticPolicy(), make_fleet(1_000)
    first = frozenset(each.name for each in machines[:450])

    (more,) = ask(FleetView(machines, assessing=first), policy)
    assert more == tuple(each.name for each in machines[450:600])
    assert ask(FleetView(machines, assessing=frozenset(each.name for each in machines[:600])), policy) == []
    assert ask(FleetView(machines, assessing=first), replace(policy, max_assessments=100)) == []


def test_the_oldest_come_first_and_machines_that_do_not_answer_do_not_come_before_them():
    policy = AutomaticPolicy(max_assessments=2)
    old, older = (
        make_fleet(1, last_seen=at, assessed_at=at, asked_at=at)[0] for at in (NOON - 30 * HOUR, NOON - 31 * HOUR)
    )
    silent = replace(make_fleet(1)[0], name="silent", asked_at=NOON - 2 * HOUR)
    machines = (silent, replace(old, name="old"), replace(older, name="older"))

    assert ask(FleetView(machines), policy) == [("older", "old")]
    assert ask(FleetView((*machines, replace(silent, name="new", asked_at=None))), policy) == [("new", "older")]


@given(count=st.integers(0, 60), at_once=st.integers(1, 25), silent=st.sets(st.integers(0, 59)))
@example(count=60, at_once=1, silent=set(range(60)))
@example(count=60, at_once=20, silent=set(range(20)))
def test_all_are_assessed_in_as_many_rounds_as_they_fill(count: int, at_once: int, silent: set[int]):
    """Machines that do not answer are asked again each hour, and keep no other from its turn."""
    policy = AutomaticPolicy(max_assessments=at_once)
    machines, now, asked = {each.name: each for each in make_fleet(count)}, NOON, set()

    for _ in range(ceil(count / at_once)):
        chosen = [name for batch in ask(FleetView(tuple(machines.values())), policy, now) for name in batch]
        assert len(chosen) <= at_once
        for name in chosen:
            answered: dict[str, Any] = {} if int(name[1:]) in silent else {"last_seen": now, "assessed_at": now}
            machines[name] = replace(machines[name], asked_at=now, **answered)
        asked.update(chosen)
        now += TICK

    assert asked == set(machines)
