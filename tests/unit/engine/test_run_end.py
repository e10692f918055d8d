"""The end of a run: one table of states, one place that publishes it, and only for the process that has the run."""

import ast
import json
import os
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType

from flows.engine.fleet_run import FleetRun
from flows.engine.run_end import find_end_occasion, publish_end
from flows.local_run import LocalRunner
from flows.prefect_runtime.end_states import build_final_state
from tasks.domain.errors import LeaseLost, RecordsUnavailable, ReportError
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import PUBLISH_ACT
from tasks.domain.run_errors import EndUnknown
from tasks.domain.states import UNFINISHED_RUN_STATES, NotificationOccasion, OperationState, WindowStatus
from tasks.reports import report_directory
from tasks.reports.report_directory import hold_report_folder
from tasks.reports.writer import write_report
from tests.support.builders import make_run
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet
from tests.unit.reporting import samples

ROOT = Path(__file__).parents[3]
RUN = "20260310-010000-aaaaaa"

OUTPUTS = {
    "set_flow_run_state",
    "set_task_run_state",
    "create_artifact",
    "update_artifact",
    "delete_artifact",
    "create_markdown_artifact",
    "create_table_artifact",
    "create_progress_artifact",
    "write_report",
    "write_report_files",
}
GUARDED_OUTPUTS = {
    # the end of a run, behind publish_end
    ("flows/engine/run_end.py", "publish_end"): {"write_report_files"},
    ("flows/ports/ports.py", "write_report_files"): {"write_report"},
    ("flows/report_process.py", "_write"): {"write_report"},
    ("flows/prefect_runtime/runner.py", "_publish_to_prefect"): {"delete_artifact"},
    ("tasks/prefect_tasks.py", "publish_report"): {"create_markdown_artifact", "create_table_artifact"},
    # what the records say of a run that is over
    ("flows/prefect_runtime/flow_run_states.py", "end_flow_run"): {"update_artifact"},
    ("flows/prefect_runtime/flow_run_states.py", "_mark_crashed"): {"set_flow_run_state", "set_task_run_state"},
    ("flows/prefect_runtime/flow_run_states.py", "_correct_state"): {"set_flow_run_state"},
    ("flows/maintenance.py", "report_fleet"): {"write_report"},
    ("fleetpatch/cli/commands/runs.py", "write_run_report"): {"write_report"},
    # how far it is, while its process has the lease
    ("flows/prefect_runtime/run_artifacts.py", "_write"): {"create_artifact", "update_artifact"},
    ("flows/prefect_api/api_client.py", "set_own_state"): {"set_flow_run_state"},
    # flow runs that are no runs: forms, hooks, starts that a person or a deploy takes back, the state of a rollout
    ("flows/approval/prefect_form.py", "_pause_on_form"): {"set_flow_run_state"},
    ("flows/approval/prefect_form.py", "_publish_plan"): {"create_artifact"},
    ("flows/approval/prefect_form.py", "_close_earlier_forms"): {"set_flow_run_state"},
    ("flows/hooks/deployment.py", "_cancel_flow_run"): {"set_flow_run_state"},
    ("flows/prefect_api/flow_run_starter.py", "start"): {"set_task_run_state"},
    ("flows/prefect_api/flow_run_starter.py", "cancel"): {"set_flow_run_state"},
    ("flows/automatic/flow.py", "publish_decision"): {"create_markdown_artifact", "create_progress_artifact"},
    ("deployments/sync/change_applier.py", "cancel_waiting_run"): {"set_flow_run_state"},
    ("fleetpatch/acts/flow_runs.py", "cancel_waiting_flow_run"): {"set_flow_run_state"},
}
"""Each function that shows people something about a run: (file, function) and what it calls."""


def find_outputs() -> dict[tuple[str, str], set[str]]:
    """Return each function of the product that calls one of OUTPUTS."""
    outputs: dict[tuple[str, str], set[str]] = {}
    for folder in ("flows", "tasks", "deployments", "fleetpatch", "inventory"):
        for path in (ROOT / folder).rglob("*.py"):
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
                names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls} & OUTPUTS
                if names:
                    outputs[str(path.relative_to(ROOT)), function.name] = names
    return outputs


def test_each_output_about_a_run_is_known() -> None:
    assert find_outputs() == GUARDED_OUTPUTS


