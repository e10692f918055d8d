"""A run's summary says of each machine what the whole report says, without its updates."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.domain.model import RunReport
from tasks.records.queries.history import History
from tasks.records.queries.run_summary import count_pending_updates
from tasks.records.setup import open_records
from tasks.reports.data.rows import MachineReportRow
from tasks.reports.data.tables import build_tables
from tests.support import builders as make
from tests.unit.reporting import samples


def _without_plans(row: MachineReportRow) -> MachineReportRow:
    # What is only planned stands in the plan, which a summary does not read.
    row = replace(row, planned=None, reboot_expected="", reboot_expected_reason="")
    return row if row.prediction_basis else replace(row, predicted_seconds=None)


@pytest.mark.parametrize("made", [make.make_report, lambda: samples.forty()[0], lambda: samples.assessment()[0]])
def test_it_tells_the_same_of_every_machine(tmp_path: Path, empty_records: Path, made: Callable[[], RunReport]) -> None:
    report = made()
    report = replace(report, outcomes=tuple(replace(each, run_id=report.run.id) for each in report.outcomes))
    with open_records(f"sqlite:///{shutil.copy(empty_records, tmp_path)}") as records:
        records.save(report)
        history = History(records)
        whole, summary = history.read_report(report.run.id), history.read_summary(report.run.id)
    done = {outcome.machine for outcome in whole.outcomes}
    rows = {row.machine: _without_plans(row) for row in build_tables(whole).machines if row.machine in done}
    summed = {row.machine: row for row in build_tables(summary.report, summary.results).machines if row.machine in done}
    assert {name: _without_plans(row) for name, row in summed.items()} == rows
    assert summary.pending == count_pending_updates(whole)
    assert all(not outcome.updates for outcome in summary.report.outcomes)
    assert build_tables(summary.report, summary.results).findings == build_tables(whole).findings
    assert (summary.report.waves, summary.report.hooks, summary.report.notes) == (whole.waves, whole.hooks, whole.notes)
