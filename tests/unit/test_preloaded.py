"""What forked processes of the tests have loaded."""

from importlib.util import find_spec

import pytest

from tests.support.forked import PRELOADED


@pytest.mark.parametrize("name", PRELOADED)
def test_each_module_is_there(name: str) -> None:
    """The process that is forked passes silently over one that is not."""
    assert find_spec(name) is not None
