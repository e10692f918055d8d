"""The doors through which runs begin, over simulated machines, and the rules that must hold at each of them."""

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

import flows.execution
from fleetpatch.cli.main import main
from flows import flow_execution
from flows.automatic.run_starter import build_patch_request
from flows.execution import execute_run
from flows.flow_execution import execute_in_flow
from flows.local_run import LocalRunner, execute_locally
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from flows.request import PatchRequest
from flows.request.automatic_request import AutomaticRequest
from inventory.errors import FleetpatchError
from inventory.loader import load_inventory
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.states import Classification, OperationState
from tasks.records.approvals import SqlApprovals
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.automatic.model import RunPlan
from tasks.rules.timing.maintenance_window import build_window
from tests.support.approval_gate import add_approval_gate
from tests.support.empty_records import make_empty_records
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

INVENTORY = """
defaults: {user: ops}
machines:
  - {name: prod-1, address: 192.0.2.1, environment: prod}
  - {name: prod-2, address: 192.0.2.2, environment: prod}
  - {name: stage-1, address: 192.0.2.3, environment: stage}
"""
STARTED_AT = datetime(2026, 3, 10, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and what a request does to break it.

    Attributes:
        text: the keys of the rule, in YAML's flow style.
        changes: values of the request that break it, by the path of the field.
        automatic: values of automatic patching that break it; None: automatic patching never asks for it.
        is_broken: whether a request still breaks it.
    """

    text: str
    changes: dict[str, Any] = field(default_factory=dict)
    automatic: dict[str, Any] | None = None
    is_broken: Callable[[PatchRequest], bool] = lambda _request: True


RULES = {
    "approval": Rule("approval: {by: [nobody-here]}", automatic={}),
    "freezes": Rule("freezes: [{start: 2020-01-01, end: 2099-12-31, reason: the sale}]", automatic={}),
    "forbid": Rule(
        "forbid: [allow_removals]",
        {"allow_removals": True},
        is_broken=lambda request: request.allow_removals,
    ),
    "hooks": Rule(
        "hooks: []",
        {"hooks": {"before_run": [{"name": "x", "kind": "controller-command", "target": "id"}]}},
        is_broken=lambda request: bool(request.hooks.to_hooks()),
    ),
    "classifications": Rule("classifications: [Definition]", {"updates.classifications": ["Security"]}, automatic={}),
    "reboots": Rule(
        "reboots: [IfRequired]", {"reboot": "Always"}, is_broken=lambda request: request.reboot.value == "Always"
    ),
    "longest_window": Rule("longest_window: 1h", {"window.minutes": 120.0}, automatic={}),
    "failure_budget_percent": Rule(
        "failure_budget_percent: 20",
        {"waves.failure_budget_percent": 100.0},
        {"failure_budget_percent": 100.0},
        lambda request: request.waves.failure_budget_percent > 20,
    ),
    "unreachable_percent": Rule(
        "unreachable_percent: 60",
        {"waves.unreachable_percent": 100.0},
        is_broken=lambda request: request.waves.unreachable_percent > 60,
    ),
}


def build_tree(paths: dict[str, Any]) -> dict[str, Any]:
    """Return nested values by their paths."""
    tree: dict[str, Any] = {}
    for path, value in paths.items():
        *above, name = path.split(".")
        place = tree
        for step in above:
            place = place.setdefault(step, {})
        place[name] = value
    return tree


@dataclass
class Stage:
    """Simulated machines behind the real engine, with real records and files in a folder."""

    folder: Path
    fleet: SimFleet = field(default_factory=SimFleet)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'records.db'}"

    @property
    def begun(self) -> list[str]:
        """The machines on which a job has begun."""
        return [name for name, machine in self.fleet.machines.items() if machine.begun()]

    def write_policy(self, text: str, scope: str = "env=prod") -> None:
        (self.folder / "policy.yaml").write_text(
            f"policy:\n  rules:\n    - {{name: production, scope: {scope}, ask: the platform team, {text}}}\n"
        )

    def build_request(self, paths: dict[str, Any], **fields: Any) -> PatchRequest:
        return PatchRequest.model_validate({"scope": "*", **build_tree(paths), **fields})

    @contextmanager
    def open_ports(self, request: Any, caller: Caller) -> Iterator[Ports]:
        with open_records(caller.records_url) as records:
            ports = replace(
                self.fleet.ports(),
                inventory=load_inventory(request.inventory or self.folder / "fleet.yaml"),
                records=records,
                leases=records.leases,
                listener=caller.listener,
                stop_token=caller.stop_token,
                append_audit=SqlAuditLog(records.database).append,
                read_deployed_policies=functools.partial(read_deployed_policies, SqlAuditLog(records.database)),
            )
            yield add_approval_gate(ports, SqlApprovals(records.database, self.fleet.clock))

    def read_runs(self) -> list[RunInfo]:
        with open_records(self.url) as records:
            return list(History(records).read_runs(10))


def build_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a stage in a folder. The environment of this process names its files."""
    stage = Stage(folder)
    shutil.copy(make_empty_records(), folder / "records.db")
    (folder / "fleet.yaml").write_text(INVENTORY)
    for name in ("prod-1", "prod-2", "stage-1"):
        stage.fleet.add(name, [FakePackage(f"{name}-a", classification=Classification.SECURITY)])
    for variable, value in {
        "FLEETPATCH_INVENTORY": folder / "fleet.yaml",
        "FLEETPATCH_RECORDS_URL": stage.url,
        "XDG_DATA_HOME": folder / "data",
        "XDG_CONFIG_HOME": folder / "config",
    }.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.setenv("FLEETPATCH_POLICY", str(folder / "policy.yaml"))
    monkeypatch.delenv("FLEETPATCH_CONFIGURATIONS", raising=False)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(flows.execution, "open_ports", stage.open_ports)
    monkeypatch.setattr("tasks.records.storage.database.SQLITE_SYNCHRONOUS", "OFF")
    return stage


def call_local_engine(stage: Stage, request: PatchRequest | str, caller: Caller | None = None) -> str:
    """Execute a request or a run. Return what was said about it."""
    caller = caller or Caller(name="bob", records_url=stage.url)
    try:
        report = execute_run(request, caller, lambda _request, _ports: LocalRunner())
    except FleetpatchError as error:
        return error.message
    return describe(report)


def describe(report: RunReport) -> str:
    return " ".join((report.run.message, *report.notes, *(outcome.reason for outcome in report.outcomes)))


def enter_by_command(stage: Stage, rule: Rule, capture: pytest.CaptureFixture[str]) -> str:
    """``fleetpatch patch --request FILE``: the command with every option that a request has."""
    file = stage.folder / "request.json"
    file.write_text(stage.build_request(rule.changes).model_dump_json(exclude_defaults=True))
    main(["patch", "--request", str(file), "--yes", "--no-prefect"])
    return "".join(capture.readouterr())


def enter_by_python(stage: Stage, rule: Rule) -> str:
    """``execute_locally(request)``: a Python call."""
    try:
        return describe(execute_locally(stage.build_request(rule.changes), Caller(records_url=stage.url)))
    except FleetpatchError as error:
        return error.message


def enter_by_deployment(stage: Stage, rule: Rule, patch: pytest.MonkeyPatch) -> str:
    """A run of a deployment: the form in Prefect's UI, Prefect's API with edited parameters, or a schedule."""
    return begin_flow(stage, stage.build_request(rule.changes), patch)


def begin_flow(stage: Stage, request: PatchRequest, patch: pytest.MonkeyPatch, name: str = "") -> str:
    """Begin a flow run with a request. ``name``: who started it in the pages or the API; "": Prefect does not say."""
    origin = FlowRunOrigin("flow-1", deployment="on-demand", requested_start=None)
    patch.setattr(flow_execution, "read_flow_run_origin", lambda: origin)
    patch.setattr(flow_execution, "build_prefect_runner", lambda _request, _ports: LocalRunner())
    caller = Caller(name=name, records_url=stage.url)
    try:
        result: RunReport | State[Any] = execute_in_flow(request, caller)
    except FleetpatchError as error:
        return error.message
    return describe(result) if isinstance(result, RunReport) else result.message or ""


def enter_by_automatic(stage: Stage, rule: Rule, patch: pytest.MonkeyPatch) -> str:
    """A run that automatic patching starts."""
    policy = AutomaticRequest(**{"scope": "*", **(rule.automatic or {})})
    plan = RunPlan("key", "rollout-1", 1, "", "", "UTC", ("prod-1",), stage.fleet.clock.now(), 120)
    request = build_patch_request(policy, plan)
    updates = request.updates.model_copy(update={"as_in_run": ""})  # the rollout is not what these tests are about
    return begin_flow(stage, request.model_copy(update={"updates": updates}), patch)


def enter_by_resume(stage: Stage, rule: Rule) -> str:
    """``fleetpatch resume``: a run that began before there was the rule, or whose recorded request was changed."""
    request = stage.build_request(rule.changes)
    now = stage.fleet.clock.now()
    run = RunInfo(
        id="20260310-010000-aaaaaa",
        kind="patch",
        started_at=now,
        state=OperationState.IN_PROGRESS,
        request=request.model_dump(mode="json"),
        window=build_window(now, request.window.minutes, "UTC", now),
        scope="*",
        started_by="bob",
    )
    with open_records(stage.url) as records:
        records.save(run)
    return call_local_engine(stage, run.id)


ENTRANCES = {
    "command": enter_by_command,
    "python": enter_by_python,
    "deployment": enter_by_deployment,
    "automatic": enter_by_automatic,
    "resume": enter_by_resume,
}
