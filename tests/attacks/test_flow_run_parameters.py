"""Attacks through Prefect's API on the hooks that go on with runs: flow runs with parameters of one's own."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.ports.audit import build_entry
from flows.ports.caller import Actor
from flows.recovery import flow_run_hooks
from flows.recovery.unfinished_runs import find_run_of_flow_run
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support import builders

RUN = "20261125-220000-aaaaaa"
OTHER = "20261125-220000-bbbbbb"
ORIGINAL = "c0f7a9d2-6f1b-4b0e-9d8f-5b7d1f3a0e21"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlRecords]:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", url)
    with open_records(url) as opened:
        for run_id, flow_run_id in ((RUN, ORIGINAL), (OTHER, "")):
            opened.save(
                builders.make_run(
                    id=run_id, state=OperationState.IN_PROGRESS, started_at=NOW, ended_at=None, flow_run_id=flow_run_id
                )
            )
        with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
            yield opened


def resume(records: SqlRecords, run_id: str, flow_run_id: str, result: AuditResult = AuditResult.BEGUN) -> None:
    """Record that a flow run has begun to resume a run, as the engine does."""
    detail = f'{{"kind": "patch", "flow_run": "{flow_run_id}", "resumed": true}}'
    SqlAuditLog(records.database).append(
        build_entry(Actor("", "prefect"), SystemClock(), "run", run_id, detail, result)
    )


def is_stopped(records: SqlRecords, run_id: str) -> bool:
    lease = records.leases.find_lease(run_id)
    return lease is not None and lease.stop is not None


def cancel(monkeypatch: pytest.MonkeyPatch, flow_run_id: UUID, run_id: str = RUN) -> list[str]:
    """Cancel a flow run with this parameter. Return the runs that a flow run was started for, once it was stopped."""
    started: list[str] = []

    def start(records: SqlRecords, run: RunInfo) -> str:
        assert is_stopped(records, run.id)  # at once: another process could resume the run meanwhile
        started.append(run.id)
        return "it goes on"

    monkeypatch.setattr(flow_run_hooks, "_start_resume", start)
    flow_run = FlowRun(id=flow_run_id, flow_id=uuid4(), name="resume", parameters={"run_id": run_id})
    flow_run_hooks.resume_after_cancellation(flow=None, flow_run=flow_run, state=None)
    return started


@pytest.mark.parametrize("result", [None, AuditResult.REFUSED])
def test_a_cancelled_flow_run_stops_no_run_that_it_never_had(
    records: SqlRecords, result: AuditResult | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Attacker: who may use Prefect. Way: cancel a resume-fleet with the run_id of any run while it starts. Must hold:
    that run goes on. Its log says so, and how to stop it.
    """
    theirs = uuid4()
    resume(records, OTHER, str(theirs))
    if result is not None:
        resume(records, RUN, str(theirs), result)
    with caplog.at_level("INFO"):
        assert cancel(monkeypatch, theirs) == []
    assert f"which is not stopped: fleetpatch cancel {RUN}" in caplog.text
    assert not is_stopped(records, RUN)


def test_a_cancelled_flow_run_stops_the_run_that_it_resumed(
    records: SqlRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: a resume-fleet that executes a run is cancelled in Prefect."""
    theirs = uuid4()
    resume(records, RUN, str(theirs))
    assert cancel(monkeypatch, theirs) == [RUN]
    assert cancel(monkeypatch, UUID(ORIGINAL), "") == [RUN]


def test_a_text_of_a_request_is_not_taken_for_a_flow_run(records: SqlRecords) -> None:
    """Attacker: who may start runs. Way: a scope that reads like another flow run in the audit log, or a long one."""
    actor, mine, theirs = Actor("", "prefect"), str(uuid4()), str(uuid4())
    scope = f'", "flow_run": "{theirs}", "' + "x" * 3000
    detail = json.dumps({"kind": "patch", "flow_run": mine, "scope": scope})
    SqlAuditLog(records.database).append(build_entry(actor, SystemClock(), "run", OTHER, detail, AuditResult.BEGUN))
    assert find_run_of_flow_run(records, OTHER, theirs) is None
    assert find_run_of_flow_run(records, OTHER, mine) is not None


def test_a_run_id_that_is_no_id_is_no_run(records: SqlRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: who may use Prefect. Way: a run_id that is an option, a mask, or the beginning of every id."""
    for run_id in ("--flow-run=original", "%", "2026", RUN):
        assert cancel(monkeypatch, uuid4(), run_id) == []
    assert not is_stopped(records, RUN)
