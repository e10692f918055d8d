"""Who of a machine set may go out of service, over random sets and every order in which runs take and release."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Machine, MachineSet
from tasks.domain.protocols.leases import SetSlot
from tasks.rules.runs.set_capacity import (
    MemberRefusal,
    SetSituation,
    WaitsFor,
    check_capacity,
    check_role_order,
    find_domain,
    find_rank,
    select_slots,
)

NOW = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
RUNS = ("run-1", "run-2", "run-3")


def make_set(*members: str, **fields: object) -> MachineSet:
    return MachineSet(name="web", scope="*", members=members, **fields)  # type: ignore[arg-type]


def slot(machine: str, run_id: str = "run-1", *, domain: str = "", reason: str = "") -> SetSlot:
    return SetSlot("web", machine, run_id, NOW, domain, reason)


def check(
    machine_set: MachineSet,
    machine: str,
    *slots: SetSlot,
    down: Mapping[str, str] | None = None,
    domains: Mapping[str, str] | None = None,
    run_id: str = "run-1",
) -> MemberRefusal | None:
    return check_capacity(SetSituation(machine_set, slots, down or {}, domains or {}), machine, run_id)


THREE = make_set("a", "b", "c")


def test_the_first_member_may_and_the_second_waits_for_its_turn() -> None:
    assert check(THREE, "a") is None
    assert check(THREE, "a", slot("a")) is None  # its own
    assert check(THREE, "b", slot("a")) == MemberRefusal(
        "set web: a has its turn (1 of 3 may be out of service)", WaitsFor.TURN
    )


def test_the_reason_names_the_other_run() -> None:
    refusal = check(THREE, "b", slot("a", "20260310-010000-abcdef"))
    assert refusal == MemberRefusal(
        "set web: run 20260310-010000-abcdef has a (1 of 3 may be out of service)", WaitsFor.TURN
    )
    assert check(THREE, "a", slot("a", "run-2")) == MemberRefusal(
        "set web: run run-2 has a (the machine itself)", WaitsFor.TURN
    )


def test_a_member_that_this_run_has_left_out_of_service_ends_the_set_for_this_run() -> None:
    lost = slot("a", reason="it did not come back")
    assert check(THREE, "b", lost) == MemberRefusal(
        "set web: a is still out of service: it did not come back (1 of 3 may be out of service)", WaitsFor.NOTHING
    )
    other = check(THREE, "b", lost, run_id="run-2")  # that run ends
    assert other is not None
    assert other.waits_for is WaitsFor.TURN


def test_a_member_that_a_finished_run_left_drained_is_waited_for_like_one_that_is_down() -> None:
    left = replace(slot("a", "run-1"), drained=True, is_left=True)
    reason = (
        "set web: run run-1 left a drained: patch a again, or bring it back and say `fleetpatch sets release a` "
        "(1 of 3 may be out of service)"
    )
    situation = SetSituation(THREE, [left], {}, {})
    assert check_capacity(situation, "b", "run-2") == MemberRefusal(reason, WaitsFor.HEALTH)
    assert check_capacity(replace(situation, returning={"a"}), "b", "run-2") == MemberRefusal(reason, WaitsFor.TURN)
    later = replace(situation, returning={"a"}, later={"a"})
    assert check_capacity(later, "b", "run-2") == MemberRefusal(reason, WaitsFor.LATER_WAVE)
    assert check_capacity(situation, "a", "run-2") is None  # it is out of service already


def test_a_run_without_a_process_is_named_with_its_remedy() -> None:
    refusal = check_capacity(SetSituation(THREE, [slot("a")], {}, {}, abandoned={"run-1"}), "b", "run-2")
    assert refusal is not None
    assert (
        "no process executes it: `fleetpatch resume run-1`, or `fleetpatch resume run-1 --finalize`" in refusal.reason
    )


def test_the_machine_decides_which_slots_count_and_not_the_name_of_the_set() -> None:
    slots = [replace(slot("a"), set_name="shop", domain="theirs"), slot("stranger"), slot("b", reason="x")]
    found = select_slots(THREE, slots, {"a": "ours", "b": "other"})
    assert [(each.set_name, each.machine, each.domain) for each in found] == [
        ("shop", "a", "ours"),
        ("web", "b", "other"),
    ]


def test_a_member_that_is_down_counts_and_may_get_healthy() -> None:
    assert check(THREE, "b", down={"a": "no answer"}) == MemberRefusal(
        "set web: a is not healthy: no answer (1 of 3 may be out of service)", WaitsFor.HEALTH
    )
    assert check(THREE, "a", down={"a": "no answer"}) is None  # it is out of service anyway
    both = check(THREE, "b", slot("a"), down={"a": "no answer", "c": "no answer"})
    assert both is not None
    assert both.reason.count("a ") == 1
    assert both.waits_for is WaitsFor.HEALTH


def test_quorum() -> None:
    five = make_set("a", "b", "c", "d", "e", max_unavailable=5, quorum=3)
    assert check(five, "b", slot("a")) is None
    assert check(five, "c", slot("a"), slot("b")) == MemberRefusal(
        "set web: a has its turn; b has its turn (3 of 5 must be healthy)", WaitsFor.TURN
    )
    never = check(make_set("a", "b", quorum=2), "a")
    assert never == MemberRefusal("set web: 2 of 2 must be healthy", WaitsFor.NOTHING)


def test_domains() -> None:
    pair = make_set("a", "b", "c", max_unavailable=2, update_domain="domain")
    domains = {"a": "1", "b": "1", "c": "2"}
    assert check(pair, "b", slot("a", domain="1"), domains=domains) is None
    refusal = check(pair, "c", slot("a", domain="1"), domains=domains)
    assert refusal == MemberRefusal("set web: a has its turn (one update domain at a time)", WaitsFor.TURN)
    assert check(pair, "c", down={"a": "gone"}, domains=domains) is not None
    tagged = Machine("a", "192.0.2.1", tags={"domain": "7"})
    assert [find_domain(pair, tagged), find_domain(THREE, tagged)] == ["7", ""]


def test_many_are_not_all_named() -> None:
    big = make_set(*"abcdefgh", max_unavailable=5)
    refusal = check(big, "h", *map(slot, "abcde"))
    assert refusal is not None
    assert refusal.reason == (
        "set web: a has its turn; b has its turn; c has its turn; 2 more are out of service "
        "(5 of 8 may be out of service)"
    )


def test_roles_have_their_turns_in_order() -> None:
    ordered = make_set("a", "b", "c", order=("replica", "primary"))
    assert [find_rank(ordered, role) for role in ("witness", "replica", "primary")] == [0, 1, 2]
    assert check_role_order(ordered, "replica", {"b": "primary", "c": "replica"}, ()) is None
    refusal = check_role_order(ordered, "primary", {"b": "replica", "c": ""}, ())
    assert refusal == MemberRefusal(
        "set web: it is primary, and first come b (replica), c (no listed role)", WaitsFor.TURN
    )
    later = check_role_order(ordered, "primary", {"b": "replica", "c": "primary"}, {"b"})
    assert later is not None
    assert later.waits_for is WaitsFor.LATER_WAVE
    assert check_role_order(THREE, "primary", {"b": "replica"}, ()) is None


@dataclass
class World:
    """Sets, and who has slots, as the records hold them: a take stores all slots of a machine or none."""

    sets: list[MachineSet]
    domains: dict[str, str]
    slots: list[SetSlot] = field(default_factory=list)

    def situation(self, machine_set: MachineSet, down: Mapping[str, str]) -> SetSituation:
        held = [each for each in self.slots if each.set_name == machine_set.name]
        return SetSituation(machine_set, held, down, self.domains if machine_set.update_domain else {})

    def refuse(self, machine: str, run_id: str, down: Mapping[str, str]) -> list[MemberRefusal]:
        mine = [each for each in self.sets if machine in each.members]
        found = [check_capacity(self.situation(each, down), machine, run_id) for each in mine]
        return [refusal for refusal in found if refusal is not None]

    def take(self, machine: str, run_id: str, down: Mapping[str, str]) -> bool:
        if self.refuse(machine, run_id, down):
            return False
        for each in self.sets:
            held = [s for s in self.slots if (s.set_name, s.machine) == (each.name, machine)]
            if machine in each.members and not held:
                domain = self.domains[machine] if each.update_domain else ""
                self.slots.append(SetSlot(each.name, machine, run_id, NOW, domain))
        return True

    def require_limits(self, down: Mapping[str, str]) -> None:
        for each in self.sets:
            held = {s.machine for s in self.slots if s.set_name == each.name}
            out = held | (set(down) & set(each.members))
            if not held:
                continue
            assert len(out) <= each.allowed_unavailable
            assert each.quorum is None or len(each.members) - len(out) >= each.quorum
            assert not each.update_domain or len({self.domains[name] for name in out}) == 1


@st.composite
def worlds(draw: st.DrawFn) -> World:
    machines = [f"m{number}" for number in range(draw(st.integers(1, 14)))]
    domains = {name: draw(st.sampled_from(["", "1", "2"])) for name in machines}
    sets = []
    for number in range(draw(st.integers(1, 3))):
        members = tuple(draw(st.lists(st.sampled_from(machines), min_size=1, unique=True)))
        sets.append(
            MachineSet(
                name=f"set-{number}",
                scope="*",
                members=members,
                max_unavailable=draw(st.none() | st.integers(1, len(members))),
                max_unavailable_percent=draw(st.none() | st.floats(1, 100)),
                quorum=draw(st.none() | st.integers(0, len(members) - 1)),
                update_domain=draw(st.sampled_from(["", "domain"])),
            )
        )
    return World(sets, domains)


@given(worlds(), st.data())
def test_in_any_order_of_takes_and_releases_the_limits_hold(world: World, data: st.DataObject) -> None:
    members = sorted({name for each in world.sets for name in each.members})
    for _ in range(data.draw(st.integers(1, 30))):
        machine, run_id = data.draw(st.sampled_from(members)), data.draw(st.sampled_from(RUNS))
        if data.draw(st.booleans()):
            world.take(machine, run_id, {})
        else:
            world.slots = [s for s in world.slots if (s.machine, s.run_id) != (machine, run_id)]
        world.require_limits({})


@given(worlds(), st.data())
def test_members_that_are_down_count_as_out_of_service(world: World, data: st.DataObject) -> None:
    members = sorted({name for each in world.sets for name in each.members})
    down = dict.fromkeys(data.draw(st.lists(st.sampled_from(members), unique=True, max_size=3)), "gone")
    for machine in data.draw(st.permutations(members)):
        world.take(machine, "run-1", down)
        world.require_limits(down)


@given(worlds(), st.data())
def test_several_runs_that_wait_for_each_other_all_end(world: World, data: st.DataObject) -> None:
    """No deadlock: while nobody is left out of service for good, somebody can always begin or end."""
    waiting = [(name, run) for each in world.sets for name in each.members for run in RUNS]
    running: list[tuple[str, str]] = []
    waiting = data.draw(st.permutations(sorted(set(waiting))))
    while waiting or running:
        begun = [each for each in waiting if world.take(*each, {})]
        assert begun or running, "nobody can begin, and nobody has its turn"
        running += begun
        waiting = [each for each in waiting if each not in begun]
        ended = data.draw(st.sampled_from(running))
        running.remove(ended)
        world.slots = [s for s in world.slots if (s.machine, s.run_id) != ended]


@given(worlds())
def test_any_member_may_begin_when_nobody_is_out_of_service(world: World) -> None:
    for each in world.sets:
        for machine in each.members:
            assert world.refuse(machine, "run-1", {}) == []


@given(worlds(), st.data())
def test_what_can_never_begin_is_told_so_only_if_no_release_helps(world: World, data: st.DataObject) -> None:
    members = sorted({name for each in world.sets for name in each.members})
    for name in data.draw(st.lists(st.sampled_from(members), max_size=6)):
        world.take(name, data.draw(st.sampled_from(RUNS)), {})
    kept = set(data.draw(st.lists(st.sampled_from(members), max_size=2)))
    world.slots = [
        SetSlot(s.set_name, s.machine, s.run_id, s.since, s.domain, "lost" if s.machine in kept else "")
        for s in world.slots
    ]
    for machine in members:
        refusals = world.refuse(machine, "run-1", {})
        lasting = World(world.sets, world.domains, [s for s in world.slots if s.reason and s.run_id == "run-1"])
        never = any(refusal.waits_for is WaitsFor.NOTHING for refusal in refusals)
        assert never == bool(lasting.refuse(machine, "run-1", {}))


@pytest.mark.parametrize(("members", "allowed"), [(1, 1), (9, 1), (10, 2), (14, 2), (15, 3)])
def test_sets_under_ten_go_one_by_one_and_larger_ones_by_a_fifth(members: int, allowed: int) -> None:
    assert make_set(*(f"m{number}" for number in range(members))).allowed_unavailable == allowed
