"""Flow runs that die, are cancelled or started again, on a Prefect server: a simulated fleet with real records."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, TerminationSignal
from prefect.states import Completed, Crashed, Running

from flows.maintenance import stage_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.ports.audit import find_flow_runs_of_run
from flows.reconcile import reconcile_fleet
from flows.recovery import finalizer
from flows.recovery.unfinished_runs import find_abandoned_runs
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
    """A fleet, records in a file, and what the flows' hooks were called for."""

    fleet: SimFleet
    url: str
    life: Life = field(default_factory=Life)
    settled: list[tuple[str, str]] = field(default_factory=list)

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
    for module in (
        "flows.recovery.unfinished_runs",
        "flows.recovery.finalizer",
    ):
        monkeypatch.setattr(f"{module}.SystemClock", lambda: fleet.clock)
    monkeypatch.setattr("flows.local_run.find_report_directory", lambda asked: asked or tmp_path / "reports")
    monkeypatch.setattr(
        finalizer, "start_finalizer", lambda which, stop="", flow_run_id="": made.settled.append((which, stop))
    )
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
    assert stage.settled == [(run.flow_run_id, "")]
    started_again(monkeypatch, run)

    report = stage_fleet(stage.fleet.request())

    assert report.run.id == run.id
    assert [len(machine.jobs()) for machine in stage.fleet.machines.values()] == [1, 1]
    assert [machine.locked_by for machine in stage.fleet.machines.values()] == [None, None]


def test_a_flow_run_that_dies_has_somebody_look_after_it_and_the_resumed_run_is_known_by_it(stage: Stage) -> None:
    run = stage.left()
    assert run.state is OperationState.IN_PROGRESS
    assert stage.settled == [(run.flow_run_id, "")]
    report = resume_fleet(run.id)
    assert report.run.flow_run_id == run.flow_run_id
    assert report.run.state is OperationState.SUCCEEDED


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


def test_settling_asks_waits_and_records(stage: Stage) -> None:
    run = stage.left()
    assert finalizer.finalize_run(run.flow_run_id, stop="cancelled in Prefect") == (
        f"run {run.id} was finalized: Cancelled"
    )
    with open_records(stage.url) as records:
        report = History(records).read_report(run.id)
    assert outcome_of(report, "first").state is OperationState.SUCCEEDED
    assert "cancelled in Prefect" in outcome_of(report, "second").reason
    assert "nothing to do for run" in finalizer.finalize_run(run.flow_run_id)


def test_settling_a_run_that_died_without_a_word_resumes_it(stage: Stage) -> None:
    run = stage.left()
    assert finalizer.finalize_run(run.flow_run_id) == f"run {run.id} was resumed: Succeeded"


def test_settling_what_never_began(stage: Stage) -> None:
    assert "nothing was begun" in finalizer.finalize_run("c0f7a9d2-6f1b-4b0e-9d8f-5b7d1f3a0e21")
