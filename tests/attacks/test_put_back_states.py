"""Attacks by SQL with rows that once fitted: an earlier state of a row is put back, and its seal fits again."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fleetpatch.cli.command  # noqa: F401 - it adds these verbs
from fleetpatch.access.login_admin import create_access_token, remove_access_token
from fleetpatch.access.token_secrets import digest_secret
from fleetpatch.cli.main import main
from flows.automatic.fleet_view import build_fleet_view
from flows.engine.pinned_updates import find_pinned_updates
from flows.installation_checks import check_installation
from flows.recovery.unfinished_runs import AbandonedRun, read_and_judge_run
from inventory.files.own_keys import FOLDER_VARIABLE
from inventory.machine import Inventory
from tasks.domain.errors import RequestError, SealBroken
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.states import FindingLevel, OperationState
from tasks.records.access_tokens import SqlAccessTokens
from tasks.records.approvals import ApprovalDecision, SqlApprovals
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.decisions import SqlDecisions
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.model import AutomaticPolicy, Rollout
from tests.support import builders

RUN = "20261125-220000-aaaaaa"
DIGEST = "d" * 64
NOW = datetime.now(UTC).replace(microsecond=0)
IN_PROGRESS = builders.make_run(
    id=RUN, state=OperationState.IN_PROGRESS, request={}, started_at=NOW, ended_at=None, flow_run_id=""
)
HOLDER = LeaseHolder("1", "host", 1, "anna")


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def records(file: Path) -> Iterator[SqlRecords]:
    with open_records(f"sqlite:///{file}") as opened:
        yield opened


def copy_rows(file: Path, table: str) -> Sequence[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def put_back(file: Path, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"DELETE FROM {table}")
        for row in rows:
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def reject(records: SqlRecords, file: Path, decision: ApprovalDecision = ApprovalDecision.REJECTED) -> SqlApprovals:
    """Decide on an approval, and then put the row back that waits."""
    approvals = SqlApprovals(records.database)
    approvals.request_approval(RUN, DIGEST, 3600)
    waiting = copy_rows(file, "approvals")
    approvals.decide(RUN, DIGEST, decision, "bert")
    put_back(file, "approvals", waiting)
    return approvals


@pytest.mark.parametrize("decision", [ApprovalDecision.REJECTED, ApprovalDecision.EXPIRED])
def test_a_decided_approval_does_not_wait_again(records: SqlRecords, file: Path, decision: ApprovalDecision) -> None:
    """Attacker: who can write the database. Way: the row that waited is put back. Nobody may approve it."""
    approvals = reject(records, file, decision)
    with pytest.raises(SealBroken, match=f"was {decision.value} at"):
        approvals.decide(RUN, DIGEST, ApprovalDecision.APPROVED, "carl")
    found = approvals.find_approval(RUN)
    assert found is not None
    assert found.decision is ApprovalDecision.WAITING


def test_a_rejection_of_a_row_without_a_seal_holds_too(records: SqlRecords, file: Path) -> None:
    """Attacker: who can write the database. Way: the seal is removed, somebody rejects, the sealed row comes back."""
    approvals = SqlApprovals(records.database)
    approvals.request_approval(RUN, DIGEST, 3600)
    waiting = copy_rows(file, "approvals")
    put_back(file, "approvals", [(*waiting[0][:-1], None)])
    approvals.decide(RUN, DIGEST, ApprovalDecision.REJECTED, "bert")
    put_back(file, "approvals", waiting)
    with pytest.raises(SealBroken, match="was rejected at"):
        approvals.decide(RUN, DIGEST, ApprovalDecision.APPROVED, "carl")


def test_an_approved_plan_that_waits_again_is_not_approved_twice(records: SqlRecords, file: Path) -> None:
    """No attacker: what was approved, and is still so, fits."""
    approvals = SqlApprovals(records.database)
    approvals.request_approval(RUN, DIGEST, 3600)
    approved = approvals.decide(RUN, DIGEST, ApprovalDecision.APPROVED, "bert")
    assert approved is not None
    approvals.require_sealed(approved)


def test_a_cancelled_rollout_does_not_roll_on(records: SqlRecords, file: Path) -> None:
    """Attacker: who can write the database. Way: the row of before is put back. No tick and no run may go on with it,
    and it can be cancelled again.
    """
    rollouts = SqlRollouts(records.database)
    rollouts.save(Rollout("rollout-1", NOW, frozenset({("openssl", "2.0")}), ()))
    rolling = copy_rows(file, "rollouts")
    cancel = ["automatic", "cancel", "--yes", "--records", f"sqlite:///{file}"]
    assert main(cancel) == 0
    put_back(file, "rollouts", rolling)

    with pytest.raises(SealBroken, match="rollout rollout-1 was Cancelled"):
        build_fleet_view(records, Inventory(()), AutomaticPolicy(), NOW, require_seals=True)
    with pytest.raises(SealBroken, match="rollout rollout-1 was Cancelled"):
        find_pinned_updates(History(records), "rollout:rollout-1")

    assert main(cancel) == 0
    assert rollouts.find("rollout-1", require_seal=True) is not None


def test_a_stopped_run_is_not_taken_up(records: SqlRecords, file: Path) -> None:
    """Attacker: who can write the database. Way: the run's row of before is put back, and its stop request deleted.
    Must hold: it is only finalized, and a process that has it learns at its next renewal that it is to stop.
    """
    records.save(IN_PROGRESS)
    running = copy_rows(file, "runs")
    records.leases.request_stop(RUN, "bert", "wrong night")
    put_back(file, "runs", running)
    put_back(file, "stop_requests", [])

    found = read_and_judge_run(History(records), records.leases, RUN, NOW)
    assert isinstance(found, AbandonedRun)
    assert "the request was removed from the database" in found.finalize_reason
    records.leases.acquire(RUN, HOLDER, 60)
    assert records.leases.renew(RUN, HOLDER, 60).stop is not None
    status = records.leases.find_lease(RUN)
    assert status is not None
    assert status.stop is not None


def test_a_removed_token_opens_nothing(records: SqlRecords, file: Path) -> None:
    """Attacker: whose token was removed, and who can write the database. Way: its row is put back. Refused."""
    _, text = create_access_token(records, "anna", ["view"], 1)
    tokens = SqlAccessTokens(records.database)
    assert tokens.find_by_token(digest_secret(text), NOW) is not None
    rows = copy_rows(file, "access_tokens")
    remove_access_token(records, "anna")
    put_back(file, "access_tokens", rows)
    assert tokens.find_by_token(digest_secret(text), NOW) is None


def test_a_pause_does_not_end_without_a_person(records: SqlRecords, file: Path) -> None:
    """Attacker: who can write the database. Way: the row is deleted, or its end is set to now. The pause must hold; and
    one that a person has ended must not come back.
    """
    opt_outs, until = SqlOptOuts(records.database), NOW + timedelta(days=2)
    opt_outs.add(OptOut("env=production", "bert", "audit", NOW, until))
    rows = copy_rows(file, "opt_outs")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE opt_outs SET until = '2020-01-01 00:00:00'")
    assert [(each.scope, each.until) for each in opt_outs.read_active(NOW)] == [("env=production", until)]
    put_back(file, "opt_outs", [])
    assert [(each.scope, each.until) for each in opt_outs.read_active(NOW)] == [("env=production", until)]

    assert opt_outs.remove("env=production")
    put_back(file, "opt_outs", rows)
    assert opt_outs.read_active(NOW) == ()


# ---------------------------------------------------------------- the chain itself


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM decisions",
        "DELETE FROM decisions WHERE number = 1",
        "DELETE FROM decisions WHERE number = 2",
        "UPDATE decisions SET decision = 'approved' WHERE number = 2",
        "UPDATE decisions SET at = 'theirs' WHERE number = 2",
        "UPDATE decisions SET number = 'theirs' WHERE number = 2",
        "UPDATE decisions SET subject = 'another' WHERE number = 2",
        "UPDATE decisions SET number = 3 WHERE number = 2",
        "UPDATE decisions SET key_id = 'theirs' WHERE number = 2",
        "UPDATE decisions SET seal = 'theirs:' || seal WHERE number = 2",
    ],
)
def test_a_decision_can_not_be_removed_or_changed(file: Path, change: str) -> None:
    """Attacker: who can write the database. Way: the decision is removed or changed too. Must hold: a process that has
    read it does not forget it, and after a restart nothing is approved, no token opens anything, and runs stop.
    """
    url = f"sqlite:///{file}"
    with open_records(url) as records:
        records.save(IN_PROGRESS)
        SqlOptOuts(records.database).add(OptOut("*", "bert", "", NOW))
        _, text = create_access_token(records, "anna", ["view"], 1)
        reject(records, file)
        with closing(sqlite3.connect(file)) as connection, connection:
            assert connection.execute(change).rowcount
        with pytest.raises(SealBroken):
            SqlApprovals(records.database).decide(RUN, DIGEST, ApprovalDecision.APPROVED, "carl")
    with open_records(url) as records:
        require_nothing_is_done(records, text)
    (found,) = [each for each in check_installation(url) if each.check == "decisions"]
    assert found.level is FindingLevel.BLOCK


def require_nothing_is_done(records: SqlRecords, text: str) -> None:
    for _ in range(2):  # the first failure may not be forgotten
        with pytest.raises(SealBroken, match="chain of decisions is not whole"):
            SqlApprovals(records.database).decide(RUN, DIGEST, ApprovalDecision.APPROVED, "carl")
        with pytest.raises(SealBroken):
            SqlAccessTokens(records.database).find_by_token(digest_secret(text), NOW)
        with pytest.raises(SealBroken):
            SqlOptOuts(records.database).read_active(NOW)
        stop = records.leases.find_lease(RUN)
        assert stop is not None
        assert stop.stop is not None


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("DELETE FROM decisions", 0),
        ("DELETE FROM decisions WHERE number = 2", 1),
        ("UPDATE decisions SET subject = 'x'", 0),
    ],
)
def test_a_chain_begins_anew_when_its_administrator_says_so(
    records: SqlRecords, file: Path, change: str, kept: int
) -> None:
    """No attacker: the records were deleted, or an older backup was restored. What still fits stays."""
    records.save(IN_PROGRESS)
    reject(records, file)
    SqlOptOuts(records.database).add(OptOut("*", "bert", "", NOW))
    with pytest.raises(RequestError, match="is whole"):
        SqlDecisions(records.database).begin_anew()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(change)
    with open_records(f"sqlite:///{file}") as restarted:
        with pytest.raises(SealBroken) as caught:
            restarted.leases.require_known_stops()
        assert "fleetpatch audit renew --reason TEXT" in caught.value.hint
        fault, removed = SqlDecisions(restarted.database).begin_anew()
        assert fault == caught.value.message
        assert (removed > 0) == ("UPDATE" in change)
        assert len(copy_rows(file, "decisions")) == kept
        assert restarted.leases.find_lease(RUN) is None
        SqlOptOuts(restarted.database).add(OptOut("ber", "bert", "", NOW))
        assert len(copy_rows(file, "decisions")) == kept + 1
    with open_records(f"sqlite:///{file}") as restarted:
        restarted.leases.require_known_stops()


def test_the_fault_of_deleted_records_names_files_causes_and_the_act(
    records: SqlRecords, file: Path, keys: Path
) -> None:
    """No attacker: the file of the records was deleted to begin anew."""
    reject(records, file)
    records.close()
    file.unlink()
    (head,) = keys.glob("decisions-head-*")
    with open_records(f"sqlite:///{file}") as restarted:
        restarted.save(IN_PROGRESS)
        lease = restarted.leases.find_lease(RUN)
        assert lease is not None
        assert lease.stop is not None
        assert lease.stop.who == "fleetpatch"
        for part in (str(file), str(head), "deleted, replaced or restored", "fleetpatch audit renew --reason TEXT"):
            assert part in lease.stop.reason


def test_decisions_of_another_key_stop_nobody(
    records: SqlRecords, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: an account with the records' URL and a key of its own. Way: entries with that key. Nobody else may be
    hindered by them.
    """
    url = f"sqlite:///{file}"
    SqlOptOuts(records.database).add(OptOut("ber", "bert", "", NOW))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "their-keys"))
    with open_records(url) as theirs:
        SqlOptOuts(theirs.database).add(OptOut("ham", "mallory", "", NOW))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "keys"))
    with open_records(url) as restarted:
        assert {each.scope for each in SqlOptOuts(restarted.database).read_active(NOW)} == {"ber", "ham"}
        SqlOptOuts(restarted.database).remove("ber")
        assert {each.scope for each in SqlOptOuts(restarted.database).read_active(NOW)} == {"ham"}


def test_a_key_that_is_replaced_keeps_the_decisions_of_the_earlier_one(
    records: SqlRecords, file: Path, keys: Path
) -> None:
    """No attacker: after a rotation, the decisions of both chains count."""
    reject(records, file)
    (keys / "decisions").write_bytes(b"new\n" + (keys / "decisions").read_bytes())
    with open_records(f"sqlite:///{file}") as restarted:
        with pytest.raises(SealBroken, match="was rejected"):
            SqlApprovals(restarted.database).decide(RUN, DIGEST, ApprovalDecision.APPROVED, "carl")
        SqlApprovals(restarted.database).decide(RUN, DIGEST, ApprovalDecision.EXPIRED, "")
    assert len({row[0] for row in copy_rows(file, "decisions")}) == 2
