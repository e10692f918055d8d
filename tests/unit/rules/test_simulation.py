from tasks.domain.model import Selection, UpdateResult
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import Classification, UpdateState
from tasks.rules.updates.simulation import find_objections
from tests.unit.rules.examples import a_state, an_update

A, B, C = an_update("a"), an_update("b"), an_update("c")


def against(chosen, simulation, state=None, *, exclude=(), allow_removals=False):
    """What stands against a choice, by one simulation of it."""
    state = state or a_state(*chosen)
    return find_objections(chosen, simulation, state, Selection(exclude=exclude), allow_removals=allow_removals)


def test_nothing_stands_against_a_clean_rehearsal():
    simulation = SimulationResult({"a:amd64": "1.1", "b:amd64": "1.1", "new:amd64": "3"})
    assert not against((A, B), simulation)


def test_a_dependency_that_was_merely_not_selected_is_fine():
    other = an_update("dep", classification=Classification.OTHER)
    assert not against((A,), SimulationResult({A.id: "1.1", other.id: "1.1"}), a_state(A, other))


def test_a_dependency_that_is_excluded_takes_its_update_with_it():
    found = against((A,), SimulationResult({A.id: "1.1", B.id: "1.1"}), a_state(A, B), exclude=("b",))
    assert found.set_reasons == ('it would also change b: excluded by mask "b"',)
    assert (set(found.unwanted), found.state) == ({B.id}, UpdateState.EXCLUDED)


def test_a_dependency_that_is_held_takes_its_update_with_it():
    for state in (a_state(A, an_update("b", held=True)), a_state(A, held=("b",))):
        found = against((A,), SimulationResult({A.id: "1.1", B.id: "1.1"}), state)
        assert "a hold on the machine excludes it" in found.set_reasons[0]
        assert found.state is UpdateState.EXCLUDED


def test_a_refusal_for_a_hold_excludes_and_names_it():
    refusal = "a : Depends: b (= 1.1) but 1.0 is to be installed"
    for state in (a_state(A, an_update("b", held=True)), a_state(A, B, held=("b",))):
        for simulation in (
            SimulationResult({}, refusal=refusal, named=frozenset({A.id})),
            SimulationResult({}, refusal="Held packages were changed", named=frozenset({"b"})),
        ):
            found = against((A,), simulation, state)
            assert found.set_reasons[0].endswith("(b: on hold on the machine)")
            assert found.state is UpdateState.EXCLUDED
    more = SimulationResult({}, refusal=f"{refusal}; Depends: none but it is not installable", named=frozenset({A.id}))
    assert against((A,), more, a_state(A, B, held=("b",))).state is UpdateState.BLOCKED
    lacking = SimulationResult({}, refusal=refusal)  # the hold keeps nothing away
    assert against((A,), lacking, a_state(A, held=("b",))).state is UpdateState.BLOCKED


def test_a_dependency_that_is_blocked_takes_its_update_with_it():
    state = a_state(A, an_update("b", blocked="its version is phased"))
    found = against((A,), SimulationResult({A.id: "1.1", B.id: "1.1"}), state)
    assert "its version is phased" in found.set_reasons[0]
    assert found.state is UpdateState.BLOCKED


def test_a_dependency_that_is_left_out_takes_its_update_with_it():
    simulation = SimulationResult({A.id: "1.1", B.id: "1.1"})
    for state in (UpdateState.BLOCKED, UpdateState.EXCLUDED):
        left_out = {each.id: UpdateResult(each, state, "because") for each in (B, C)}
        found = find_objections((A,), simulation, a_state(A, B, C), Selection(), allow_removals=True, left_out=left_out)
        assert found.set_reasons == ("it would also change b, which is left out",)
        assert (set(found.unwanted), found.state) == ({B.id}, state)


def test_masks_reach_dependencies_that_are_not_pending_themselves():
    for new in ("libnew:amd64", "libnew.amd64", "libnew:all", "libnew.noarch", "libnew"):
        found = against((A,), SimulationResult({A.id: "1.1", new: "1"}), exclude=("libnew",))
        assert found.set_reasons == (f'it would also change {new}: excluded by mask "libnew"',)


def test_masks_that_name_something_else_bar_nothing():
    simulation = SimulationResult({A.id: "1.1", "libnew:amd64": "1"}, removals=("old",))
    assert not against((A,), simulation, exclude=("lib", "", "=1"), allow_removals=True)


def test_what_is_refused_is_told_in_the_managers_words():
    found = against(
        (A, B), SimulationResult({}, refused={A.id: "it is gone"}, refusal="b needs x", named=frozenset({"b", "x"}))
    )
    assert found.refused == {A.id: "the package manager would not install it: it is gone"}
    assert found.set_reasons == ("the package manager would not install it: b needs x",)
    assert (set(found.named), found.state) == ({"b", "x"}, UpdateState.BLOCKED)


def test_removals_need_permission():
    simulation = SimulationResult({A.id: "1.1"}, removals=("old-b", "old-a"))
    found = against((A, B), simulation)
    assert found.set_reasons == ("it would remove old-a, old-b, and removals are not allowed",)
    assert (set(found.unwanted), found.state) == ({"old-a", "old-b"}, UpdateState.BLOCKED)
    assert not against((A,), simulation, allow_removals=True)


def test_what_is_held_or_excluded_is_never_removed():
    simulation = SimulationResult({A.id: "1.1"}, removals=("b:amd64",))
    for state, exclude in ((a_state(A, held=("b",)), ()), (a_state(A), ("b",))):
        found = against((A,), simulation, state, exclude=exclude, allow_removals=True)
        assert "it would remove b:amd64: " in found.set_reasons[0]
        assert (set(found.unwanted), found.state) == ({"b:amd64"}, UpdateState.EXCLUDED)
