"""A Windows machine for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.contract.windows.warm_machine import WarmMachine


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmMachine]:
    with WarmMachine.opened() as machine:
        yield machine
