"""What the commands print of runs."""

import pytest

from fleetpatch.cli.views.explanation import print_explanations
from fleetpatch.cli.views.fleet_status import print_missing_by_machine, print_missing_by_update
from fleetpatch.cli.views.machine import _print_updates, print_machine
from fleetpatch.cli.views.plan import print_machine_plan
from fleetpatch.cli.views.runs import _print_problems
from tasks.domain.model import RunReport
from tasks.domain.states import FindingLevel
from tasks.records.queries.explanations import explain_outcome
from tasks.reports.data.rows import FindingRow
from tests.support.builders import (
    MACHINE,
    make_facts,
    make_machine,
    make_outcome,
    make_plan,
    make_run,
    make_update,
    make_update_result,
)


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


def test_the_title_of_an_update_whose_name_is_a_number_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    # a narrow terminal breaks lines between words
    update = make_update(name="KB5044281", kb="KB5044281", title="2026-10 Cumulative Update for Windows")
    outcome = make_outcome(updates=(make_update_result(update=update),))
    machine = make_machine()
    found = {machine.name: [update]}
    for print_it in (
        lambda: print_machine_plan(make_plan(chosen=(update,), skipped=())),
        lambda: print_missing_by_update(found, [machine]),
        lambda: print_missing_by_machine(found, [machine]),
        lambda: print_explanations(machine.name, "*", list(explain_outcome(outcome))),
        lambda: _print_updates(outcome),
    ):
        print_it()
        assert {"KB5044281", *update.title.split()} <= set(capsys.readouterr().out.split())
