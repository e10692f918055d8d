"""Which classifications updates of a package manager can have: the table, its parsers, and what people are told."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.states import Classification
from tasks.machines.managers.registry import MANAGER_TYPES, POSSIBLE_CLASSES, USUAL_MANAGERS
from tasks.rules.updates.possible_classes import find_impossible_classes

MANAGERS = Path(__file__).parents[3] / "tasks/machines/managers"
BUNDLES = Path(__file__).parents[2] / "data/bundles"
CRITICAL, SECURITY, ESM, OTHER = (Classification(name) for name in ("Critical", "Security", "Security-ESM", "Other"))
UNCLASSIFIED = Classification.UNCLASSIFIED


def test_each_manager_has_a_row() -> None:
    assert set(POSSIBLE_CLASSES) == set(MANAGER_TYPES)


@pytest.mark.parametrize(
    ("folder", "manager", "beside"),
    [
        ("apt", "apt", set()),
        ("rpm", "dnf", set()),
        ("rpm", "zypper", set()),
        ("image/rpm_ostree", "rpm-ostree", {OTHER, UNCLASSIFIED}),
        ("image/transactional_update", "transactional-update", {UNCLASSIFIED}),
        ("windows_update", "windows-update", set()),
    ],
)
def test_the_table_has_what_the_parsers_of_a_manager_return(
    folder: str, manager: str, beside: set[Classification]
) -> None:
    """``beside``: what the parsers of all image-based systems return, and components."""
    text = "".join(file.read_text() for file in (MANAGERS / folder).rglob("*.py"))
    named = {Classification[name] for name in re.findall(r"Classification\.([A-Z_]+)", text)}
    assert named | beside == POSSIBLE_CLASSES[manager]


def test_what_was_recorded_of_machines_is_in_the_table() -> None:
    seen: dict[str, set[Classification]] = {}
    for file in BUNDLES.glob("*/wanted.json"):
        packages = json.loads(file.read_text()).get("packages") or {}
        for update in packages.get("updates", ()):
            seen.setdefault(packages["manager"], set()).add(Classification(update["classification"]))
    assert seen
    for manager, classes in seen.items():
        assert classes <= POSSIBLE_CLASSES[manager], manager


@pytest.mark.parametrize(
    ("named", "managers", "told"),
    [
        (
            {CRITICAL},
            ["apt", "apt"],
            "no update of 2 machines with apt can be Critical: apt knows Security, Security-ESM",
        ),
        ({CRITICAL}, ["apt", "dnf"], "no update of 1 machine with apt can be Critical"),
        ({CRITICAL}, ["apt", ""], "whether updates of 1 machine can be Critical is not known before their first"),
        ({CRITICAL, ESM}, ["dnf"], "no update of these machines (dnf) can be Security-ESM"),
        ({Classification.TOOLS, OTHER}, ["zypper"], "no update of these machines (zypper) can be Tools"),
        ({CRITICAL, SECURITY}, ["bootc"], "no update of 1 machine with bootc can be Critical, Security"),
        ({ESM}, ["windows-update"], "no update of 1 machine with windows-update can be Security-ESM"),
    ],
)
def test_what_can_not_be_is_told(named: set[Classification], managers: list[str], told: str) -> None:
    assert any(
        told in sentence for sentence in find_impossible_classes(named, managers, POSSIBLE_CLASSES, USUAL_MANAGERS)
    )


@pytest.mark.parametrize(
    ("named", "managers"),
    [
        ({CRITICAL, SECURITY}, ["apt", "", "dnf", "windows-update"]),
        ({CRITICAL, SECURITY, ESM}, ["dnf", "windows-update"]),
        ({CRITICAL}, ["dnf", "zypper", "windows-update"]),
        ({Classification.DEFINITION, OTHER}, ["apt", "windows-update"]),
        (set(), ["apt"]),
        ({CRITICAL}, []),
        ({CRITICAL}, ["a manager of a plugin"]),
    ],
)
def test_what_can_be_is_not_told(named: set[Classification], managers: list[str]) -> None:
    assert find_impossible_classes(named, managers, POSSIBLE_CLASSES, USUAL_MANAGERS) == ()


@given(st.sets(st.sampled_from(Classification), min_size=1), st.sampled_from(sorted(POSSIBLE_CLASSES)))
def test_a_key_that_can_match_nothing_is_always_told(named: set[Classification], manager: str) -> None:
    matches_nothing = named.isdisjoint(POSSIBLE_CLASSES[manager]) and not (SECURITY in named and manager == "apt")
    assert not matches_nothing or find_impossible_classes(named, [manager], POSSIBLE_CLASSES)
