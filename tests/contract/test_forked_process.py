"""A copy of this process that lives a life of its own, and the server of a run that is one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.prefect_api.server_database import TABLES_RELEASE
from tests.support.environment import PYTHONPATH

PROGRAM = """
import json, logging, os, signal, subprocess, sys, threading
from pathlib import Path
from flows.prefect_api.forked_process import can_fork, fork_process
folder = Path(sys.argv[1])
handled, ended = [], []
signal.signal(signal.SIGTERM, lambda *_: handled.append(1))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
logging.basicConfig(filename=folder / "log")
import atexit
atexit.register((folder / "at exit").open("a").write, "x")
secret = (folder / "secret").open("w+")
os.set_inheritable(secret.fileno(), True)
print("said before", end=" ")

def live():
    found = {
        "environment": dict(os.environ),
        "session": os.getsid(0) == os.getpid(),
        "name": Path("/proc/self/comm").read_text().strip(),
        "files": sorted({os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2
                         and os.path.exists(f"/proc/self/fd/{n}")}),
        "given": os.read(given, 10).decode(),
        "input": sys.stdin.read(),
        "TERM": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "HUP": signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
        "handlers": len(logging.root.handlers),
    }
    print(json.dumps(found))
    sys.exit(3)

assert can_fork()
given, giver = os.pipe()
os.write(giver, b"given")
out = (folder / "out").open("wb")
nothing = os.open(os.devnull, os.O_RDONLY)
made = fork_process("a-name", live, {"ONLY": "1"}, (nothing, out.fileno(), out.fileno()), [given])
codes = [made.wait(60), made.poll()]

def wait():
    signal.pause()

sleeper = fork_process("sleeper", wait, {}, (nothing, 1, 2))
try:
    sleeper.wait(0.05)
    codes.append("ended")
except subprocess.TimeoutExpired:
    codes.append(sleeper.poll())
os.kill(sleeper.pid, signal.SIGTERM)
codes.append(sleeper.wait(60))
sleeper.kill()

def fail():
    raise ValueError("as it should")

failing = fork_process("failing", fail, {}, (nothing, out.fileno(), out.fileno()))
codes.append(failing.wait(60))
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(json.dumps({"codes": codes, "handled": handled, "with a thread": can_fork(), "mine": len(logging.root.handlers)}))
"""
RELEASE_CHECK = """
import sys
from flows.prefect_api.idle_queue import replace_docket
replace_docket()
import prefect, prefect.server.api.server
print(prefect.__version__, *sorted(name for name in ("redis", "beartype", "fakeredis") if name in sys.modules))
"""


def run(program: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": PYTHONPATH}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run_prevented(prevention: str, program: str) -> str:
    """Run a program behind a shell's redirections. Return what it writes into the descriptor TO."""
    reader, writer = os.pipe()
    words = ["sh", "-c", prevention, "sh", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "TO": str(writer)}
    try:
        subprocess.run(words, env=environment, pass_fds=(writer,), capture_output=True, timeout=60, check=True)
    finally:
        os.close(writer)
    with os.fdopen(reader, encoding="ascii") as told:
        return told.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forked")


@pytest.fixture(scope="module")
def told(folder: Path) -> Any:
    before, _, rest = run(PROGRAM, str(folder)).partition("{")
    assert before == "said before "  # once: the copies do not say it again
    return json.loads("{" + rest)


def test_it_ends_with_the_code_of_its_function_by_a_signal_or_by_an_error(told: Any, folder: Path) -> None:
    assert told["codes"] == [3, 3, None, -signal.SIGTERM, 1]
    assert told["handled"] == []
    assert "ValueError: as it should" in (folder / "out").read_text()


def test_nothing_of_the_first_process_is_in_it_but_what_it_is_given(told: Any, folder: Path) -> None:
    found = json.loads((folder / "out").read_text().splitlines()[0])
    assert found["environment"] == {"ONLY": "1"}
    assert (found["given"], found["input"], found["name"]) == ("given", "", "a-name")
    assert found["session"]
    assert found["TERM"]
    assert found["HUP"], "an ignored signal stays so, as with exec"
    assert found["handlers"] == 0
    assert told["mine"] == 1
    (pipe,) = [file for file in found["files"] if file != os.devnull]
    assert pipe.startswith("pipe:")
    assert (folder / "at exit").read_text() == "x"


@pytest.mark.parametrize(
    "prevention",
    [
        'exec "$@" <&-',
        'exec "$@" >&-',
        'exec "$@" 2>&-',
    ],
)
def test_a_process_without_a_standard_stream_makes_none(prevention: str) -> None:
    """A file of it may have that number."""
    program = (
        "import os; from flows.prefect_api.forked_process import can_fork; "
        "os.write(int(os.environ['TO']), b'%d' % can_fork())"
    )
    assert (_run_prevented(prevention, program), _run_prevented('exec "$@"', program)) == ("0", "1")


@pytest.mark.parametrize("fault", ["OSError(38, 'not implemented')", "PermissionError(1, 'not permitted')"])
def test_a_system_that_gives_no_handles_of_processes_makes_none(fault: str) -> None:
    program = f"""
import os
from flows.prefect_api.forked_process import can_fork
def refuse(pid):
    raise {fault}
os.pidfd_open = refuse
print(int(can_fork()), end="")
"""
    assert run(program) == "0"


def test_a_copy_that_can_not_write_ends_all_the_same(tmp_path: Path) -> None:
    """Its caller's code is the first process's: it must not go on there."""
    program = """
import os, sys
from flows.prefect_api.forked_process import fork_process
full = os.open("/dev/full", os.O_WRONLY)
nothing = os.open(os.devnull, os.O_RDONLY)
try:
    code = fork_process("full", lambda: print("never heard") or 4, {}, (nothing, full, full)).wait(60)
finally:
    with open(sys.argv[1], "a") as told:
        told.write("here ")
print(code, end="")
"""
    told = tmp_path / "told"
    assert run(program, str(told)) in {"4", "1"}  # without a buffer, print fails at once
    assert told.read_text() == "here "


def test_a_process_with_a_further_thread_makes_none(told: Any) -> None:
    assert told["with a thread"] is False


@pytest.mark.slow
def test_the_server_of_this_release_loads_without_docket() -> None:
    assert run(RELEASE_CHECK).split() == [TABLES_RELEASE]
