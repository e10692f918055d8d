"""What rpm_job.sh does when another process has a lock, or changes packages while the job waits or downloads."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.jumping_clock import put_jumping_clock
from tests.contract.test_rpm_job_script import (
    DNF,
    HISTORY,
    INSTALLED,
    TOOLS,
    TWICE,
    UPGRADE,
    calls,
    kinds,
    run,
    says,
)
from tests.contract.test_yum_job_script import INSTALL as YUMS
from tests.contract.test_yum_job_script import YUM
from tests.contract.test_zypper_job_script import OURS, SUMMARY

PROBLEM = "Error: \n Problem: cannot install the best update candidate\n  - nothing provides x needed by a-2-1\n"
REPAIR: dict[str, Any] = {"work": "repair", "tx_0_packages": [], "tx_0_names": [], "tx_0_present": []}
# every command of zypper needs the lock, except when libzypp is told that it only reads
LOCKED = 'echo "System management is locked by the application with pid 7 (x)."; exit 7'
NEEDS_LOCK = f'if [ -e "$STAND_IN/held" ] && [ -z "$ZYPP_READONLY_HACK" ]; then {LOCKED}; fi\n'
# has rpm's lock until the file "over" exists
HOLDER = """import fcntl, os, pathlib, sys, time
place = pathlib.Path(sys.argv[1])
lock = open(place / "rpmdb" / ".rpm.lock", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
(place / "held").touch()
deadline = time.monotonic() + 80
while not (place / "over").exists() and time.monotonic() < deadline:
    time.sleep(0.1)
"""


@pytest.fixture
def hold_rpm_lock(tmp_path: Path) -> Iterator[str]:
    """A line of shell that lets another process take rpm's lock."""
    (tmp_path / "holder.py").write_text(HOLDER)
    start = f'{sys.executable} "$STAND_IN/holder.py" "$STAND_IN" </dev/null >/dev/null 2>&1 3>&- &'
    yield f'{start}\nwhile [ ! -e "$STAND_IN/held" ]; do sleep 0.1; done\n'
    (tmp_path / "over").touch()


@pytest.fixture(params=["dnf", "yum"])
def tool(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(TOOLS, "yum", YUM)
    monkeypatch.setitem(TOOLS, "dnf", DNF.replace("RPMDB already", "metadata already"))
    (tmp_path / "download.code").touch()
    says(tmp_path, "simulate", UPGRADE)
    return str(request.param)


class TestLocksOfTheLastCheck:
    """A simulation needs the lock of dnf 4 and of yum. zypper needs none if it is told that it only reads."""

    def test_it_is_waited_for(self, tmp_path: Path, tool: str) -> None:
        freed = 'rm "$STAND_IN/locked-simulate"'
        (tmp_path / "download").write_text(f"echo '{freed}' >\"$STAND_IN/locked-simulate\"\n")
        events = run(tmp_path, tool)
        assert kinds(events) == INSTALLED
        assert events[-2]["exit_code"] == 0

    def test_one_that_is_held_to_the_end_is_told_as_a_lock(self, tmp_path: Path, tool: str) -> None:
        (tmp_path / "download").write_text(': >"$STAND_IN/locked-simulate"\n')
        ended = run(tmp_path, tool, lock_wait_seconds="5")[-2]
        assert (ended["kind"], ended["cause"]) == ("transaction_ended", "lock")
        assert " 7" in str(ended["error"])
        assert not calls(tmp_path, "--comment=" if tool == "dnf" else YUMS)

    def test_a_stop_ends_the_wait(self, tmp_path: Path, tool: str) -> None:
        stops = ': >"$FP_JOB_DIR/stop"'
        (tmp_path / "download").write_text(f"echo '{stops}' >\"$STAND_IN/locked-simulate\"\n")
        told = run(tmp_path, tool)[-2]
        assert (told["kind"], told["why"]) == ("not_attempted", "stop")

    def test_zypper_checks_without_it(self, tmp_path: Path) -> None:
        (tmp_path / "summary").write_text(SUMMARY.format(""))
        (tmp_path / "simulate").write_text(f'{NEEDS_LOCK}cat "$STAND_IN/summary"\n')
        once = f'if [ ! -e "$STAND_IN/held" ]; then : >"$STAND_IN/held"; {LOCKED}; fi'
        (tmp_path / "install").write_text(f'{once}\necho "(1/1) Installing: a-2-1.noarch [done]"\n')
        events = run(tmp_path, "zypper")
        assert kinds(events) == INSTALLED
        assert events[-2]["exit_code"] == 0
        assert len(calls(tmp_path, OURS)) == 2

    def test_zypper_explains_without_it(self, tmp_path: Path) -> None:
        (tmp_path / "simulate").write_text("exit 4\n")
        (tmp_path / "test").write_text(f'{NEEDS_LOCK}echo "Problem: nothing provides x"\n')
        (tmp_path / "download").write_text(': >"$STAND_IN/held"\n')
        ended = run(tmp_path, "zypper")[-2]
        assert (ended["cause"], ended["error"]) == ("refused", "refused: Problem: nothing provides x")


class TestWhatHappenedMeanwhile:
    def test_what_the_tool_refuses_after_a_lock_is_told_as_that(self, tmp_path: Path, tool: str) -> None:
        (tmp_path / "problem").write_text(PROBLEM)
        freed = 'rm "$STAND_IN/locked-install"; cp "$STAND_IN/problem" "$STAND_IN/simulate.txt"; '
        (tmp_path / "locked-install").write_text(f"{freed} echo 'exit 1' >>\"$STAND_IN/simulate\"\n")
        ended = run(tmp_path, tool)[-2]
        assert (ended["kind"], ended["cause"]) == ("transaction_ended", "refused")
        assert "lock" not in str(ended["error"])
        assert "nothing provides x" in str(ended["error"])

    def test_so_it_is_after_rpms_own_lock(self, tmp_path: Path, hold_rpm_lock: str) -> None:
        (tmp_path / "problem").write_text(PROBLEM)
        # the first simulation chooses the words, the second one is the last check, and the third one is after a wait
        third = 'echo >>"$STAND_IN/count"; [ "$(wc -l <"$STAND_IN/count")" -lt 3 ]'
        says(tmp_path, "simulate", UPGRADE, end=f'{third} || {{ cat "$STAND_IN/problem"; exit 1; }}')
        (tmp_path / "download").write_text(hold_rpm_lock)
        ended = run(tmp_path)[-2]
        assert (ended["kind"], ended["cause"]) == ("transaction_ended", "refused")
        assert "lock" not in str(ended["error"])

    def test_what_ends_during_the_last_check_is_looked_at(self, tmp_path: Path) -> None:
        (tmp_path / "newer").write_text(f"{UPGRADE}---> Package b.noarch 1-1 will be erased\n")
        second = 'echo >>"$STAND_IN/count"; [ "$(wc -l <"$STAND_IN/count")" -ne 2 ]'
        change = 'echo >"$STAND_IN/rpmdb/rpmdb.sqlite"; cp "$STAND_IN/newer" "$STAND_IN/simulate.txt"'
        says(tmp_path, "simulate", UPGRADE, end=f"{second} || {{ {change}; }}")
        told = run(tmp_path)[-2]
        assert (told["kind"], told.get("why"), told.get("detail")) == ("not_attempted", "removals", "b")
        assert not calls(tmp_path, "--comment=")

    def test_what_is_replaced_is_what_was_there_last(self, tmp_path: Path) -> None:
        says(tmp_path, "simulate", UPGRADE)
        (tmp_path / "newer").write_text(UPGRADE.replace("a.noarch 1-1", "a.noarch 1.5-1"))
        (tmp_path / "locked-install").write_text(
            'rm "$STAND_IN/locked-install"; cp "$STAND_IN/newer" "$STAND_IN/simulate.txt"\n'
        )
        says(tmp_path, "history", HISTORY.format(tmp_path.name))
        says(tmp_path, "repoquery", "a-0:1-1.noarch\n")
        undo = "not possible with dnf history undo 12: no enabled repository has a-1.5-1.noarch"
        assert run(tmp_path)[-2]["undo"] == undo


SNAPPER = '#!/bin/sh\ncat "$STAND_IN/snapshots"\n'


def test_the_snapshots_of_all_rounds_are_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(tmp_path, "simulate", SUMMARY.format(""))
    more = tmp_path / "more"
    more.mkdir()
    (more / "snapper").write_text(SNAPPER)
    (more / "snapper").chmod(0o755)
    monkeypatch.setenv("PATH", f"{more}:{os.environ['PATH']}")
    (tmp_path / "snapshots").write_text("number,type,pre-number\n9,single,\n")
    first = 'printf "10,pre,\\n11,post,10\\n" >>"$STAND_IN/snapshots"; : >"$STAND_IN/tried"; exit 103'
    second = 'printf "12,pre,\\n13,post,12\\n" >>"$STAND_IN/snapshots"'
    end = f'if [ ! -e "$STAND_IN/tried" ]; then {first}; fi; {second}'
    says(tmp_path, "install", "(1/1) Installing: a-2-1.noarch [done]\n", end=end)
    assert run(tmp_path, "zypper")[-2]["undo"] == "snapper undochange 10..13"


@pytest.mark.parametrize("tool", ["zypper", "dnf5"])
def test_nothing_of_a_download_goes_on_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setitem(TOOLS, "dnf5", DNF)
    says(tmp_path, "simulate", SUMMARY.format(""))
    jump = put_jumping_clock(tmp_path, monkeypatch)
    (tmp_path / "test").write_text(f'echo "$$" >"$STAND_IN/pid"; {jump}; exec sleep 120\n')
    told = run(tmp_path, tool, seconds=600, work="stage")[-2]
    assert (told["kind"], told["why"]) == ("not_attempted", "download")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert not Path(f"/proc/{pid}").exists()
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


class TestRepair:
    def test_it_does_not_wait_without_an_end_for_a_lock_that_was_taken_during_its_download(
        self, tmp_path: Path, hold_rpm_lock: str
    ) -> None:
        (tmp_path / "twice").write_text(TWICE)
        (tmp_path / "download").write_text(hold_rpm_lock)
        ended = run(tmp_path, lock_wait_seconds="4", **REPAIR)[-2]
        assert (ended["kind"], ended["cause"]) == ("transaction_ended", "lock")
        assert not (tmp_path / "erased").exists()

    def test_what_another_process_has_repaired_meanwhile_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "twice").write_text(TWICE)
        (tmp_path / "download").write_text('rm "$STAND_IN/twice"\n')
        ended = run(tmp_path, **REPAIR)[-2]
        assert (ended["kind"], ended["exit_code"]) == ("transaction_ended", 0)
        assert not (tmp_path / "erased").exists()

    def test_what_is_another_damage_by_now_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "twice").write_text(TWICE)
        (tmp_path / "download").write_text('sed -i "s/a-1-1/a-3-1/" "$STAND_IN/twice"\n')
        ended = run(tmp_path, **REPAIR)[-2]
        assert (ended["kind"], ended["exit_code"]) == ("transaction_ended", 1)
        assert "another process" in str(ended["error"])
        assert not (tmp_path / "erased").exists()


def test_a_removal_does_not_wait_without_an_end_for_a_lock_that_was_taken_during_its_test(
    tmp_path: Path, hold_rpm_lock: str
) -> None:
    (tmp_path / "needed").write_text(hold_rpm_lock)
    events = run(tmp_path, lock_wait_seconds="4", work="remove")
    assert kinds(events) == ["transaction_started", "transaction_ended", "finished"]
    assert events[-2]["cause"] == "lock"
    assert "rpm's database is locked" in str(events[-2]["error"])
    assert not (tmp_path / "erased").exists()


@pytest.mark.parametrize("needless", ["a.noarch\n", "b.noarch\n"])
def test_an_undo_removes_only_what_nothing_needs_at_that_moment(tmp_path: Path, needless: str) -> None:
    says(tmp_path, "repoquery", needless)
    (tmp_path / "needed").touch()
    events = run(tmp_path, downgrades="yes", work="remove")
    if needless.startswith("a"):
        assert (events[-2]["kind"], events[-2]["exit_code"]) == ("transaction_ended", 0)
    else:
        assert (events[-2]["why"], events[-2]["detail"]) == ("needed", "a-2-1.noarch")
    assert (tmp_path / "erased").exists() is needless.startswith("a")
