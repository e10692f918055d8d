"""Which lines of scripts the tests execute: how it is counted, and when the check fails."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ci import powershell_coverage, tree
from tests.ci.powershell_coverage import Covered, Statement

PWSH = shutil.which("pwsh")
SCRIPT = """\
# Nothing of this line, nor of the next two.
param([string] $Name = 'x')

function Get-It {
    # a comment
    param([int] $Number)
    if ($Number -gt 1) { return 'many' }
    foreach ($each in @(1, 2)) {
        Write-Output -InputObject $each
    }
    try {
        $them = @{
            a = 1
        }
    } catch {
        throw
    }
    $them
}

Get-It -Number 1 |
    ForEach-Object -Process { $_ }
"""
LINES = (7, 8, 9, 12, 16, 18, 21, 22)


def note(folder: Path, text: str, *executed: str, of: str = "1", cut: str = "") -> None:
    """Write what a process writes that has executed the statements of a text that begin so."""
    (folder / "texts").mkdir(exist_ok=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    (folder / "texts" / name).write_text(text)
    lines = "".join(f"{name} {text.index(each)} {text.index(each) + len(each)}\n" for each in executed)
    with (folder / f"{of}.hits").open("a") as file:
        file.write(lines + cut)


def test_the_statements_of_texts_are_found_in_the_files_that_they_are_made_of(tmp_path: Path) -> None:
    first, second = Path("first.ps1"), Path("second.ps1")
    contents = {first: "'one'\n'two'", second: "'three'"}
    note(tmp_path, "# before\n'one'\n'two'\n\ntry {\n'three'\n}", "# before", "'two'", "'three'")
    note(tmp_path, "'one'\n'two' # is another one", "'one'", of="2")
    note(tmp_path, "x\n'one'\n'two'", "'one'", of="3", cut="0123 4")
    assert powershell_coverage.map_hits(tmp_path, contents) == {first: {0, 6}, second: {0}}


def test_a_file_is_not_found_in_the_middle_of_a_line() -> None:
    assert list(powershell_coverage.find_places("'x' 'x'\n'x'\n", "'x'")) == [0, 8]
    assert list(powershell_coverage.find_places("anything", "")) == []


def test_a_line_is_executed_if_all_that_begins_in_it_was() -> None:
    statements = [Statement(0, 5, 1), Statement(5, 9, 1), Statement(20, 25, 2), Statement(30, 40, 4)]
    assert powershell_coverage.count_lines("x", statements, {0, 20}) == Covered("x", 3, (1, 4))
    assert powershell_coverage.count_lines("x", statements, {4, 8, 20, 39, 99}) == Covered("x", 3, ())
    assert powershell_coverage.count_lines("x", statements, {9, 19, 25, 29, 40}) == Covered("x", 3, (1, 2, 4))


def test_the_table_names_every_file_and_what_is_missing_of_all_lines() -> None:
    covered = [Covered("tasks/a.ps1", 8, (1, 2, 3, 7)), Covered("tasks/empty.ps1", 0, ()), Covered("b.ps1", 2, ())]
    assert list(powershell_coverage.render(covered)) == [
        "file             lines  executed      %  missing",
        "tasks/a.ps1          8         4   50.0  1-3, 7",
        "tasks/empty.ps1      0         0  100.0",
        "b.ps1                2         2  100.0",
        "all                 10         6   60.0",
    ]


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_a_powershell_it_says_so_and_fails_only_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    assert powershell_coverage.main(["nowhere"]) == code
    assert capsys.readouterr().out == "skipped: no pwsh on PATH\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with one script."""
    if PWSH is None:
        pytest.skip("PowerShell (pwsh) is not on PATH")
    monkeypatch.setattr(tree, "TOP", tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/it.ps1").write_text(SCRIPT)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/other.ps1").write_text("'not for machines'\n")
    (tmp_path / "build").mkdir()
    return tmp_path


def count(*runs: Mapping[int, str], checkout: Path) -> tuple[int, ...]:
    """Return the lines that are missing after processes that have executed these statements."""
    for number, run in enumerate(runs):
        note(checkout / "build", f"# prelude\n{SCRIPT}# end\n", *run.values(), of=str(number))
    assert PWSH is not None
    (covered,) = powershell_coverage.measure(PWSH, checkout / "build", checkout, [checkout / "tasks/it.ps1"])
    assert covered.lines == len(LINES)
    return covered.missing


@pytest.mark.slow
def test_comments_parameters_headers_and_blocks_are_no_lines_to_execute(checkout: Path) -> None:
    assert count(checkout=checkout) == LINES


@pytest.mark.slow
def test_what_several_processes_executed_counts_together(checkout: Path) -> None:
    first = {7: "$Number -gt 1", 8: "@(1, 2)", 9: "Write-Output"}
    second = {7: "'many'", 12: "$them = @{", 21: "Get-It -Number"}
    assert count(first, checkout=checkout) == (7, 12, 16, 18, 21, 22)  # of line 7, one of two
    assert count(first, second, checkout=checkout) == (16, 18, 22)


@pytest.mark.slow
@pytest.mark.parametrize("least", [90, 10])
def test_it_fails_on_too_many_lines_that_were_not_executed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], least: int
) -> None:
    monkeypatch.setattr(powershell_coverage, "LEAST_PERCENT", least)
    note(checkout / "build", SCRIPT, "@(1, 2)", "Get-It -Number")
    code = powershell_coverage.main([str(checkout / "build")])
    said = capsys.readouterr().out
    assert "tasks/it.ps1      8         2   25.0  7, 9, 12, 16, 18, 22\n" in said
    assert "other.ps1" not in said
    assert code == (1 if least == 90 else 0)
    assert ("FAILED: less than 90 %" in said) is (code == 1)
