"""All that appears on a machine is in the report, also what no update names."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import UnfinishedPackage
from tasks.domain.states import UpdateState
from tasks.rules.updates.new_packages import describe_new_packages, find_new_packages
from tasks.rules.updates.results import mark_changed_dependencies
from tests.unit.rules.examples import a_state, an_update

META = an_update("linux-image-amd64", id="linux-image-amd64", available="6.1.150")
CHANGES = {"linux-image-amd64": "6.1.140", "linux-image-6.1.0-40-amd64": "6.1.140-1", "libx:i386": "2"}


def test_the_kernel_that_a_fix_needs_is_tracked_from_the_plan_to_the_result() -> None:
    foreign, kernel = find_new_packages(CHANGES, a_state(META, an_update("y", arch="i386")))
    assert (kernel.update.name, kernel.update.installed, kernel.update.available) == (
        "linux-image-6.1.0-40-amd64",
        None,
        "6.1.140-1",
    )
    assert (foreign.update.id, foreign.update.name, foreign.update.arch) == ("libx:i386", "libx", "i386")
    assert kernel.state is UpdateState.NOT_SELECTED
    (note,) = describe_new_packages((foreign, kernel))
    assert "linux-image-6.1.0-40-amd64 6.1.140-1" in note

    now = {"linux-image-6.1.0-40-amd64": "6.1.140-1"}
    left, came = mark_changed_dependencies((foreign, kernel), now)
    assert (came.state, came.version_after) == (UpdateState.INSTALLED, "6.1.140-1")
    assert left.state is UpdateState.NOT_SELECTED


def test_a_package_that_was_there_before_did_not_appear() -> None:
    """The package manager would have changed it, and the job did not let it."""
    (found,) = find_new_packages({"old": "2"}, a_state(META))
    (result,) = mark_changed_dependencies((found,), {"old": "1"})
    assert result.state is UpdateState.NOT_SELECTED


def test_a_package_is_not_called_new_while_others_change_packages() -> None:
    """Its update was not seen, because it was half changed."""
    packages = replace(a_state(META), at_work="dpkg (pid 7)")
    (result,) = find_new_packages({"old": "2"}, packages)
    assert "packages were being changed by dpkg (pid 7)" in result.reason
    assert describe_new_packages((result,)) == ()


def test_a_half_installed_package_is_not_called_new() -> None:
    unfinished = (UnfinishedPackage("old", "old", "all", "1", "half-configured"),)
    new, half = find_new_packages({"young": "1", "old": "2"}, replace(a_state(META), unfinished=unfinished))[::-1]
    assert half.reason == "a chosen update needs it; it was half-configured"
    assert describe_new_packages((new, half)) == ("new packages that come along: young 1",)


def test_without_new_packages_nothing_is_told() -> None:
    assert find_new_packages({META.id: META.available}, a_state(META)) == ()
    assert describe_new_packages(()) == ()


@given(st.dictionaries(st.text(), st.text()))
def test_whatever_a_machine_says_can_be_asked_for(changes: dict[str, str]) -> None:
    for result in find_new_packages(changes, a_state(META)):
        assert result.update.id in changes
        assert result.update.name.replace("+", "").replace("-", "").replace(".", "").replace("_", "").isascii()
