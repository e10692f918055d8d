"""What may come between a window and its run, on a real server with a real worker and real machines."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.approval.decisions import approve_run, find_waiting_runs
from tasks.domain.errors import RecordsError, RunNotFound
from tasks.domain.model import Outcome, RunInfo
from tasks.domain.states import OperationState, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim
from tests.lab.fleet import LabHost
from tests.lab.test_scheduled import Planned, planned, whole_minute

pytestmark = pytest.mark.slow

FREEZE = {"start": "2020-01-01", "end": "2998-12-31", "reason": "release"}


def test_windows_are_kept_whatever_comes_between(hosts: Callable[[int], list[LabHost]], tmp_path: Path) -> None:
    """A download as far ahead as windows recur, a freeze before an approval, a quick run, runs that are cancelled."""
    with planned(hosts, 2, tmp_path, ("", f"sqlite:///{tmp_path / 'records.db'}")) as plan:
        nightly, frozen = plan.fleet.hosts
        start = whole_minute(150)
        daily = {"start": f"{start:%Y-%m-%d %H:%M}", "length": 20, "zone": "UTC", "recurrence": "1Day"}
        plan.configure("nightly", nightly, start, "lab-plain", lead=1, stage=True, stage_ahead="1d")
        plan.configure("frozen", frozen, start, "lab-plain", lead=1, approval={"required": True})
        plan.configure("limited", frozen, start + timedelta(minutes=30), "lab-plain", lead=29)
        _write(plan, "nightly", window=daily)
        plan.configure("dropped", frozen, start, "lab-plain")
        plan.deploy()
        plan.work()
        dropped = plan.flow_run("dropped")
        assert dropped.auto_scheduled
        assert dropped.expected_start_time == start
        plan.client.set_flow_run_state(dropped.id, Cancelled(message="not tonight"), force=True)
        limited = plan.flow_run("limited")
        limit: State[Any] = Cancelled(message="Deployment concurrency limit reached.")
        plan.client.set_flow_run_state(limited.id, limit, force=True)

        (waiting,) = plan.until(lambda: find_waiting_runs(plan.records_url), "the run that is to be frozen")
        _write(plan, "frozen", freezes=[FREEZE])
        plan.deploy()
        approve_run(waiting.run.id, "anne", records_url=plan.records_url)

        _frozen_before_its_approval(plan, frozen)
        _patched_beside_its_download(plan, nightly, start)
        _quick_run_patches_nothing(plan, frozen, "limited")
        _cancelled_by_the_limit(plan, "limited")
        assert plan.state(dropped.id) == "Cancelled"  # before its start: it was never begun, here or there
        report = plan.report("dropped")
        assert report is None or report.run.state is OperationState.NOT_STARTED
        assert plan.standing("dropped", start) in (None, WindowStatus.MISSED)
        assert frozen.package_versions("lab-plain") == {"lab-plain": "1.0"}


def _write(plan: Planned, name: str, **fields: object) -> None:
    path = plan.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))


def _patched_beside_its_download(plan: Planned, host: LabHost, start: datetime) -> None:
    name, due = "nightly", start - timedelta(minutes=1)
    (run,) = [each for each in plan.flow_runs(name) if each.expected_start_time == due]
    plan.until(lambda: plan.state(run.id) == "Completed", "the end of the run whose window another download meets")
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
    report = plan.report(name)
    assert report is not None
    assert report.run.window is not None
    assert report.run.window.start == start
    assert [outcome.state for outcome in report.outcomes] == [OperationState.SUCCEEDED]
    kept = plan.until(lambda: _known(plan, f"{name} (download)"), "the window of the download")
    assert [(each.status, each.starts_at) for each in kept] == [(WindowStatus.CLAIMED, start)]
    (own,) = _known(plan, name)
    assert (own.status, own.run_id) == (WindowStatus.CLAIMED, report.run.id)
    assert kept[0].run_id != own.run_id
    _download_gave_way(plan, kept[0].run_id, own.run_id)


def _download_gave_way(plan: Planned, download: str, run: str) -> None:
    """Whichever of the two was first on the machine, the download's report says what became of it."""

    def ended() -> Outcome | None:
        with open_records(plan.records_url) as records, suppress(RunNotFound):  # a run claims its window before its row
            return next(iter(History(records).read_report(download).outcomes), None)
        return None

    outcome = plan.until(ended, "the outcome of the download")
    assert outcome.state is not OperationState.FAILED, outcome.reason
    told = [outcome.reason, *(update.reason for update in outcome.updates)]
    assert any(run in each or "only downloaded" in each or "nothing to install" in each for each in told), told


def _frozen_before_its_approval(plan: Planned, host: LabHost) -> None:
    assert plan.ended("frozen") == "Completed"
    report = plan.report("frozen")
    assert report is not None
    (outcome,) = report.outcomes
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith("frozen: release, from 2020-01-01")
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}


def _quick_run_patches_nothing(plan: Planned, host: LabHost, name: str) -> None:
    deployment = plan.client.read_deployment_by_name(f"patch-fleet/{name}")
    quick = plan.client.create_flow_run_from_deployment(deployment.id)
    plan.until(lambda: plan.state(quick.id) == "Failed", "the end of the quick run")
    state = plan.client.read_flow_run(quick.id).state
    assert state is not None
    assert "outside of its windows" in (state.message or "")
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}


def _cancelled_by_the_limit(plan: Planned, name: str) -> None:
    (due,) = {each.expected_start_time for each in plan.flow_runs(name) if each.auto_scheduled}
    plan.until(lambda: due is not None and datetime.now(UTC) > due, "the moment at which it would have started")
    reconcile = plan.client.read_deployment_by_name("reconcile-fleet/scheduled")
    plan.client.create_flow_run_from_deployment(reconcile.id)
    (missed,) = plan.until(lambda: _known(plan, name), "the record of a window without a run")
    assert missed.status is WindowStatus.MISSED
    assert "Prefect cancelled flow run" in missed.reason
    run = plan.until(lambda: _find_run(plan, missed.run_id), "the run of that record, which is written after it")
    assert (run.state, run.message) == (OperationState.NOT_STARTED, missed.reason)


def _find_run(plan: Planned, run_id: str) -> RunInfo | None:
    with open_records(plan.records_url) as records, suppress(RecordsError):
        return History(records).find_run(run_id)
    return None


def _known(plan: Planned, name: str) -> tuple[WindowClaim, ...]:
    now = datetime.now(UTC)
    with open_records(plan.records_url) as records:
        return SqlWindowClaims(records.database).find_claims_between(
            now - timedelta(days=1), now + timedelta(days=1), name
        )
