"""The script that runs a hook on a machine, by this machine's own shells."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import load_script

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def asked(shell: str, command: str, timeout: str = "5", **more: str) -> ScriptRecord:
    params = {"command": command, "timeout": timeout, "run": "r-1", "machine": "web", "place": "before_machine"}
    nonce = generate_nonce()
    text = build_script_stdin(load_script("hook"), {**params, "name": "drain", "state": "", **more}, nonce)
    words = [shell, *(["sh"] if shell == "busybox" else []), "-s"]
    done = subprocess.run(words, input=text, capture_output=True, check=False, timeout=240)
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stdout(done.stdout)
    (record,) = decoder.build_output().records
    return record


@pytest.mark.parametrize("shell", SHELLS)
def test_it_tells_the_exit_code_and_the_last_words(shell: str) -> None:
    assert asked(shell, "echo fine; echo 'and \"well\"' >&2; exit 4") == {
        "kind": "hook",
        "exit_code": 4,
        "text": 'fine\nand "well"',
        "timed_out": False,
    }
    assert asked(shell, "true")["exit_code"] == 0
    assert len(str(asked(shell, "yes | head -c 100000")["text"])) <= 4000
    assert asked(shell, "cat")["exit_code"] == 0  # nobody types anything


@pytest.mark.parametrize("shell", SHELLS)
def test_it_says_what_it_is_about_and_runs_nothing_of_its_parameters(shell: str) -> None:
    hostile = "$(touch /tmp/never) `id`; \\ ' \""
    command = "env | grep ^FLEETPATCH_ | grep -v -e ^FLEETPATCH_LAB= -e ^FLEETPATCH_KEYS= | sort; pwd"
    told = str(asked(shell, command, machine=hostile, state="Failed")["text"])
    assert told.splitlines() == [
        "FLEETPATCH_HOOK=drain",
        f"FLEETPATCH_MACHINE={hostile}",
        "FLEETPATCH_PLACE=before_machine",
        "FLEETPATCH_RUN=r-1",
        "FLEETPATCH_STATE=Failed",
        "/",
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_takes_too_long_is_ended_with_its_children(shell: str, tmp_path: Path) -> None:
    began = time.monotonic()
    record = asked(shell, f"sleep 60 & echo $! > {tmp_path}/child; echo begun; wait", timeout="1")
    assert record["exit_code"] in {124, 143}
    assert record["timed_out"] is True
    assert record["text"] == "begun"
    assert time.monotonic() - began < 40
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    for _ in range(30):
        if not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("its child lives on")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_that_ends_early_with_such_an_exit_code_was_not_ended(shell: str) -> None:
    record = asked(shell, "exit 124", timeout="30")
    assert (record["exit_code"], record["timed_out"]) == (124, False)
