"""What shells offer behind the tabulator: asked of the command as shells ask, and once of each real shell."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fleetpatch.cli.command  # noqa: F401 - adds its verbs
from tests.ci import tree
from tests.contract.cli.conftest import Stage, security

COMMAND = "import sys; from fleetpatch.cli.command import main; sys.exit(main())"


def _offer(stage: Stage, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash gets for these words; it has split them at "="."""
    with monkeypatch.context() as environment:
        environment.setenv("_FLEETPATCH_COMPLETE", "complete_bash")
        environment.setenv("COMP_WORDS", "\n".join(("fleetpatch", *words)))
        environment.setenv("COMP_CWORD", str(len(words)))
        said = stage.run()
    assert (said.code, said.err) == (0, "")
    return said.out.split()


@pytest.fixture
def fleet(stage: Stage) -> Stage:
    """Two machines, of which one has a run and a held update."""
    stage.add("web-1", security("openssl"))
    stage.add("db-1", security("openssl"))
    stage.defaults = {"environment": "prod"}
    stage.run("assess", "web-1")
    return stage


def _run_id(stage: Stage) -> str:
    return str(stage.run("runs", "--json").json["runs"][0]["maintenanceRunId"])


def test_runs_machines_and_updates_are_offered(fleet: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _run_id(fleet)
    assert _offer(fleet, monkeypatch, "show", "") == ["last", run]
    assert _offer(fleet, monkeypatch, "report", run[:4]) == [run]
    assert _offer(fleet, monkeypatch, "cancel", "") == []  # no run is open
    assert _offer(fleet, monkeypatch, "why", "w") == ["web-1"]
    assert _offer(fleet, monkeypatch, "why", "web-1", "") == ["openssl"]
    assert _offer(fleet, monkeypatch, "show", "last", "--machine", "") == ["web-1", "db-1"]
    assert _offer(fleet, monkeypatch, "unlock", "d") == ["db-1"]
    assert _offer(fleet, monkeypatch, "patch", "--only", "d") == ["db-1"]
    assert _offer(fleet, monkeypatch, "runs", "--kind", "p") == ["patch", "plan"]


def test_an_open_run_is_offered_to_be_cancelled(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add("web-1", security("openssl"))
    left = stage.left_half_way()
    assert _offer(stage, monkeypatch, "cancel", "") == [left]
    assert _offer(stage, monkeypatch, "resume", left[:5]) == [left]


def test_scopes_are_offered_term_by_term(fleet: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    every = ["web-1", "db-1", "env=prod", "os=linux", "owner=fleetpatch"]
    assert _offer(fleet, monkeypatch, "plan", "") == every
    assert _offer(fleet, monkeypatch, "plan", "web-1,!e") == ["web-1,!env=prod"]
    assert _offer(fleet, monkeypatch, "plan", "env", "=", "p") == ["prod"]
    assert _offer(fleet, monkeypatch, "plan", "env", "=") == ["prod"]
    assert _offer(fleet, monkeypatch, "plan", "env", "=", "prod,os", "=", "l") == ["linux"]
    assert _offer(fleet, monkeypatch, "plan", "env", "=", "prod|p") == ["prod|prod"]


def test_fleets_tokens_and_people_are_offered(fleet: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.run("web", "token", "add", "prometheus")
    with monkeypatch.context() as environment:
        environment.setenv("FLEETPATCH_FLEET", "site-a")
        fleet.run("assess", "web-1")
    assert _offer(fleet, monkeypatch, "web", "token", "remove", "") == ["prometheus"]
    assert _offer(fleet, monkeypatch, "deploy", "--fleet", "") == ["default", "site-a"]
    assert len(_offer(fleet, monkeypatch, "audit", "list", "--who", "")) == 1


def test_what_cannot_be_read_is_no_error_and_makes_nothing(
    fleet: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(tmp_path / "no.yaml"))
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path}/no/records.db")
    for words in (("show", ""), ("why", ""), ("plan", ""), ("plan", "env", "=", "p"), ("deploy", "--fleet", "x")):
        assert _offer(fleet, monkeypatch, *words) == []
    assert not (tmp_path / "no").exists()
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", "postgresql://nobody@127.0.0.1:9/none")
    assert _offer(fleet, monkeypatch, "show", "") == []
    (tmp_path / "no.yaml").write_text("machines: [{name: ")
    assert _offer(fleet, monkeypatch, "plan", "") == []


# ---------------------------------------------------------------- real shells


@pytest.fixture
def shell_environment(fleet: Stage) -> dict[str, str]:
    """An environment with the command on its path."""
    program = fleet.folder / "bin" / "fleetpatch"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -P -c '{COMMAND}' \"$@\"\n")
    program.chmod(0o755)
    kept = {name: os.environ[name] for name in ("FLEETPATCH_INVENTORY", "FLEETPATCH_RECORDS_URL")}
    path = f"{program.parent}:{os.environ['PATH']}"
    home = {"HOME": str(fleet.folder), "TERM": "dumb", "PS1": "ready> ", "COLUMNS": "200", "LANG": "C.UTF-8"}
    return {**home, **kept, "PATH": path, "PYTHONPATH": str(tree.TOP)}


SET_UP = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), 'eval "$(_FLEETPATCH_COMPLETE=source_bash fleetpatch)"'),
    "zsh": (
        ("zsh", "-f", "-i"),
        'autoload -U compinit; compinit -u -D; eval "$(_FLEETPATCH_COMPLETE=source_zsh fleetpatch)"',
    ),
}


def _type(terminal: int, text: str, wanted: str) -> str:
    """Type at a terminal, and return what it shows; waits for a text."""
    os.write(terminal, text.encode())
    shown, ends = "", time.monotonic() + 60
    while wanted not in shown:
        left = ends - time.monotonic()
        assert left > 0, f"{wanted!r} is not in {shown!r}"
        if select.select([terminal], [], [], left)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


@pytest.mark.parametrize("shell", SET_UP)
def test_a_shell_completes_a_run_and_a_scope(shell: str, fleet: Stage, shell_environment: dict[str, str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    run, (words, set_up) = _run_id(fleet), SET_UP[shell]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(fleet.folder)
        os.execvpe(words[0], words, shell_environment)
    try:
        _type(terminal, f"{set_up}; echo set''-up\n", "set-up")
        _type(terminal, f"fleetpatch report {run[:6]}\t", run[6:])
        _type(terminal, "\x15fleetpatch plan env=p\t", "env=prod")
        _type(terminal, "\x15exit\n", "exit")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def test_fish_completes_a_run_and_a_scope(fleet: Stage, shell_environment: dict[str, str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    run = _run_id(fleet)
    script = "_FLEETPATCH_COMPLETE=source_fish fleetpatch | source; for line in $argv; complete -C $line; end"
    words = ["fish", "--no-config", "-c", script, f"fleetpatch report {run[:6]}", "fleetpatch plan env=p"]
    done = subprocess.run(
        words, env=shell_environment, cwd=fleet.folder, capture_output=True, text=True, check=True, timeout=120
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{run}\tassess web-1: Succeeded, ")
    assert second.split("\t")[0] == "env=prod"
