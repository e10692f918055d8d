from hypothesis import given
from hypothesis import strategies as st

from tasks.model import Selection
from tasks.protocols.package_manager import SimulationResult
from tasks.rules.updates.installation_order import group_updates
from tasks.rules.updates.simulation import SimulationObjections, filter_by_simulation, find_objections
from tasks.states import Classification
from tests.unit.rules.examples import FakeSolver, a_state, an_update

A, B, C = an_update("a"), an_update("b"), an_update("c")


def against(chosen, rehearsal, state=None, *, exclude=(), allow_removals=False):
    """What stands against a choice, by one rehearsal of it."""
    state = state or a_state(*chosen)
    return find_objections(chosen, rehearsal, state, Selection(exclude=exclude), allow_removals=allow_removals)


NOTHING = SimulationObjections({}, ())


def reasons(skipped):
    return {result.update.name: result.reason for result in skipped}


def test_nothing_stands_against_a_clean_rehearsal():
    rehearsal = SimulationResult({"a:amd64": "1.1", "b:amd64": "1.1", "new:amd64": "3"})
    assert against((A, B), rehearsal) == NOTHING


def test_a_dependency_that_was_merely_not_selected_is_fine():
    other = an_update("dep", classification=Classification.OTHER)
    assert against((A,), SimulationResult({A.id: "1.1", other.id: "1.1"}), a_state(A, other)) == NOTHING


def test_a_dependency_that_is_excluded_takes_its_update_with_it():
    found = against((A,), SimulationResult({A.id: "1.1", B.id: "1.1"}), a_state(A, B), exclude=("b",))
    assert found == SimulationObjections({A.id: 'it would also change b: excluded by mask "b"'}, ())


def test_a_dependency_that_is_held_takes_its_update_with_it():
    for state in (a_state(A, an_update("b", held=True)), a_state(A, held=("b",))):
        assert (
            "a hold on the machine"
            in against((A,), SimulationResult({A.id: "1.1", B.id: "1.1"}), state).by_update[A.id]
        )


def test_a_dependency_that_is_left_out_takes_its_update_with_it():
    rehearsal = SimulationResult({A.id: "1.1", B.id: "1.1"})
    state, left_out = a_state(A, B, C), {B.id: "b", C.id: "c"}
    found = find_objections((A,), rehearsal, state, Selection(), allow_removals=True, left_out=left_out)
    assert found == SimulationObjections({A.id: "it would also change b, which is left out"}, ())


def test_masks_reach_dependencies_that_are_not_pending_themselves():
    for new in ("libnew:amd64", "libnew.amd64", "libnew:all", "libnew.noarch", "libnew"):
        found = against((A,), SimulationResult({A.id: "1.1", new: "1"}), exclude=("libnew",))
        assert found.by_update == {A.id: f'it would also change {new}: excluded by mask "libnew"'}


def test_masks_that_name_something_else_bar_nothing():
    rehearsal = SimulationResult({A.id: "1.1", "libnew:amd64": "1"}, removals=("old",))
    assert against((A,), rehearsal, exclude=("lib", "", "=1"), allow_removals=True) == NOTHING


def test_what_is_refused_is_told_in_the_managers_words():
    found = against((A, B), SimulationResult({B.id: "1.1"}, refused={A.id: "depends on x (>= 2)"}))
    assert found == SimulationObjections({A.id: "the package manager would not install it: depends on x (>= 2)"}, ())


def test_removals_need_permission_by_name():
    rehearsal = SimulationResult({A.id: "1.1"}, removals=("old-b", "old-a"))
    assert "would remove old-a, old-b, and removals are not allowed" in against((A,), rehearsal).by_update[A.id]
    assert against((A,), rehearsal, allow_removals=True) == NOTHING


def test_what_is_held_or_excluded_is_never_removed():
    rehearsal = SimulationResult({A.id: "1.1"}, removals=("b:amd64",))
    for state, exclude in ((a_state(A, held=("b",)), ()), (a_state(A), ("b",))):
        found = against((A,), rehearsal, state, exclude=exclude, allow_removals=True)
        assert "it would remove b:amd64" in found.by_update[A.id]


def test_what_can_not_be_pinned_on_one_is_held_against_the_whole():
    found = against((A, B), SimulationResult({A.id: "1.1", B.id: "1.1"}, removals=("x",)))
    assert found == SimulationObjections({}, ("it would remove x, and removals are not allowed",))


def test_sift_leaves_out_only_the_ones_to_blame():
    updates = [an_update(f"p{number}") for number in range(64)]
    barred = an_update("kernel")
    solver = FakeSolver(
        needs={"p7:amd64": ["kernel:amd64"]}, removes={"p41:amd64": ["old"]}, refuses={"p50:amd64": "no"}
    )
    found = filter_by_simulation(
        updates, solver, a_state(*updates, barred), Selection(exclude=("kernel",)), allow_removals=False
    )
    assert set(reasons(found.skipped)) == {"p7", "p41", "p50"}
    assert len(found.chosen) == 61
    assert found.simulation_count == len(solver.asked) <= 40
    assert solver.asked[-1] == tuple(update.id for update in found.chosen)
    assert found.simulation is not None
    assert found.simulation.changes.keys() == {update.id for update in found.chosen}


