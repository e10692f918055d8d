"""The real command as a process: signals, start-up, and this machine itself."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.server.health_checks import check_zombie_runs
from deployments.server.probe import probe_server
from flows.prefect_runtime.flow_run_states import read_subflow_runs
from flows.recovery.flow_runs import end_orphaned_flow_runs
from tasks.domain.states import FindingLevel
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.lab.killing import began, wait_for
from tests.support import builders as make
from tests.support.command import run_command
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.forked import start_forked
from tests.support.prefect_server import prefect_server
from tests.support.prefect_tables import TABLES_ARE_THERE, put_tables

ON_FAKES = "tests.flows.cli_on_fakes"
MOST_MODULES = 320  # typer and rich alone are 188; each is a part of the time that --help takes
MOST_MODULES_TO_LOOK_BACK = 600  # of which SQLAlchemy is 91, and what --help loads 320


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    put_tables(tmp_path / "prefect")
    kept = without_ours()
    return {
        **kept,
        **TABLES_ARE_THERE,
        "PYTHONPATH": PYTHONPATH,
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path / 'records.db'}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }


class Process:
    """The command at work: its stderr can be waited upon."""

    def __init__(self, words: tuple[str, ...], folder: Path, surroundings: dict[str, str]) -> None:
        self.records_url = surroundings["FLEETPATCH_RECORDS_URL"]
        self.log = folder / "stderr.txt"
        self.log.touch()
        self.popen = start_forked(
            ON_FAKES, words, place=folder, environment=surroundings, out=folder / "stdout.txt", err=self.log
        )

    def wait_for(self, text: str, seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert self.popen.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def wait_for_install(self) -> None:
        """Wait until the first machine installs something."""
        self.wait_for("first: precheck")
        with open_records(self.records_url) as records:
            run = History(records).read_runs(1)[0].id
            wait_for(lambda: began("install")(records.read_entries(run)), "an installation")

    def end(self, seconds: float = 240) -> tuple[int, str, str]:
        out, said = self.popen.communicate(timeout=seconds)
        assert self.popen.returncode is not None
        return self.popen.returncode, out, said


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
    process.wait_for_install()
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
    process.wait_for_install()
    process.popen.send_signal(signal.SIGINT)
    process.wait_for("To see the run")
    process.popen.send_signal(signal.SIGINT)
    code, out, said = process.end()
    assert code == 130
    assert out == ""
    assert said.count("To see the run: fleetpatch show") == 2
    shown = run_command(["show", "last"], surroundings, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "first Unknown" in shown.stdout
    assert "Begun, and no end is recorded" in shown.stdout


@pytest.mark.slow
def test_nobody_reading_along_does_not_end_a_run(tmp_path: Path, surroundings: dict[str, str]) -> None:
    words = (sys.executable, "-m", ON_FAKES, "patch", "first", "--yes", "--no-prefect", "--no-stage")
    with subprocess.Popen(  # how an interpreter ends counts
        words,
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
        assert process.wait(240) == 0
    shown = run_command(["show", "last", "--json"], surroundings, tmp_path)
    (machine,) = json.loads(shown.stdout)["machines"]
    assert machine["status"] == "Succeeded"


@pytest.mark.slow
def test_within_prefect_signals_are_ours_as_well(start, surroundings: dict[str, str]) -> None:
    process = start(*PATCH)
    process.wait_for_install()
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
    assert_prefect_has_all_of(document["run"]["flowRunId"], Path(surroundings["PREFECT_HOME"]))


def assert_prefect_has_all_of(flow_run_id: str, home: Path) -> None:
    """Look into the database that the run's own server has left: `fleetpatch server` shows it later."""
    with closing(sqlite3.connect(home / "prefect.db")) as database:

        def ask(query: str) -> list[Any]:
            return database.execute(query, (flow_run_id,)).fetchall()

        task_runs: dict[str, str] = dict(ask("SELECT name, state_type FROM task_run WHERE flow_run_id = ?"))
        assert {name for name in task_runs if "first" in name} == {
            f"{step} first" for step in ("assess", "precheck", "install", "reboot", "validate")
        }
        assert set(task_runs.values()) == {"COMPLETED"}
        states = ask(
            "SELECT s.type FROM task_run_state s JOIN task_run t ON s.task_run_id = t.id WHERE flow_run_id = ?"
        )
        assert Counter(states) == dict.fromkeys([("PENDING",), ("RUNNING",), ("COMPLETED",)], len(task_runs))
        assert ask("SELECT state_name FROM flow_run WHERE id = ?") == [("Cancelled",)]
        lines = [line for (line,) in ask("SELECT message FROM log WHERE flow_run_id = ? ORDER BY timestamp")]
        assert any(line.startswith("first: validate Succeeded") for line in lines), lines
        assert lines[-1].startswith("Finished in state"), lines
        artifacts = {key for (key,) in ask("SELECT key FROM artifact WHERE flow_run_id = ?")}
        assert artifacts >= {
            f"fleetpatch-patch-{name}" for name in ("plan", "progress", "summary", "report", "updates")
        }
        ends = ask("SELECT count(*) FROM events WHERE event = 'prefect.task-run.Completed' AND ? <> ''")
        # The server may end before it has stored the last event. The states above are whole.
        assert ends[0][0] in {len(task_runs) - 1, len(task_runs)}


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_run_and_comes_back_after_it(start, surroundings: dict[str, str]) -> None:
    """The run's end comes from the records, in time; reconcile and doctor find what Prefect did not receive."""
    records_url = surroundings["FLEETPATCH_RECORDS_URL"]
    with prefect_server(Path(surroundings["PREFECT_HOME"])) as server:
        surroundings["PREFECT_API_URL"] = server.url
        process = start(*PATCH)
        process.wait_for_install()
        server.kill()
        process.wait_for("second: validate")
        over = time.monotonic()
        code, out, said = process.end()
        assert time.monotonic() - over < 90
        assert code == 0
        document = json.loads(out)
        assert [machine["status"] for machine in document["machines"]] == ["Succeeded", "Succeeded"]
        assert said.count("Prefect can't be reached since") == 1, said
        assert "shows this run as Running until `fleetpatch reconcile` corrects that" in said
        for noise in ("EventsWorker", "Traceback", "Error logging", "ConnectError"):
            assert noise not in said

        server.start()
        flow_run_id, later = document["run"]["flowRunId"], datetime.now(UTC) + timedelta(minutes=11)
        with server.client() as client:
            flow_run = client.read_flow_run(flow_run_id)
            assert flow_run.state_name == "Running"
            (running,) = check_zombie_runs(probe_server(records_url, now=later))
            assert running.level is FindingLevel.BLOCK
            assert "1 run is Running in Prefect, but it is over in the records" in running.message
            assert document["run"]["maintenanceRunId"] in running.message
            assert end_orphaned_flow_runs(client, records_url, datetime.now(UTC) - timedelta(minutes=5)) == ()
        code, out, said = start("reconcile", "--json").end()
        assert (code, json.loads(out)["correctedFlowRuns"]) == (0, [flow_run_id]), said
        assert "is Running in Prefect, and run" in said
        with server.client() as client:
            flow_run = client.read_flow_run(flow_run_id)
            assert flow_run.state_name == "Completed"
            assert flow_run.state is not None
            assert "Prefect did not receive it then" in (flow_run.state.message or "")
            assert all(
                subflow.state is not None and subflow.state.is_final()
                for subflow in read_subflow_runs(client, flow_run.id)
            )
            (running,) = check_zombie_runs(probe_server(records_url, now=later))
            assert running.level is FindingLevel.GOOD


