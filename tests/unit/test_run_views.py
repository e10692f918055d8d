"""What the commands print of runs."""

import pytest

from flows.cli.views.machine import print_machine
from flows.cli.views.runs import _print_problems
from tasks.model import RunReport
from tasks.reporting.data.rows import FindingRow
from tasks.states import FindingLevel
from tests.support.builders import MACHINE, make_facts, make_outcome, make_run


def test_warnings_and_what_blocks_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        FindingRow(run_id="r", machine=f"m{number}", check="c", level=level.value, message=f"is {level}", remedy="mend")
        for number, level in enumerate(FindingLevel)
    ]
    _print_problems(rows)
    said = capsys.readouterr().out
    assert [level for level in FindingLevel if f"is {level}" in said] == [FindingLevel.WARN, FindingLevel.BLOCK]


@pytest.mark.parametrize(
    ("before", "shown"),
    [("20348.2700", "kernel 20348.2700 -> 20348.2762,"), ("20348.2762", "kernel 20348.2762,"), ("", "20348.2762,")],
)
def test_a_machine_shows_which_build_ran_before(before: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = make_outcome(kernel_before=before, facts=make_facts(kernel="20348.2762"))
    print_machine(RunReport(make_run(), (outcome,)), MACHINE)
    said = capsys.readouterr().out
    assert shown in said
    assert ("->" in said.partition(shown)[1]) is (before == "20348.2700")
