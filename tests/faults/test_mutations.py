"""Each law broken on purpose is noticed: otherwise the other tests of this folder would prove nothing."""

import os

import pytest

from tests.faults.mutations import MUTANTS, hunted

FEW = ("the journal is skipped", "the end of the window is ignored", "a stop kills the job", "no claim is asked for")


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS if os.environ.get("CI") == "true" else FEW)
def test_a_broken_law_is_noticed(name: str) -> None:
    caught = hunted(name, "mut", 1500)

    assert caught.case is not None, f"{name} got away"
