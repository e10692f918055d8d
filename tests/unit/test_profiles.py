"""How hard the tests look by each of the profiles."""

import pytest
from hypothesis import settings

from tests.support.mortal import THOROUGH_EXAMPLES


@pytest.mark.parametrize("profile", ["ci", "thorough"])
def test_every_change_is_tested_with_an_interference_at_every_call(profile: str) -> None:
    assert settings.get_profile(profile).max_examples >= THOROUGH_EXAMPLES
