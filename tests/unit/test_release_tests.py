"""The tests that are for releases only are there, and what is played instead is, too."""

import re

import pytest

from tests.ci.release_tests import RELEASE_TESTS, is_release_test
from tests.ci.tree import TOP
from tests.conftest import LAST_WAIT, order_scopes

PATH = re.compile(r"tests/[\w/]+(?:\.py)?")


@pytest.mark.parametrize(("test", "reason"), RELEASE_TESTS.items(), ids=list(RELEASE_TESTS))
def test_it_is_there_and_so_is_what_is_played_instead(test: str, reason: str) -> None:
    path, _, name = test.partition("[")[0].partition("::")
    source = (TOP / path).read_text()
    if "(FamilyStories)" in source:
        source = (TOP / "tests/lab/families.py").read_text()
    if "machine_contract import *" in source:
        source += (TOP / "tests/contract/manager_contract.py").read_text()
    assert f"def {name.rpartition('::')[2]}" in source
    instead = [match.rstrip(".") for match in PATH.findall(reason)]
    assert instead
    for other in instead:
        assert (TOP / other).exists(), other


def test_only_the_named_tests_are_for_releases_only() -> None:
    assert is_release_test("tests/lab/test_automatic.py::test_any")
    assert not is_release_test("tests/flows/test_automatic.py::test_any")


def test_groups_that_wait_and_groups_that_compute_are_mixed_and_the_longest_of_each_come_first() -> None:
    costs = {"long wait": (1.0, 50.0), "short wait": (1.0, 5.0), "long work": (60.0, 0.0), "short work": (2.0, 0.0)}
    keys = order_scopes(costs)
    assert sorted(costs, key=keys.__getitem__)[:2] == ["long wait", "long work"]
    assert keys["long wait"] < keys["short wait"] < (LAST_WAIT, "")
    assert set(keys) == set(costs)
