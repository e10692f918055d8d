"""A job that begins late, by the machine's own scripts: what was refused never begins, and what has begun is told so.

Each way to start a job is held up here as a machine under load holds it up: between the order and the job's first line.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.errors import DeadlineExceeded, ScriptFailed
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Job, JobPhase, Script
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tests.contract.transport_subjects import scripts

CLOCK = SystemClock()
NEVER = r"it did not begin when it was handed over, so it never begins"
WORK = {
    "quick": 'date +%s >>"$FP_JOB_DIR/ran"; fp_emit ran',
    "patient": 'touch "$FP_JOB_DIR/at-it"; while ! fp_stop_requested; do sleep 0.1; done; touch "$FP_JOB_DIR.left"',
    "heeding": "if fp_stop_requested; then fp_emit heeded; else fp_emit went_on; fi",
}
HELD_UP = """#!/bin/sh
naps=0 # a test that ends early must not leave this behind for ever
while [ ! -e {gate} ]; do [ "$naps" -lt 6000 ] || exit 1; naps=$((naps + 1)); sleep 0.05; done
{then}
"""
AS_SYSTEMD = """while [ "$1" != /bin/sh ]; do shift; done
exec {setsid} "$@" &"""


class Late:
    """This machine, whose jobs begin once ``gate`` is there."""

    def __init__(self, place: Path, runner: str) -> None:
        self.place, self.runner, self.gate = place, runner, place / "gate"
        self.patience = 1
        line, way = LocalShellChannel(CLOCK), PrivilegeEscalator(PrivilegeMethod.NONE)
        root = str(place / "jobs")
        self.shell = PosixShell(
            line, machine="here", privilege=way, clock=CLOCK, job_root=root, script_loader=self.text
        )

    def text(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        if name in WORK:
            return WORK[name]
        systemd = self.place / ("systemd" if self.runner == "systemd" else "none")
        text = scripts(name, package).replace("/run/systemd/system", str(systemd))
        return text.replace("\npatience=40\n", f"\npatience={self.patience}\n")

    def start(self, job_id: str = "one") -> bool:
        """Start a job; return whether it was there already."""
        return self.shell.start_job(Job(job_id, Script("quick")), deadline=soon()).attached

    def phase(self, job_id: str = "one") -> JobPhase:
        return self.shell.poll_job(job_id, deadline=soon()).phase

    def is_finished(self, job_id: str) -> bool:
        return self.phase(job_id) is JobPhase.FINISHED

    def let_begin(self, job_id: str = "one") -> None:
        """Let what is held up go on, and wait until it has tried."""
        self.gate.touch()
        folder = self.place / "jobs" / job_id
        wait(lambda: not list(folder.glob("meta.[0-9]*")) and not processes(str(folder / "run")))

    def ran(self, job_id: str = "one") -> int:
        """How often the job's own script ran."""
        note = self.place / "jobs" / job_id / "ran"
        return len(note.read_text().splitlines()) if note.exists() else 0


