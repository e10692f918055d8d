"""Runs that were abandoned, and what a reconcile-fleet that was deployed does about them: a flow run for each, once."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled, Suspended

from flows import reconcile
from flows.flow_execution import cast_to_report
from flows.patch import patch_fleet, resume_fleet
from flows.ports.audit import build_entry
from flows.ports.caller import Actor, Caller
from flows.prefect_api.tags import DEFAULT_FLEET, build_deployment_name, build_fleet_tag
from flows.prefect_runtime.run_artifacts import PROGRESS_KEY
from flows.reconcile import reconcile_fleet
from flows.recovery.flow_runs import (
    RESUME_DEPLOYMENT,
    STARTUP_GRACE,
    OrphanedFlowRun,
    end_orphaned_flow_runs,
    find_orphaned_flow_runs,
    find_resume_deployment,
    start_resume_flow_run,
    stop_runs_cancelled_in_prefect,
)
from flows.recovery.unfinished_runs import AbandonedRun, find_abandoned_runs
from tasks.domain.errors import PatchError
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.rows.audit import AuditResult
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.fleets import use_fleet
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tests.flows.prefect_view import artifacts
from tests.support.builders import make_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

ANNE = LeaseHolder("x", "hilltop", 1, "anne")


@pytest.fixture
def deployed(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> DeploymentResponse:
    """The deployment that takes runs up, with no worker: what is started waits. reconcile-fleet is deployed too.

    It was deployed by a version whose resume_fleet had two parameters; nobody has deployed anew since.
    """
    flow = client.create_flow(resume_fleet)
    words = {"run_id": {"type": "string"}, "finalize": {"type": "boolean", "default": False}}
    client.create_deployment(
        flow_id=flow,
        name="on-demand",
        tags=["fleetpatch"],
        parameter_openapi_schema={"type": "object", "properties": words, "required": ["run_id"]},
        enforce_parameter_schema=True,
    )
    monkeypatch.setattr("prefect.runtime.deployment.get_id", lambda: "of reconcile-fleet")
    return client.read_deployment_by_name(RESUME_DEPLOYMENT)


def abandon(url: str, count: int, salt: str) -> list[RunInfo]:
    """Leave runs that nobody carries out, in the records."""
    now = datetime.now(UTC).replace(microsecond=0)
    runs = [
        make_run(
            id=f"{now:%Y%m%d-%H%M%S}-{salt}{number}",
            state=OperationState.IN_PROGRESS,
            started_at=now - timedelta(minutes=90 - number),
            ended_at=None,
        )
        for number in range(count)
    ]
    with open_records(url) as records:
        for run in runs:
            records.save(run)
    return runs


def successors(client: SyncPrefectClient, run: RunInfo) -> Sequence[FlowRun]:
    tags = FlowRunFilterTags(all_=[f"fleetpatch-run:{run.id}"])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tags))


def left(url: str, run: RunInfo, **changes: object) -> AbandonedRun:
    (found,) = [each for each in find_abandoned_runs(url) if each.run.id == run.id]
    return replace(found, **changes)  # type: ignore[arg-type]


def test_an_event_that_a_dead_run_left_is_ended(url: str, client: SyncPrefectClient) -> None:
    (run,) = abandon(url, 1, "told")
    now = datetime.now(UTC)
    with open_records(url) as records:
        events = SqlScheduledEvents(records.database)
        event = ScheduledEvent(
            id="",
            run_id=run.id,
            act="reboot/0",
            event_type=EventType.REBOOT,
            resources=("web",),
            audience=("web",),
            not_before=now + timedelta(minutes=15),
            expires_at=now + timedelta(hours=4),
            announced_at=now,
            description="Updates need a reboot.",
        )
        events.announce(event)
        records.save(replace(run, state=OperationState.FAILED, ended_at=now))

        reconcile_fleet()

        (over,) = events.find(run.id)
        assert over.status is EventStatus.CANCELED
        assert "its run ended" in over.reason


def test_abandoned_runs_get_a_flow_run_each_at_once_and_however_often_it_is_asked(
    url: str, client: SyncPrefectClient, deployed: DeploymentResponse
) -> None:
    runs = abandon(url, 3, "each")

    for _ in range(2):
        assert reconcile_fleet() == [run.id for run in runs]

    for run in runs:
        (started,) = successors(client, run)
        assert started.parameters == {"run_id": run.id, "if_abandoned": True}
        assert started.deployment_id == deployed.id
        assert set(deployed.tags) <= set(started.tags)  # the server's own care of dead runs goes by them
        assert started.state is not None
        assert started.state.is_scheduled()


@pytest.mark.parametrize(("state", "reason"), [(Cancelled(), "cancelled in Prefect"), (Running(), "")], ids=str)
def test_a_run_that_was_cancelled_in_prefect_is_not_resumed_if_its_process_stored_no_stop(
    url: str, client: SyncPrefectClient, state: State, reason: str
) -> None:
    (run,) = abandon(url, 1, "stop")
    flow_run = client.create_flow_run(resume_fleet, parameters={"run_id": run.id}, state=state)
    with open_records(url) as records:
        records.save(replace(run, flow_run_id=str(flow_run.id), window=None))

    (abandoned_run,) = stop_runs_cancelled_in_prefect([left(url, run)], Caller(records_url=url))

    assert abandoned_run.finalize_reason == reason
    assert left(url, run).finalize_reason == (f"{reason} (Prefect)" if reason else "")


def test_a_run_is_stopped_if_the_flow_run_that_resumed_it_was_cancelled(url: str, client: SyncPrefectClient) -> None:
    """Its worker died before it could call the hook."""
    run, _ = end(url, client, "second", Cancelled())
    with open_records(url) as records:
        records.save(replace(run, window=None))  # it is not over

    (abandoned_run,) = stop_runs_cancelled_in_prefect([left(url, run)], Caller(records_url=url))

    assert abandoned_run.finalize_reason == "cancelled in Prefect"


def test_two_that_ask_at_the_same_moment_get_the_same_flow_run(
    url: str, client: SyncPrefectClient, deployed: DeploymentResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = abandon(url, 1, "two")
    now = datetime.now(UTC)
    with monkeypatch.context() as patch:
        patch.setattr(SyncPrefectClient, "read_flow_runs", lambda *_, **__: [])  # each looks before the other has asked
        names = {start_resume_flow_run(client, deployed, left(url, run), now).name for _ in range(2)}
    assert len(names) == 1
    assert len(successors(client, run)) == 1


def test_a_dead_flow_run_with_the_next_key_is_followed_by_another(
    url: str, client: SyncPrefectClient, deployed: DeploymentResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the one who created it was slow, so it is not the newest in Prefect."""
    (run,) = abandon(url, 1, "slow")
    now = datetime.now(UTC)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "read_flow_runs", lambda *_, **__: [])
            assert start_resume_flow_run(client, deployed, left(url, run), now).state == "Scheduled"
        for flow_run in successors(client, run):
            client.set_flow_run_state(flow_run.id, Crashed(), force=True)
    assert len(successors(client, run)) == 3
    monkeypatch.setattr(SyncPrefectClient, "read_flow_runs", lambda *_, **__: [])
    with pytest.raises(ValueError, match="only flow runs that are over"):
        start_resume_flow_run(client, deployed, left(url, run), now)