def test_each_end_has_one_state_in_prefect_and_only_patched_machines_are_green() -> None:
    for state in set(OperationState) - UNFINISHED_RUN_STATES:
        for refusal in (None, *WindowStatus):
            shown = build_final_state(make_run(state=state, refusal=refusal, message="why"))
            succeeded = state in {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS} and refusal is None
            assert (shown.type is StateType.COMPLETED) is succeeded
            assert shown.is_final()
            assert "why" in (shown.message or "")
    refused = [build_final_state(make_run(state=OperationState.NOT_STARTED, refusal=why)) for why in WindowStatus]
    assert {f"{shown.type.value} {shown.name}" for shown in refused} == {
        "FAILED NotStarted",
        "CANCELLED Frozen",
        "CANCELLED Held",
        "CANCELLED Replaced",
        "CANCELLED Cancelled",
    }


class ShowingRunner(LocalRunner):
    """Keeps what it shows, and lets somebody act just before."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("json",))
        self.shown: list[OperationState] = []

    def show_end(self, report: RunReport, files: Mapping[str, Path]) -> str:
        self.shown.append(report.run.state)
        return ""


def test_a_process_whose_run_was_taken_shows_writes_and_sends_nothing(fleet: SimFleet, tmp_path: Path) -> None:
    fleet.add("web", [FakePackage("a")])
    told: list[NotificationOccasion] = []
    runner = ShowingRunner(tmp_path)

    def confirm_until_it_ends() -> bool:
        if fleet.records.runs[RUN].ended_at:
            fleet.control.mark_lease_lost()
        return not fleet.control.is_lease_lost

    fleet.control.confirm_lease = confirm_until_it_ends
    ports = fleet.ports()
    object.__setattr__(ports, "notify", lambda occasion, _report: told.append(occasion))

    with pytest.raises(LeaseLost):
        FleetRun(fleet.request(), ports, runner, run_id=RUN).execute()

    assert runner.shown == []
    assert list(tmp_path.iterdir()) == []
    assert set(told) <= {NotificationOccasion.PLANNED, NotificationOccasion.STARTED}
    assert not any(entry.act == PUBLISH_ACT for entry in fleet.records.journal)


@pytest.mark.parametrize("is_recorded", [False, True])
def test_an_end_is_unknown_if_neither_it_nor_the_lease_is_in_the_records(
    fleet: SimFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
) -> None:
    """An end that they have is true, also if they don't answer any more."""
    fleet.add("web", [FakePackage("a")])
    told: list[tuple[NotificationOccasion, OperationState]] = []
    runner, save = ShowingRunner(tmp_path), FakeRecords.save

    def save_and_disappear(records: FakeRecords, item: Any) -> None:
        if isinstance(item, RunReport) and item.run.ended_at:
            fleet.control.confirm_lease = lambda: False
            if not is_recorded:
                raise RecordsUnavailable("no answer")
        save(records, item)

    monkeypatch.setattr(FakeRecords, "save", save_and_disappear)
    fleet.control.lease_taken_at = NEWER
    ports = fleet.ports()
    object.__setattr__(ports, "notify", lambda occasion, report: told.append((occasion, report.run.state)))

    with nullcontext() if is_recorded else pytest.raises(EndUnknown, match="not known here"):
        FleetRun(fleet.request(), ports, runner, run_id=RUN).execute()

    end = OperationState.SUCCEEDED if is_recorded else OperationState.UNKNOWN
    assert runner.shown == ([end] if is_recorded else [])
    (file,) = tmp_path.glob("*/report.json")
    assert json.loads(file.read_text(encoding="utf-8"))["run"]["status"] == end
    assert told[-1] == (NotificationOccasion.FINISHED if is_recorded else NotificationOccasion.FAILED, end)
    assert len(told) == len(set(told))


def test_nobody_is_told_of_a_suspended_run_whose_lease_is_not_confirmed(fleet: SimFleet, tmp_path: Path) -> None:
    told: list[NotificationOccasion] = []
    fleet.control.lease_taken_at, fleet.control.confirm_lease = NEWER, lambda: False
    report = RunReport(make_run(id=RUN, state=OperationState.IN_PROGRESS), ())

    with pytest.raises(EndUnknown):
        publish_end(report, ShowingRunner(tmp_path), fleet.ports(), lambda occasion, _report: told.append(occasion))

    assert told == []


