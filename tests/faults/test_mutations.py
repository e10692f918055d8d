"""Each law broken on purpose is noticed: otherwise the other tests of this folder would prove nothing."""

import pytest

from tests.faults import hub
from tests.faults.matrix import read_found_mutants
from tests.faults.mutant_runs import play_mutant
from tests.faults.mutations import MUTANTS

CASES = {name: found["case"] for name, found in read_found_mutants().items()}
"""The schedule that found each mutant last; `make faults ARGS=--mutations` plays all mutants from case 0 on."""
FEW_TURNS = 60_000
"""Enough for those schedules, as test_simulated.py sees: a mutant that never ends is found sooner."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_law_is_detected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TURNS_AT_MOST", FEW_TURNS)
    caught = play_mutant(name, "mut", [CASES[name], *range(200)])  # a change of the engine moves schedules

    assert caught.case is not None, f"{name} was not caught"
