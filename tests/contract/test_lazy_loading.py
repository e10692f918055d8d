"""What is not loaded before it is needed, asked of one fresh interpreter: it would cost plain runs seconds."""

import json
import subprocess
import sys

import pytest

STEPS = {
    "fleetpatch.cli.command tasks.records.queries.names": (
        *("prefect", "pandas", "sqlalchemy", "paramiko", "pydantic", "alembic", "yaml", "dateutil", "httpx"),
    ),
    "fleetpatch.cli.views.fleet_status": (
        *("tasks.machines", "tasks.steps.assess", "flows.request", "flows.engine.run_info", "sqlalchemy"),
    ),
    "flows.recovery flows.approval tasks.records tasks.reports flows.request flows.hooks": (
        *("prefect", "sqlalchemy", "pandas", "paramiko"),
    ),
    "tasks.reports.writer tasks.reports.export.markdown tasks.reports.html.renderer": ("pandas", "pyarrow"),
    "fleetpatch.cli.views.fleet_status fleetpatch.cli.views.runs fleetpatch.cli.views.recovery": (
        *("prefect", "paramiko", "alembic", "pandas", "flows.engine.fleet_run"),
    ),
    "flows.engine.fleet_run flows.local_run": ("prefect",),
}
"""What loads nothing of that, in this order: what a step loads is there at the next ones too."""

LOADED = """
import json, sys
from importlib import import_module

found = []
for modules in json.loads(sys.argv[1]):
    for module in modules.split():
        import_module(module)
    found.append(sorted(sys.modules))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """The modules that are loaded after each step."""
    words = [sys.executable, "-c", LOADED, json.dumps([*STEPS])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return {step: set(found) for step, found in zip(STEPS, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("modules", STEPS)
def test_importing_loads_nothing_heavy(loaded: dict[str, set[str]], modules: str) -> None:
    assert set(modules.split()) <= loaded[modules]
    assert loaded[modules].intersection(STEPS[modules]) == set()
