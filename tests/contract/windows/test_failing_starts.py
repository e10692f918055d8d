"""Starts of jobs on Windows that fail: the scheduler runs no task, the disk is full, another process keeps a file."""

import fcntl
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.domain.errors import DeadlineExceeded, ScriptFailed
from tasks.domain.protocols.transport import JobPhase
from tests.contract.windows.job_places import Place, cut_start, wait
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.state import change_state

NOT_RUN = """
function Register-FpBrokenTask {
    $null = & (Get-Command -Name Register-FpTask -CommandType Function) @args
    [pscustomobject]@{} | Add-Member -MemberType ScriptMethod -Name RunEx -Value { throw 'the queue is full' } -PassThru
}
Set-Alias -Name Register-FpTask -Value Register-FpBrokenTask
"""
NO_ROOM = """
function Stop-FpWrite { throw [System.IO.IOException]::new('There is not enough space on the disk.') }
Set-Alias -Name NAME -Value Stop-FpWrite
"""
UNSEEN = """
function Register-FpUnseenTask {
    param([string] $Id, [string] $Folder)
    $null = [System.IO.Directory]::CreateDirectory((Join-Path -Path $Folder -ChildPath 'begun'))
    & (Get-Command -Name Register-FpTask -CommandType Function) -Id $Id -Folder $Folder
}
Set-Alias -Name Register-FpTask -Value Register-FpUnseenTask
"""
IMPATIENT = """
function Enter-FpFileAtOnce {
    param([string] $Path, [int] $Seconds)
    & (Get-Command -Name Enter-FpFile -CommandType Function) -Path $Path -Seconds 0
}
Set-Alias -Name Enter-FpFile -Value Enter-FpFileAtOnce
"""
GONE = """
function Select-FpGone {
    foreach ($folder in @($input)) {
        if ($folder.Name -ne 'j00') { continue }
        [System.IO.Directory]::Delete($folder.FullName, $true)
        $folder
    }
}
Set-Alias -Name Select-Object -Value Select-FpGone
"""
SEEN_WAITING = """
function Start-FpSeenSleep { $null = New-Item -Path 'HERE' -Force; [System.Threading.Thread]::Sleep(20) }
Set-Alias -Name Start-Sleep -Value Start-FpSeenSleep
"""
A_MINUTE_LATER = """
function Start-FpLongSleep { (Get-Variable -Name watch).Value = @{ Elapsed = @{ TotalSeconds = 61 } } }
Set-Alias -Name Start-Sleep -Value Start-FpLongSleep
"""
CONSTRAINED = """
function Get-FpConstrainedArguments {
    $text = & (Get-Command -Name Get-FpTaskArguments -CommandType Function) @args
    $mode = '-Command "$ExecutionContext.SessionState.LanguageMode = ''ConstrainedLanguage''; '
    $text.Replace('-Command "', $mode)
}
Set-Alias -Name Get-FpTaskArguments -Value Get-FpConstrainedArguments
"""
SCANNED = """
function Save-FpScannedText {
    param([string] $Path, [string] $Text)
    if ($Path -like '*run.ps1') {
        $Text = "Write-Error -ErrorId ScriptContainedMaliciousContent -Message 'It contains malicious content.'"
    }
    & (Get-Command -Name Save-FpText -CommandType Function) -Path $Path -Text $Text
}
Set-Alias -Name Save-FpText -Value Save-FpScannedText
"""
START_DIES = """
$FpLooks = @(0)
function Test-FpHeldOnce { ($FpLooks[0]++) -eq 0 }
Set-Alias -Name Test-FpHeld -Value Test-FpHeldOnce
"""


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm)
    yield here
    warm.wait_for_no_task()


@contextmanager
def kept_open(path: Path) -> Iterator[None]:
    """Keep a file open as a process of Windows does that shares it with nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def put_before_run(place: Place, text: str) -> None:
    """Let a job that is to begin late run a text first."""
    path = place.job() / "run.ps1"
    path.write_text(f"{text}\n{path.read_text()}")


def test_a_job_whose_task_the_scheduler_does_not_run_never_begins(place: Place) -> None:
    place.before["job_start"] = NOT_RUN
    with pytest.raises(ScriptFailed, match=r"so it never begins: the task scheduler did not run it: the queue is full"):
        place.start()
    assert place.warm.windows.read_state()["tasks"] == {}
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert not (place.job() / "events").exists()
    place.before.clear()
    with pytest.raises(ScriptFailed, match=r"so it never begins$|so it never begins[^:]"):
        place.start()


def test_a_job_that_can_not_be_withdrawn_may_begin(place: Place) -> None:
    """The answer must not be that it never begins: whoever asks again finds it if it has begun."""
    place.before["job_start"] = NOT_RUN + NO_ROOM.replace("NAME", "Add-FpMeta")
    with pytest.raises(DeadlineExceeded, match="it can't be told whether it begins: cannot write"):
        place.start()
    assert place.phase() is JobPhase.ABSENT
    place.before.clear()
    assert place.start().attached is False
    assert place.ended().exit_code == 5


def test_what_a_late_job_said_is_part_of_why_it_did_not_begin(place: Place) -> None:
    place.is_held_up, place.patience = True, 1
    place.before["job_start"] = """
