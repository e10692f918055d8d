"""Flow runs that die, are cancelled or started again, on a Prefect server: a simulated fleet with real records."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Abort, TerminationSignal
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Running

from fleetpatch.cli.command import main
from flows.maintenance import stage_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.ports.audit import find_flow_runs_of_run
from flows.ports.caller import Caller
from flows.reconcile import reconcile_fleet
from flows.recovery import flow_run_hooks
from flows.recovery.flow_runs import RESUME_DEPLOYMENT
from flows.recovery.reconciliation import resume_run
from flows.recovery.unfinished_runs import find_abandoned_runs
from tasks.domain.errors import RecordsError
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.states import OperationState, Step
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.flows.prefect_view import artifacts, look
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, mortal_machine, mortal_records

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

ANNE = LeaseHolder("x", "hilltop", 1, "anne")


@dataclass
class Stage:
    """A fleet, records in a file, and the deployment that goes on with runs, which has no worker."""

    fleet: SimFleet
    url: str
    life: Life = field(default_factory=Life)

    def successors(self, run: RunInfo) -> list[FlowRun]:
        """Return the flow runs that were started to go on with a run."""
        resumes = FlowFilter(name=FlowFilterName(any_=["resume-fleet"]))
        tags = FlowRunFilterTags(all_=[f"fleetpatch-run:{run.id}"])
        with get_client(sync_client=True) as client:
            return client.read_flow_runs(flow_filter=resumes, flow_run_filter=FlowRunFilter(tags=tags))

    def go_on(self, run: RunInfo) -> str:
        """Let the flow run that was started go on with a run, as a worker does. Return its message."""
        (made,) = self.successors(run)
        state: Any = run_flow(resume_fleet, flow_run=made, parameters=made.parameters, return_type="state")
        return str(state.message)

    def flow_run(self, run: RunInfo) -> FlowRun:
        """Return the flow run that began a run."""
        with get_client(sync_client=True) as client:
            return client.read_flow_run(UUID(run.flow_run_id))

    def run(self) -> RunInfo:
        with open_records(self.url) as records:
            return History(records).read_runs(1)[0]

    def die(self, machine: str, flow: Callable[[], object]) -> None:
        """Let a flow run die while this machine installs."""
        dying = self.life = Life()

        def kill() -> None:
            dying.dies_at = dying.calls + 1

        self.fleet.machines[machine].on_start("install", 5, kill)
        with pytest.raises(Killed):
            flow()
        self.life = Life()

    def left(self) -> RunInfo:
        """Let a flow run die in the middle."""
        self.die("first", lambda: patch_fleet(self.fleet.request(waves={"size": 1})))
        assert self.fleet.machines["first"].installs()
        assert not self.fleet.machines["second"].installs()
        return self.run()


@pytest.fixture
def stage(fleet: SimFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(fleet, f"sqlite:///{tmp_path / 'records.db'}")
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", made.url)
    records = open_records(made.url)
    audit = SqlAuditLog(records.database)

    @contextmanager
    def ports(_request: object, who: object) -> Iterator[object]:
        life = made.life
        yield replace(
            fleet.ports(),
            records=mortal_records(records, life),
            leases=records.leases,
            append_audit=audit.append,
            find_flow_runs=functools.partial(find_flow_runs_of_run, audit),
            stop_token=who.stop_token,  # type: ignore[attr-defined]
            listener=who.listener,  # type: ignore[attr-defined]
            connect=lambda machine: mortal_machine(fleet.machines[machine.name], life),
        )

    monkeypatch.setattr("flows.execution.open_ports", ports)
    for module in ("unfinished_runs", "flow_run_hooks"):
        monkeypatch.setattr(f"flows.recovery.{module}.SystemClock", lambda: fleet.clock)
    monkeypatch.setattr("flows.local_run.find_report_directory", lambda asked: asked or tmp_path / "reports")
    with get_client(sync_client=True) as client:
        flow, name = client.create_flow(resume_fleet), RESUME_DEPLOYMENT.rpartition("/")[2]
        client.create_deployment(flow_id=flow, name=name, tags=["fleetpatch"])
    for name in ("first", "second"):
        fleet.add(name, [FakePackage("a", seconds=20)])
    yield made
    records.close()


def started_again(monkeypatch: pytest.MonkeyPatch, run: RunInfo) -> None:
    """Let the next flow run be that one once more, as after a retry in the UI."""
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "2")
    monkeypatch.setattr("prefect.runtime.flow_run.get_id", lambda: run.flow_run_id)


def test_a_flow_run_that_is_started_again_goes_on_with_its_run_unless_somebody_carries_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stage.left()
    started_again(monkeypatch, run)
    with open_records(stage.url) as records:
        records.leases.acquire(run.id, ANNE, 600)
        with pytest.raises(Abort, match=r"anne on hilltop.*changes nothing"):
            patch_fleet(stage.fleet.request())
        records.leases.release(run.id, ANNE)

    report = patch_fleet(stage.fleet.request(waves={"size": 1}))

    assert report.run.id == run.id
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert [len(machine.installs()) for machine in stage.fleet.machines.values()] == [1, 1]
    state: State[RunReport] = patch_fleet(stage.fleet.request(), return_state=True)
    assert state.is_completed()
    assert f"run {run.id} of this flow run is over: Succeeded. Nothing was begun" in str(state.message)
    assert [len(machine.installs()) for machine in stage.fleet.machines.values()] == [1, 1]


@pytest.mark.parametrize("told", [Completed(), Crashed()], ids=str)
def test_a_second_process_of_a_flow_run_tells_no_end_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, told: State[None]
) -> None:
    """It looked while the first one ended. What Prefect was told otherwise is corrected."""
    run = patch_fleet(stage.fleet.request()).run
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run.flow_run_id), told, force=True)
    started_again(monkeypatch, run)
    if told.is_completed():
        with pytest.raises(Abort, match=r"is over: Succeeded: this process ends and changes nothing"):
            patch_fleet(stage.fleet.request())
    else:
        assert patch_fleet(stage.fleet.request(), return_state=True).is_completed()
    assert [len(machine.installs()) for machine in stage.fleet.machines.values()] == [1, 1]


def test_a_flow_run_that_is_started_again_before_its_run_was_known_begins_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "2")
    report = patch_fleet(stage.fleet.request())
    assert len(report.outcomes) == 2


def test_a_download_that_dies_is_looked_after_and_goes_on_when_it_is_started_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = stage.life = Life()
    stage.fleet.machines["first"].on_start("stage", 0.0, lambda: setattr(dying, "dead", True))
    with pytest.raises(Killed):
        stage_fleet(stage.fleet.request())
    stage.life, run = Life(), stage.run()
    assert (run.kind, run.state) == ("stage", OperationState.IN_PROGRESS)
    assert len(stage.successors(run)) == 1
    started_again(monkeypatch, run)

    report = stage_fleet(stage.fleet.request())

    assert report.run.id == run.id
    assert [len(machine.jobs()) for machine in stage.fleet.machines.values()] == [1, 1]
    assert [machine.locked_by for machine in stage.fleet.machines.values()] == [None, None]


def test_a_flow_run_that_dies_is_followed_by_another_that_goes_on(stage: Stage) -> None:
    run = stage.left()
    assert run.state is OperationState.IN_PROGRESS
    (made,) = stage.successors(run)
    assert (made.name, made.parameters) == (f"resume {run.id}", {"run_id": run.id, "if_abandoned": True})

    stage.go_on(run)

    ended = stage.run()
    assert (ended.id, ended.flow_run_id, ended.state) == (run.id, run.flow_run_id, OperationState.SUCCEEDED)
    assert [len(machine.installs()) for machine in stage.fleet.machines.values()] == [1, 1]
    assert stage.flow_run(run).state_name == "Completed"


def test_the_end_of_a_run_closes_every_flow_run_that_had_it(stage: Stage) -> None:
    """Each of them died: its steps do not run for ever, and its progress says how the run ended."""
    run = stage.left()
    stage.die("second", lambda: resume_fleet(run.id))
    with open_records(stage.url) as records:
        dead = find_flow_runs_of_run(SqlAuditLog(records.database), run.id)
    assert len(dead) == 2
    with get_client(sync_client=True) as client:
        for flow_run in map(UUID, dead):
            client.set_flow_run_state(flow_run, Running(), force=True)  # as after kill -9

        resume_fleet(run.id)

        for flow_run in map(UUID, dead):
            state = client.read_flow_run(flow_run).state
            assert state is not None
            assert (state.name, run.id in str(state.message)) == ("Completed", True)
            assert "**The run is over: Succeeded**" in str(artifacts(flow_run)["fleetpatch-patch-progress"].data)
            assert "Running" not in look(flow_run, 0).tasks.values()


def test_reconcile_takes_up_what_was_left_and_nothing_else(stage: Stage) -> None:
    run = stage.left()
    assert reconcile_fleet(dry_run=True) == [run.id]
    assert stage.run().state is OperationState.IN_PROGRESS
    assert reconcile_fleet() == [run.id]
    assert stage.run().state is OperationState.SUCCEEDED
    assert reconcile_fleet() == []


def test_told_to_end_a_flow_run_sees_its_transaction_to_the_end_and_begins_no_more(stage: Stage) -> None:
    first = stage.fleet.machines["first"]
    first.on_start("install", 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Prefect hands the signal on to whoever had it before
    try:
        with pytest.raises(TerminationSignal):
            patch_fleet(stage.fleet.request(waves={"size": 1}))
    finally:
        signal.signal(signal.SIGTERM, before)
    with open_records(stage.url) as records:
        report = History(records).read_report(stage.run().id)
    assert outcome_of(report, "first").state is OperationState.SUCCEEDED
    assert outcome_of(report, "second").state is OperationState.NOT_STARTED
    assert report.run.state is OperationState.CANCELLED
    assert Step.VALIDATE in {record.step for record in outcome_of(report, "first").steps}
    assert find_abandoned_runs(stage.url) == ()
    assert stage.flow_run(report.run).state_name == "Cancelled"  # Prefect itself has called it Crashed
    assert stage.successors(report.run) == []


def test_a_cancelled_flow_run_whose_process_was_killed_is_finalized_by_another(stage: Stage) -> None:
    run = stage.left()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run.flow_run_id), Cancelling(), force=True)
    for _ in range(2):  # Prefect's worker may call the hooks of both kinds
        flow_run_hooks.resume_after_cancellation(flow=patch_fleet, flow_run=stage.flow_run(run), state=Cancelling())
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run.flow_run_id), Cancelled(), force=True)

    stage.go_on(run)

    with open_records(stage.url) as records:
        report = History(records).read_report(run.id)
    assert report.run.state is OperationState.CANCELLED
    assert outcome_of(report, "first").state is OperationState.SUCCEEDED
    assert "cancelled in Prefect" in outcome_of(report, "second").reason
    assert stage.flow_run(run).state_name == "Cancelled"


def test_a_cancellation_that_stopped_nothing_is_corrected(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker shows Cancelled after the hook, so another flow run waits for that and corrects it."""
    run = patch_fleet(stage.fleet.request()).run
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run.flow_run_id), Cancelling(), force=True)
        flow_run_hooks.resume_after_cancellation(flow=patch_fleet, flow_run=stage.flow_run(run), state=Cancelling())
        client.set_flow_run_state(UUID(run.flow_run_id), Cancelled(), force=True)
        assert "is over: Succeeded" in stage.go_on(run)
        assert stage.flow_run(run).state_name == "Completed"

        client.set_flow_run_state(UUID(run.flow_run_id), Crashed(), force=True)
        flow_run_hooks.resume_after_crash(flow=patch_fleet, flow_run=stage.flow_run(run), state=Crashed())
        assert stage.flow_run(run).state_name == "Completed"  # here Crashed is shown before the hook
        assert len(stage.successors(run)) == 1


