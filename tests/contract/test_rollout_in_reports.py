"""The report of a run of a rollout shows the phases as the records know them. On SQLite and PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.records.automatic.automatic_runs import AutomaticRun, SqlAutomaticRuns
from tasks.records.automatic.rollouts import SqlRollouts, read_rollout_progress
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.writer import write_report
from tasks.rules.automatic.model import Phase, Rollout, RunPlan
from tasks.rules.automatic.progress import MachineStage, PhaseStage
from tests.contract.records_subjects import BOTH, new_database
from tests.support.builders import make_outcome, make_run

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
ROLLOUT = Rollout(
    "rollout-0001",
    NOW,
    frozenset({("curl", "8")}),
    (Phase(1, ("ber",), NOW, NOW), Phase(2, ("<script>muc", "vie"), NOW)),
)
REQUEST = {"updates": {"as_in_run": "rollout:rollout-0001"}}


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with new_database(request.param, tmp_path) as url, open_records(url) as made:
        yield made


def put(records: SqlRecords, location: str, *machines: str, flow_run: str = "") -> None:
    number = 1 if location == "ber" else 2
    key = f"rollout-0001/{number}/{location}"
    plan = RunPlan(key, ROLLOUT.id, number, location, "", "UTC", machines, NOW, 60)
    SqlAutomaticRuns(records.database).add(AutomaticRun(key, machines, NOW, NOW + timedelta(hours=1), NOW, plan))
    if flow_run:
        SqlAutomaticRuns(records.database).set_flow_run(key, flow_run)


def make_reports() -> tuple[RunReport, RunReport]:
    """Return the reports of two runs: one was good; in the other one a machine failed."""
    first = make_run(id="run-1", flow_run_id="flow-1", started_at=NOW, request=REQUEST)
    second = make_run(id="run-2", flow_run_id="flow-2", started_at=NOW, request=REQUEST)
    bad = make_outcome(run_id="run-2", machine="muc-1", state=OperationState.FAILED, reason="curl failed")
    return (
        RunReport(first, (make_outcome(run_id="run-1", machine="ber-1"),)),
        RunReport(second, (bad, make_outcome(run_id="run-2", machine="muc-2"))),
    )


def test_the_phases_are_read_with_the_outcomes_of_all_runs(records: SqlRecords, tmp_path: Path) -> None:
    first, second = make_reports()
    SqlRollouts(records.database).save(ROLLOUT)
    put(records, "ber", "ber-1", flow_run="flow-1")
    put(records, "<script>muc", "muc-1", "muc-2", flow_run="flow-2")
    put(records, "vie", "vie-1")
    records.save(first.run)
    records.save(first.outcomes[0])
    progress = read_rollout_progress(records.database, second, NOW)  # the end of its run is not in the records yet
    assert progress is not None
    assert [(each.phase.number, each.stage) for each in progress.phases] == [
        (1, PhaseStage.DONE),
        (2, PhaseStage.RUNNING),
    ]
    assert {each.machine: each.stage for phase in progress.phases for each in phase.machines} == {
        "ber-1": MachineStage.DONE,
        "muc-1": MachineStage.FAILED,
        "muc-2": MachineStage.DONE,
        "vie-1": MachineStage.RUNNING,
    }
    page = write_report(second, tmp_path / "reports", formats=["html"], rollout=progress)["html"].read_text("utf-8")
    assert "rollout-0001: RollingForward, 1 update" in page
    assert "1 of 2 done, 1 failed" in page
    assert "<script>muc" not in page


def test_a_machine_whose_run_is_not_over_has_not_failed(records: SqlRecords) -> None:
    _, report = make_reports()
    bad, good = report.outcomes
    SqlRollouts(records.database).save(ROLLOUT)
    put(records, "vie", "muc-1", "muc-2", flow_run="flow-2")
    records.save(replace(report.run, state=OperationState.IN_PROGRESS))
    open_report = replace(report, outcomes=(replace(bad, state=OperationState.IN_PROGRESS), good))
    progress = read_rollout_progress(records.database, open_report, NOW)
    assert progress is not None
    assert [each.stage for each in progress.phases[1].machines] == [MachineStage.RUNNING, MachineStage.DONE]


def test_other_runs_have_no_rollout(records: SqlRecords) -> None:
    report = RunReport(make_run(), ())
    assert read_rollout_progress(records.database, report, NOW) is None
    assert read_rollout_progress(records.database, make_reports()[0], NOW) is None  # these records do not know it
