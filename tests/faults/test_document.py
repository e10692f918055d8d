"""docs/explanation/faults.md proves its promises: its tables come from the tests' data, and every proof exists."""

from pathlib import Path

import pytest

from tests.ci.tree import TOP
from tests.faults import matrix
from tests.faults.abandoned import KINDS
from tests.faults.kinds import FROM_THE_START, STRIKES
from tests.faults.lab_administrator import administrator_cases
from tests.faults.lab_cases import cases
from tests.faults.lab_hard_cases import hard_cases
from tests.faults.lab_late_cases import late_cases
from tests.faults.matrix import PAGE, Promise, build_tables, read_found_mutants, read_promises, render
from tests.faults.mutations import MUTANTS
from tests.faults.on_machines import ON_FAMILIES, ON_WINDOWS, ONLY_APT
from tests.faults.windows_cases import windows_cases
from tests.faults.windows_exclusions import NOT_ON_WINDOWS

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
FAULTS, BUTTONS = read_promises("faults"), read_promises("buttons")


def read_first_cells(heading: str) -> set[str]:
    """Return the first cells of the table below a heading of the page."""
    part = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")} - {"case"}


def test_the_tables_of_the_page_are_up_to_date() -> None:
    """`python -m tests.faults.matrix --write` writes them anew."""
    page = PAGE.read_text(encoding="utf-8")

    assert [name for name in build_tables() if f"<!-- begin: {name} -->" not in page] == []
    assert render(page) == page


def test_a_page_that_is_behind_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "faults.md"
    page.write_text("<!-- begin: mutants -->\n<!-- end -->\n")
    monkeypatch.setattr(matrix, "PAGE", page)

    assert matrix.main([]) == 1
    assert matrix.main(["--write"]) == 0
    assert matrix.main([]) == 0
    assert all(f"| {name} |" in page.read_text() for name in MUTANTS)


@pytest.mark.parametrize("promises", FAULTS.values(), ids=FAULTS)
def test_every_promise_has_a_proof(promises: dict[str, Promise]) -> None:
    assert promises
    assert set(promises) <= set(matrix.STEPS)
    for promise in promises.values():
        assert promise.text
        for proof in promise.proofs:
            assert (TOP / "tests" / proof.path).is_file()
            assert not proof.name or proof.name in NAMED[proof.path], f"{proof.path} has no {proof.name!r}"
        assert {proof.kind for proof in promise.proofs} - {"R"}, f"nothing of all tests shows: {promise.text}"


def test_the_faults_name_every_case_and_every_kind() -> None:
    proofs = {
        (proof.path, proof.name)
        for promises in FAULTS.values()
        for promise in promises.values()
        for proof in promise.proofs
    }
    missing = {(path, name) for path, names in NAMED.items() for name in names} - proofs
    assert {name for _, name in missing} <= {"comes back slowly", "reboot pending before"}  # which are no faults


@pytest.mark.parametrize("promises", BUTTONS.values(), ids=BUTTONS)
def test_every_button_names_its_tests(promises: dict[str, Promise]) -> None:
    assert list(promises) == ["run", "machines", "records"]
    for promise in promises.values():
        assert promise.proofs, f"nothing shows: {promise.text}"
        for proof in promise.proofs:
            assert f"def {proof.name}(" in (TOP / "tests" / proof.path).read_text()


def test_every_case_has_the_mark_of_its_plays() -> None:
    assert {name for name, _ in cases()} >= {*ONLY_APT, *ON_FAMILIES["dnf"], *ON_FAMILIES["zypper"]}
    rows = {row[0]: row[1:] for row in build_tables()["cases"][1:]}

    assert set(rows) == {name for name, _ in cases()} | {name for name, _ in windows_cases()}
    assert {name for name, marks in rows.items() if marks[3] == "●"} == ON_WINDOWS
    assert {name for name, marks in rows.items() if marks[2] == "●"} == ON_FAMILIES["zypper"]
    assert {name for name, marks in rows.items() if marks[0] != "-" and marks[1] == "-"} == ONLY_APT


def test_the_page_tells_how_each_case_ends_on_windows_machines() -> None:
    assert read_first_cells("Windows") == {name for name, _ in windows_cases()}


def test_every_case_that_is_not_played_on_windows_machines_has_its_reason() -> None:
    on_linux, on_windows = {name for name, _ in cases()}, {name for name, _ in windows_cases()}

    assert on_linux - on_windows == set(NOT_ON_WINDOWS)


def test_the_notes_on_package_managers_are_on_cases_that_these_play() -> None:
    assert read_first_cells("Package managers") <= {name for name, _ in cases()} - ONLY_APT


def test_every_mutant_is_listed_with_the_case_that_found_it() -> None:
    assert set(read_found_mutants()) == set(MUTANTS)
    assert {row[0] for row in build_tables()["mutants"][1:]} == set(MUTANTS)
