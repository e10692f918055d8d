"""What is not loaded before it is needed, asked of fresh interpreters: it would cost plain runs seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "unloaded"),
    [
        ("flows.engine.fleet_run, flows.local_run", ("prefect",)),
        (
            "flows.cli.views.fleet_status, flows.cli.views.runs, flows.cli.views.recovery",
            ("prefect", "paramiko", "alembic", "pandas"),
        ),
        (
            "tasks.reporting, tasks.reporting.writer, tasks.reporting.export.markdown, tasks.reporting.html.renderer",
            ("pandas", "pyarrow"),
        ),
    ],
)
def test_importing_loads_no(modules: str, unloaded: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print([name for name in {unloaded} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
