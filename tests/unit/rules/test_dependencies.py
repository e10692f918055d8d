"""New packages that only the chosen versions need are in the report, and those of other versions are not chosen."""

from tasks.protocols.package_manager import SimulationResult
from tasks.rules.updates.dependencies import find_new_dependencies
from tasks.rules.updates.results import mark_installed_dependencies
from tasks.states import UpdateState
from tests.support.builders import make_package_state, make_update


def test_what_the_assessment_has_not_shown_is_reported_once_it_is_installed() -> None:
    chosen, other = make_update(id="tool", name="tool"), make_update(id="other", name="other")
    simulation = SimulationResult({"tool": "2-1", "other": "2-1", "new": "1-1", "lib:i386": "3"})
    found = find_new_dependencies([chosen], simulation, make_package_state(updates=(chosen, other)))
    assert [(each.update.id, each.update.name, each.update.available) for each in found] == [
        ("new", "new", "1-1"),
        ("lib:i386", "lib", "3"),
    ]
    installed, absent = mark_installed_dependencies(found, {"new": "1-1"})
    assert (installed.state, installed.version_after) == (UpdateState.INSTALLED, "1-1")
    assert absent.state is UpdateState.NOT_SELECTED


def test_without_a_simulation_nothing_comes_along() -> None:
    assert find_new_dependencies([], None, make_package_state()) == ()