function Get-FpTaskStateOfLateJob {
    Save-FpText -Path (Join-Path -Path $FpJobs -ChildPath 'one' | Join-Path -ChildPath 'note') -Text "it is late`n"
    @{ Words = 'its task has ended'; Ended = $false }
}
Set-Alias -Name Get-FpTaskState -Value Get-FpTaskStateOfLateJob
"""
    with pytest.raises(ScriptFailed, match=r"never begins: its task has ended; it is late$"):
        place.start()


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        (CONSTRAINED, r"MethodInvocationNotSupportedInConstrainedLanguage, ConstrainedLanguage\)"),
        (SCANNED, r"malicious content\. \(ScriptContainedMaliciousContent.*, FullLanguage\)"),
    ],
)
def test_what_windows_does_not_let_run_says_why_at_once(place: Place, before: str, cause: str) -> None:
    place.before["job_start"] = before
    began = time.monotonic()
    with pytest.raises(ScriptFailed, match=f"never begins: .*; its text was not run: .*{cause}; what stopped it is in"):
        place.start()
    assert time.monotonic() - began < 30
    place.before.clear()
    assert place.warm.windows.read_state()["tasks"] == {}
    if before is CONSTRAINED:  # the job's own text comes late
        place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert not (place.job() / "events").exists()


def test_a_process_that_ends_before_it_runs_anything_is_told_at_once(place: Place) -> None:
    """AppLocker, or a virus scanner that ends powershell.exe for its command line: nothing could write a note."""
    began = time.monotonic()
    with change_state(place.warm.windows.folder) as state:
        state["task_stopped"] = 1
    try:
        told = r"ended before it ran fleetpatch's text \(its task has state 3 and last result 0x1\): what stopped it"
        with pytest.raises(ScriptFailed, match=told):
            place.start()
    finally:
        with change_state(place.warm.windows.folder) as state:
            state["task_stopped"] = 0
    assert time.monotonic() - began < 30
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert place.start("two").attached is False
    assert place.ended("two").exit_code == 5


def test_a_start_that_can_not_note_that_the_job_began_begins_it_once(place: Place) -> None:
    place.before["job_start"] = UNSEEN
    assert place.start().attached is False
    assert place.ended().exit_code == 5
    assert (place.job() / "begun").is_dir()
    assert len(place.ended().events) == 2


def test_a_start_beside_a_process_that_keeps_its_files_is_unsure(place: Place) -> None:
    place.take_lock()
    place.before["job_start"] = IMPATIENT
    with kept_open(place.job() / "launching"), pytest.raises(DeadlineExceeded, match="keeps its files open"):
        place.start()
    assert place.phase() is JobPhase.ABSENT
    assert place.start().attached is False
    assert place.ended().exit_code == 5


def test_an_old_job_that_goes_away_meanwhile_prevents_no_start(place: Place) -> None:
    place.take_lock()
    for name in ("j00", "j01"):
        place.job(name).mkdir(parents=True)
        (place.job(name) / "meta.json").write_text(json.dumps({"pid": 1, "start": "1", "began": 7}))
        (place.job(name) / "rc").write_text("5 100\n")
    place.before["job_start"] = GONE
    assert place.start().attached is False
    assert place.ended().exit_code == 5
    assert place.phase("j00") is JobPhase.ABSENT
    assert place.phase("j01") is JobPhase.FINISHED


def test_without_room_no_job_is_begun(place: Place) -> None:
    place.take_lock()
    place.before["job_start"] = NO_ROOM.replace("NAME", "Save-FpText")
    with pytest.raises(ScriptFailed, match=r"cannot write .*one: There is not enough space"):
        place.start()
    assert place.phase() is JobPhase.ABSENT
    assert place.warm.windows.read_state()["tasks"] == {}


def test_a_late_job_waits_for_the_lock(place: Place, tmp_path: Path) -> None:
    with cut_start(place):
        pass
    put_before_run(place, SEEN_WAITING.replace("HERE", str(tmp_path / "here")))
    late = threading.Thread(target=place.run_task)
    with kept_open(place.job().parent / ".lock"):
        late.start()
        wait((tmp_path / "here").exists)
        assert not (place.job() / "meta.json").exists()
    late.join(60)
    assert place.ended().exit_code == 5


def test_a_late_job_gives_up_a_lock_that_is_kept_for_a_minute(place: Place) -> None:
    with cut_start(place):
        pass
    put_before_run(place, A_MINUTE_LATER)
    with kept_open(place.job().parent / ".lock"):
        place.run_task()
    assert place.note() == "another process kept the lock for a minute\n"
    assert not (place.job() / "meta.json").exists()
    assert not (place.job() / "events").exists()


def test_a_job_that_has_told_that_it_begins_needs_the_lock_no_more(place: Place) -> None:
    """Its start died just after it saw the job's meta.json; with it, no other start or lock gets past the job."""
    with cut_start(place):
        pass
    put_before_run(place, A_MINUTE_LATER)
    put_before_run(place, START_DIES)
    with kept_open(place.job().parent / ".lock"):
        place.run_task()
    assert place.note() == ""
    assert place.ended().exit_code == 5


def test_why_a_late_job_could_not_look_is_in_its_note(place: Place) -> None:
    with cut_start(place):
        pass
    lock = place.job().parent / ".lock"
    lock.unlink()
    lock.mkdir()
    place.run_task()
    lock.rmdir()
    assert place.note().startswith("it could not begin: cannot write ")
    assert place.phase() is JobPhase.ABSENT
    assert not (place.job() / "events").exists()
