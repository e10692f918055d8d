"""Records that fail: nothing is begun that isn't recorded, what runs is seen to its end, and the run says so."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import PUBLISH_ACT, JournalEntry, JournalMark
from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet, outcome_of, result_of


class Publishing(LocalRunner):
    """Keeps the report that would be published."""

    report: RunReport | None = None

    def show_end(self, report: RunReport, files: Mapping[str, Path]) -> str:
        self.report = report
        return ""


def test_records_that_fail_from_the_start_ask_nothing_of_any_machine(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    fleet.records.fail_saves = True

    with pytest.raises(RecordsError):
        fleet.patch()

    assert web.calls == []


@pytest.mark.parametrize("failing", range(1, 21))
def test_nothing_is_begun_that_could_not_be_recorded(fleet: SimFleet, failing: int) -> None:
    """The journal's appends: each attempt, before and after every act, and after every step, of two machines."""
    for name in ("first", "second"):
        fleet.add(name, [FakePackage("a", asks_reboot=True)])
    fleet.records.fail_append_at = failing
    runner = Publishing()

    with pytest.raises(RecordsError, match="told to fail"):
        fleet.patch(runner=runner)

    kept = {(entry.machine, entry.act) for entry in fleet.records.journal if entry.mark is JournalMark.BEFORE}
    for name, machine in fleet.machines.items():
        acts = {(name, begun.work) for begun in machine.begun()} | {(name, "reboot") for _ in machine.boots.orders}
        assert acts <= kept
    assert runner.report is not None
    assert len(runner.report.outcomes) == 2
    for outcome in runner.report.outcomes:
        there = fleet.machines[outcome.machine].world.whole()["a"] == "2.0"
        assert (result_of(outcome, "a").state is UpdateState.INSTALLED) is there


def test_a_failing_record_begins_no_other_machine(fleet: SimFleet) -> None:
    for name in ("first", "second", "third"):
        fleet.add(name, [FakePackage("a")])
    fleet.records.fail_append_at = 5  # before the installation of the first; attempt, pre-check and download are told
    runner = Publishing()

    with pytest.raises(RecordsError):
        fleet.patch(runner=runner)

    assert [len(machine.installs()) for machine in fleet.machines.values()] == [0, 0, 0]
    assert runner.report is not None
    assert outcome_of(runner.report, "second").state is OperationState.NOT_STARTED
    assert "records failed" in outcome_of(runner.report, "third").reason


def test_what_was_installed_is_told_when_its_end_could_not_be_recorded(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")])
    fleet.records.fail_append_at = 6  # after the installation
    runner = Publishing()

    with pytest.raises(RecordsError):
        fleet.patch(runner=runner)

    assert runner.report is not None
    assert result_of(outcome_of(runner.report, "web"), "a").state is UpdateState.INSTALLED


def test_every_act_stands_in_the_journal_before_it_and_after_it(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a", asks_reboot=True)])

    fleet.patch()

    *told, published = [(entry.act, entry.mark) for entry in fleet.records.journal if entry.act != "step"]
    assert published == (PUBLISH_ACT, JournalMark.AFTER)
    assert told[0] == ("attempt", JournalMark.AFTER)
    assert told[1:] == [
        (act, mark) for act in ("stage", "install", "reboot") for mark in (JournalMark.BEFORE, JournalMark.AFTER)
    ]
    steps = [entry.key for entry in fleet.records.journal if entry.act == "step"]
    assert steps == ["precheck", "install", "reboot", "validate"]


def test_a_run_whose_records_fail_writes_its_report_without_raw_output(fleet: SimFleet, tmp_path: Path) -> None:
    fleet.add("web", [FakePackage("a")])
    fleet.records.fail_append_at = 6  # after the installation

    def read_no_logs(report: RunReport) -> dict[str, str]:
        raise RecordsUnavailable("the database is away")

    ports, runner = replace(fleet.ports(), read_logs=read_no_logs), LocalRunner(tmp_path, ("html", "json"))

    with pytest.raises(RecordsError, match="told to fail"):
        FleetRun(fleet.request(), ports, runner, run_id="20260310-010000-aaaaaa").execute()

    (written,) = tmp_path.glob("*/report.json")
    (machine,) = json.loads(written.read_text())["machines"]
    assert machine["installedPatchCount"] == 1


def test_records_that_are_away_for_good_are_raised_too(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    web = fleet.add("web", [FakePackage("a")])

    def away(self: FakeRecords, entry: JournalEntry) -> None:
        raise RecordsUnavailable("the database is away")

    monkeypatch.setattr(FakeRecords, "append_entry", away)
    with pytest.raises(RecordsError, match="away"):
        fleet.patch()

    assert web.jobs() == []
