"""Who stands in the audit log for each door: what is proven, and what was only said."""

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.ports.caller import Caller, find_actor
from flows.prefect_runtime import flow_run_origin
from flows.recovery.flow_run_hooks import resume_after_cancellation
from tasks.domain.errors import RequestError
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records

ME = pwd.getpwuid(os.getuid()).pw_name


def start(monkeypatch: pytest.MonkeyPatch, caller: Caller, **run: Any) -> Caller:
    """Return the caller inside a flow run."""
    values = {"id": uuid4(), "deployment_id": uuid4(), "auto_scheduled": False, "idempotency_key": None, **run}
    context = SimpleNamespace(
        flow_run=SimpleNamespace(**values), flow=SimpleNamespace(name="patch-fleet"), parameters={}
    )
    monkeypatch.setattr(flow_run_origin, "FlowRunContext", SimpleNamespace(get=lambda: context))
    return flow_run_origin.name_starter(caller)


def test_whoever_uses_prefect_is_not_the_user_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = find_actor(start(monkeypatch, Caller(name="unknown user of Prefect (weekly)")))
    assert (actor.who, actor.source, actor.claimed) == ("", "prefect", "")


def test_a_schedule_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = find_actor(start(monkeypatch, Caller(name="the schedule of weekly"), auto_scheduled=True))
    assert (actor.who, actor.source) == ("the schedule of weekly", "schedule")


def test_a_flow_of_the_command_or_of_python_is_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    actor = find_actor(start(monkeypatch, Caller(), deployment_id=None))
    assert (actor.who, actor.source, actor.claimed) == (ME, "os", "")
    assert actor.address.endswith(f"uid {os.getuid()}")


def test_a_name_that_python_code_gives_is_claimed() -> None:
    actor = find_actor(Caller(name="the boss"))
    assert (actor.who, actor.source, actor.claimed) == (ME, "os", "the boss")


def test_a_name_from_the_pages_is_theirs() -> None:
    actor = find_actor(Caller(name="anna", source="pages"))
    assert (actor.who, actor.source, actor.claimed) == ("anna", "pages", "")


def test_a_flow_run_that_is_cancelled_in_prefect_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path / 'records.db'}")
    cancelled = FlowRun(flow_id=uuid4(), name="weekly 2026-11-25")
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        resume_after_cancellation(flow=None, flow_run=cancelled, state=None)
    with open_records() as records:
        (entry,) = SqlAuditLog(records.database).read(9)
    assert (entry.act, entry.who, entry.source, entry.subject, entry.detail) == (
        "cancel",
        "",
        "prefect",
        f"flow run {cancelled.id}",
        "weekly 2026-11-25",
    )


def test_parameters_that_changed_while_the_flow_run_began_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: who may use Prefect. Way: edit a flow run of the pages, and edit it back once Prefect has read it."""

    @flow
    def patch(scope: str, dry: bool = False) -> None: ...

    run = SimpleNamespace(
        id=uuid4(), deployment_id=uuid4(), auto_scheduled=False, idempotency_key="fleetpatch/web/1", parameters={}
    )
    context = SimpleNamespace(flow_run=run, flow=patch, parameters={"scope": "*", "dry": False})
    monkeypatch.setattr(flow_run_origin, "FlowRunContext", SimpleNamespace(get=lambda: context))
    run.parameters = {"scope": "env=stage"}
    with pytest.raises(RequestError, match="changed while it began"):
        flow_run_origin.name_starter(Caller())
    run.parameters = {"scope": "*"}
    with pytest.raises(RequestError, match="nobody asked"):
        flow_run_origin.name_starter(Caller())
