"""How a worker starts the process of a run: at once, or by Prefect's own program if there is code to fetch."""

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.workers import process

from deployments.sync.model import DEFAULT_START_OPTIONS
from deployments.worker import installed_flow_start
from deployments.worker.installed_flow_start import InstalledFlowStart, find_installed_entrypoint

ENTRYPOINT = "flows.patch.patch_fleet"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ENTRYPOINT),
        ({"entrypoint": None}, None),
        ({"entrypoint": "flows/patch.py:patch_fleet"}, None),
        ({"path": "/opt/flows"}, None),
        ({"pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": "/opt"}}]}, None),
        ({"storage_document_id": uuid4()}, None),
    ],
)
def test_only_a_module_without_anything_to_fetch_is_installed(changed: dict[str, Any], expected: str | None) -> None:
    deployment = SimpleNamespace(**{"entrypoint": ENTRYPOINT, **DEFAULT_START_OPTIONS, **changed})
    assert find_installed_entrypoint(cast("Any", deployment)) == expected


class Starts(list[dict[str, Any]]):
    """The processes that were started, in place of Prefect's class that starts them."""

    def __call__(self, **options: Any) -> Any:
        async def start(_flow_run: FlowRun, task_status: object = None) -> None:
            self.append(options)

        return SimpleNamespace(start=start)


@pytest.mark.parametrize("entrypoint", [ENTRYPOINT, None])
def test_the_process_is_the_runs_own_and_its_hooks_have_the_same_program(
    entrypoint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, prepared, run = Starts(), Starts(), FlowRun(flow_id=uuid4(), deployment_id=uuid4())

    async def read(_flow_run: FlowRun) -> str | None:
        return entrypoint

    monkeypatch.setattr(installed_flow_start, "_read_installed_entrypoint", read)
    monkeypatch.setattr(installed_flow_start, "EngineCommandStarter", direct)
    monkeypatch.setattr("prefect.runner._workspace_starter.EngineCommandStarter", prepared)
    monkeypatch.setenv("KEPT", "yes")
    start = InstalledFlowStart(workspace_root=tmp_path, source_cwd=tmp_path, environment={"GIVEN": "yes", "NO": None})
    try:
        asyncio.run(start.start(run))
        if entrypoint is None:
            assert (len(direct), len(prepared)) == (0, 1)
            return
        (options,) = direct
        assert not prepared
        assert (options["entrypoint"], options["cwd"]) == (ENTRYPOINT, tmp_path)
        assert options["isolate_process_group"]
        manifest = json.loads(start._manifest_path.read_text())
        assert manifest["hook_command"][0] == sys.executable
        assert manifest["hook_command"][-1] == "hook"
        assert manifest["runtime_entrypoint"] == ENTRYPOINT
        environment = manifest["environment"]
        assert (environment["KEPT"], environment["GIVEN"], environment["PREFECT__FLOW_RUN_ID"]) == (
            "yes",
            "yes",
            str(run.id),
        )
        assert "NO" not in environment
        assert start._manifest_path.stat().st_mode & 0o077 == 0
    finally:
        start.close()


def test_workers_of_this_process_start_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WorkspaceResolvingEngineCommandStarter", None)
    installed_flow_start.start_installed_flows_at_once()
    assert vars(process)["WorkspaceResolvingEngineCommandStarter"] is InstalledFlowStart
