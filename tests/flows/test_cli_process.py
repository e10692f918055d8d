"""The real command as a process: signals, start-up, and this machine itself."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ci.tree import TOP
from tests.support.environment import without_ours
from tests.support.prefect_tables import put_tables

ON_FAKES = (sys.executable, "-m", "tests.flows.cli_on_fakes")
COMMAND = Path(sys.executable).with_name("fleetpatch")
MOST_MODULES = 300  # typer and rich alone are 188; each is a part of the time that --help takes


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    put_tables(tmp_path / "prefect")
    kept = without_ours()
    return {
        **kept,
        "PYTHONPATH": str(TOP),
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path / 'records.db'}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }


class Process:
    """The command at work: its stderr can be waited upon."""

    def __init__(self, words: tuple[str, ...], folder: Path, surroundings: dict[str, str]) -> None:
        self.log = folder / "stderr.txt"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [*ON_FAKES, *words],
                cwd=folder,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def wait_for(self, text: str, seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert self.popen.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def end(self, seconds: float = 240) -> tuple[int, str, str]:
        out, _ = self.popen.communicate(timeout=seconds)
        return self.popen.returncode, out, self.log.read_text()


@pytest.fixture
def start(tmp_path: Path, surroundings: dict[str, str]) -> Iterator[object]:
    begun: list[Process] = []

    def begin(*words: str) -> Process:
        begun.append(Process(words, tmp_path, surroundings))
        return begun[-1]

    yield begin
    for process in begun:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


PATCH = ("patch", "*", "--yes", "--json", "--wave-size", "1", "--no-stage")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_the_run_and_watches_it_to_its_end(start, number: signal.Signals) -> None:
    process = start(*PATCH, "--no-prefect")
    process.wait_for("first: precheck")
    time.sleep(1.5)
    process.popen.send_signal(number)
    code, out, said = process.end()
    first, second = json.loads(out)["machines"]
    assert second["status"] == "NotStarted"
    assert first["status"] in {"Succeeded", "CompletedWithWarnings"}, first["reason"]
    assert code == 130
    assert "Still running" in said
    assert "fleetpatch show 2" in said
    assert "first install job" in said


@pytest.mark.slow
def test_the_second_ctrl_c_leaves_at_once(start, tmp_path: Path, surroundings: dict[str, str]) -> None:
    process = start(*PATCH, "--no-prefect")
    process.wait_for("first: precheck")
    time.sleep(1.5)
    process.popen.send_signal(signal.SIGINT)
    process.wait_for("To see the run")
    left = time.monotonic()
    process.popen.send_signal(signal.SIGINT)
    code, out, said = process.end()
    assert time.monotonic() - left < 20
    assert code == 130
    assert out == ""
    assert said.count("To see the run: fleetpatch show") == 2
    words = [str(COMMAND), "show", "last"]
    shown = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "first Unknown" in shown.stdout
    assert "Begun, and no end is recorded" in shown.stdout


@pytest.mark.slow
def test_nobody_reading_along_does_not_end_a_run(tmp_path: Path, surroundings: dict[str, str]) -> None:
    with subprocess.Popen(
        [*ON_FAKES, "patch", "first", "--yes", "--no-prefect", "--no-stage"],
        cwd=tmp_path,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        process.stdout.close()
        assert process.wait(120) == 0
    words = [str(COMMAND), "show", "last", "--json"]
    shown = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=False)
    (machine,) = json.loads(shown.stdout)["machines"]
    assert machine["status"] == "Succeeded"


@pytest.mark.slow
def test_within_prefect_signals_are_ours_as_well(start, surroundings: dict[str, str]) -> None:
    process = start(*PATCH)
    process.wait_for("first: precheck")
    time.sleep(1.5)
    process.popen.send_signal(signal.SIGTERM)
    code, out, said = process.end()
    document = json.loads(out)
    first, second = document["machines"]
    assert second["status"] == "NotStarted"
    assert first["status"] in {"Succeeded", "CompletedWithWarnings"}, first["reason"]
    assert document["run"]["flowRunId"]
    assert code == 130
    assert "SIGTERM: stopping" in said
    assert "Traceback" not in said
    assert Path(document["reportFiles"]["html"]).exists()


@pytest.mark.slow
def test_a_prefect_server_that_is_not_there_is_said_at_once(start, surroundings: dict[str, str]) -> None:
    surroundings["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    code, out, said = start(*PATCH).end()
    assert code == 5
    assert json.loads(out)["error"]["kind"] == "CannotRun"
    assert said.count("error: ") == 1
    assert "--no-prefect" in said
    assert "Traceback" not in said


def test_nothing_heavy_is_loaded_for_help() -> None:
    code = "import sys, flows.cli.main; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"prefect", "pandas", "sqlalchemy", "paramiko", "pydantic", "alembic", "yaml"}
    assert heavy.isdisjoint(loaded)
    assert len(loaded) < MOST_MODULES


@pytest.mark.slow
def test_assess_does_without_prefect_and_pandas() -> None:
    modules = "flows.cli.runtime.run_session, flows.cli.views.run_result, flows.composition"
    code = f"import sys, {modules}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"prefect", "pandas"}.isdisjoint(loaded)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt")
@pytest.mark.slow
def test_this_machine_is_planned_for_and_nothing_is_changed(tmp_path: Path, surroundings: dict[str, str]) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines:\n  - {name: here, transport: local, address: localhost, privilege: none}\n")
    before = Path("/var/lib/dpkg/status").stat().st_mtime_ns
    words = ["plan", "here", "-i", str(inventory), "--no-refresh", "--json"]
    done = subprocess.run([COMMAND, *words], env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (machine,) = json.loads(done.stdout)["machines"]
    assert machine["machineName"] == "here"
    assert machine["osName"]
    assert Path("/var/lib/dpkg/status").stat().st_mtime_ns == before
