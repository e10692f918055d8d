"""Checks and hooks of operators on Windows, the jobs that Windows does not need, and the lock that a person removes."""

import os
import signal
import time
from pathlib import Path

import pytest

from tasks.domain.errors import ManagerBusy, RequestError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, Script, ScriptParameter, ScriptRecord
from tasks.steps.machine.lock_removal import read_lock_status, remove_lock
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.contract.windows.windows_scripts import load_test_script

UMLAUT = "[string][char]0xFC"


def soon() -> Deadline:
    return Deadline.after(CLOCK, 300)


def ask(warm: WarmMachine, command: str, timeout: str = "120") -> tuple[object, object]:
    """Run a check's command; return its exit code and the end of its output."""
    script = Script("probe", {"command": command, "timeout": timeout})
    (record,) = warm.open_host().run_script(script, deadline=soon()).records
    return record["exit_code"], record["text"]


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("'fine'; [System.Console]::Error.WriteLine('and well'); exit 4", 4, None),
        ("$null", 0, ""),
        ("'it''s \"odd\" $(id)'", 0, 'it\'s "odd" $(id)\n'),
        (UMLAUT, 0, "\u00fc\n"),
        ("no-such-command", 1, None),
        ("Get-Item -LiteralPath no-such-file; 'after'", 1, None),
        ("throw 'broken'", 1, "broken\n"),
        ("function {", 1, None),
        ("1 -eq 2", 1, "False\n"),
        ("1 -eq 1", 0, "True\n"),
        ("sh -c 'echo out; echo err >&2; exit 3'", 3, None),
        ("sh -c 'echo fine >&2'", 0, "fine\n"),
    ],
)
def test_a_check_tells_its_exit_code_and_its_last_words(
    warm: WarmMachine, command: str, code: int, text: str | None
) -> None:
    answer = ask(warm, command)
    assert answer[0] == code, answer
    assert text is None or answer[1] == text


def test_only_the_end_of_much_output_is_kept(warm: WarmMachine) -> None:
    code, text = ask(warm, 'foreach ($number in 1..8000) { "line $number" }')  # more than a pipe holds
    assert code == 0
    assert str(text).endswith("line 7999\nline 8000\n")
    assert len(str(text)) <= 4000


def test_a_check_that_takes_too_long_is_ended(warm: WarmMachine, tmp_path: Path) -> None:
    command = f"'begun'; while ($true) {{ Start-Sleep -Milliseconds 50; 'x' | Out-File '{tmp_path}/beat' }}"
    code, text = ask(warm, command, "10")
    assert code == 124
    assert text in {"begun\n", ""}  # busy cores may not have begun it by then
    beat = tmp_path / "beat"
    assert any(is_silent(beat) for _ in range(10))  # what was ended may still complete one write


