from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings

from tasks.domain.model import RunReport
from tasks.domain.states import PRESENT_UPDATE_STATES, URGENT_CLASSIFICATIONS, OperationState, RebootState, UpdateState
from tasks.reports.data.rows import ROW_TYPES
from tasks.reports.export.tabular_formats import build_frames, find_column_dtypes
from tests.unit.reporting import samples
from tests.unit.reporting.strategies import report

COUNTS = {
    "installed": UpdateState.INSTALLED,
    "repaired": UpdateState.REPAIRED,
    "failed": UpdateState.FAILED,
    "setup_failed": UpdateState.SETUP_FAILED,
    "pending": UpdateState.PENDING,
    "blocked": UpdateState.BLOCKED,
    "excluded": UpdateState.EXCLUDED,
    "not_selected": UpdateState.NOT_SELECTED,
    "not_attempted": UpdateState.NOT_ATTEMPTED,
}
STATES = {
    "machines_succeeded": OperationState.SUCCEEDED,
    "machines_warnings": OperationState.COMPLETED_WITH_WARNINGS,
    "machines_failed": OperationState.FAILED,
    "machines_in_progress": OperationState.IN_PROGRESS,
    "machines_not_started": OperationState.NOT_STARTED,
    "machines_unknown": OperationState.UNKNOWN,
}


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(report(kinds=("patch",)))
def test_totals_equal_the_outcomes(drawn: RunReport) -> None:
    drawn = replace(drawn, plans=(), waves=())
    made = build_frames(drawn)
    run = made.runs.iloc[0]
    results = [result for outcome in drawn.outcomes for result in outcome.updates]
    assert len(made.machines) == len(drawn.outcomes) == run["machines"]
    assert len(made.updates) == len(results) == run["updates"] == made.machines["updates"].sum()
    for column, state in COUNTS.items():
        told = sum(outcome.count_updates(state) for outcome in drawn.outcomes)
        assert run[column] == told
        assert made.machines[column].sum() == told
        assert (made.updates["state"] == state.value).sum() == told
    for column, kind in STATES.items():
        assert run[column] == drawn.count_machines(kind) == (made.machines["state"] == kind.value).sum()
    urgent = sum(
        r.update.classification in URGENT_CLASSIFICATIONS and r.state not in PRESENT_UPDATE_STATES for r in results
    )
    assert run["urgent_pending"] == urgent == made.machines["urgent_pending"].sum()
    assert run["reboots_completed"] == sum(o.reboot is RebootState.COMPLETED for o in drawn.outcomes)
    assert len(made.timeline) == sum(len(o.steps) for o in drawn.outcomes)
    assert len(made.findings) == sum(len(o.findings) for o in drawn.outcomes)


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(report())
def test_every_machine_has_one_row_whatever_the_report_knows_of_it(drawn: RunReport) -> None:
    names = {o.machine for o in drawn.outcomes} | {p.machine for p in drawn.plans}
    machines = build_frames(drawn).machines
    assert len(machines) == len(names)
    # Parquet can't hold halves of surrogate pairs; everything else is kept as it is
    assert set(machines["machine"]) == {name.encode("utf-8", "replace").decode() for name in names}


@pytest.mark.parametrize("name", ROW_TYPES)
def test_an_empty_report_has_the_same_types_as_a_full_one(name: str) -> None:
    none, full = build_frames(samples.empty()[0]), build_frames(samples.forty()[0])
    wanted = find_column_dtypes(ROW_TYPES[name])
    for made in (none, full):
        frame = getattr(made, name)
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == wanted
    assert len(getattr(none, name)) == (1 if name == "runs" else 0)
    assert len(getattr(full, name)) > 0


def test_moments_are_in_utc_and_exact() -> None:
    made = build_frames(samples.three()[0])
    assert str(made.runs["window_start"].dt.tz) == "UTC"
    assert made.runs["window_start"].iloc[0] == samples.START
    assert made.runs["window_zone"].iloc[0] == "Europe/Berlin"
    first = samples.three()[0].outcomes[0].steps[0]
    assert made.timeline["started_at"].iloc[0] == first.started_at
    assert made.timeline["ended_at"].iloc[0] == first.ended_at


def test_a_dry_run_says_what_is_chosen_and_why_the_rest_is_not() -> None:
    report, _ = samples.plan()
    made = build_frames(report)
    assert made.updates["planned"].sum() == sum(len(plan.chosen) for plan in report.plans)
    assert (made.updates.loc[~made.updates["planned"], "reason"] != "").all()
    assert made.machines.set_index("machine").loc["db-3", "state"] == "Failed"
    assert set(made.machines["state"]) == {"Failed", "NotStarted"}
    assert made.waves["machines"].tolist() == [1, 5, 6]


def test_an_assessment_says_what_is_pending_and_who_is_compliant() -> None:
    report, _ = samples.assessment()
    machines = build_frames(report).machines.set_index("machine")
    for assessment in report.assessments:
        row = machines.loc[assessment.machine]
        assert row["urgent_pending"] == assessment.urgent_count
        assert row["compliance"] == assessment.compliance.value
    assert machines.loc["app-2", "reboot"] == "Required"
    assert machines.loc["app-5", "error_kind"] == "AuthenticationFailed"


def test_frames_are_frozen() -> None:
    made = build_frames(samples.empty()[0])
    with pytest.raises(FrozenInstanceError):
        made.runs = made.machines  # type: ignore[misc]
