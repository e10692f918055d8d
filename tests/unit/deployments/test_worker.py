"""The worker beside `deploy --serve`: it ends when it is told to, and does not outlive who has started it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.deploying.worker import attend
from tests.ci.tree import TOP

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w').close(); time.sleep(600)"
POLITE = "import time; open('up', 'w').close(); time.sleep(600)"
WITH_A_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)']); {DEAF}"
)
PATIENCE = 60.0


def until(what: Callable[[], object]) -> None:
    patience = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < patience
        time.sleep(0.05)


def told_to_end_when_up(folder: Path) -> None:
    def tell() -> None:
        until((folder / "up").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell, daemon=True).start()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("program", "code"), [(POLITE, -signal.SIGTERM), (DEAF, 0)])
def test_a_worker_ends_in_time_when_this_process_is_told_to(here: Path, program: str, code: int) -> None:
    told_to_end_when_up(here)
    handler = signal.getsignal(signal.SIGTERM)

    assert attend([sys.executable, "-c", program], os.environ, end_seconds=1, with_runs=300) == code

    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_worker_that_carries_runs_is_given_longer(here: Path) -> None:
    told_to_end_when_up(here)
    begun = time.monotonic()

    assert attend([sys.executable, "-c", WITH_A_CHILD], os.environ, end_seconds=0, with_runs=2) == 0

    assert time.monotonic() - begun >= 2


def test_a_signal_that_comes_before_the_worker_is_passed_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def told_first(*words: object, **more: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return start(*words, **more)  # type: ignore[call-overload]

    monkeypatch.setattr("deployments.deploying.worker.subprocess.Popen", told_first)

    assert attend([sys.executable, "-c", POLITE], os.environ) in {-signal.SIGTERM, 0}


def test_a_worker_dies_with_who_has_started_it_and_its_runs_go_on(here: Path) -> None:
    run = f"import os, time; open('run', 'w').write(str(os.getpid())); time.sleep({PATIENCE}); "
    worker = (
        "import os, subprocess, sys, time; open('worker', 'w').write(str(os.getpid())); "
        f"subprocess.Popen([sys.executable, '-c', {run!r}]); time.sleep(600)"
    )
    bound = ["-m", "deployments.deploying.bound"]
    parent = (
        "import os, subprocess, sys; "
        f"subprocess.run([sys.executable, *{bound!r}, str(os.getpid()), sys.executable, '-c', {worker!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": str(TOP)}) as started:
        until(lambda: (here / "run").exists() and (here / "run").read_text())
        pids = [int((here / name).read_text()) for name in ("worker", "run")]
        started.kill()
    try:
        until(lambda: not alive(pids[0]))
        assert alive(pids[1])
    finally:
        os.kill(pids[1], signal.SIGKILL)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def test_a_worker_whose_parent_is_gone_already_does_not_start(here: Path) -> None:
    words = [sys.executable, "-m", "deployments.deploying.bound", "1", sys.executable, "-c", "print('up')"]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "is gone" in done.stderr
