"""How hard the tests look by each of the profiles."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings

from tests.support.mortal import choose_calls


@contextmanager
def look(profile: str) -> Iterator[None]:
    present = settings.get_current_profile_name()
    settings.load_profile(profile)
    try:
        yield
    finally:
        settings.load_profile(present)


def test_before_a_release_there_is_an_interference_at_every_call() -> None:
    with look("thorough"):
        assert list(choose_calls(7)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("profile", ["default", "ci"])
def test_for_a_change_there_is_one_at_every_third_call(profile: str) -> None:
    with look(profile):
        assert list(choose_calls(10, 2)) == [2, 5, 8]
