"""What the commands print of runs."""

import pytest

from flows.cli.views.runs import _print_problems
from tasks.reporting.data.rows import FindingRow
from tasks.states import FindingLevel


def test_warnings_and_what_blocks_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        FindingRow(run_id="r", machine=f"m{number}", check="c", level=level.value, message=f"is {level}", remedy="mend")
        for number, level in enumerate(FindingLevel)
    ]
    _print_problems(rows)
    said = capsys.readouterr().out
    assert [level for level in FindingLevel if f"is {level}" in said] == [FindingLevel.WARN, FindingLevel.BLOCK]
