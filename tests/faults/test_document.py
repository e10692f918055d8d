"""docs/explanation/faults.md proves what it promises: every cell has a link, and every link leads to a case."""

import re

import pytest

from tests.ci.tree import TOP
from tests.faults.abandoned import KINDS
from tests.faults.kinds import FROM_THE_START, STRIKES
from tests.faults.lab_administrator import administrator_cases
from tests.faults.lab_cases import cases
from tests.faults.lab_hard_cases import hard_cases
from tests.faults.lab_late_cases import late_cases
from tests.faults.mutations import MUTANTS
from tests.faults.on_machines import BEFORE_RELEASE, ON_FAMILIES, ON_WINDOWS, ONLY_APT
from tests.faults.windows_cases import windows_cases
from tests.faults.windows_exclusions import NOT_ON_WINDOWS

PAGE = TOP / "docs/explanation/faults.md"
LINK = re.compile(r'\[(L|R|S|T)\]\(\.\./\.\./tests/([^)\s]+)(?: "([^"]*)")?\)')
HARD = {name for name, _ in hard_cases()}
ADMINISTRATOR = {name for name, _ in administrator_cases()}
LATE = {name for name, _ in late_cases()}
NAMED = {
    "faults/lab_cases.py": {name for name, _ in cases()} - HARD - ADMINISTRATOR - LATE,
    "faults/lab_administrator.py": ADMINISTRATOR,
    "faults/lab_hard_cases.py": HARD,
    "faults/lab_late_cases.py": LATE,
    "faults/kinds.py": {*STRIKES, *FROM_THE_START},
    "faults/abandoned.py": KINDS,
}


def table(heading: str) -> list[list[str]]:
    """Return the rows below a heading of the page, each as its cells."""
    part = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def find_mutant_cases() -> dict[str, int]:
    """Return the case that found each mutant last, by the page."""
    return {row[0]: int(row[2]) for row in table("Laws broken on purpose")}


ROWS = table("Faults and steps")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_promise_links_to_its_proof(row: list[str]) -> None:
    assert len(row) == 5
    promises = [cell for cell in row[1:] if cell]
    assert promises
    for cell in promises:
        links = LINK.findall(cell)
        assert links, f"nothing shows: {cell}"
        assert not LINK.sub("", cell).count("](")
        for kind, path, name in links:
            assert (TOP / "tests" / path).exists()
            assert not name or name in NAMED[path], f"{path} has no {name!r}"
            assert (kind == "R") is (name in BEFORE_RELEASE)
        assert {kind for kind, _, _ in links} != {"R"}, f"nothing of all tests shows: {cell}"


def test_the_table_lists_every_case_and_every_kind() -> None:
    shown = {(path, name) for row in ROWS for cell in row for _, path, name in LINK.findall(cell)}
    missing = {(path, name) for path, names in NAMED.items() for name in names} - shown
    assert {name for _, name in missing} <= {"comes back slowly", "reboot pending before"}  # which are no faults


BUTTONS = table("Buttons of Prefect's UI")


@pytest.mark.parametrize("row", BUTTONS, ids=[row[0] for row in BUTTONS])
def test_every_button_links_to_its_tests(row: list[str]) -> None:
    assert len(row) == 4
    for cell in row[1:]:
        links = LINK.findall(cell)
        assert links, f"nothing shows: {cell}"
        for _, path, name in links:
            assert f"def {name}(" in (TOP / "tests" / path).read_text()


def test_the_page_lists_the_cases_of_each_package_manager() -> None:
    rows = {row[0]: row[2] for row in table("Package managers")}
    for flavour, names in ON_FAMILIES.items():
        assert {name for name, flavours in rows.items() if flavour in flavours.split(", ")} == names
    part = PAGE.read_text().partition("## Package managers\n")[2].partition("\n## ")[0]
    assert all(f'"{name}"' in part for name in ONLY_APT)
    assert {name for name, _ in cases()} >= set(rows) | ONLY_APT


def test_the_page_lists_the_cases_on_windows_machines() -> None:
    rows = {row[0]: row for row in table("Windows")}

    assert set(rows) == {name for name, _ in windows_cases()}
    assert {name for name, row in rows.items() if row[2] == "yes"} == ON_WINDOWS
    assert all(row[1] for row in rows.values())


def test_the_page_says_why_a_case_is_not_played_on_windows_machines() -> None:
    on_linux, on_windows = {name for name, _ in cases()}, {name for name, _ in windows_cases()}

    assert on_linux - on_windows == set(NOT_ON_WINDOWS)
    assert {row[0]: row[1] for row in table("Not on Windows")} == NOT_ON_WINDOWS


def test_the_page_lists_every_mutant() -> None:
    assert {row[0] for row in table("Laws broken on purpose")} == set(MUTANTS)
