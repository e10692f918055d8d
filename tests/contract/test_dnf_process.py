"""One process that answers all questions to dnf 4 (dnf_process.sh), over a stand-in for dnf's program and library."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.machines.transport.script_library import load_script

PROGRAM = """#!{python}
import os, sys
from dnf.cli import main
main.user_main(sys.argv[1:])
"""
LIBRARY = """import atexit, os, sys, time
open("{place}/loads", "a").write("%d\\n" % os.getpid())
class Heavy:
    def __del__(self, mark=os.open, how=os.O_CREAT | os.O_WRONLY):
        mark("{place}/taken-apart", how)
heavy = Heavy()
def user_main(words):
    atexit.register(lambda: print("after", *words))
    if words[0] == "sleep":
        time.sleep(60)
    print(os.getppid(), sys.path[0], sys.argv[0], sys.stdin.read(), words)
    print("of", *words, file=sys.stderr)
    if words[0] == "kill":
        os.kill(os.getpid(), 9)
    sys.exit("words" if words[0] == "say" else int(words[0]))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lib" / "dnf" / "cli"
    folder.mkdir(parents=True)
    for each in (folder, folder.parent):
        (each / "__init__.py").touch()
    (folder / "main.py").write_text(LIBRARY.format(place=tmp_path))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "dnf"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def execute(place: Path, commands: str, *, shell: str = "sh") -> str:
    """Return what these commands print, after those of the script. The working directory has another dnf."""
    (place / "dnf").mkdir(exist_ok=True)
    (place / "dnf" / "__init__.py").write_text("raise SystemExit('from the working directory')")
    parts = [
        load_script(name, "tasks.machines.managers.rpm.dnf") for name in ("limited", "tool_history", "dnf_process")
    ]
    text = "\n".join(["fp_newline='\n'", *parts, "fp_start_dnf", commands])
    done = subprocess.run([shell, "-c", text], cwd=place, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def count_loads(place: Path) -> int:
    return len((place / "loads").read_text().splitlines())


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_questions_are_answered_as_by_dnf_itself_with_one_start(place: Path, shell: str) -> None:
    asked = "3 'two words' -x --qf='%{name}|\\n'"
    question = f"said=$({{ fp_ask_dnf 0 {asked} 2>&4; echo $?; }} 4>&1); printf '%s\\n' \"$said\""
    one, two, three = (
        text.strip() for text in execute(place, "; echo ====; ".join([question] * 3), shell=shell).split("====\n")
    )
    assert one == two == three, "also the parent's process id is the same"
    assert count_loads(place) == 1
    direct = subprocess.run(
        ["sh", "-c", f"dnf {asked}"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    parent, _, rest = direct.stdout.partition(" ")
    assert sorted(one.partition(" ")[2].splitlines()) == sorted([*rest.splitlines(), *direct.stderr.splitlines(), "3"])
    assert parent.isdigit()


def test_an_end_is_the_same_as_of_a_process(place: Path) -> None:
    told = execute(
        place,
        "for word in 0 7 kill say; do fp_ask_dnf 0 $word 2>/dev/null | cat >/dev/null; done; "
        "for word in 0 7 kill say; do said=$(fp_ask_dnf 0 $word 2>/dev/null); echo $?; done",
    )
    assert told.split() == ["0", "7", "137", "1"]
    assert count_loads(place) == 1


def test_a_fork_ends_as_soon_as_dnf_has_ended(place: Path) -> None:
    """What dnf does at its exit is done. What Python does after it would copy all memory that the fork shares."""
    told = execute(place, "said=$(fp_ask_dnf 0 7 2>/dev/null); printf '%s\\n' \"$said\"; kill -9 $!")
    assert told.splitlines()[-1] == "after 7"
    assert count_loads(place) == 1
    assert not (place / "taken-apart").exists()


def test_the_process_writes_only_where_the_shell_does(place: Path) -> None:
    """The shell's own outputs are others while it writes a question."""
    question = 'said=$(fp_ask_dnf 0 0 2>/dev/null); [ "${said##*after }" = 0 ] || echo "lost: $said"'
    assert execute(place, "; ".join([question] * 20)) == ""


def test_a_question_with_a_limit_is_ended(place: Path) -> None:
    began = time.monotonic()
    assert execute(place, "said=$(fp_ask_dnf 1 sleep 2>/dev/null); echo $?") == "142\n"
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("before", "loads"),
    [
        ("fp_dnf=''", 2),  # it did not start
        ("exec 5>&- 7<&-", 2),
        ("kill $!; wait", 2),  # something has ended it
    ],
)
def test_dnf_is_started_where_the_process_is_missing(place: Path, before: str, loads: int) -> None:
    told = execute(place, before + "; said=$(fp_ask_dnf 0 4 2>/dev/null); echo $? $said")
    assert told.startswith("4 ")
    assert "['4']" in told
    assert count_loads(place) == loads


def test_what_can_not_be_sent_or_shared_is_asked_of_a_process_of_its_own(place: Path) -> None:
    words = shlex.quote("two\nlines")
    one = f"said=$(fp_ask_dnf 0 1 {words} '' 2>/dev/null); printf '%s\\n' \"$said\""
    told = execute(place, f"{one}; fp_ask_dnf 0 2 >file 2>/dev/null; cat file")
    assert "['1', 'two\\nlines', '']" in told
    assert "['2']" in told
    assert count_loads(place) == 3


def test_a_program_of_another_kind_is_started_each_time(place: Path) -> None:
    (place / "bin" / "dnf").write_text("#!/bin/sh\necho $*; exit 5\n")
    assert execute(place, "said=$(fp_ask_dnf 0 a b); echo $? $said") == "5 a b\n"
    assert not (place / "loads").exists()


def test_the_process_ends_with_the_script_and_leaves_nothing(place: Path) -> None:
    pid = int(execute(place, "said=$(fp_ask_dnf 0 0 2>/dev/null); echo $!"))
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert not [each.name for each in place.iterdir() if each.name.startswith("tmp.")]
