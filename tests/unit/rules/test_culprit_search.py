"""The search for the updates that prevent an installation, in package worlds that are made up."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Selection
from tasks.domain.states import Classification, UpdateState
from tasks.rules.updates.simulation import filter_by_simulation, find_objections
from tasks.rules.updates.transaction_planning import group_updates, rank_urgency
from tests.unit.rules.examples import FakeSolver, a_state, an_update

A, B, C = an_update("a"), an_update("b"), an_update("c")
BOTH = pytest.mark.parametrize("names_culprits", [True, False])


def search(updates, solver, *, state=None, has_time=lambda: True, **selection):
    state = state or a_state(*updates)
    return filter_by_simulation(updates, solver, state, Selection(**selection), allow_removals=False, has_time=has_time)


def reasons(found):
    return {result.update.name: result.reason for result in found.skipped}


def number(count, **fields):
    return [an_update(f"p{each}", **fields) for each in range(count)]


def test_a_set_that_is_clean_is_asked_about_once():
    found = search([A, B], FakeSolver())
    assert (found.chosen, found.skipped, found.simulation_count) == ((A, B), (), 1)


def test_of_nothing_nobody_is_asked():
    found = search([], FakeSolver())
    assert (found.chosen, found.skipped, found.simulation, found.simulation_count) == ((), (), None, 0)


@pytest.mark.parametrize(("names_culprits", "at_most"), [(True, 7), (False, 3 * (7 + 1) + 1 + 2)])
def test_three_that_remove_something_cost_no_other_update(names_culprits, at_most):
    """The package manager is asked who removes something; if it does not say, the search asks by halves."""
    updates = number(90)
    removes = {f"p{each}:amd64": [f"old{each}"] for each in (7, 41, 77)}
    solver = FakeSolver(removes=removes, names_culprits=names_culprits)
    found = search(updates, solver)
    assert reasons(found) == {
        f"p{each}": f"it would remove old{each}, and removals are not allowed" for each in (7, 41, 77)
    }
    assert {result.state for result in found.skipped} == {UpdateState.BLOCKED}
    assert found.simulation_count == len(solver.asked) <= at_most
    assert found.simulation == solver(found.chosen)


@BOTH
def test_all_kinds_of_culprits_are_found_at_once(names_culprits):
    updates, barred = number(300), an_update("kernel")
    solver = FakeSolver(
        needs={"p7:amd64": ["kernel:amd64"], "p8:amd64": ["p50:amd64"]},
        removes={"p41:amd64": ["old"]},
        refuses={"p50:amd64"},
        gone={"p51:amd64"},
        names_culprits=names_culprits,
    )
    found = search(updates, solver, state=a_state(*updates, barred), exclude=("kernel",))
    assert {result.update.name: result.state for result in found.skipped} == {
        "p7": UpdateState.EXCLUDED,  # a person excludes what it needs
        "p8": UpdateState.BLOCKED,
        "p41": UpdateState.BLOCKED,
        "p50": UpdateState.BLOCKED,
        "p51": UpdateState.BLOCKED,
    }
    assert reasons(found)["p7"] == 'it would also change kernel: excluded by mask "kernel"'
    assert found.simulation_count <= (20 if names_culprits else 60)


@BOTH
@pytest.mark.parametrize("urgent", ["a", "c"])
def test_of_two_that_conflict_the_more_urgent_one_goes(names_culprits, urgent):
    updates = [
        an_update(name, classification=Classification.SECURITY if name == urgent else Classification.OTHER)
        for name in "abc"
    ]
    found = search(updates, FakeSolver(conflicts=[(A.id, C.id)], names_culprits=names_culprits))
    (loser,) = {"a", "c"} - {urgent}
    assert {update.name for update in found.chosen} == {"b", urgent}
    assert "a:amd64 conflicts with c:amd64" in reasons(found)[loser]
    assert reasons(found)[loser].endswith(f"; not together with {urgent}") is names_culprits


@BOTH
def test_groups_stay_whole(names_culprits):
    one, two = an_update("g1", group="g"), an_update("g2", group="g")
    solver = FakeSolver(needs={B.id: [one.id]}, gone={two.id}, names_culprits=names_culprits)
    found = search([one, A, two, B], solver)
    assert found.chosen == (A,)
    assert reasons(found) == {
        "g1": "it belongs together with g2, which can't be installed",
        "g2": "the package manager would not install it: it is gone",
        "b": "it would also change g1, which is left out",
    }


def test_what_needs_a_group_that_turns_out_to_be_bad_is_left_out_too():
    """The group is less urgent, so it is looked at later than what needs it."""
    group = [an_update(name, group="g", classification=Classification.OTHER) for name in ("g1", "g2")]
    solver = FakeSolver(needs={A.id: [group[0].id]}, refuses={group[1].id}, names_culprits=False)
    found = search([A, B, *group], solver)
    assert found.chosen == (B,)
    assert reasons(found)["a"] == "it would also change g1, which is left out"


@BOTH
def test_what_needs_something_that_is_left_out_is_left_out(names_culprits):
    """By however many steps, and what has nothing to do with it stays."""
    updates = number(8)
    needs = {f"p{each}:amd64": [f"p{each + 1}:amd64"] for each in range(3)}
    found = search(updates, FakeSolver(needs=needs, removes={"p3:amd64": ["x"]}, names_culprits=names_culprits))
    assert [update.name for update in found.chosen] == ["p4", "p5", "p6", "p7"]
    assert reasons(found)["p3"] == "it would remove x, and removals are not allowed"


@BOTH
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_without_time_what_is_known_to_be_installable_is_chosen(names_culprits, count):
    updates = number(32)
    solver = FakeSolver(removes={f"p{each}:amd64": ["x"] for each in range(3, 32, 9)}, names_culprits=names_culprits)
    found = search(updates, solver, has_time=lambda: len(solver.asked) < count)
    assert len(solver.asked) == found.simulation_count <= count
    assert bool(found.chosen) is (found.simulation is not None)
    if found.chosen:
        assert solver(found.chosen) == found.simulation
        assert not found.simulation.removals
    assert all("not checked" in result.reason or "it would remove x" in result.reason for result in found.skipped)


def test_without_time_most_of_the_innocent_ones_are_chosen():
    """After each question, the best answer until then counts."""
    updates = number(64)
    solver = FakeSolver(removes={"p40:amd64": ["x"]}, names_culprits=False)
    found = search(updates, solver, has_time=lambda: len(solver.asked) < 3)
    assert len(found.chosen) == 32


IDS = st.sampled_from([f"p{each}:amd64" for each in range(12)])
CLASSES = st.sampled_from((Classification.CRITICAL, Classification.SECURITY, Classification.OTHER))


@st.composite
def worlds(draw, groups=("",)):
    """Pending updates, and a package manager with their rules."""
    updates = [
        an_update(f"p{each}", group=draw(st.sampled_from(groups)), classification=draw(CLASSES))
        for each in range(draw(st.integers(1, 12)))
    ]
    needs = draw(st.dictionaries(IDS, st.lists(IDS, max_size=2), max_size=5))
    for update_id in draw(st.sets(IDS, max_size=2)):
        needs[update_id] = [*needs.get(update_id, ()), "held:amd64"]
    solver = FakeSolver(
        needs=needs,
        removes={update_id: ["x"] for update_id in draw(st.sets(IDS, max_size=3))},
        gone=draw(st.sets(IDS, max_size=2)),
        refuses=draw(st.sets(IDS, max_size=2)),
        conflicts=draw(st.lists(st.tuples(IDS, IDS).filter(lambda pair: pair[0] != pair[1]), max_size=3)),
        names_culprits=draw(st.booleans()),
    )
    return updates, solver


def explain(world, chosen, left_out=()):
    """What stands against a choice."""
    updates, solver = world
    state = a_state(*updates, an_update("held", held=True))
    return find_objections(
        chosen,
        solver(chosen),
        state,
        Selection(),
        allow_removals=False,
        left_out={result.update.id: result for result in left_out},
    )


def search_world(world, has_time=lambda: True):
    updates, solver = world
    found = search(updates, solver, state=a_state(*updates, an_update("held", held=True)), has_time=has_time)
    assert len(solver.asked) == found.simulation_count
    skipped = {result.update.id for result in found.skipped}
    assert sorted([*skipped, *(update.id for update in found.chosen)]) == sorted(update.id for update in updates)
    assert all(result.reason for result in found.skipped)
    assert bool(found.chosen) is (found.simulation is not None)
    going = {update.id for update in found.chosen}
    assert all({update.id for update in unit} <= going for unit in group_updates(updates) if unit[0].id in going)
    if found.chosen:
        assert found.simulation == solver(found.chosen)
        assert not explain(world, found.chosen)
    return found


@given(worlds(groups=("", "", "", "g", "h")))
def test_what_is_chosen_is_installable_and_what_is_left_out_is_not(world):
    found = search_world(world)
    assert not explain(world, found.chosen, found.skipped)
    left_out = {result.update.id for result in found.skipped}
    for unit in group_updates(world[0]):
        if unit[0].id in left_out:
            others = [result for result in found.skipped if result.update not in unit]
            assert explain(world, [*found.chosen, *unit], others)


@given(worlds())
def test_what_is_left_out_is_in_nobodys_way_who_is_less_urgent(world):
    """Without the less urgent ones, it could not be installed either."""
    found = search_world(world)
    for result in found.skipped:
        rank = rank_urgency(result.update)
        urgent = [update for update in found.chosen if rank_urgency(update) <= rank]
        assert explain(world, [*urgent, result.update])


@given(worlds())
def test_the_number_of_questions_follows_the_number_of_culprits(world):
    found = search_world(world)
    culprits, rounds = len(found.skipped), ceil(log2(len(world[0]))) + 3
    assert found.simulation_count <= (culprits + 1) * rounds + 3


@given(worlds(groups=("", "", "", "g", "h")), st.integers(0, 12))
def test_without_time_the_choice_is_installable_too(world, count):
    solver = world[1]
    found = search_world(world, has_time=lambda: len(solver.asked) < count)
    assert found.simulation_count <= count
