"""What the pages read of updates, windows and approvals, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.states import OperationState, UpdateState, WindowStatus
from tasks.records.approvals import ApprovalDecision, SqlApprovals, read_decided_approvals
from tasks.records.measures import SAMPLES, read_learned_durations
from tasks.records.queries import updates, windows
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim
from tests.contract.records_subjects import BOTH, opened
from tests.support import builders as make
from tests.support.fake_clock import START, FakeClock

LATER = timedelta(days=1)


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as found:
        yield found


def assess(records: SqlRecords, machine: str, *found: object, days: int = 0) -> None:
    packages = make.make_package_state(updates=found)
    moment = START + days * LATER
    records.save(make.make_assessment(machine=machine, at=moment, run_id=f"run-{days}", packages=packages))


def test_pending_updates_keep_since_when_they_are_pending(records: SqlRecords) -> None:
    database = records.database
    assess(records, "web", make.make_update(title="A title"), make.make_other_update())
    before = updates.read_pending_assessments(database)
    assess(records, "web", make.make_update(available="4"), make.make_kernel_update(), days=1)
    after = updates.read_pending_assessments(database)
    assert before.keys().isdisjoint(after)
    assess(records, "web", make.make_update(available="3"), days=-1)  # it comes late, and changes nothing
    assert updates.read_pending_assessments(database) == after
    rows = {row.name: row for row in updates.read_pending_updates(database)}
    assert {name: (row.available, row.since) for name, row in rows.items()} == {
        "openssl": ("4", START),
        "linux-image-amd64": ("6.1.128-1", START + LATER),
    }
    assert rows["openssl"].title == ""
    assert [row.machine for row in updates.read_machines_lacking(database, ["openssl"])] == ["web"]
    assert list(updates.read_pending_updates(database, before)) == []


def test_the_same_assessment_again_changes_no_since(records: SqlRecords) -> None:
    assess(records, "web", make.make_update())
    assess(records, "web", make.make_update(), days=1)
    assess(records, "web", make.make_update(), days=1)
    (row,) = updates.read_pending_updates(records.database)
    assert row.since == START


def test_cves_by_update(records: SqlRecords) -> None:
    assess(records, "web", make.make_update(), make.make_kernel_update())
    assert updates.count_update_cves(records.database) == len(updates.read_update_cves(records.database)) == 3
    found = updates.read_versions_with_cve(records.database, "CVE-2024-13176")
    assert found == (("openssl", "3.0.16-1~deb12u1"),)


def test_the_last_result_and_the_installations_of_an_update(records: SqlRecords) -> None:
    failed = make.make_update_result(state=UpdateState.FAILED, reason="no space", version_after=None)
    records.save(make.make_run(id="run-1"))
    records.save(make.make_outcome(run_id="run-1", machine="web"))
    records.save(make.make_outcome(run_id="run-2", machine="web", updates=(failed,)))
    records.save(make.make_outcome(run_id="run-2", machine="db"))
    results = updates.read_last_update_results(records.database, "openssl")
    assert {name: (each.run_id, each.state, each.reason) for name, each in results.items()} == {
        "web": ("run-2", "Failed", "no space"),
        "db": ("run-2", "Installed", ""),
    }
    found = updates.read_installations(records.database, "openssl")
    assert [(each.machine, each.run_id, each.run_started_at is None) for each in found] == [
        ("web", "run-1", False),
        ("db", "run-2", True),  # the oldest: run-2 was deleted
    ]
    assert len(updates.read_installations(records.database, "openssl", limit=1)) == 1


def test_what_became_of_windows(records: SqlRecords) -> None:
    claims = SqlWindowClaims(records.database)
    records.save(make.make_run(id="run-1", state=OperationState.SUCCEEDED))
    for days, status, run in ((0, WindowStatus.CLAIMED, "run-1"), (1, WindowStatus.MISSED, "run-9")):
        claims.record_window_without_run(WindowClaim("weekly", START + days * LATER, status, run, "why", START))
    found = windows.read_window_results(records.database, START, START + 2 * LATER)
    assert [(each.status, each.run_state, each.reason) for each in found] == [
        ("run", "Succeeded", ""),
        ("missed", None, "why"),
    ]
    assert len(windows.read_window_results(records.database, START, START + LATER)) == 1


def test_decisions_and_what_expired_newest_first(records: SqlRecords) -> None:
    clock = FakeClock()
    approvals = SqlApprovals(records.database, clock)
    for name, seconds in (("run-1", 600), ("run-2", 60), ("run-3", 9000)):
        approvals.request_approval(name, "a" * 64, seconds)
    records.save(make.make_run(id="run-1"))
    clock.advance(300)
    approvals.decide("run-1", "a" * 64, ApprovalDecision.APPROVED, "anna", "fine")
    found = read_decided_approvals(records.database, clock.now())
    assert [(each.approval.run_id, each.approval.decision, each.run is None) for each in found] == [
        ("run-1", ApprovalDecision.APPROVED, False),
        ("run-2", ApprovalDecision.EXPIRED, True),
    ]
    assert len(read_decided_approvals(records.database, clock.now(), limit=1)) == 1


def test_what_is_learned_of_all_machines_is_what_each_run_reads_of_one(records: SqlRecords) -> None:
    assert read_learned_durations(records.database).measures == {}
    for number in range(SAMPLES):
        for machine, factor in (("web", 1.0), ("db", 3.0)):
            reboot = make.make_reboot_result(down_seconds=0.0, up_seconds=factor * (60.0 + number))
            ended = START + number * LATER
            records.save(
                make.make_outcome(run_id=f"run-{number}", machine=machine, reboot_result=reboot, ended_at=ended)
            )
    learned = read_learned_durations(records.database)
    assert set(learned.measures) == {"web", "db"}
    for machine, measures in learned.measures.items():
        assert "reboot_seconds" in measures
        assert measures == {name: pytest.approx(records.read_measure(machine, name)) for name in measures}
        assert learned.updates[machine] == 2  # of three, one was not selected
