"""What is not loaded before it is needed, asked of fresh interpreters: it would cost plain runs seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "unloaded"),
    [
        ("flows.campaign, flows.plain", ("prefect",)),
        (
            "flows.cli.standing_view, flows.cli.runs_view, flows.cli.cancelling",
            ("prefect", "paramiko", "alembic", "pandas"),
        ),
        (
            "tasks.reporting, tasks.reporting.write, tasks.reporting.markdown, tasks.reporting.html",
            ("pandas", "pyarrow"),
        ),
    ],
)
def test_importing_loads_no(modules: str, unloaded: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print([name for name in {unloaded} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
