"""Attacks by SQL: somebody can write the database of the records, and wants root on the fleet."""

import functools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import fleetpatch.cli.command  # noqa: F401 - it adds these verbs
from fleetpatch.cli.main import main
from fleetpatch.cli.runtime.run_session import _record_detach
from flows.approval.decisions import approve_run, reject_run
from flows.automatic.fleet_view import build_fleet_view
from flows.engine.pinned_updates import find_pinned_updates
from flows.engine.resume_state import read_resume_state
from flows.execution import execute_run
from flows.local_run import build_reporting_runner
from flows.ports.caller import Caller
from flows.recovery.reconciliation import resume_run
from flows.request.patch_request import PatchRequest
from inventory.errors import InventoryError
from inventory.files.own_keys import FOLDER_VARIABLE
from inventory.machine import Inventory
from tasks.domain.errors import RecordsError, RequestError, SealBroken, SealKeyMissing
from tasks.domain.model import RunReport, Window
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.records.approvals import SqlApprovals
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.queries.history import History
from tasks.records.requested_runs import RequestedRun, SqlRequestedRuns, compute_request_digest
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.model import AutomaticPolicy, Rollout, RolloutState
from tasks.rules.runs.approval import collect_planned_updates, compute_plan_digest
from tests.support import builders

RUN = "20261125-220000-aaaaaa"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def records(url: str) -> Iterator[SqlRecords]:
    with open_records(url) as opened:
        yield opened


def record_interrupted_run(records: SqlRecords, folder: Path, **request: Any) -> RunReport:
    """Store a run whose process died in its window, as a worker stores it. Its inventory is not there any more."""
    window = Window(NOW, NOW + timedelta(hours=2))
    asked = PatchRequest.model_validate({"scope": "*", "inventory": str(folder / "gone.yaml"), **request})
    run = builders.make_run(
        id=RUN,
        state=OperationState.IN_PROGRESS,
        request=asked.model_dump(mode="json"),
        window=window,
        started_at=NOW,
        ended_at=None,
        started_by="anna",
        flow_run_id="",
    )
    plan = builders.make_plan()
    report = RunReport(
        run,
        (),
        (builders.make_wave(machines=(plan.machine,)),),
        (plan,),
        (replace(builders.make_assessment(), run_id=RUN, machine=plan.machine, at=plan.assessed_at or NOW),),
    )
    records.save(report)
    records.append_entry(JournalEntry(RUN, plan.machine, Step.PRECHECK, JournalMark.AFTER, "step", "precheck", NOW, {}))
    return report