def test_a_reconcile_that_dies_between_two_leaves_the_rest_to_the_next(
    url: str, client: SyncPrefectClient, deployed: DeploymentResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = abandon(url, 3, "dies")
    count = 0

    def dies(*words: object) -> object:
        nonlocal count
        count += 1
        if count == 2:
            raise SystemExit(1)
        return start_resume_flow_run(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "start_resume_flow_run", dies)
        with pytest.raises(SystemExit):
            reconcile_fleet()
    assert [len(successors(client, run)) for run in runs] == [1, 0, 0]
    reconcile_fleet()
    assert [len(successors(client, run)) for run in runs] == [1, 1, 1]


def test_a_server_that_fails_for_one_costs_the_others_nothing(
    url: str, client: SyncPrefectClient, deployed: DeploymentResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = abandon(url, 2, "fails")

    def fails(client: SyncPrefectClient, resume: DeploymentResponse, left: AbandonedRun, now: datetime) -> object:
        if left.run.id == first.id:
            raise OSError("the server hung up")
        return start_resume_flow_run(client, resume, left, now)

    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "start_resume_flow_run", fails)
        with pytest.raises(PatchError, match=f"1 of 2 runs could not be recovered: {first.id}.*hung up"):
            reconcile_fleet()
    assert len(successors(client, second)) == 1


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("state", "left_since", "later", "again"),
    [
        (Scheduled(), -HOUR, 5 * HOUR, False),  # no worker has a place for it
        (Pending(), -HOUR, timedelta(minutes=1), False),
        (Running(), -HOUR, timedelta(minutes=1), False),
        (Pending(), -HOUR, STARTUP_GRACE + HOUR, True),  # its process died before it took the lease
        (Running(), -HOUR, STARTUP_GRACE + HOUR, True),
        (Running(), timedelta(minutes=2), timedelta(minutes=1), False),  # it waits for the lease of a dead process
        (Running(), timedelta(minutes=2), timedelta(minutes=2, seconds=1), False),
        (Running(), timedelta(minutes=2), timedelta(minutes=3), True),  # it had the lease, and died
        (Cancelling(), timedelta(minutes=2), timedelta(minutes=1), True),
        (Cancelled(), -HOUR, timedelta(), True),
        (Completed(), -HOUR, timedelta(), True),
    ],
)
def test_one_that_died_is_followed_by_another_and_one_that_is_on_its_way_is_waited_for(
    url: str,
    client: SyncPrefectClient,
    deployed: DeploymentResponse,
    state: State[None],
    left_since: timedelta,
    later: timedelta,
    again: bool,
) -> None:
    (run,) = abandon(url, 1, f"again-{state.name}-{left_since}-{later}".replace(":", "").replace(" ", "").lower())
    now = datetime.now(UTC)
    first = start_resume_flow_run(client, deployed, left(url, run), now)
    assert first.is_new
    (made,) = successors(client, run)
    client.set_flow_run_state(made.id, state, force=True)

    second = start_resume_flow_run(client, deployed, left(url, run, since=now + left_since), now + later)

    assert second.is_new is again
    assert len(successors(client, run)) == 1 + again


