"""The command in surroundings that are not as they should be: no traceback, no wait without end.

It is a new interpreter where that reads the surroundings or has to end in them, with verbs that load little. It is a
forked process where Prefect or the system reads them; where only the command does, it runs here.
"""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command import run_command
from tests.support.environment import PYTHONPATH
from tests.support.forked import start_forked

COMMAND = Path(sys.executable).with_name("fleetpatch")
FLEET = "machines:\n  - {name: web, address: 192.0.2.1, location: Zürich}\n"
WORD = "hunter2"  # a password in a URL, which is told to nobody
SECONDS = 240.0
LONG = "/tmp/" + "a" * 5000

pytestmark = pytest.mark.slow

AT_START: list[tuple[Mapping[str, str], Sequence[str], int]] = [
    # environment, words, exit code
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ("inventory", "list"), 0),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ("inventory", "list", "zürich"), 2),
    ({"PYTHONIOENCODING": "ascii:strict"}, ("plan", "--help"), 0),
    ({"PYTHONIOENCODING": "ascii:strict"}, ("inventory", "list"), 0),
    ({"PYTHONIOENCODING": "latin-1:strict"}, ("inventory", "list", "--json"), 0),
]
IN_A_PROCESS: list[tuple[Mapping[str, str], Sequence[str], int]] = [
    ({"TZ": "Nonsense/Zone"}, ("machines",), 0),
    ({"TZ": "../../etc/passwd"}, ("runs",), 0),
    ({"TZ": ":::"}, ("runs",), 0),
    ({"PREFECT_API_URL": "nonsense"}, ("patch", "web", "--yes"), 5),
    ({"PREFECT_API_URL": "http://[::1/api"}, ("patch", "web", "--yes"), 5),
    ({"TMPDIR": "/nowhere"}, ("machines",), 0),
]
ODD: list[tuple[Mapping[str, str], Sequence[str], int]] = [
    ({"TERM": "nonsense", "FORCE_COLOR": "1"}, ("machines",), 0),
    ({"HOME": "/nowhere"}, ("machines",), 0),
    ({"COLUMNS": "0"}, ("machines",), 0),
    ({"COLUMNS": "1"}, ("machines",), 0),
    ({"COLUMNS": "-5", "LINES": "x"}, ("machines",), 0),
    ({"COLUMNS": "99999999999999999999"}, ("inventory", "list"), 0),
    ({"TERM": "dumb"}, ("machines",), 0),
    ({"NO_COLOR": "1"}, ("machines",), 0),
    ({"FLEETPATCH_INVENTORY": "/nowhere/fleet.yaml"}, ("machines",), 2),
    ({"FLEETPATCH_INVENTORY": "~nobody-at-all/x"}, ("machines",), 2),
    ({"FLEETPATCH_INVENTORY": "/dev/null"}, ("machines",), 2),
    ({"FLEETPATCH_RECORDS_URL": "nonsense"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "mysql://u:" + WORD + "@h/d"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "sqlite:////dev/full"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "sqlite:////dev/null"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "sqlite:////proc/x.db"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "postgresql://u:" + WORD + "@127.0.0.1:1/x"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "", "XDG_DATA_HOME": "/proc"}, ("runs",), 5),
    ({"FLEETPATCH_RECORDS_URL": "", "XDG_DATA_HOME": "/dev/null"}, ("patch", "web", "--no-prefect", "--yes"), 5),
    ({"FLEETPATCH_INVENTORY": LONG}, ("assess",), 2),
    ({}, ("assess", "--report", LONG), 5),
    ({}, ("config", "schema", "--output", LONG), 2),
    ({"FLEETPATCH_RECORDS_URL": f"sqlite:///{LONG}"}, ("runs",), 5),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    return tmp_path


def surroundings(place: Path, **changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "FLEETPATCH", "COLUMNS", "PYTHON"))}
    ours = {
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{place / 'records.db'}",
        "XDG_DATA_HOME": str(place / "data"),
        "PREFECT_HOME": str(place / "prefect"),
        "PYTHONPATH": PYTHONPATH,
    }
    return {**kept, **ours, **changes}


