"""The tests that are for releases only are there, and what is played instead is, too."""

import re

import pytest

from tests.ci.release_tests import RELEASE_TESTS, is_release_test
from tests.ci.tree import TOP

PATH = re.compile(r"tests/[\w/]+(?:\.py)?")


@pytest.mark.parametrize(("test", "reason"), RELEASE_TESTS.items(), ids=list(RELEASE_TESTS))
def test_it_is_there_and_so_is_what_is_played_instead(test: str, reason: str) -> None:
    path, _, name = test.partition("::")
    source = (TOP / path).read_text()
    if "(FamilyStories)" in source:
        source = (TOP / "tests/lab/families.py").read_text()
    assert f"def {name.rpartition('::')[2]}" in source
    instead = [match.rstrip(".") for match in PATH.findall(reason)]
    assert instead
    for other in instead:
        assert (TOP / other).exists(), other


def test_only_the_named_tests_are_for_releases_only() -> None:
    assert is_release_test("tests/lab/test_automatic.py::test_any")
    assert not is_release_test("tests/flows/test_automatic.py::test_any")
