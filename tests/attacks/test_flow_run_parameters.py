"""Attacks through Prefect's API on the program that finishes runs: flow runs with parameters of one's own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from flows.ports.audit import build_entry
from flows.ports.caller import Actor
from flows.recovery import finalizer
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support import builders

RUN = "20261125-220000-aaaaaa"
OTHER = "20261125-220000-bbbbbb"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlRecords]:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", url)
    monkeypatch.setattr(finalizer, "wait_for_lease_expiry", lambda *_words, **_options: None)
    monkeypatch.setattr(finalizer, "find_abandoned_run", lambda _run_id, _url: "it goes on")
    with open_records(url) as opened:
        for run_id in (RUN, OTHER):
            opened.save(
                builders.make_run(
                    id=run_id, state=OperationState.IN_PROGRESS, started_at=NOW, ended_at=None, flow_run_id="original"
                )
            )
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


@pytest.mark.parametrize("result", [None, AuditResult.REFUSED])
def test_a_cancelled_flow_run_stops_no_run_that_it_never_had(records: SqlRecords, result: AuditResult | None) -> None:
    """Attacker: who may use Prefect. Way: cancel a resume-fleet with the run_id of any run while it starts. Must hold:
    that run goes on.
    """
    resume(records, OTHER, "theirs")
    if result is not None:
        resume(records, RUN, "theirs", result)
    assert "nothing was begun" in finalizer.finalize_run(RUN, stop="cancelled in Prefect", flow_run_id="theirs")
    assert not is_stopped(records, RUN)


def test_a_cancelled_flow_run_stops_the_run_that_it_resumed(records: SqlRecords) -> None:
    """No attacker: a resume-fleet that executes a run is cancelled in Prefect."""
    resume(records, RUN, "theirs")
    assert finalizer.finalize_run(RUN, stop="cancelled in Prefect", flow_run_id="theirs") == "it goes on"
    assert is_stopped(records, RUN)
    assert finalizer.finalize_run("original", stop="cancelled in Prefect", flow_run_id="original") == "it goes on"


def test_the_stop_is_stored_before_the_finalizer_starts(
    records: SqlRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attacker: the finalizer takes seconds to start, and another process could resume the run meanwhile."""
    theirs = uuid4()
    resume(records, RUN, str(theirs))
    stopped: list[bool] = []
    monkeypatch.setattr(
        finalizer, "start_finalizer", lambda *_words, **_options: stopped.append(is_stopped(records, RUN))
    )
    other, mine = (
        cast("Any", SimpleNamespace(id=flow_run, name="resume", parameters={"run_id": RUN}, tags=[]))
        for flow_run in (uuid4(), theirs)
    )
    finalizer.start_finalizer_after_cancellation(None, other, None)
    finalizer.start_finalizer_after_cancellation(None, mine, None)
    assert stopped == [False, True]


def test_a_run_id_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: who may use Prefect. Way: a run_id that begins with a hyphen. The finalizer must not read an option."""
    started: list[list[str]] = []
    monkeypatch.setattr("subprocess.Popen", lambda words, **_options: started.append(words))
    monkeypatch.setattr("platformdirs.user_data_path", lambda _name: tmp_path)
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path / 'records.db'}")
    flow_run: Any = SimpleNamespace(id=uuid4(), name="theirs", parameters={"run_id": "--flow-run=theirs"}, tags=[])

    finalizer.start_finalizer_after_cancellation(None, flow_run, None)

    (words,) = started
    assert words[-2:] == ["--", "--flow-run=theirs"]
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(finalizer, "finalize_run", lambda run, *, stop, flow_run_id: asked.append((run, flow_run_id)))
    monkeypatch.setattr(finalizer, "correct_prefect_state", lambda *_words: None)
    assert finalizer.main(words[words.index("flows.recovery.finalizer") + 1 :]) == 0
    assert asked == [("--flow-run=theirs", str(flow_run.id))]
