"""Hooks that are Prefect deployments, against a real server."""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.hooks.deployment import HOOK_FLOW_RUN_TAG, run_deployment_hook
from flows.hooks.event import HookEvent, build_hook_event
from flows.hooks.hook_deadline import HookDeadline, HookWaitAborted
from flows.patch import patch_fleet
from tasks.domain.model import Hook, RunReport
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import HookKind, HookPoint, OperationState
from tasks.steps.context.run_control import StopToken
from tests.support.builders import make_report
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of

CLOCK = SystemClock()
DEPLOYMENT = "drain-traffic/canaries"


def hook(target: str = DEPLOYMENT) -> Hook:
    return Hook("drain", HookPoint.BEFORE_RUN, HookKind.DEPLOYMENT, target)


def told(subject: str) -> HookEvent:
    return build_hook_event(hook(), make_report(), subject, Deadline.after(CLOCK, 60), CLOCK.now())


def patience(seconds: float = 240) -> HookDeadline:
    return HookDeadline(Deadline.after(CLOCK, seconds), CLOCK, None, seconds)


@pytest.fixture
def deployment(prefect_server: None) -> Iterator[None]:
    """A deployment that nobody serves: its flow runs are what the test makes of them."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("drain-traffic")
        schema = {"type": "object", "properties": {"event": {"type": "object"}}}
        client.create_deployment(flow_id, "canaries", parameter_openapi_schema=schema)
        yield


@contextmanager
def worker(state: State[None]) -> Iterator[list[dict[str, Any]]]:
    """Let flow runs of hooks end in that state soon after they are there; gives the parameters that they were given."""
    given: list[dict[str, Any]] = []
    over = threading.Event()

    waiting = FlowRunFilter(tags=FlowRunFilterTags(all_=[HOOK_FLOW_RUN_TAG]))

    def work() -> None:
        with get_client(sync_client=True) as client:
            while not over.wait(0.3):
                for run in client.read_flow_runs(flow_run_filter=waiting):
                    if run.state is not None and run.state.is_scheduled():
                        given.append(run.parameters)
                        client.set_flow_run_state(run.id, state, force=True)

    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(work), daemon=True)
    thread.start()
    try:
        yield given
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("deployment")
def test_a_deployment_that_completes_is_a_success_and_is_given_the_event() -> None:
    with worker(Completed(message="drained")) as given:
        succeeded, message = run_deployment_hook(hook(), told("run"), patience())
        again, _ = run_deployment_hook(hook(), told("run"), patience())

    assert succeeded, message
    assert again
    assert "Completed: drained" in message
    (parameters,) = given  # once: Prefect knows the flow run by its key
    assert parameters["event"]["data"]["correlationId"] == make_report().run.id


@pytest.mark.usefixtures("deployment")
def test_any_other_end_has_failed() -> None:
    with worker(Failed(message="no such pool")):
        succeeded, message = run_deployment_hook(hook(), told("wave 1"), patience())

    assert not succeeded
    assert "no such pool" in message


def states(subject: str) -> list[str | None]:
    """Return where the flow runs of a turn stand."""
    with get_client(sync_client=True) as client:
        key = f"fleetpatch/{told(subject).id}"
        runs = [run for run in client.read_flow_runs() if run.idempotency_key == key]
        return [run.state.name for run in runs if run.state is not None]


@pytest.mark.usefixtures("deployment")
def test_a_deployment_that_nobody_runs_is_given_up_and_cancelled() -> None:
    with pytest.raises(HookWaitAborted, match=r"longer than 2 s; flow run .* was cancelled"):
        run_deployment_hook(hook(), told("wave 2"), patience(2))
    assert states("wave 2") == ["Cancelled"]  # or a worker that comes back would drain at noon


@pytest.mark.usefixtures("deployment")
def test_what_somebody_else_has_taken_over_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    control = StopToken()
    create = SyncPrefectClient.create_flow_run_from_deployment

    def noticed(*words: Any, **more: Any) -> object:
        made = create(*words, **more)
        control.mark_lease_lost()
        return made

    monkeypatch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", noticed)
    with pytest.raises(HookWaitAborted):
        run_deployment_hook(hook(), told("wave 5"), HookDeadline(Deadline.after(CLOCK, 20), CLOCK, control, 20))
    assert states("wave 5") in (["Scheduled"], ["Late"])


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("call", ["read_deployment_by_name", "create_flow_run_from_deployment", "read_flow_run"])
def test_a_server_that_is_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    real, failures = getattr(SyncPrefectClient, call), [httpx.ConnectError("away"), httpx.ReadTimeout("lost")]

    def away(client: SyncPrefectClient, *words: object, **more: object) -> object:
        answer = real(client, *words, **more)  # it was carried out, and the answer got lost
        if failures:
            raise failures.pop()
        return answer

    monkeypatch.setattr(SyncPrefectClient, call, away)
    with worker(Completed()):
        succeeded, message = run_deployment_hook(hook(), told(f"wave 6 {call}"), patience())
    assert (succeeded, failures) == (True, []), message
    assert states(f"wave 6 {call}") == ["Completed"]


@pytest.mark.usefixtures("deployment")
def test_a_flow_run_that_can_no_longer_be_watched_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        response = httpx.Response(403, request=httpx.Request("GET", "http://prefect"))
        raise httpx.HTTPStatusError("forbidden", request=response.request, response=response)

    with monkeypatch.context() as patched:
        patched.setattr(SyncPrefectClient, "read_flow_run", refused)
        with pytest.raises(httpx.HTTPStatusError):
            run_deployment_hook(hook(), told("wave 7"), patience())
    assert states("wave 7") == ["Cancelled"]


@pytest.mark.usefixtures("deployment")
def test_a_deployment_that_is_not_there_has_failed() -> None:
    assert run_deployment_hook(hook("drain-traffic/none"), told("wave 3"), patience()) == (
        False,
        "there is no deployment 'drain-traffic/none'",
    )


def patched(fleet: SimFleet, hooks: dict[str, Any]) -> RunReport:
    """Patch two machines as a real flow, and return the report however it ends."""
    for name in ("first", "second"):
        machine = fleet.add(name, [FakePackage("a")])
        machine.answer("hook", lambda script: answers(str(script.params["machine"])))
    try:
        report: RunReport = patch_fleet(fleet.request(waves={"failure_budget_count": 1}, hooks=hooks))
    except FleetPatchFailed as failed:
        return failed.report
    return report


def answers(machine: str) -> ScriptRecord:
    return {"kind": "hook", "exit_code": 1 if machine == "first" else 0, "text": f"{machine} was asked"}


@pytest.mark.usefixtures("prefect_server")
def test_hooks_of_machines_are_run_within_a_flow(fleet: SimFleet) -> None:
    drain = {"name": "drain", "kind": "machine-command", "target": "drain"}

    report = patched(fleet, {"before_machine": [drain]})

    states = {outcome.machine: outcome.state for outcome in report.outcomes}
    assert states == {"first": OperationState.FAILED, "second": OperationState.SUCCEEDED}
    assert "first was asked" in outcome_of(report, "first").reason
    assert not fleet.machines["first"].installs()
    assert fleet.machines["second"].installs()


@pytest.mark.usefixtures("prefect_server")
def test_a_flow_fails_when_only_its_hooks_did(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")])
    gone = {"name": "smoke", "kind": "http", "target": "http://127.0.0.1:9/"}

    with pytest.raises(FleetPatchFailed, match="hook smoke after the run failed") as caught:
        patch_fleet(fleet.request(hooks={"after_run": [gone]}))

    assert [outcome.state for outcome in caught.value.report.outcomes] == [OperationState.SUCCEEDED]
    assert caught.value.report.run.state is OperationState.FAILED
