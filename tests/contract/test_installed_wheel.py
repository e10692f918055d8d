"""The wheel in an environment of its own, started from folders of people who have packages of the same names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import prefect
import pytest

from deployments.sync.builtin_deployments import build_builtin_deployments
from tests.support.wheel import build_wheel

UV = (sys.executable, "-m", "uv")
NAMES = ("fleetpatch", "flows", "tasks", "deployments", "inventory")


class Installation:
    """An environment with the wheel. Its dependencies are those of the tests."""

    def __init__(self, place: Path) -> None:
        self.python, self.folder = place / "venv/bin/python", place / "folder"
        subprocess.run([*UV, "venv", "-q", "--python", sys.executable, str(place / "venv")], check=True)
        wheel = str(build_wheel(place / "build"))
        words = [*UV, "pip", "install", "-q", "--no-deps", "--offline", "--python", str(self.python), wheel]
        subprocess.run(words, check=True)
        (self.packages,) = (place / "venv/lib").glob("python*/site-packages")
        # as a path, and not as a site: the checkout that the tests are installed from does not come along
        (self.packages / "dependencies.pth").write_text(f"{Path(prefect.__file__).parent.parent}\n")
        for name in NAMES:
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / "__init__.py").write_text(f"raise SystemExit('{name} of another program')\n")
        (self.folder / "fleet.yaml").write_text("machines: [{name: web-1, address: 192.0.2.1, environment: prod}]\n")

    def run(self, *words: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a program; in the folder that has other packages of the same names, if no other is given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FLEETPATCH"))}
        records = f"sqlite:///{self.folder}/records.db"
        return subprocess.run(
            words, cwd=cwd or self.folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            timeout=120, env={**kept, "HOME": str(self.folder), "FLEETPATCH_RECORDS_URL": records, **environment},
        )  # fmt: skip

    def command(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the command."""
        return self.run(str(self.python.with_name("fleetpatch")), *words, cwd=None, **environment)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("installed"))


def test_the_command_works_beside_packages_of_the_same_names(installation: Installation) -> None:
    version = installation.command("--version")
    assert (version.returncode, version.stdout[:11]) == (0, "fleetpatch "), version.stderr
    listed = installation.command("inventory", "list", "--json")
    assert "web-1" in listed.stdout, listed.stderr
    why = installation.command("why", "web-1")
    assert (why.returncode, "the records have no machine 'web-1'" in why.stderr) == (2, True)
    words = {"_FLEETPATCH_COMPLETE": "complete_bash", "COMP_WORDS": "fleetpatch\nplan\nw", "COMP_CWORD": "2"}
    assert installation.command(**words).stdout.split() == ["web-1"]


def test_a_run_of_a_worker_loads_the_flows_from_the_wheel(installation: Installation, tmp_path: Path) -> None:
    """Prefect puts the working folder first on the path. Its worker makes an empty one for each run."""
    entrypoints = sorted({each.entrypoint for each in build_builtin_deployments("default", "fleetpatch", None)})
    assert "flows.patch.patch_fleet" in " ".join(entrypoints)
    program = (
        "import json, sys; from prefect.flows import load_flow_from_entrypoint as load\n"
        "found = {each: load(each).fn.__code__.co_filename for each in sys.argv[1:]}\n"
        "print(json.dumps(found))\n"
    )
    loaded = installation.run(str(installation.python), "-c", program, *entrypoints, cwd=tmp_path, PYTHONSAFEPATH="1")
    assert loaded.returncode == 0, loaded.stderr
    files = json.loads(loaded.stdout.splitlines()[-1])
    assert set(files) == set(entrypoints)
    assert [path for path in files.values() if not Path(path).is_relative_to(installation.packages)] == []


def test_a_path_with_another_flows_is_refused_with_the_remedy(installation: Installation) -> None:
    (installation.folder / "mine/flows").mkdir(parents=True, exist_ok=True)
    (installation.folder / "mine/flows/__init__.py").touch()
    said = installation.command("--version", PYTHONPATH=str(installation.folder / "mine"))
    assert said.returncode == 5
    assert f"{installation.folder}/mine/flows of another program is found instead" in said.stderr
    assert "PYTHONPATH" in said.stderr
    assert "Traceback" not in said.stderr


def test_doctor_names_another_distribution_with_such_packages(installation: Installation) -> None:
    info = installation.packages / "acme_jobs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-jobs\nVersion: 1.0\n")
    (info / "RECORD").write_text("tasks/acme.py,,\nflows/acme.py,,\nacme/__init__.py,,\n")
    said = installation.command("doctor", "--here", "--json")
    found = [each for each in json.loads(said.stdout)["fleetpatch"] if each["level"] == "block"]
    assert said.returncode == 5
    assert ["acme-jobs has `flows`; acme-jobs has `tasks`" in each["message"] for each in found] == [True]
    assert "pipx" in found[0]["remedy"]