@pytest.mark.slow
def test_a_prefect_server_that_is_not_there_is_said_at_once(start, surroundings: dict[str, str]) -> None:
    surroundings["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    code, out, said = start(*PATCH).end()
    assert code == 5
    assert json.loads(out)["error"]["kind"] == "CannotRun"
    assert said.count("error: ") == 1
    assert "--no-prefect" in said
    assert "Traceback" not in said


def test_what_is_loaded_for_help_and_without_prefect() -> None:
    modules = "fleetpatch.cli.runtime.run_session, fleetpatch.cli.views.run_result, flows.composition"
    say = "print(*sorted(sys.modules))"
    commands = "import typer.main; from fleetpatch.cli.app import app; typer.main.get_command(app).commands"
    code = f"import sys, fleetpatch.cli.main; {commands}; {say}; import {modules}; {say}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for_help, for_plans = (line.split() for line in said.splitlines())
    heavy = {"prefect", "pandas", "sqlalchemy", "paramiko", "pydantic", "alembic", "yaml"}
    assert heavy.isdisjoint(for_help)
    assert len(for_help) < MOST_MODULES
    assert {"prefect", "pandas"}.isdisjoint(for_plans)


@pytest.mark.parametrize("verb", ["show", "runs"])
def test_what_is_loaded_to_look_back(verb: str, tmp_path: Path, surroundings: dict[str, str]) -> None:
    with open_records(surroundings["FLEETPATCH_RECORDS_URL"]) as records:
        records.save(make.make_report())
    code = (
        "import sys; from fleetpatch.cli.main import main; assert main(sys.argv[1:]) == 0; print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, verb], capture_output=True, text=True, check=True, cwd=tmp_path, env=surroundings
    )
    *shown, loaded = done.stdout.splitlines()
    assert make.make_report().run.id in "".join(shown)
    modules = set(loaded.split())
    assert {"prefect", "pandas", "paramiko", "pydantic", "alembic", "yaml"}.isdisjoint(modules)
    assert {"flows.request", "flows.engine.fleet_run", "inventory.schema"}.isdisjoint(modules)
    assert len(modules) < MOST_MODULES_TO_LOOK_BACK


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt")
@pytest.mark.slow
def test_this_machine_is_planned_for_and_nothing_is_changed(tmp_path: Path, surroundings: dict[str, str]) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines:\n  - {name: here, transport: local, address: localhost, privilege: none}\n")
    before = Path("/var/lib/dpkg/status").stat().st_mtime_ns
    done = run_command(["plan", "here", "-i", str(inventory), "--no-refresh", "--json"], surroundings, tmp_path)
    assert done.returncode == 0, done.stderr
    (machine,) = json.loads(done.stdout)["machines"]
    assert machine["machineName"] == "here"
    assert machine["osName"]
    assert Path("/var/lib/dpkg/status").stat().st_mtime_ns == before
