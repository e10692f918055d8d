"""The console command as it is installed: all verbs are there, and --help stays quick."""

import subprocess
import sys

HEAVY = {"prefect", "pandas", "sqlalchemy", "paramiko", "pydantic", "alembic", "yaml", "dateutil", "httpx"}


def test_the_commands_of_deployments_load_nothing_heavy() -> None:
    code = "import sys, deployments.command; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {name.partition(".")[0] for name in done.stdout.split()} & HEAVY == set()


def test_flows_verbs_are_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.command", "version", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert '"prefect"' in done.stdout
