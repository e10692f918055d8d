"""A folder of fleetpatch on a Windows machine of the tests, its jobs, and ways to hold their start up."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.domain.errors import DeadlineExceeded, JobLost, ScriptFailed
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Job, JobPhase, JobStatus, Script, ScriptRecord
from tasks.machines.transport.powershell_host import PowerShellHost
from tests.contract.windows.warm_machine import CLOCK, WarmChannel, WarmMachine
from tests.contract.windows.windows_scripts import load_test_script

LATER = "9999999999"
EXTRA = {
    "quick": "Write-FpRecord ran; Write-FpRecord params @{ value = (Get-FpParam value) }; Exit-FpScript 5",
    "loud": """
        foreach ($number in 1..3000) { 'a line of the log ' * 10 }
        foreach ($number in 1..3) { Write-FpSection big ('x' * 700000) }""",
    "broken": "Write-FpRecord before; 'said'; throw 'this is broken'",
    "unreadable": "Write-FpRecord before; 'a line'; function {",
    "streams": "'out'; Write-Warning 'warned'; Write-Error 'failed' -ErrorAction Continue; Write-Output @{ a = 1 }",
    "umlaut": "[string][char]0xFC; Write-FpRecord said @{ text = [string][char]0xFC }",
    "waiting": """
        Write-FpRecord begun
        while (-not (Test-Path -LiteralPath (Get-FpParam gate))) { Start-Sleep -Milliseconds 20 }
        Write-FpRecord ended""",
}
PATIENCE_SECONDS = 180
PATIENCE = """
function Start-FpShortSleep {{ (Get-Variable -Name patience).Value = {}; [System.Threading.Thread]::Sleep(50) }}
Set-Alias -Name Start-Sleep -Value Start-FpShortSleep
"""
HELD_UP = """
function Register-FpHeldTask {
    $null = & (Get-Command -Name Register-FpTask -CommandType Function) @args
    [pscustomobject]@{} | Add-Member -MemberType ScriptMethod -Name RunEx -Value { } -PassThru
}
Set-Alias -Name Register-FpTask -Value Register-FpHeldTask
"""


class Place:
    """A folder of fleetpatch on a machine, whose tasks can be held up.

    ``before`` has texts to run before those of scripts. In them, an alias of a function wins over the function; so the
    texts of the scripts are as they are.
    """

    def __init__(self, warm: WarmMachine) -> None:
        self.warm = warm
        self.folder = warm.make_place()
        self.is_held_up = False
        self.patience = PATIENCE_SECONDS
        self.before: dict[str, str] = {}
        self.host = self.open()

    def open(self) -> PowerShellHost:
        return self.warm.open_host(self.folder, self.load)

    def load(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        if name in EXTRA:
            return EXTRA[name]
        before = self.before.get(name, "")
        if name == "job_start":
            before += (HELD_UP if self.is_held_up else "") + (
                PATIENCE.format(self.patience) if self.patience != PATIENCE_SECONDS else ""
            )
        return f"{before}\n{load_test_script(name, package)}"

    def job(self, job_id: str = "one") -> Path:
        return self.folder / "jobs" / job_id

    def start(self, job_id: str = "one", what: str = "quick", **params: str) -> JobStatus:
        return self.host.start_job(Job(job_id, Script(what, params)), deadline=soon())

    def phase(self, job_id: str = "one") -> JobPhase:
        return self.host.poll_job(job_id, deadline=soon()).phase

    def ended(self, job_id: str = "one") -> JobStatus:
        for _ in range(60):
            wait_for_exit_code(self.job(job_id))
            view = self.host.poll_job(job_id, deadline=soon())
            if view.phase is not JobPhase.RUNNING:
                return view
        raise JobLost(f"{job_id} does not end")

    def begun(self, job_id: str = "one") -> None:
        wait(lambda: bool(read_events(self.job(job_id))))

    def take_lock(self, run: str = "run", attempt: int = 1, **more: str) -> ScriptRecord:
        params = {"run": run, "attempt": str(attempt), "by": "anne", "until": LATER, **more}
        return self.host.run_script(Script("machine_lock", params), deadline=soon()).records[-1]

    def stop(self, job_id: str = "one") -> ScriptRecord:
        (record,) = self.host.run_script(Script("job_stop", {"id": job_id}), deadline=soon()).records
        return record

    def run_task(self, job_id: str = "one") -> None:
        """Run a job's process, as a task that comes late does, to its end."""
        text = f"$FpJobDirectory = '{self.job(job_id)}'; . ([ScriptBlock]::Create([System.IO.File]::ReadAllText("
        text += "(Join-Path -Path $FpJobDirectory -ChildPath run.ps1))))"
        done = self.warm.windows.powershell.run_script(text, logon="system")
        assert (done.exit_code in {0, 5}, done.stderr) == (True, b""), done  # the job's own exit code, if it runs

    def note(self, job_id: str = "one") -> str:
        note = self.job(job_id) / "note"
        return note.read_text() if note.exists() else ""


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def wait_for_exit_code(job: Path, seconds: float = 1.0) -> None:
    """Look at a job's file so long at most: to ask the machine again and again costs more than the job itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(FileNotFoundError):
            if (job / "rc").read_text().strip():
                return
        time.sleep(0.02)


def read_events(job: Path) -> str:
    """Return the records that a job has written so far, or ""."""
    path = job / "events"
    return path.read_text() if path.exists() else ""


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        time.sleep(0.02)


class cut_start:  # noqa: N801 - read as a verb
    """Start a job in the name of a run, and lose the connection (and with it the start) before the job begins."""

    def __init__(self, place: Place, attempt: int = 1) -> None:
        self.place = place
        self.channel = WarmChannel(place.warm.windows)
        host = PowerShellHost(
            self.channel, machine="here", clock=CLOCK, job_root=str(place.folder), script_loader=place.load
        )
        params = {"lock_run": "run", "lock_attempt": str(attempt)}
        self.thread = threading.Thread(target=self._start, args=(host, Job("one", Script("quick", params))))

    def _start(self, host: PowerShellHost, job: Job) -> None:
        with pytest.raises((DeadlineExceeded, ScriptFailed, Exception)):
            host.start_job(job, deadline=soon())

    def __enter__(self) -> None:
        self.place.take_lock()
        self.place.is_held_up = True
        self.thread.start()
        # Ended before that, it would keep "launching" open: it ends as a call here, not as a process does.
        wait(lambda: any("FleetPatch" in name for name in self.place.warm.windows.read_state()["tasks"]))

    def __exit__(self, *_: object) -> None:
        assert self.channel.call is not None
        self.channel.call.cancel()
        self.thread.join(60)
