"""Who started a flow run, as each door has to be named in the records and the audit log."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.context import FlowRunContext
from prefect.runtime import deployment

from flows.ports.caller import Caller, find_actor
from flows.prefect_runtime.flow_run_origin import (
    build_automatic_idempotency_key,
    build_resume_idempotency_key,
    name_starter,
)
from flows.request import AssessRequest, PatchRequest
from flows.request.patch_request import UpdatesRequest
from tasks.records.automatic.automatic_runs import AutomaticRun, SqlAutomaticRuns
from tasks.records.setup import open_records
from tasks.rules.automatic.model import RunPlan
from tasks.rules.runs.approval import is_starter_known

NOW = datetime(2026, 11, 26, 22, tzinfo=UTC)
PLAN = RunPlan("p/1", "rollout-0007", 1, "ber", "", "UTC", ("web-1", "web-2"), NOW, 60)


@pytest.fixture
def records_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    end = NOW + timedelta(hours=1)
    with open_records(url) as records:
        runs = SqlAutomaticRuns(records.database)
        runs.add(AutomaticRun(PLAN.key, PLAN.machines, NOW, end, NOW, PLAN))
        runs.set_flow_run(PLAN.key, "own")
        runs.add(AutomaticRun("a/1", ("web-3",), NOW, end, NOW))
    return url


@pytest.fixture
def start(records_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Caller]:
    """Starts a flow run of the deployment ``web`` and returns its caller."""

    def started(key: str = "", flow_run_id: str = "own", *, scheduled: bool = False, **parameters: Any) -> Caller:
        run = SimpleNamespace(id=flow_run_id, deployment_id="d", auto_scheduled=scheduled, idempotency_key=key)
        context = SimpleNamespace(flow_run=run, flow=object(), parameters=parameters)
        monkeypatch.setattr(FlowRunContext, "get", lambda: context)
        monkeypatch.setattr(deployment, "get_name", lambda: "web")
        return name_starter(Caller(records_url=records_url))

    return started


def patch(*names: str, rollout: str = "rollout-0007") -> PatchRequest:
    return PatchRequest(scope="*", only_machines=list(names), updates=UpdatesRequest(as_in_run=f"rollout:{rollout}"))


def test_each_door_has_its_name(start: Callable[..., Caller]) -> None:
    automatic, unknown = "automatic patching (rollout-0007)", "unknown user of Prefect (web)"
    key, assess = build_automatic_idempotency_key(PLAN.key), AssessRequest(scope="*", only_machines=["web-3"])
    resume = build_resume_idempotency_key("r-1", "")
    got = {
        "schedule": start(scheduled=True, request=assess),
        "form": start(request=patch("web-1")),
        "automatic": start(key, request=patch("web-1", "web-2")),
        "assessment": start(build_automatic_idempotency_key("a/1"), "any", request=assess),
        "other machines": start(key, request=patch("db-1")),
        "other updates": start(key, request=patch("web-1", "web-2", rollout="rollout-0001")),
        "other flow run": start(key, "forged", request=patch("web-1", "web-2")),
        "other key": start(build_automatic_idempotency_key("x"), request=patch("web-1", "web-2")),
        "reconcile": start(resume, run_id="r-1", if_abandoned=True),
        "reconciled again": start(build_resume_idempotency_key("r-1", "before"), run_id="r-1", if_abandoned=True),
        "resumed by hand": start(resume, run_id="r-1", if_abandoned=False),
        "another resumed": start(resume, run_id="r-2", if_abandoned=True),
    }
    assert {door: (caller.name, caller.source) for door, caller in got.items()} == {
        "schedule": ("the schedule of web", "schedule"),
        "form": (unknown, "prefect"),
        "automatic": (automatic, "automatic"),
        "assessment": ("automatic patching", "automatic"),
        "other machines": (unknown, "prefect"),
        "other updates": (unknown, "prefect"),
        "other flow run": (unknown, "prefect"),
        "other key": (unknown, "prefect"),
        "reconcile": ("reconcile", "automatic"),
        "reconciled again": ("reconcile", "automatic"),
        "resumed by hand": (unknown, "prefect"),
        "another resumed": (unknown, "prefect"),
    }
    assert find_actor(got["automatic"]).who == automatic
    assert find_actor(got["form"]).who == ""
    assert not is_starter_known(automatic)  # it is no person: who may approve its run is unchanged