def ran(place: Path, words: Sequence[str], shell: str = "", **changes: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command, as it stands or in a shell's line in which it is "$@"."""
    line = ["/bin/sh", "-c", shell, "sh"] if shell else []
    return subprocess.run(
        [*line, str(COMMAND), *words],
        cwd=place,
        env=surroundings(place, **changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )


def ran_here(place: Path, words: Sequence[str], **changes: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command in this process, which has loaded it already."""
    done = run_command(words, surroundings(place, **changes), place)
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.encode(), done.stderr.encode())


def ran_forked(
    place: Path, words: Sequence[str], how: str = "plainly", *, without: Sequence[str] = (), **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own; tests/contract/odd_start.py says how."""
    environment = {key: value for key, value in surroundings(place, **changes).items() if key not in without}
    out, err = place / "out", place / "err"
    started = start_forked(
        "tests.contract.odd_start", [how, *words], place=place, environment=environment, out=out, err=err
    )
    try:
        code = started.wait(SECONDS)
    finally:
        started.kill()
    return subprocess.CompletedProcess(words, code, out.read_bytes(), err.read_bytes())


def assert_plain(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == code, told
    assert "Traceback" not in told
    assert "fault in fleetpatch" not in told
    assert "Exception ignored" not in told
    assert "hunter2" not in told
    if code:
        assert told.count("error: ") == 1, told
        assert "hint: " in told
    return told


@pytest.mark.parametrize(("words", "code"), [("assess", 2), ("patch web --yes --no-prefect", 2)])
def test_a_folder_that_is_gone(place: Path, words: str, code: int) -> None:
    told = assert_plain(ran_forked(place, words.split(), "in a folder that is gone"), code)
    assert "the current folder does not exist any more" in told


def test_a_folder_that_is_gone_when_the_interpreter_starts(place: Path) -> None:
    told = assert_plain(ran(place, ("config", "check"), 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'), 2)
    assert "the current folder does not exist any more" in told


def assert_shows_machines(told: str, words: Sequence[str], code: int) -> None:
    if words[0] in {"machines", "inventory"} and not code:
        assert "web" in told


@pytest.mark.parametrize(("changes", "words", "code"), AT_START)
def test_odd_variables_when_it_starts(place: Path, changes: Mapping[str, str], words: Sequence[str], code: int) -> None:
    assert_shows_machines(assert_plain(ran(place, words, **changes), code), words, code)


@pytest.mark.parametrize(("changes", "words", "code"), IN_A_PROCESS)
def test_odd_variables_of_a_process(place: Path, changes: Mapping[str, str], words: Sequence[str], code: int) -> None:
    assert_shows_machines(assert_plain(ran_forked(place, words, **changes), code), words, code)


@pytest.mark.parametrize(("changes", "words", "code"), ODD)
def test_odd_variables(place: Path, changes: Mapping[str, str], words: Sequence[str], code: int) -> None:
    assert_shows_machines(assert_plain(ran_here(place, words, **changes), code), words, code)


STREAMS = [
    ('"$@" >&-', ("inventory", "list"), 0),
    ('"$@" >&-', ("inventory", "list", "--json"), 0),
    ('"$@" >&-', ("--help",), 0),
    ('"$@" 2>&-', ("inventory", "list"), 0),
    ('"$@" 2>&-', ("inventory", "list", "nobody"), 2),
    ('"$@" 2>/dev/full', ("inventory", "list", "nobody"), 2),
    ('"$@" >&- 2>&- <&-', ("inventory", "list", "nobody"), 2),
    ('"$@" >&- 2>&- <&-', ("runs", "--json"), 0),
    ('"$@" >&-', ("machines",), 0),
    ('"$@" <&-', ("patch", "web", "--no-prefect"), 2),
    ('"$@" </dev/null', ("patch", "web", "--no-prefect"), 2),
    ('"$@" >/dev/full', ("inventory", "list"), 6),
    ('"$@" >/dev/full', ("inventory", "list", "--json"), 6),
    ('"$@" >/dev/full', ("plan", "--help"), 6),
    ('"$@" >/dev/full', ("version",), 6),
    ('"$@" | true', ("inventory", "schema"), 0),
]


@pytest.mark.parametrize(("shell", "words", "code"), STREAMS)
def test_streams_that_nobody_holds(place: Path, shell: str, words: Sequence[str], code: int) -> None:
    done = ran(place, words, shell)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == code, told
    assert "Traceback" not in told
    assert "fault in fleetpatch" not in told
    assert "Exception ignored" not in told


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_no_file_gets_the_number_of_a_stream_that_nobody_holds(closed: str) -> None:
    """A message would go into it: into a database, or to a listener."""
    program = (
        "import fleetpatch.cli.command, os; "
        "file = os.open(os.devnull, os.O_RDONLY); os.write(9, str(file > 2).encode())"
    )
    words = ["sh", "-c", f'exec 9>&1; exec "$@" {closed}', "sh", sys.executable, "-c", program]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": PYTHONPATH}, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"True"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody whom the system doesn't know")
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("runs",), 5, "no home"),
        (("patch", "web", "--no-prefect", "--yes"), 5, "no home"),
        (("machines", "--records", "sqlite:////proc/x.db"), 5, "/proc/x.db"),
        (("version",), 0, "fleetpatch"),
    ],
)
def test_a_user_without_a_name_or_a_home(place: Path, words: Sequence[str], code: int, told: str) -> None:
    for part in (place, *place.parents[:3]):
        part.chmod(0o755)
    without = ("HOME", "FLEETPATCH_RECORDS_URL", "XDG_DATA_HOME")
    assert told in assert_plain(ran_forked(place, words, "as a stranger", without=without), code)
    assert not (place / "~").exists()


def test_a_pipe_for_an_inventory(place: Path) -> None:
    os.mkfifo(place / "pipe.yaml")
    began = time.monotonic()
    assert_plain(ran_forked(place, ("plan", "web", "-i", "pipe.yaml")), 2)
    assert time.monotonic() - began < SECONDS
    done = ran(place, ("inventory", "list"), '(sleep 0.2; cat fleet.yaml) | "$@" -i /dev/stdin')
    assert b"web" in done.stdout


def test_records_that_another_program_holds(place: Path) -> None:
    assert_plain(ran_here(place, ("runs",)), 0)
    with closing(sqlite3.connect(place / "records.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert_plain(ran_forked(place, ("runs",)), 0)  # reading needs no lock


def test_records_of_a_newer_fleetpatch_are_left_alone(place: Path) -> None:
    assert_plain(ran_here(place, ("runs",)), 0)
    with closing(sqlite3.connect(place / "records.db", isolation_level=None)) as other:
        (table,) = (row[0] for row in other.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%version_num%'"))
        other.execute(f"UPDATE {table} SET version_num = 'v9999'")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (place / "records.db").read_bytes()
    assert "newer" in assert_plain(ran_here(place, ("patch", "web", "--no-prefect", "--yes")), 5)
    assert (place / "records.db").read_bytes() == before


def test_a_terminal_that_is_one_column_wide(place: Path) -> None:
    script = f"stty cols 1 rows 1; {COMMAND} inventory list; echo code=$?"
    done = subprocess.run(
        ["script", "-qec", script, "/dev/null"],
        cwd=place,
        env=surroundings(place, TERM="xterm"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert b"code=0" in done.stdout
    assert b"Traceback" not in done.stdout


def opened_for_writing(pipe: Path) -> int:
    """Wait until somebody reads from a pipe: before that it can't be opened without waiting."""
    patience = time.monotonic() + SECONDS
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > patience:
                raise
            time.sleep(0.05)


def test_a_hangup_leaves_no_trace_behind(place: Path) -> None:
    os.mkfifo(place / "pipe.yaml")
    with subprocess.Popen(
        # a shell has what it starts in the background ignore the signal
        ["env", "--default-signal=INT", str(COMMAND), "inventory", "list", "-i", "pipe.yaml"],
        cwd=place,
        env=surroundings(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        writer = opened_for_writing(place / "pipe.yaml")
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=SECONDS)
        os.close(writer)
    assert child.returncode == 130, said
    assert b"Traceback" not in said
