"""Plays mutants: schedules of faults against the engine with one law broken (see mutations.py)."""
# ruff: noqa: T201 - a program that prints

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.faults.mutations import MUTANTS
from tests.faults.simulated import play_number, soak
from tests.faults.site_mutations import SITE_MUTANTS
from tests.faults.sites import play_site_case


@dataclass(frozen=True, slots=True)
class MutantResult:
    """The case that caught a mutant (None: no case did), and the first violation that it found."""

    name: str
    law: str
    case: int | None
    violation: str
    seconds: float


@contextmanager
def break_law(name: str) -> Iterator[None]:
    """Break one law."""
    with ExitStack() as stack:
        MUTANTS[name][1](stack)
        yield


def play_mutant(name: str, seed: str, cases: Iterable[int]) -> MutantResult:
    """Play schedules against a mutant until one finds a violation."""
    began = time.monotonic()
    with break_law(name):
        for case in cases:
            found = soak(seed, [case], play_case=play_site_case if name in SITE_MUTANTS else play_number).violations
            if found:
                return MutantResult(name, MUTANTS[name][0], case, found[case][0], time.monotonic() - began)
    return MutantResult(name, MUTANTS[name][0], None, "", time.monotonic() - began)


def play_mutants(seed: str, cases: int) -> int:
    """Play all mutants, print a line for each, and return the exit code: 1 when one was not caught."""
    missed = 0
    for name in MUTANTS:
        one = play_mutant(name, seed, range(cases))
        missed += one.case is None
        verdict = f"caught by case {one.case}: {one.violation}" if one.case is not None else "NOT CAUGHT"
        print(f"{one.seconds:5.0f} s  {name}: {verdict[:220]}", flush=True)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} mutants caught")
    return 1 if missed else 0
