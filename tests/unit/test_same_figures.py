"""A figure is the same wherever people read it: notification, approval's page, page, Markdown, CSV, JSON, command."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import cast

import pytest

from fleetpatch.cli.runtime import output
from fleetpatch.cli.views.approval import build_approval_json, print_plan_for_approval
from fleetpatch.cli.views.plan import print_plan
from fleetpatch.cli.views.runs import print_patch_run
from fleetpatch.pages.run import build_rows
from fleetpatch.runs.run_state import MachineLine
from flows.approval.plan_rendering import build_machine_table, describe_plan, render_plan_markdown
from flows.notify.messages import build_message
from tasks.domain.model import DurationPrediction, MachinePlan, Outcome, RunReport, Update, Wave
from tasks.domain.states import NotificationOccasion, OperationState, Step, UpdateState, YesNoUnknown
from tasks.records.queries.run_machines import RecordedMachine
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import build_document
from tasks.reports.export.markdown import build_machine_rows, build_update_table, render_summary
from tasks.reports.formatting import (
    NO_FIGURE,
    describe_cves,
    describe_prediction,
    describe_reboots,
    describe_slowest_machine,
)
from tasks.reports.html.renderer import render_html
from tasks.rules.runs.figures import REBOOT_LABELS, compute_plan_figures, explain_reboot, predict_reboot
from tests.support import builders as make
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.unit.reporting.test_html import Page

CVES: Mapping[str, tuple[Update, ...]] = {
    "none chosen": (),
    "not known": (make.make_update(cves=None), make.make_other_update()),
    "none": (make.make_update(cves=()),),
    "some": (make.make_update(cves=("CVE-1", "CVE-2")), make.make_other_update(cves=None)),
}
BASES = ("defaults", "learned", "defaults; learned: reboot_seconds")


def plan_of(number: int, chosen: tuple[Update, ...], reboot: YesNoUnknown, basis: str) -> MachinePlan:
    seconds = 0.0 if reboot is YesNoUnknown.NO else 300.0
    return MachinePlan(f"web-{number}", chosen, (), DurationPrediction(5.0, 17.0, seconds, 30.0, basis), reboot)


def planned_report(*plans: MachinePlan) -> RunReport:
    waves = (Wave(1, tuple(plan.machine for plan in plans)),)
    return RunReport(make.make_run(kind="plan", scope="env=prod"), (), waves, plans)


ALONE = [
    planned_report(plan_of(1, chosen, reboot, basis))
    for chosen, reboot, basis in product(CVES.values(), YesNoUnknown, BASES)
]
TOGETHER = planned_report(
    *(
        plan_of(n, chosen, reboot, BASES[n % 3])
        for n, (chosen, reboot) in enumerate(product(CVES.values(), YesNoUnknown))
    )
)


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.get_stdout_console(), "width", 400)


@pytest.mark.parametrize("report", [*ALONE, TOGETHER])
def test_a_plan_says_the_same_everywhere(report: RunReport, capsys: pytest.CaptureFixture[str]) -> None:
    figures = compute_plan_figures(report.plans)
    print_plan(report)
    command = capsys.readouterr().out
    print_plan_for_approval(report, None)
    approvals = capsys.readouterr().out
    told = [describe_plan(report), render_plan_markdown(report, "a" * 64, "soon"), command, approvals]
    message = build_message(NotificationOccasion.PLANNED, report).body
    for text in (*told, message):
        assert describe_reboots(figures) in text
        assert describe_cves(figures.cves) in text
        assert describe_slowest_machine(figures) in text.replace("The slowest", "the slowest")
    page = Page(render_html(report)).text
    perhaps = f" to {figures.reboots + figures.possible_reboots}" if figures.possible_reboots else ""
    assert f"Reboots expected {figures.reboots}{perhaps} " in page
    assert f"Updates chosen {figures.updates} " in page


@pytest.mark.parametrize("report", [*ALONE, TOGETHER])
def test_a_machines_plan_says_the_same_everywhere(report: RunReport) -> None:
    rows, cells = build_tables(report).machines, {row["Machine"]: row for row in build_machine_rows(report)}
    documents = build_approval_json(report, None)["machines"]
    assert isinstance(documents, list)
    for plan, row, shown, part in zip(report.plans, rows, build_machine_table(report), documents, strict=True):
        answer = predict_reboot(plan)
        cell = cells[shown["Machine"]]
        assert (cell["Reboot"], shown["Reboot"]) == (REBOOT_LABELS[answer],) * 2
        assert (row.reboot_expected, part["rebootExpected"]) == (answer.value,) * 2
        assert row.reboot_expected_reason == explain_reboot(plan)
        if plan.chosen:
            assert (cell["Predicted"], shown["Minutes"]) == (describe_prediction(plan),) * 2
        assert part["predictionBasis"] == row.prediction_basis


@pytest.mark.parametrize("chosen", CVES.values(), ids=CVES)
def test_that_no_machine_can_tell_its_cves_is_not_the_same_as_none(chosen: tuple[Update, ...]) -> None:
    report = planned_report(plan_of(1, chosen, YesNoUnknown.NO, "learned"))
    page = Page(render_html(report)).text
    for update, row in zip(chosen, sorted(build_update_table(report), key=lambda row: str(row["Update"])), strict=True):
        known: int | str = "not known" if update.cves is None else len(update.cves)
        assert row["CVEs"] == known
        assert re.search(rf"{update.name}.{{0,80}}?{known or NO_FIGURE}", page)


def patched() -> RunReport:
    """Two waves; the machine of the second waits for that of the first, after both were assessed."""
    fleet = SimFleet()
    fleet.add("first", [FakePackage("slow", seconds=900.0)])
    fleet.add("second", [FakePackage("quick", seconds=5.0, asks_reboot=True)])
    return fleet.patch(waves={"canary_count": 1})


def test_what_a_machine_took_is_its_own_work_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    report = patched()
    assert [wave.machines for wave in report.waves] == [("first",), ("second",)]
    second = next(row for row in build_tables(report).machines if row.machine == "second")
    steps = next(outcome for outcome in report.outcomes if outcome.machine == "second").steps
    work = sum((step.ended_at - step.started_at).total_seconds() for step in steps)
    assert second.worked_seconds == pytest.approx(work)
    assert work < 300
    assert (second.seconds or 0) > 900
    print_patch_run(report)
    took = f"{round(work) // 60} min {round(work) % 60:02d} s" if work >= 60 else f"{round(work)} s"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["second"]]
    assert line.rstrip().endswith(took)
    (row,) = [row for row in build_machine_rows(report) if row["Machine"] == "second"]
    assert row["Took"] == took
    details = {"second": RecordedMachine(outcome_of(report, "second"), None)}
    (shown,) = build_rows([cast("MachineLine", SimpleNamespace(name="second"))], details, (), "patch")
    assert shown.worked_seconds == second.worked_seconds  # the page of the run
    assert re.search(rf"second .{{0,80}}{took}", Page(render_html(report)).text)
    (part,) = [part for part in build_document(build_tables(report))["machines"] if part["machineName"] == "second"]
    assert part["workedSeconds"] == second.worked_seconds


def test_a_wave_begins_with_its_own_machines_and_not_with_their_assessment() -> None:
    first, second = build_tables(patched()).waves
    assert first.ended_at is not None
    assert second.started_at is not None
    assert second.started_at >= first.ended_at


def overlapping(*spans: tuple[int, int]) -> Outcome:
    steps = tuple(make.make_step(step=Step.INSTALL, started_at=make.at(a), ended_at=make.at(b)) for a, b in spans)
    return make.make_outcome(steps=steps)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [((), None), (((0, 4), (900, 910)), 14.0), (((0, 10), (5, 20)), 20.0), (((0, 10), (2, 3)), 10.0)],
)
def test_steps_side_by_side_are_counted_once(spans: tuple[tuple[int, int], ...], seconds: float | None) -> None:
    report = RunReport(make.make_run(), (overlapping(*spans),))
    assert build_tables(report).machines[0].worked_seconds == seconds


def test_a_dry_run_shows_what_it_chose_as_chosen_and_not_as_left() -> None:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("a"), FakePackage("held", held=True)])
    report = fleet.patch(dry_run=True)
    assert report.outcomes
    assert {row.name: row.planned for row in build_tables(report).updates} == {"a": True, "held": False}
    page = Page(render_html(report)).text
    assert "Updates chosen 1 " in page
    assert "would be installed" not in page.partition("Why not")[2].partition("Updates 2 different")[0]
    assert "Needs a look" not in page
    assert "Needs a look" not in render_summary(report)


def test_a_reboot_that_was_wanted_and_not_taken_is_no_success_of_its_step() -> None:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("a", asks_reboot=True)]).boots.can = False
    (outcome,) = fleet.patch().outcomes
    (step,) = [step for step in outcome.steps if step.step is Step.REBOOT]
    assert "not rebooted although" in step.message
    assert step.state is OperationState.COMPLETED_WITH_WARNINGS
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_the_counts_of_what_was_not_done_agree() -> None:
    results = make.make_outcome().updates
    waiting = tuple(replace(result, state=UpdateState.PENDING, reason="the job was lost") for result in results)
    report = RunReport(make.make_run(), (make.make_outcome(updates=waiting),))
    (row,) = build_machine_rows(report)
    assert row["Not done"] == len(waiting)
    assert sum(int(each["Not done"]) for each in build_update_table(report)) == len(waiting)
