"""The Python example of the README, run as it stands on a real machine."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

import flows.patch
from flows.request import PatchRequest
from inventory.errors import InventoryError
from tests.ci.tree import TOP
from tests.lab.conftest import hosts, lab  # noqa: F401 - fixtures
from tests.lab.fleet import LabHost
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.prefect_tables import put_tables

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN_SECONDS = 400


def example() -> str:
    """Return the README's one block of Python."""
    (block,) = BLOCK.findall((TOP / "README.md").read_text())
    return str(block)


def test_the_example_names_its_inventory_and_handles_failure() -> None:
    assert 'Path("fleet.yaml")' in example()
    assert "FleetPatchFailed" in example()


def test_the_example_says_in_one_line_why_it_could_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_request: PatchRequest) -> NoReturn:
        raise InventoryError("there is no inventory", hint="Write one.")

    monkeypatch.setattr(flows.patch, "patch_fleet", refuse)
    with pytest.raises(SystemExit) as ended:
        exec(example(), {})
    assert ended.value.code == "there is no inventory Write one."


@pytest.mark.lab
@pytest.mark.slow
def test_the_example_patches_a_machine(
    hosts: Callable[[int], list[LabHost]],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    (host,) = hosts(1)
    described = yaml.safe_load(host.lab.inventory_text())
    described["machines"] = [machine for machine in described["machines"] if machine["name"] == host.name]
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(described))
    (tmp_path / "example.py").write_text(example())
    assert host.pending_security() > 10
    put_tables(tmp_path / "prefect")

    kept = without_ours()
    surroundings = {
        **kept,
        "PYTHONPATH": PYTHONPATH,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path / 'records.db'}",
    }
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{host.name} CompletedWithWarnings "), line  # not rebooted: services still run the old libc
    assert "updates installed" in line
    assert host.pending_security() == 0
    assert list((tmp_path / "data").rglob("*.html"))