def processes(word: str) -> list[str]:
    """The processes that have a word in their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if word in line and place.parent.name != str(os.getpid()):
            found.append(line)
    return found


def wait(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        time.sleep(0.02)


def soon() -> Deadline:
    return Deadline.after(CLOCK, 60)


@pytest.fixture(params=["setsid", "systemd"])
def late(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Late]:
    here, tools = Late(tmp_path, request.param), tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "systemd").mkdir()
    real = "/usr/bin/setsid"
    for name, then in (("setsid", f'exec {real} "$@"'), ("systemd-run", AS_SYSTEMD.format(setsid=real))):
        (tools / name).write_text(HELD_UP.format(gate=here.gate, then=then))
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    yield here
    here.let_begin()


def test_a_job_that_was_refused_never_begins(late: Late) -> None:
    with pytest.raises(ScriptFailed, match=NEVER):
        late.start()

    late.let_begin()

    assert late.ran() == 0
    assert late.phase() is JobPhase.ABSENT


def test_asked_again_the_answer_is_the_same_and_other_jobs_begin(late: Late) -> None:
    with pytest.raises(ScriptFailed, match=NEVER):
        late.start()
    late.gate.touch()
    with pytest.raises(ScriptFailed, match=NEVER):
        late.start()
    assert late.ran() == 0
    assert late.start("two") is False
    wait(lambda: late.phase("two") is JobPhase.FINISHED)
    assert late.ran("two") == 1
    assert late.phase() is JobPhase.ABSENT


def test_a_job_that_begins_within_the_patience_is_begun(late: Late) -> None:
    late.patience = 30
    threading.Timer(0.5, late.gate.touch).start()
    assert late.start() is False
    wait(lambda: late.phase() is JobPhase.FINISHED)
    assert late.ran() == 1


def test_a_job_whose_start_is_held_up_hears_that_it_is_to_stop(late: Late) -> None:
    late.patience = 30
    folder, other, job = late.place / "jobs/one", Late(late.place, late.runner), Job("one", Script("heeding"))
    start = threading.Thread(target=lambda: late.shell.start_job(job, deadline=soon()))
    start.start()
    wait((folder / "launch").exists)
    (told,) = other.shell.run_script(Script("job_stop", {"id": "one"}), deadline=soon()).records
    assert (told["phase"], told["asked"]) == ("absent", True)
    late.gate.touch()
    start.join()
    wait(lambda: late.phase() is JobPhase.FINISHED)
    assert [event["kind"] for event in late.shell.poll_job("one", deadline=soon()).events] == ["heeded"]


def test_a_wish_to_stop_that_came_before_the_order_is_not_for_it(late: Late) -> None:
    late.gate.touch()
    folder = late.place / "jobs/one"
    folder.mkdir(parents=True)
    (folder / "withdrawn").touch()  # as somebody has left it whose start was cut short, and who was asked to stop
    (told,) = late.shell.run_script(Script("job_stop", {"id": "one"}), deadline=soon()).records
    assert (told["phase"], told["asked"]) == ("absent", True)
    assert late.shell.start_job(Job("one", Script("heeding")), deadline=soon()).attached is False
    wait(lambda: late.phase() is JobPhase.FINISHED)
    assert [event["kind"] for event in late.shell.poll_job("one", deadline=soon()).events] == ["went_on"]


def test_what_was_withdrawn_or_has_ended_is_asked_nothing(late: Late) -> None:
    with pytest.raises(ScriptFailed, match=NEVER):
        late.start()
    late.gate.touch()
    assert late.start("two") is False
    wait(lambda: late.phase("two") is JobPhase.FINISHED)
    for job_id in ("one", "two", "never-ordered"):
        (told,) = late.shell.run_script(Script("job_stop", {"id": job_id}), deadline=soon()).records
        assert told["asked"] is False
        assert not (late.place / "jobs" / job_id / "stop").exists()


@pytest.mark.parametrize("another", [False, True])
def test_a_job_whose_folder_was_removed_begins_nothing_more(late: Late, *, another: bool) -> None:
    late.gate.touch()
    late.shell.start_job(Job("one", Script("patient")), deadline=soon())
    folder = late.place / "jobs/one"
    wait((folder / "at-it").exists)  # whose script is not even read yet ends for lack of it
    shutil.rmtree(folder)
    if another:
        folder.mkdir()
        (folder / "meta").write_text("1 1 boot 0\n")
    wait((late.place / "jobs/one.left").exists)


def test_a_clock_that_jumps_ends_no_patience(late: Late, tmp_path: Path) -> None:
    late.patience = 2
    date = tmp_path / "tools/date"
    date.write_text('#!/bin/sh\nexec /bin/date -d "-$(cat /proc/uptime | cut -d. -f1)0 seconds" "$@"\n')
    date.chmod(0o755)  # a clock that goes backwards: waiting by it would never end
    began = time.monotonic()
    with pytest.raises(ScriptFailed, match="never begins: it took more than 2 seconds"):
        late.start()
    assert time.monotonic() - began < 60


def test_whatever_begins_at_the_last_moment_is_either_begun_or_refused(tmp_path: Path, late: Late) -> None:
    """The job and the machine's patience race for one link: both may win, never both at once."""
    for number in range(4):
        name = f"job-{number}"
        late.gate.unlink(missing_ok=True)
        threading.Timer(0.9 + number * 0.3, late.gate.touch).start()
        try:
            late.start(name)
        except ScriptFailed:
            late.let_begin(name)
            assert late.ran(name) == 0, name
        else:
            wait(partial(late.is_finished, name))
            assert late.ran(name) == 1, name


def test_where_it_is_not_known_whether_the_job_begins_that_is_no_refusal(late: Late, tmp_path: Path) -> None:
    """Nothing can be linked any more: who asked is told that it is open, and asks again."""
    ln = tmp_path / "tools/ln"
    ln.write_text("#!/bin/sh\nexit 1\n")
    ln.chmod(0o755)
    with pytest.raises(DeadlineExceeded, match="can't be told whether it begins"):
        late.start()


def test_a_lock_that_another_start_holds_is_no_refusal(tmp_path: Path) -> None:
    """An earlier try at the same job may hold it, and begin the job once it goes on."""
    here = Late(tmp_path, "setsid")
    (tmp_path / "jobs").mkdir(mode=0o700)
    held = (  # a nap is a second of the machine's time
        "flock() { return 1; }; sleep() { fp_passed=$((${fp_passed:-0} + 1)); }; "
        "fp_read_uptime() { fp_up=${fp_passed:-0}; }; fp_mutex ||"
    )
    short = scripts("job_start").replace("fp_mutex ||", held)
    here.text = lambda name, *_: short if name == "job_start" else Late.text(here, name)  # type: ignore[method-assign]
    here.shell._script_loader = here.text
    with pytest.raises(DeadlineExceeded, match=r"another process has kept .*\.lock locked for 20 seconds"):
        here.start()
