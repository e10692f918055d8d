"""What apt says of a set that it would install or not."""

import pytest

from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.machines.managers.apt.output_parsers import build_apt_simulation_result
from tests.support.builders import make_update
from tests.unit.managers.recordings import section

KEPT = """The following packages have unmet dependencies:
 w20 : Conflicts: victim1
 w50 : Breaks: victim2 but 1.0 is to be installed
 w71 : Depends: w70 (>= 2) but it is not going to be installed
E: Unable to correct problems, you have held broken packages.
"""


def updates(*names: str) -> list[Update]:
    return [make_update(id=name, name=name, installed="1", available="2") for name in names]


def simulated(recording: str, *names: str) -> SimulationResult:
    return build_apt_simulation_result(section(f"{recording}.apt_simulate", "simulation"), None, updates(*names))


def test_a_conflict_names_both() -> None:
    answer = simulated("debian-12-conflict", "lab-removes", "lab-plain", "a")
    assert answer.refusal == "lab-removes: Conflicts: lab-plain but 2.0 is to be installed"
    assert answer.named == {"lab-removes", "lab-plain"}
    assert (answer.changes, answer.removals, answer.refused) == ({}, (), {})


def test_what_apt_does_not_know_any_more_is_refused_in_any_set() -> None:
    answer = simulated("debian-12-unknown", "lab-plain", "nosuch", "a")
    assert answer.refused.keys() == {"lab-plain", "nosuch"}
    assert "do not have lab-plain 2 (any more)" in answer.refused["lab-plain"]


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (("w20", "w50", "w70", "w71"), {"w20", "w50", "w70", "w71"}),
        (("w20", "a"), {"w20", "w50", "w71"}),  # what they need is named, too
        (("installed", "is"), {"w20", "w50", "w71", "installed", "is"}),  # a hint only: all of these are looked at
    ],
)
def test_whom_apt_names(wanted: tuple[str, ...], named: set[str]) -> None:
    answer = build_apt_simulation_result(KEPT, None, updates(*wanted))
    assert answer.named == named


def test_a_held_package_that_would_change_is_named() -> None:
    said = (
        "The following held packages will be changed:\n  victim1 victim2\n1 upgraded\nE: Held packages were changed\n"
    )
    assert build_apt_simulation_result(said, None, updates("w20")).named == {"victim1", "victim2"}


def test_other_errors_name_nobody() -> None:
    answer = build_apt_simulation_result("E: nothing today\n", None, updates("a"))
    assert (answer.refusal, answer.named) == ("nothing today", frozenset())