def test_sift_asks_once_when_all_is_well():
    assert (
        filter_by_simulation([A, B], FakeSolver(), a_state(A, B), Selection(), allow_removals=False).simulation_count
        == 1
    )


def test_sift_of_two_that_conflict_keeps_one():
    solver = FakeSolver(conflicts=[(A.id, C.id)])
    found = filter_by_simulation([A, B, C], solver, a_state(A, B, C), Selection(), allow_removals=False)
    assert found.chosen == (A, B)
    assert reasons(found.skipped)["c"].startswith("not together with the other updates of this run")


def test_sift_keeps_groups_whole():
    one, two = an_update("g1", group="g"), an_update("g2", group="g")
    found = filter_by_simulation(
        [one, A, two], FakeSolver(refuses={two.id: "no"}), a_state(one, A, two), Selection(), allow_removals=False
    )
    assert found.chosen == (A,)
    assert reasons(found.skipped)["g1"] == "it belongs together with g2, which can't be installed"


def test_sift_gives_up_on_the_safe_side():
    updates = [an_update(f"p{number}") for number in range(32)]
    solver = FakeSolver(removes={update.id: ["x"] for update in updates})
    found = filter_by_simulation(
        updates, solver, a_state(*updates), Selection(), allow_removals=False, max_simulations=5
    )
    assert found.chosen == ()
    assert found.simulation is None
    assert found.simulation_count == 5
    assert any("too many simulations" in result.reason for result in found.skipped)


def test_sift_of_nothing():
    found = filter_by_simulation([], FakeSolver(), a_state(), Selection(), allow_removals=False)
    assert (found.chosen, found.skipped, found.simulation, found.simulation_count) == ((), (), None, 0)


def test_sift_leaves_out_what_needs_something_that_is_left_out():
    """By however many steps, and what has nothing to do with it stays."""
    updates = [an_update(f"p{number}") for number in range(8)]
    needs = {f"p{number}:amd64": [f"p{number + 1}:amd64"] for number in range(3)}
    solver = FakeSolver(needs=needs, refuses={"p3:amd64": "no"})
    found = filter_by_simulation(updates, solver, a_state(*updates), Selection(), allow_removals=False)
    assert [update.name for update in found.chosen] == ["p4", "p5", "p6", "p7"]
    assert reasons(found.skipped) == {
        "p0": "it would also change p1, which is left out",
        "p1": "it would also change p2, which is left out",
        "p2": "it would also change p3, which is left out",
        "p3": "the package manager would not install it: no",
    }
    assert solver.asked[-1] == tuple(update.id for update in found.chosen)


def test_sift_leaves_out_what_needs_a_member_of_a_group_that_is_left_out():
    one, two = an_update("g1", group="g"), an_update("g2", group="g")
    solver = FakeSolver(needs={A.id: [one.id]}, refuses={two.id: "no"})
    found = filter_by_simulation([A, one, two, B], solver, a_state(A, B, one, two), Selection(), allow_removals=False)
    assert found.chosen == (B,)
    assert reasons(found.skipped)["a"] == "it would also change g1, which is left out"


IDS = st.sampled_from([f"p{number}:amd64" for number in range(10)])


@given(
    st.dictionaries(IDS, st.sets(IDS, max_size=2), max_size=4),
    st.sets(IDS, max_size=3),
    st.sets(IDS, max_size=3),
    st.sets(IDS, max_size=3),
    st.lists(st.tuples(IDS, IDS).filter(lambda pair: pair[0] != pair[1]), max_size=3),
    st.lists(st.sampled_from(("", "", "g", "h")), min_size=10, max_size=10),
    st.integers(0, 60),
)
def test_what_sift_lets_through_is_clean_and_nothing_is_lost(
    along, needing, removing, refused, conflicts, groups, at_most
):
    updates = [an_update(f"p{number}", group=group) for number, group in enumerate(groups)]
    state = a_state(*updates, an_update("bad", held=True))
    needs = {update.id: sorted(along.get(update.id, set())) for update in updates}
    for update_id in needing:
        needs[update_id].append("bad:amd64")
    solver = FakeSolver(
        needs=needs,
        removes={update_id: ["x"] for update_id in removing},
        refuses=dict.fromkeys(refused, "no"),
        conflicts=conflicts,
    )
    found = filter_by_simulation(updates, solver, state, Selection(), allow_removals=False, max_simulations=at_most)
    skipped = {result.update.id for result in found.skipped}
    assert sorted([*skipped, *(update.id for update in found.chosen)]) == sorted(update.id for update in updates)
    assert all(result.reason for result in found.skipped)
    assert len(solver.asked) == found.simulation_count <= at_most
    assert bool(found.chosen) is (found.simulation is not None)
    going = {update.id for update in found.chosen}
    assert all({update.id for update in unit} <= going for unit in group_updates(updates) if unit[0].id in going)
    if found.simulation is not None:
        assert found.simulation == solver(found.chosen)
        assert not skipped & found.simulation.changes.keys()
        assert find_objections(found.chosen, found.simulation, state, Selection(), allow_removals=False) == NOTHING
    if at_most == 60 and not conflicts and not any(groups):
        assert skipped == closed(needing | removing | refused, needs)


def closed(barred, needs):
    """What is barred, and all that needs it."""
    while more := {update_id for update_id, of in needs.items() if barred & set(of)} - barred:
        barred = barred | more
    return barred