def test_a_flow_run_that_comes_when_somebody_has_the_run_has_nothing_to_do(url: str) -> None:
    (run,) = abandon(url, 1, "held")
    over = threading.Event()
    with open_records(url) as records:
        records.leases.acquire(run.id, ANNE, 600)

        def live() -> None:
            while not over.wait(0.2):
                records.leases.renew(run.id, ANNE, 600)

        alive = threading.Thread(target=live)
        alive.start()
        try:
            state: State[RunReport] = resume_fleet(run.id, if_abandoned=True, return_state=True)
        finally:
            over.set()
            alive.join()
    assert state.is_completed()
    assert "nothing to resume" in str(state.message)
    assert "anne on hilltop" in str(state.message)


def test_a_flow_run_that_comes_while_a_dead_process_has_the_lease_waits(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = abandon(url, 1, "dead")
    monkeypatch.setattr(
        "flows.patch.execute_in_flow", lambda left, _caller: cast_to_report(Completed(message=left.run.id))
    )
    with open_records(url) as records:
        records.leases.acquire(run.id, ANNE, 1.5)
    state: State[RunReport] = resume_fleet(run.id, if_abandoned=True, return_state=True)
    assert state.message == run.id


def test_a_flow_run_that_comes_when_the_run_is_over_has_nothing_to_do(url: str) -> None:
    (run,) = abandon(url, 1, "over")
    with open_records(url) as records:
        records.save(replace(run, state=OperationState.SUCCEEDED))
    state: State[RunReport] = resume_fleet(run.id, if_abandoned=True, return_state=True)
    assert state.is_completed()
    assert "is over: Succeeded" in str(state.message)


def end(
    url: str,
    client: SyncPrefectClient,
    salt: str,
    shown: State,
    *,
    began: bool = True,
    state: OperationState = OperationState.SUCCEEDED,
) -> tuple[RunInfo, FlowRun]:
    """Return a run that ended an hour ago, and a flow run that resumed it, or only says so."""
    (run,) = abandon(url, 1, salt)
    flow_run = client.create_flow_run(resume_fleet, parameters={"run_id": run.id})
    client.set_flow_run_state(flow_run.id, Running(), force=True)
    client.create_artifact(ArtifactCreate(key=PROGRESS_KEY, type="markdown", data="0 of 1", flow_run_id=flow_run.id))
    client.set_flow_run_state(flow_run.id, shown, force=True)
    with open_records(url) as records:
        records.save(replace(run, state=state, ended_at=datetime.now(UTC) - timedelta(hours=1)))
        if began:
            detail = json.dumps({"flow_run": str(flow_run.id)})
            entry = build_entry(Actor("", "prefect"), SystemClock(), "run", run.id, detail, AuditResult.BEGUN)
            SqlAuditLog(records.database).append(entry)
    return run, client.read_flow_run(flow_run.id)


def orphans(url: str, client: SyncPrefectClient, flow_run: FlowRun, later: int = 0) -> list[OrphanedFlowRun]:
    """Return whether a flow run is orphaned in so many days. The server has flow runs of other tests as well."""
    now = datetime.now(UTC) + timedelta(days=later)
    return [each for each in find_orphaned_flow_runs(client, url, now) if each.flow_run.id == flow_run.id]


@pytest.mark.parametrize("shown", [Cancelled(), Crashed(), Failed(), Running(), Suspended()], ids=str)
def test_prefect_is_compared_with_the_records_whatever_it_shows(
    url: str, client: SyncPrefectClient, shown: State
) -> None:
    """A cancellation came too late, or its server was restored: the records say how the run ended."""
    run, flow_run = end(url, client, f"compared-{shown.name}".lower(), shown)

    assert [each.run.id for each in orphans(url, client, flow_run) if each.run is not None] == [run.id]
    reconcile_fleet()

    assert client.read_flow_run(flow_run.id).state_name == "Completed"
    assert "**The run is over: Succeeded**" in str(artifacts(flow_run.id)[PROGRESS_KEY].data)
    assert orphans(url, client, flow_run) == []


def test_an_end_that_was_unknown_gets_its_name(url: str, client: SyncPrefectClient) -> None:
    """Prefect's type is the same: Failed."""
    _, flow_run = end(url, client, "unknown-end", Failed(name="Unknown"), state=OperationState.FAILED)

    end_orphaned_flow_runs(client, url, datetime.now(UTC))

    assert client.read_flow_run(flow_run.id).state_name == "Failed"


@pytest.mark.parametrize(
    ("shown", "began", "later"),
    [(Completed(), True, 0), (Cancelled(), False, 0), (Cancelled(), True, 3)],
    ids=("as the records", "never had the run", "long ago"),
)
def test_what_prefect_shows_stays(url: str, client: SyncPrefectClient, shown: State, began: bool, later: int) -> None:
    _, flow_run = end(url, client, f"stays-{shown.name}-{began}-{later}".lower(), shown, began=began)
    assert orphans(url, client, flow_run, later) == []


def test_a_flow_run_whose_run_is_unknown_is_told_and_left_alone(url: str, client: SyncPrefectClient) -> None:
    """Records of an earlier day were restored."""
    flow = client.create_flow(patch_fleet)
    ours, other = (
        client.create_flow_run_from_deployment(
            client.create_deployment(
                flow_id=flow, name=f"unknown {fleet}", tags=["fleetpatch", build_fleet_tag(fleet)]
            ),
            parameters={"request": {}},
        )
        for fleet in (DEFAULT_FLEET, "north")
    )
    for made in (ours, other):
        client.set_flow_run_state(made.id, Completed(), force=True)

    end_orphaned_flow_runs(client, url, datetime.now(UTC))

    (told,) = orphans(url, client, ours)
    assert orphans(url, client, other) == []
    assert told.description.endswith("is Completed in Prefect, and the records have no run of it: left alone")
    assert client.read_flow_run(ours.id).state_name == "Completed"


def test_each_fleet_has_its_runs_taken_up_by_its_own_deployment(
    client: SyncPrefectClient, deployed: DeploymentResponse
) -> None:
    def takes_up(fleet: str) -> str | None:
        with use_fleet(fleet):
            found = find_resume_deployment(client, "default")
        return found.name if found is not None else None

    flow = client.create_flow(resume_fleet)
    client.create_deployment(flow_id=flow, name="on-demand@north", tags=["fleetpatch", build_fleet_tag("north")])

    assert takes_up("north") == "on-demand@north"
    assert takes_up("default") == takes_up("south") == "on-demand"  # it says no fleet: it is everybody's
    client.create_deployment(flow_id=flow, name="on-demand", tags=["fleetpatch", build_fleet_tag("default")])
    assert takes_up("default") == "on-demand"
    assert takes_up("south") is None


def test_what_reconcile_needs_is_deployed_beside_it() -> None:
    from deployments.sync.builtin_deployments import build_builtin_deployments

    assert RESUME_DEPLOYMENT in {made.full_name for made in build_builtin_deployments(DEFAULT_FLEET, "pool", None)}
    assert build_deployment_name(RESUME_DEPLOYMENT, "north") in {
        made.full_name for made in build_builtin_deployments("north", "pool", None)
    }