def test_an_end_that_was_published_is_in_the_journal_once(fleet: SimFleet, tmp_path: Path) -> None:
    fleet.add("web", [FakePackage("a")])
    runner = ShowingRunner(tmp_path)

    FleetRun(fleet.request(), fleet.ports(), runner, run_id=RUN).execute()

    assert runner.shown == [OperationState.SUCCEEDED]
    assert [entry.key for entry in fleet.records.journal if entry.act == PUBLISH_ACT] == ["Succeeded"]


NEWER = datetime(2026, 3, 10, 4, tzinfo=UTC)
OLDER = NEWER - timedelta(minutes=4)


def test_an_older_process_never_replaces_the_report_of_a_newer_one(tmp_path: Path) -> None:
    report = samples.forty()[0]
    written = write_report(report, tmp_path, formats=("json",), generation=NEWER)
    before = written["json"].read_bytes()

    with pytest.raises(ReportError, match="took the run later"):
        write_report(samples.forty()[0], tmp_path, formats=("json", "html"), generation=OLDER)

    assert written["json"].read_bytes() == before
    assert {path.name for path in written["directory"].iterdir()} == {"report.json", ".generation"}
    write_report(report, tmp_path, formats=("json",))  # from the records
    write_report(report, tmp_path, formats=("json",), generation=NEWER + timedelta(minutes=1))


def test_a_report_that_is_out_of_date_when_it_is_ready_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="out of date"):
        write_report(samples.forty()[0], tmp_path, formats=("json",), generation=NEWER, is_current=lambda: False)

    assert not list(tmp_path.glob("*/report.json"))


def test_a_process_that_was_stopped_among_its_files_writes_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_directory, "_HOLD_SECONDS", 0.1)
    folder = tmp_path / RUN
    folder.mkdir()
    (folder / "old.part").write_text("false")
    with hold_report_folder(folder, OLDER) as stopped:
        with hold_report_folder(folder, NEWER):
            (folder / "report.json").write_text("true")
        os.replace("old.part", "report.json", src_dir_fd=stopped, dst_dir_fd=stopped)  # it wakes up

    assert (folder / "report.json").read_text() == "true"
    (aside,) = tmp_path.glob(f"{RUN}.left-*")
    assert (aside / "report.json").read_text() == "false"


def test_the_documentation_has_the_table_of_ends() -> None:
    page = (ROOT / "docs/explanation/interruptions.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)`[^|]*\| `(\w+)` \| `(\w+)` \|$", page, re.MULTILINE))
    ends = [make_run(state=state) for state in set(OperationState) - {OperationState.IN_PROGRESS}]
    ends += [make_run(state=OperationState.NOT_STARTED, refusal=why) for why in WindowStatus]
    assert documented == {
        (run.state.value, state.type.value, state.name) for run in ends for state in [build_final_state(run)]
    }


def test_a_report_is_written_although_a_stopped_process_holds_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_directory, "_HOLD_SECONDS", 0.1)
    report = samples.forty()[0]
    folder = write_report(report, tmp_path, formats=("json",), generation=NEWER)["directory"]
    with hold_report_folder(folder, NEWER):
        later = write_report(report, tmp_path, formats=("json",), generation=NEWER + timedelta(minutes=5))

    assert later["json"].exists()
    with pytest.raises(ReportError, match="took the run later"):
        write_report(report, tmp_path, formats=("json",), generation=NEWER)


def test_a_process_that_kept_the_folder_for_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_directory, "_HOLD_SECONDS", 0.1)
    report = samples.forty()[0]

    def write_meanwhile() -> bool:
        write_report(report, tmp_path, formats=("json",))
        return True

    with pytest.raises(ReportError, match=r"moved .* aside"):
        write_report(report, tmp_path, formats=("json", "csv"), generation=NEWER, is_current=write_meanwhile)
    assert [path.name for path in tmp_path.glob("*/report.json") if ".left-" not in path.parent.name] == ["report.json"]


def test_a_stop_that_left_nothing_undone_is_not_told_as_a_cancellation() -> None:
    report = samples.forty()[0]
    warned = replace(report, run=replace(report.run, state=OperationState.COMPLETED_WITH_WARNINGS), outcomes=())
    assert find_end_occasion(warned, was_stopped=True) is NotificationOccasion.FINISHED
    cancelled = replace(warned, run=replace(warned.run, state=OperationState.CANCELLED))
    assert find_end_occasion(cancelled, was_stopped=False) is NotificationOccasion.CANCELLED