def is_silent(file: Path) -> bool:
    """Whether nobody writes a file for a second. Its writer writes each 50 ms."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    time.sleep(1)
    return (file.stat().st_mtime_ns if file.exists() else 0) == before


def test_a_child_that_goes_on_does_not_hold_the_answer_up(warm: WarmMachine, tmp_path: Path) -> None:
    note = tmp_path / "child"
    command = f"Start-Process -FilePath sh -ArgumentList '-c', '\"echo $$ > {note}; exec sleep 900\"'; 'begun'"
    assert ask(warm, command) == (0, "begun\n")
    until = time.monotonic() + 120
    while not (note.exists() and note.read_text().endswith("\n")):
        assert time.monotonic() < until, "it has not begun"
        time.sleep(0.02)
    os.kill(int(note.read_text()), signal.SIGKILL)  # fails if it has ended


def test_a_hook_knows_its_run_and_tells_what_became_of_it(warm: WarmMachine) -> None:
    names = ("RUN", "MACHINE", "PLACE", "HOOK", "STATE", "COMMAND")
    command = "; ".join(f'"{name}=$($env:FLEETPATCH_{name})"' for name in names) + "; exit 7"
    params = {"command": command, "timeout": "30", "run": "r-1", "machine": "web", "place": "before_machine"}
    script = Script("hook", {**params, "name": "drain it", "state": ""})
    (record,) = warm.open_host().run_script(script, deadline=soon()).records
    text = "RUN=r-1\nMACHINE=web\nPLACE=before_machine\nHOOK=drain it\nSTATE=\nCOMMAND=\n"
    assert record == {"kind": "hook", "exit_code": 7, "text": text, "timed_out": False}


def test_a_hook_that_takes_too_long_says_so(warm: WarmMachine) -> None:
    script = Script("hook", {"command": "Start-Sleep -Seconds 300", "timeout": "1"})
    (record,) = warm.open_host().run_script(script, deadline=soon()).records
    assert (record["exit_code"], record["timed_out"]) == (124, True)


def test_windows_has_no_services_that_run_replaced_files(warm: WarmMachine) -> None:
    host = warm.open_host(warm.make_place())
    params: dict[str, ScriptParameter] = {
        "work": "restart",
        "units": ("W3SVC", "MSSQL"),
        "keep": (),
        "latest": "9999999999",
        "locks": (),
    }
    host.start_job(Job("restart", Script("restart_services", params)), deadline=soon())
    while (view := host.poll_job("restart", deadline=soon())).phase is JobPhase.RUNNING:
        CLOCK.sleep(0.05)
    warm.wait_for_no_task()
    assert view.exit_code == 0
    left = [(event.get("unit"), event.get("why")) for event in view.events if event["kind"] == "restart_left"]
    assert left == [(unit, "Windows replaces files in use only at a reboot") for unit in ("W3SVC", "MSSQL")]
    assert view.events[-1]["kind"] == "finished"


# ---------------------------------------------------------------- the lock


def take_lock(warm: WarmMachine, place: Path, **more: str) -> ScriptRecord:
    params = {"run": "run", "attempt": "1", "by": "anne", "until": "9999999999", **more}
    return warm.open_host(place).run_script(Script("machine_lock", params), deadline=soon()).records[-1]


def test_the_lock_of_a_machine_that_has_none_is_shown(warm: WarmMachine) -> None:
    place = warm.make_place()
    lock = read_lock_status("here", warm.open_host(place), CLOCK)
    assert (lock.run_id, lock.started_by, lock.expires_at, lock.job_id) == ("", "", None, "")
    assert not place.exists()


def test_a_person_removes_a_lock_and_its_run_hears_who_did(warm: WarmMachine) -> None:
    place = warm.make_place()
    take_lock(warm, place)
    host = warm.open_host(place)
    lock = read_lock_status("here", host, CLOCK)
    assert (lock.run_id, lock.started_by, lock.is_expired) == ("run", "anne", False)
    remove_lock(lock, "bob", host, CLOCK)
    assert (place / "machine-lock").read_text() == "run\n0\nlifted by bob\n1\n\n"
    script = Script("reboot", {"expected_boot_id": warm.read_boot_id(), "lock_run": "run", "lock_attempt": "1"})
    (record,) = host.run_script(script, deadline=soon()).records
    assert record["why"] == "run run no longer has the lock of this machine: it was removed by bob"


def test_a_lock_that_has_changed_is_not_removed(warm: WarmMachine) -> None:
    place = warm.make_place()
    take_lock(warm, place)
    host = warm.open_host(place)
    lock = read_lock_status("here", host, CLOCK)
    take_lock(warm, place, attempt="2")
    with pytest.raises(RequestError, match="the lock changed in the meantime"):
        remove_lock(lock, "bob", host, CLOCK)


def test_a_lock_is_not_removed_while_a_job_runs(warm: WarmMachine) -> None:
    host = warm.open_host(warm.make_place(), load_test_script)
    host.start_job(Job("one", Script("endless")), deadline=soon())
    lock = read_lock_status("here", host, CLOCK)
    assert (lock.job_id, lock.job_name) == ("one", "endless")
    assert lock.job_started_at is not None
    with pytest.raises(ManagerBusy):
        remove_lock(lock, "bob", host, CLOCK)
    host.run_script(Script("job_stop", {"id": "one"}), deadline=soon())
    warm.wait_for_no_task()
