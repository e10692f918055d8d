"""What is done beside the windows: downloading ahead, reports of old runs, and forgetting."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError

from flows.maintenance import build_staging_request, prune_records, report_fleet, stage_fleet
from flows.request.patch_request import WindowRequest
from flows.request.request_parts import ApprovalRequest, HookRequest, HooksRequest, NotifyRequest
from tasks.domain.states import HookKind, OperationState, RebootState, UpdateState, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.timing.admission import WindowClaim
from tests.support import builders as make
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.usefixtures("url")  # the default records are those of all processes of the test run
def test_staging_downloads_and_nothing_else(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True), FakePackage("b")])
    boot = web.boot_id

    state: State[Any] = stage_fleet(fleet.request(reboot="Always", configuration="web"), return_state=True)

    assert state.is_completed(), state.message
    report = state.result()
    assert report.run.kind == "stage"
    assert web.world.whole() == {"a": "1.0", "b": "1.0"}
    assert web.boot_id == boot
    assert [job.script.params["work"] for job in web.jobs()] == ["stage"]
    outcome = outcome_of(report, "web")
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert all("only downloaded" in result.reason for result in outcome.updates)
    assert outcome.reboot is not RebootState.COMPLETED
    assert outcome.install is not None
    assert outcome.install.staged_seconds is not None
    assert web.locked_by is None  # the run in the window may have it


def test_a_staging_request_keeps_what_is_chosen_and_leaves_the_rest_aside(fleet: SimFleet) -> None:
    hook = HookRequest(name="drain", kind=HookKind.HTTP, target="https://lb.example.org/drain")
    asked = fleet.request("nginx*", configuration="web").model_copy(
        update={
            "hooks": HooksRequest(before_run=[hook]),
            "approval": ApprovalRequest(required=True),
            "notify": [NotifyRequest(to="env:OPS")],
            "window": WindowRequest(start=datetime(2026, 11, 21, tzinfo=UTC), minutes=90, lead_minutes=40),
        }
    )
    staging = build_staging_request(asked)
    assert staging.updates == asked.updates
    assert staging.scope == asked.scope
    assert (staging.hooks, staging.approval.required, staging.notify) == (HooksRequest(), False, [])
    assert staging.window == WindowRequest(minutes=90)
    assert staging.configuration == ""
    options = staging.to_patch_options()
    assert (options.download_only, options.reboot, options.repair) == (True, "Never", False)


def test_reports_of_the_last_days_are_written_again(url: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with open_records(url) as records:
        for name, age in (("new", 1), ("old", 20)):
            began = now - timedelta(days=age)
            run = make.make_run(id=name, started_at=began, ended_at=began + timedelta(hours=1))
            records.save(make.make_report(run=run, outcomes=()))

    written = report_fleet(days=7, directory=tmp_path / "out", formats=["html", "json"])

    (folder,) = [Path(each) for each in written]
    assert (folder / "report.html").exists()
    assert (folder / "report.json").exists()
    assert len(report_fleet(run_id="old", directory=tmp_path / "out", formats=["json"])) == 1


def test_pruning_forgets_old_runs_and_their_windows(url: str) -> None:
    now = datetime.now(UTC)
    with open_records(url) as records:
        windows = SqlWindowClaims(records.database)
        for name, age in (("new", 1), ("old", 100)):
            began = now - timedelta(days=age)
            records.save(make.make_run(id=name, started_at=began, state=OperationState.SUCCEEDED))
            windows.record_window_without_run(WindowClaim("web", began, WindowStatus.MISSED, name, "late", began))

    assert prune_records(days=90).startswith("1 run and 0 assessments deleted")

    with open_records(url) as records:
        assert [run.id for run in History(records).read_runs()] == ["new"]
        left = SqlWindowClaims(records.database).find_claims_between(now - timedelta(days=200), now)
        assert [each.run_id for each in left] == ["new"]


def test_what_may_still_be_going_on_can_not_be_forgotten(url: str) -> None:
    with pytest.raises(ParameterTypeError):
        prune_records(days=30)