def update(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def change_document(file: Path, table: str, change: Any) -> None:
    """Change a document, as SQL's json functions do. Its seal stays."""
    with closing(sqlite3.connect(file)) as connection, connection:
        document = json.loads(connection.execute(f"SELECT document FROM {table}").fetchone()[0])
        change(document)
        connection.execute(f"UPDATE {table} SET document = ?", (json.dumps(document, separators=(",", ":")),))


def resume(url: str, *, finalize: bool = False) -> RunReport:
    return resume_run(RUN, finalize=finalize, caller=Caller(records_url=url))


def test_a_recorded_run_that_nobody_changed_is_taken_up(records: SqlRecords, url: str, tmp_path: Path) -> None:
    """No attacker: the seal fits, and the run gets as far as its inventory."""
    record_interrupted_run(records, tmp_path)
    with pytest.raises(InventoryError, match=r"gone\.yaml"):
        resume(url)


def test_a_hook_that_was_added_to_a_recorded_request_never_runs(
    records: SqlRecords, url: str, file: Path, tmp_path: Path
) -> None:
    """Attacker: who can write the database. Way: UPDATE adds a hook. Resuming must refuse the run."""
    record_interrupted_run(records, tmp_path)
    proof = tmp_path / "proof"
    hook = {"name": "theirs", "at": "before_run", "command": f"touch {proof}"}
    change_document(file, "runs", lambda run: run["request"].update(hooks=[hook]))

    with pytest.raises(SealBroken, match=rf"run {RUN} doesn't fit its seal") as refused:
        resume(url)

    assert "Start a new run" in refused.value.hint
    assert not proof.exists()


CHANGES: dict[str, tuple[str, Any]] = {
    "another inventory": ("runs", lambda run: run["request"].update(inventory="/tmp/theirs.yaml")),
    "a longer window": ("runs", lambda run: run["window"].update(end="2036-01-01T00:00:00+00:00")),
    "another starter": ("runs", lambda run: run.update(startedBy="bert", started_by="bert")),
    "another machine in a wave": ("run_plans", lambda plans: plans["waves"][0].update(machines=["theirs"])),
    "another plan": ("machine_plans", lambda plan: plan.update(notes=["theirs"])),
    "another assessment": ("assessments", lambda assessment: assessment.update(notes=["theirs"])),
    "another step in the journal": ("journal", lambda entry: entry["detail"].update(anew="theirs")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_a_run_can_be_changed(records: SqlRecords, file: Path, change: str, tmp_path: Path) -> None:
    """Attacker: who can write the database. Way: UPDATE of one document of a run. Resuming must refuse the run."""
    record_interrupted_run(records, tmp_path)
    read_resume_state(History(records, require_seals=True), RUN)
    change_document(file, *CHANGES[change])
    with pytest.raises(SealBroken):
        read_resume_state(History(records, require_seals=True), RUN)


def test_a_seal_of_another_run_fits_nothing(records: SqlRecords, url: str, file: Path, tmp_path: Path) -> None:
    """Attacker: who can write the database. Way: the sealed document of another run. It must not fit this one."""
    report = record_interrupted_run(records, tmp_path)
    records.save(replace(report.run, id="20261125-230000-bbbbbb", request={"hooks": ["theirs"]}))
    update(
        file,
        "UPDATE runs SET (document, seal) = (SELECT document, seal FROM runs WHERE id != ?) WHERE id = ?",
        RUN,
        RUN,
    )
    with pytest.raises(SealBroken):
        History(records, require_seals=True).find_run(RUN)


def test_a_run_without_a_seal_is_refused(records: SqlRecords, url: str, file: Path, tmp_path: Path) -> None:
    """Attacker: who can write the database. Way: INSERT of a run, which needs a key for a seal. It must be refused."""
    record_interrupted_run(records, tmp_path)
    update(file, "UPDATE runs SET seal = NULL WHERE id = ?", RUN)
    with pytest.raises(SealBroken, match="has no seal"):
        resume(url)


def test_a_run_of_another_controller_is_told_from_a_changed_one(
    records: SqlRecords, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: a controller without the key says so, and leaves the run to the one that has it."""
    record_interrupted_run(records, tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "other-keys"))
    with pytest.raises(SealKeyMissing, match="other-keys/records-seal") as refused:
        resume(url)
    assert "copy its key" in refused.value.hint
    stopped = Caller(records_url=url)
    stopped.stop_token.request_stop("its window is over")  # as reconcile finalizes it: nobody has asked
    with pytest.raises(SealKeyMissing, match="other-keys/records-seal"):
        execute_run(RUN, stopped, build_reporting_runner)


def test_a_run_whose_key_is_lost_is_ended_by_a_person(
    records: SqlRecords, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: the disk with the key is gone. `resume RUN --finalize` ends the run, and contacts no machine."""
    record_interrupted_run(records, tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "other-keys"))
    assert main(["resume", RUN, "--no-prefect", "--records", url]) != 0
    assert History(records).find_run(RUN).state is OperationState.IN_PROGRESS

    main(["resume", RUN, "--finalize", "--no-prefect", "--records", url])

    with open_records(url) as restarted:
        ended = History(restarted, require_seals=True).find_run(RUN)
    assert (ended.state, ended.request) == (OperationState.FAILED, {})
    assert "other-keys/records-seal doesn't have it. It was ended without a look at its machines" in ended.message


def test_a_key_is_replaced_by_a_line_above_it(records: SqlRecords, url: str, tmp_path: Path) -> None:
    """No attacker: after a rotation, runs that the earlier key sealed are taken up, and the new key seals."""
    report = record_interrupted_run(records, tmp_path)
    key = tmp_path / "keys" / "records-seal"
    key.write_bytes(b"new\n" + key.read_bytes())
    with open_records(url) as restarted:
        assert History(restarted, require_seals=True).find_run(RUN).id == RUN
        restarted.save(report.run)
        key.write_bytes(b"new\n")
    with open_records(url) as restarted:
        assert History(restarted, require_seals=True).find_run(RUN).id == RUN
        with pytest.raises(SealKeyMissing):
            History(restarted, require_seals=True).read_report(RUN)


def test_a_changed_run_is_ended_without_a_look_at_a_machine(
    records: SqlRecords, url: str, file: Path, tmp_path: Path
) -> None:
    """Attacker: who can write the database. Way: another inventory, then --finalize. No machine may be contacted."""
    record_interrupted_run(records, tmp_path)
    change_document(file, "runs", lambda run: run["request"].update(inventory="/tmp/theirs.yaml"))

    report = resume(url, finalize=True)

    assert report.run.state is OperationState.FAILED
    assert "doesn't fit its seal" in report.run.message
    stored = History(records, require_seals=True).find_run(RUN)
    assert (stored.state, stored.request) == (OperationState.FAILED, {})


# ---------------------------------------------------------------- approvals


def ask_for_approval(records: SqlRecords, folder: Path) -> str:
    report = record_interrupted_run(records, folder, approval={"required": True})
    digest = compute_plan_digest(collect_planned_updates(report.plans), report.run.request)
    SqlApprovals(records.database).request_approval(RUN, digest, 3600)
    return digest


def test_an_approval_written_by_sql_approves_nothing(records: SqlRecords, file: Path, tmp_path: Path) -> None:
    """Attacker: who can write the database. Way: UPDATE approves the plan. The run must not take it for an approval."""
    ask_for_approval(records, tmp_path)
    update(file, "UPDATE approvals SET decision = 'approved', who = 'bert' WHERE run_id = ?", RUN)
    approvals = SqlApprovals(records.database)
    approval = approvals.find_approval(RUN)
    assert approval is not None

    with pytest.raises(SealBroken, match="the approval of run"):
        approvals.require_sealed(approval)


def test_an_approval_of_another_person_or_plan_does_not_fit(records: SqlRecords, file: Path, tmp_path: Path) -> None:
    """Attacker: who can write the database. Way: UPDATE of who approved, or of the plan. The seal must not fit."""
    digest = ask_for_approval(records, tmp_path)
    approve_run(RUN, "bert", plan=digest, records_url=f"sqlite:///{file}")
    approvals = SqlApprovals(records.database)
    approval = approvals.find_approval(RUN)
    assert approval is not None
    approvals.require_sealed(approval)
    for changed in (replace(approval, who="carl"), replace(approval, digest="0" * 64), replace(approval, run_id="x")):
        with pytest.raises(SealBroken):
            approvals.require_sealed(changed)


def test_a_plan_that_was_exchanged_before_its_approval_is_not_approved(
    records: SqlRecords, url: str, file: Path, tmp_path: Path
) -> None:
    """Attacker: who can write the database. Way: UPDATE of what waits. Nobody may approve it unknowingly."""
    digest = ask_for_approval(records, tmp_path)
    update(file, "UPDATE approvals SET expires_at = '2036-01-01 00:00:00' WHERE run_id = ?", RUN)
    with pytest.raises(SealBroken):
        approve_run(RUN, "bert", plan=digest, records_url=url)


def test_who_lacks_the_key_of_decisions_is_told_at_once(
    records: SqlRecords, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: an account with the records' URL and no key. Way: `fleetpatch approve`. It must be refused there."""
    digest = ask_for_approval(records, tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "other-keys"))
    with pytest.raises(SealKeyMissing, match="other-keys/decisions") as refusal:
        approve_run(RUN, "bert", plan=digest, records_url=url)
    assert "fleetpatch-admin" in refusal.value.hint


def test_a_rejection_without_the_key_of_decisions_makes_none(
    records: SqlRecords, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: a person with another user's keys rejects. A key of decisions of their own would fit nothing."""
    digest = ask_for_approval(records, tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "other-keys"))
    reject_run(RUN, "bert", plan=digest, records_url=url)
    assert not (tmp_path / "other-keys/decisions").exists()
    with pytest.raises(RequestError, match="already rejected"):
        approve_run(RUN, "bert", plan=digest, records_url=url)
    assert not (tmp_path / "other-keys/decisions").exists()


def test_the_starter_of_a_run_can_not_be_renamed(records: SqlRecords, file: Path) -> None:
    """Attacker: who started a run. Way: UPDATE of the starter's name, to approve the own run. It must be refused."""
    requested, digest = SqlRequestedRuns(records.database), compute_request_digest({})
    requested.save(RequestedRun("fleetpatch/web/1", "patch-fleet", digest, "anna", NOW))
    requested.save(RequestedRun("fleetpatch/web/2", "patch-fleet", digest, "anna", NOW))
    assert requested.claim("fleetpatch/web/1", "patch-fleet", "flow-run-1", {})[0] == "anna"

    update(file, "UPDATE requested_runs SET who = 'bert' WHERE key = 'fleetpatch/web/2'")

    with pytest.raises(RecordsError, match="who started flow run flow-run-2"):
        requested.claim("fleetpatch/web/2", "patch-fleet", "flow-run-2", {})


def test_rejecting_needs_no_seal(records: SqlRecords, url: str, file: Path, tmp_path: Path) -> None:
    """No attacker: what was changed can always be rejected, and never be approved afterwards."""

    digest = ask_for_approval(records, tmp_path)
    update(file, "UPDATE approvals SET seal = NULL WHERE run_id = ?", RUN)
    reject_run(RUN, "bert", plan=digest, records_url=url)
    with pytest.raises(RequestError, match="already rejected"):
        approve_run(RUN, "bert", plan=digest, records_url=url)


def test_the_frozen_set_of_a_rollout_can_not_be_changed(records: SqlRecords, file: Path) -> None:
    """Attacker: who can write the database. Way: UPDATE of what a rollout has tested. No run may install it."""
    rollouts = SqlRollouts(records.database)
    rollouts.save(Rollout("rollout-1", NOW, frozenset({("openssl", "2.0")}), ()))
    rollouts.save(Rollout("rollout-2", NOW, frozenset({("openssl", "1.0")}), ()))
    history = History(records)
    assert find_pinned_updates(history, "rollout:rollout-1").updates == {("openssl", "2.0")}
    update(
        file,
        "UPDATE rollouts SET updates = (SELECT updates FROM rollouts WHERE id = 'rollout-2') WHERE id = 'rollout-1'",
    )
    with pytest.raises(SealBroken, match="rollout rollout-1"):
        find_pinned_updates(history, "rollout:rollout-1")


def test_a_changed_rollout_never_gets_a_seal_again(records: SqlRecords, url: str, file: Path) -> None:
    """Attacker: who can write the database. Way: UPDATE of a rollout's set; then it is decided on, or cancelled, and so
    saved with a seal. Must hold: the decision stops, and the cancelled rollout has nothing of the set.
    """
    rollouts = SqlRollouts(records.database)
    rollouts.save(Rollout("rollout-1", NOW, frozenset({("openssl", "2.0")}), ()))
    change_document(file, "rollouts", lambda rollout: rollout.update(message="theirs"))
    view = functools.partial(build_fleet_view, records, Inventory(()), AutomaticPolicy(), NOW)
    with pytest.raises(SealBroken, match="rollout rollout-1") as refused:
        view(require_seals=True)
    assert "fleetpatch automatic cancel rollout-1" in refused.value.hint

    assert main(["automatic", "cancel", "--yes", "--records", url]) == 0

    cancelled = rollouts.find("rollout-1", require_seal=True)
    assert cancelled is not None
    assert (cancelled.state, cancelled.updates) == (RolloutState.CANCELLED, frozenset())
    assert view(require_seals=True).rollouts == (cancelled,)


def test_a_detached_run_that_was_changed_gets_no_seal_again(
    records: SqlRecords, url: str, file: Path, tmp_path: Path
) -> None:
    """Attacker: who can write the database. Way: UPDATE of a run, then a second Ctrl-C. No seal may fit the change."""
    record_interrupted_run(records, tmp_path)
    _record_detach([RUN], url)
    assert History(records, require_seals=True).find_run(RUN).state is OperationState.UNKNOWN
    record_interrupted_run(records, tmp_path)
    change_document(file, "runs", lambda run: run["request"].update(inventory="/tmp/theirs.yaml"))
    _record_detach([RUN], url)
    with pytest.raises(SealBroken):
        History(records, require_seals=True).find_run(RUN)
