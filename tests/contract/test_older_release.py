"""Records of an older release are migrated, and read by everything that shows a run."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetpatch.cli.main import main
from flows.approval.decisions import find_waiting_runs
from flows.recovery.abandoned_runs import find_abandoned_runs
from flows.request.patch_request import PatchRequest
from tasks.domain.model import Hook, HookResult
from tasks.domain.states import HookKind, HookPoint, OperationState, UpdateState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.reports.writer import FORMATS, write_report
from tests.ci import tree
from tests.contract.older_release import (
    FAILED_RUN,
    INTERRUPTED_RUN,
    NOW,
    WAITING_RUN,
    fill_records,
    list_key_paths,
    load_json,
)
from tests.contract.records_subjects import BOTH, empty_database
from tests.support.fake_clock import FakeClock


@pytest.fixture(scope="module", params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Records as the older release left them. The first test that opens them migrates them; no test changes them."""
    with empty_database(request.param, tmp_path_factory.mktemp("records")) as made:
        fill_records(made)
        yield made


@pytest.fixture(scope="module")
def history(url: str) -> Iterator[History]:
    with open_records(url) as records:
        yield History(records)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file, and an inventory beside it. The approval expires late: the command reads the real clock."""
    place = tmp_path_factory.mktemp("views")
    rows = load_json("records.json")
    (approval,) = rows["approvals"]
    approval["expires_at"] = "2999-01-01 00:00:00.000000"
    fill_records(f"sqlite:///{place / 'records.db'}", rows)
    machines = "[{name: lab-2, address: 192.0.2.12}, {name: lab-4, address: 192.0.2.14}]"
    (place / "fleet.yaml").write_text(f"machines: {machines}\n")
    return place / "records.db"


def test_runs_keep_their_states(history: History) -> None:
    states = {run.id: (run.kind, run.state) for run in history.read_runs()}

    assert states == {
        FAILED_RUN: ("patch", OperationState.FAILED),
        INTERRUPTED_RUN: ("patch", OperationState.IN_PROGRESS),
        WAITING_RUN: ("patch", OperationState.IN_PROGRESS),
    }


def test_a_run_keeps_its_machines_and_updates(history: History) -> None:
    stored = {row["update_id"]: row["state"] for row in load_json("records.json")["update_results"]}

    report = history.read_report(FAILED_RUN)

    (outcome,) = report.outcomes
    assert (outcome.machine, outcome.state) == ("lab-2", OperationState.FAILED)
    assert {each.update.id: each.state for each in outcome.updates} == stored
    assert [each.machine for each in report.plans] == ["lab-2"]
    assert history.read_report(FAILED_RUN, "lab-2").outcomes == (outcome,)
    assert history.read_summary(FAILED_RUN).results["lab-2"].count_in(UpdateState.FAILED) == 1


def test_journal_and_job_log_are_readable(history: History) -> None:
    entries = history.read_journal(INTERRUPTED_RUN, "lab-4")
    (output,) = history.read_job_output(INTERRUPTED_RUN, "lab-4")

    assert [(each.step, each.mark, each.act) for each in entries] == [
        (row["step"], row["mark"], row["act"]) for row in load_json("records.json")["journal"]
    ]
    assert "lab-slow" in output.text
    assert "cannot migrate data" in "".join(each.text for each in history.read_job_output(FAILED_RUN, "lab-2"))


def test_updates_are_explained(history: History) -> None:
    (installed,) = history.explain_updates("lab-2", "lab-sec")
    (failed,) = history.explain_updates("lab-2", "lab-failing")
    pending = history.explain_updates("lab-4", "apt")

    assert installed.state is UpdateState.INSTALLED
    assert "half-configured" in failed.reason
    assert pending[0].is_from_assessment


@pytest.mark.parametrize("run_id", [FAILED_RUN, INTERRUPTED_RUN, WAITING_RUN])
def test_reports_are_written_in_all_formats(history: History, run_id: str, tmp_path: Path) -> None:
    report, logs = history.read_report(run_id), history.open_job_logs(run_id)

    paths = write_report(report, tmp_path / "reports", logs, FORMATS, now=NOW)

    assert {name.partition(".")[0] for name in paths} >= {"html", "csv", "parquet", "json"}
    assert all(path.exists() for path in paths.values())


def test_no_key_of_a_report_disappears(history: History, tmp_path: Path) -> None:
    former = load_json("report.json")
    report = history.read_report(FAILED_RUN)
    request = PatchRequest.model_validate(former["run"]["request"]).model_dump(mode="json")
    hook = Hook("note", HookPoint.BEFORE_RUN, HookKind.CONTROLLER_COMMAND, "/bin/true")
    report = replace(
        report,
        run=replace(report.run, request=request),
        hooks=(HookResult(hook, "run", succeeded=True, message="", started_at=NOW, ended_at=NOW),),
    )

    paths = write_report(report, tmp_path, formats=["json"], now=NOW)

    present = json.loads(paths["json"].read_text())
    assert list_key_paths(former) - list_key_paths(present) == set()
    assert present["schema_version"] == former["schema_version"]


def test_a_waiting_run_is_listed_for_approval(url: str) -> None:
    (waiting,) = find_waiting_runs(url, clock=FakeClock(NOW))

    assert waiting.run.id == WAITING_RUN
    assert [each.machine for each in waiting.plans] == ["lab-8"]


def test_reconcile_sees_interrupted_runs(url: str) -> None:
    abandoned = find_abandoned_runs(url, clock=FakeClock(NOW))

    assert [each.run.id for each in abandoned] == [WAITING_RUN, INTERRUPTED_RUN]
    assert all(each.run.may_change_machines for each in abandoned)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("runs",), INTERRUPTED_RUN),
        (("runs", "--json"), FAILED_RUN),
        (("show", FAILED_RUN), "lab-2"),
        (("show", FAILED_RUN, "--machine", "lab-2", "--log"), "cannot migrate data"),
        (("show", INTERRUPTED_RUN, "--journal"), "install"),
        (("show", FAILED_RUN, "--json"), "lab-failing"),
        (("why", "lab-2", "lab-failing"), "half-configured"),
        (("machines",), "lab-4"),
        (("updates", "--by", "machine"), "lab-4"),
        (("approvals",), WAITING_RUN),
        (("approvals", WAITING_RUN), "lab-dep-a"),
        (("reconcile", "--dry-run"), INTERRUPTED_RUN),
    ],
)
def test_every_view_of_the_command_shows_old_runs(
    words: tuple[str, ...],
    shown: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{file}")
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(file.with_name("fleet.yaml")))

    code = main([*words])

    said = capsys.readouterr()
    assert shown in said.out, (code, said.err)


def test_an_old_process_can_still_start_the_finalizer() -> None:
    words = [sys.executable, "-m", "flows.settle", "--help"]

    done = subprocess.run(words, cwd=tree.TOP, capture_output=True, text=True, check=False, timeout=240)

    assert done.returncode == 0, done.stderr
    assert "--flow-run ID" in done.stdout
    assert "--stop REASON" in done.stdout