def test_a_resumed_run_is_cancelled_by_its_second_flow_run(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    run = stage.left()
    stage.die("second", lambda: stage.go_on(run))
    (second,) = stage.successors(run)  # a run that kills each process is not resumed without end
    assert f"run {run.id} was resumed here: reconcile-fleet goes on with it" in caplog.text
    flow_run_hooks.resume_after_cancellation(flow=resume_fleet, flow_run=second, state=Cancelling())
    (left,) = find_abandoned_runs(stage.url)
    assert left.finalize_reason == "cancelled in Prefect (Prefect)"


@pytest.mark.parametrize(
    ("called", "finalize"),
    [
        ("flows.patch.execute_in_flow", lambda run_id, _url: resume_fleet(run_id, finalize=True)),
        (
            "flows.recovery.reconciliation.execute_run",
            lambda run_id, url: resume_run(run_id, finalize=True, caller=Caller(records_url=url)),
        ),
        (
            "fleetpatch.cli.runtime.run_session.execute_run",
            lambda run_id, url: main(["resume", run_id, "--finalize", "--no-prefect", "--records", url]),
        ),
    ],
)
def test_who_finalizes_a_run_has_stopped_it_also_if_the_process_dies_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, called: str, finalize: Callable[[str, str], object]
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    run = stage.left()
    monkeypatch.setattr(called, die)
    with suppress(Killed):  # the command makes an exit code of it
        finalize(run.id, stage.url)
    (left,) = find_abandoned_runs(stage.url)
    assert "finalize" in left.finalize_reason


def test_without_the_deployment_the_log_says_how_to_resume(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flow_run_hooks, "find_resume_deployment", lambda _client, _site: None)
    run = stage.left()
    assert stage.successors(run) == []
    flow_run_hooks.resume_after_cancellation(flow=patch_fleet, flow_run=stage.flow_run(run), state=Cancelling())
    assert (
        f"run {run.id} was left, and there is no deployment that resumes it: fleetpatch resume {run.id}" in caplog.text
    )
    (left,) = find_abandoned_runs(stage.url)
    assert left.finalize_reason


def test_a_busy_server_is_asked_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite was locked for a moment, in the middle of an installation."""
    send, refused = httpx.Client.send, list[str]()

    def busy(client: httpx.Client, request: httpx.Request, *words: Any, **options: Any) -> httpx.Response:
        if request.url.path.endswith("/create_flow_run") and not refused:
            refused.append(request.url.path)
            return httpx.Response(503, headers={"Retry-After": "0"}, request=request)
        return send(client, request, *words, **options)

    monkeypatch.setattr(httpx.Client, "send", busy)
    run = stage.left()
    assert (len(refused), len(stage.successors(run))) == (1, 1)


@pytest.mark.parametrize(
    "error", [RecordsError("no database"), OSError("no server"), RuntimeError("a fault")], ids=repr
)
def test_a_hook_raises_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(flow_run_hooks, "find_run_of", fail)
    flow_run = FlowRun(flow_id=uuid4(), name="nightly")
    flow_run_hooks.resume_after_cancellation(flow=patch_fleet, flow_run=flow_run, state=Cancelling())
    flow_run_hooks.resume_after_crash(flow=patch_fleet, flow_run=flow_run, state=Crashed())
    assert caplog.text.count("reconcile-fleet will find it") == 2
