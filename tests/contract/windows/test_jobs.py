"""Jobs of Windows at their edges: power cuts, two starts at once, late starts, and files that others have touched."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.errors import DeadlineExceeded, JobLost, ScriptFailed
from tasks.protocols.clock import Deadline
from tasks.protocols.transport import SHARED_SCRIPTS, Job, JobPhase, JobStatus, Script, ScriptRecord
from tasks.transport.powershell_host import PowerShellHost
from tests.contract.windows.warm_machine import CLOCK, WarmChannel, WarmMachine
from tests.contract.windows.windows_scripts import load_test_script
from tests.lab.windows.scenario import Scenario

LATER = "9999999999"
NEVER = r"it did not begin within 1 seconds when it was handed over, so it never begins"
EXTRA = {
    "quick": "Write-FpRecord ran; Write-FpRecord params @{ value = (Get-FpParam value) }; Exit-FpScript 5",
    "loud": """
        foreach ($number in 1..30000) { 'a line of the log' }
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
RUN_EX = "$null = $task.RunEx($null, 2, 0, '')"


class Place:
    """A folder of fleetpatch on a machine, whose tasks can be held up."""

    def __init__(self, warm: WarmMachine) -> None:
        self.warm = warm
        self.folder = warm.make_place()
        self.is_held_up = False
        self.patience = 40
        self.host = self.open()

    def open(self) -> PowerShellHost:
        return self.warm.open_host(self.folder, self.load)

    def load(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        if name in EXTRA:
            return EXTRA[name]
        text = load_test_script(name, package)
        assert name != "job_start" or (RUN_EX in text and "\n$patience = 40\n" in text)
        text = text.replace("\n$patience = 40\n", f"\n$patience = {self.patience}\n")
        return text.replace(RUN_EX, "$null = $task") if self.is_held_up else text

    def job(self, job_id: str = "one") -> Path:
        return self.folder / "jobs" / job_id

    def start(self, job_id: str = "one", what: str = "quick", **params: str) -> JobStatus:
        return self.host.start_job(Job(job_id, Script(what, params)), deadline=soon())

    def phase(self, job_id: str = "one") -> JobPhase:
        return self.host.poll_job(job_id, deadline=soon()).phase

    def ended(self, job_id: str = "one") -> JobStatus:
        for _ in range(600):
            view = self.host.poll_job(job_id, deadline=soon())
            if view.phase is not JobPhase.RUNNING:
                return view
            CLOCK.sleep(0.05)
        raise JobLost(f"{job_id} does not end")

    def begun(self, job_id: str = "one") -> None:
        wait(lambda: bool(self.host.poll_job(job_id, deadline=soon()).events))

    def claim(self, run: str = "run", attempt: int = 1, **more: str) -> ScriptRecord:
        params = {"run": run, "attempt": str(attempt), "by": "anne", "until": LATER, **more}
        return self.host.run_script(Script("claim", params), deadline=soon()).records[-1]

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


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        time.sleep(0.02)


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm)
    yield here
    warm.wait_for_no_task()


def test_a_job_has_its_parameters_and_its_exit_code(place: Place) -> None:
    place.start(value='it\'s "odd" $(id) \\ \u00fcn\u00ef\n2026-01-02T03:04:05Z')
    view = place.ended()
    assert view.exit_code == 5
    assert view.events[1]["value"] == 'it\'s "odd" $(id) \\ \u00fcn\u00ef\n2026-01-02T03:04:05Z'
    files = {path.name for path in place.job().iterdir()}
    assert files == {
        *(
            "run.ps1",
            "script.ps1",
            "params.json",
            "label",
            "launching",
            "begun",
            "alive",
            "meta.json",
            "events",
            "rc",
            "log",
        ),
    }


def test_a_finished_job_shows_all_its_events_and_its_log_piece_by_piece(place: Place) -> None:
    place.start(what="loud")
    view = place.ended()
    assert [len(str(event["text"])) for event in view.events] == [700_000] * 3
    log = b""
    while view.log:
        log += view.log.encode()
        assert view.log_offset == len(log)
        view = place.host.poll_job("one", deadline=soon(), events_from=view.events_offset, log_from=view.log_offset)
    assert log == b"a line of the log\n" * 30_000


def test_an_error_of_the_script_is_in_its_records(place: Place) -> None:
    place.start(what="broken")
    view = place.ended()
    assert view.exit_code == 1
    assert [event["kind"] for event in view.events] == ["before", "error"]
    assert view.events[1]["message"] == "this is broken"
    assert view.log.startswith("said\n")


def test_a_script_that_can_not_be_read_says_so(place: Place) -> None:
    place.start(what="unreadable")
    view = place.ended()
    assert (view.exit_code, view.events) == (1, ())
    assert "the job's script was not run" in view.log


def test_all_output_is_in_the_log(place: Place) -> None:
    place.start(what="streams")
    log = place.ended().log
    assert log.startswith("out\nwarned\n")
    assert "failed" in log
    assert "{[a, 1]}" in log or "a  " in log


def test_the_log_is_utf8_and_events_are_ascii(place: Place) -> None:
    place.start(what="umlaut")
    view = place.ended()
    assert (place.job() / "log").read_bytes() == "\u00fc\n".encode()
    assert (place.job() / "events").read_bytes().isascii()
    assert view.events[0]["text"] == "\u00fc"


def test_a_job_does_not_need_the_connection_that_started_it(place: Place) -> None:
    place.start(what="endless")
    place.begun()
    place.host.close()
    assert place.phase() is JobPhase.RUNNING
    assert place.stop()["asked"] is True
    assert place.ended().events[-1]["kind"] == "stopped"


def test_what_others_wrote_into_its_files_hides_nothing(place: Place) -> None:
    """As a power cut may: NTFS leaves zeros."""
    place.start(what="umlaut")
    place.ended()
    with (place.job() / "events").open("ab") as events:
        events.write(b'\0\0\xff\nnot json\n{"kind":"after"}\n{"kind":"torn')
    with (place.job() / "log").open("ab") as log:
        log.write(b"\xff\xc3\0")
    view = place.host.poll_job("one", deadline=soon())
    assert [event["kind"] for event in view.events] == ["said", "garbled", "garbled", "after"]
    assert view.log_offset == (place.job() / "log").stat().st_size
    assert view.events_offset == (place.job() / "events").stat().st_size - len(b'{"kind":"torn')


def test_an_unfinished_exit_code_counts_for_nothing(place: Place) -> None:
    place.start(what="endless")
    place.begun()
    (place.job() / "rc").write_text("")
    assert place.phase() is JobPhase.RUNNING
    place.stop()
    assert place.ended().exit_code == 0


def test_a_power_cut_makes_a_job_lost_and_it_is_not_begun_again() -> None:
    with WarmMachine.opened(Scenario()) as warm:
        place = Place(warm)
        place.claim()
        place.start(what="endless", claim_run="run", claim_attempt="1")
        place.begun()
        warm.windows.power_cut()
        view = place.ended()
        assert (view.phase, view.exit_code, view.events) == (JobPhase.LOST, None, ({"kind": "begun"},))
        again = place.start(what="endless", claim_run="run", claim_attempt="1")
        assert (again.attached, again.phase) == (True, JobPhase.LOST)
        assert place.claim("other")["kind"] == "taken"
        assert place.claim(release="yes")["kind"] == "released"
        assert place.start("two").attached is False
        assert place.ended("two").exit_code == 5
        warm.wait_for_no_task()


def test_a_job_that_was_launched_twice_runs_once(place: Place) -> None:
    place.start()
    place.ended()
    place.run_task()
    assert len(place.ended().events) == 2


def test_a_second_process_of_a_running_job_does_nothing(place: Place, tmp_path: Path) -> None:
    place.start(what="waiting", gate=str(tmp_path / "gate"))
    place.begun()
    place.run_task()
    (tmp_path / "gate").touch()
    assert [event["kind"] for event in place.ended().events] == ["begun", "ended"]


def test_two_starts_at_once_begin_it_once(place: Place) -> None:
    seen: list[JobStatus] = []
    threads = [
        threading.Thread(
            target=lambda: seen.append(place.open().start_job(Job("one", Script("quick")), deadline=soon()))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(view.attached for view in seen) == [False, True, True, True]
    assert len(place.ended().events) == 2


def test_a_start_that_was_cut_half_way_is_finished_by_the_next(place: Place) -> None:
    place.claim()
    place.job().mkdir(parents=True)
    (place.job() / "script.ps1.new").write_text("half")
    assert place.start().attached is False
    assert place.ended().exit_code == 5


def test_the_last_twenty_finished_jobs_are_kept(place: Place) -> None:
    place.claim()
    for number in range(22):
        job = place.job(f"j{number:02}")
        job.mkdir(parents=True)
        (job / "meta.json").write_text(json.dumps({"pid": 1, "start": "1", "began": 7}))
        if number % 2:  # the others are lost: they are over as well
            (job / "rc").write_text("5 100\n")
        (job / "label").write_text("old\n")
        os.utime(job, (number + 1, number + 1))
    place.start("j22")
    place.ended("j22")
    listed = place.host.run_script(Script("job_list"), deadline=soon()).find_records("job")
    assert sorted(str(record["id"]) for record in listed) == [f"j{number:02}" for number in range(3, 23)]
    assert {(record["phase"], record["exit_code"]) for record in listed} == {("finished", 5), ("lost", None)}
    assert {record["label"] for record in listed} == {"old", "quick"}


# ---------------------------------------------------------------- late starts


def test_a_job_that_was_refused_never_begins(place: Place) -> None:
    place.is_held_up, place.patience = True, 1
    with pytest.raises(ScriptFailed, match=NEVER):
        place.start()
    place.run_task()
    assert not (place.job() / "events").exists()
    assert place.phase() is JobPhase.ABSENT
    place.is_held_up = False
    with pytest.raises(ScriptFailed, match=NEVER):
        place.start()
    assert place.start("two").attached is False
    assert place.ended("two").exit_code == 5


def test_why_its_task_did_not_run_is_told(place: Place) -> None:
    place.is_held_up, place.patience = True, 1
    with pytest.raises(ScriptFailed, match=r"its task has state \d and last result 0x"):
        place.start()


def test_a_job_whose_start_is_held_up_hears_that_it_is_to_stop(place: Place) -> None:
    place.is_held_up = True
    with cut_start(place):
        told = place.stop()
        assert (told["phase"], told["asked"]) == ("absent", True)
    place.run_task()


class cut_start:  # noqa: N801 - read as a verb
    """Start a job in the name of a run, and lose the connection (and with it the start) before the job begins."""

    def __init__(self, place: Place, attempt: int = 1) -> None:
        self.place = place
        self.channel = WarmChannel(place.warm.windows)
        host = PowerShellHost(
            self.channel, machine="here", clock=CLOCK, job_root=str(place.folder), script_loader=place.load
        )
        params = {"claim_run": "run", "claim_attempt": str(attempt)}
        self.thread = threading.Thread(target=self._start, args=(host, Job("one", Script("quick", params))))

    def _start(self, host: PowerShellHost, job: Job) -> None:
        with pytest.raises((DeadlineExceeded, ScriptFailed, Exception)):
            host.start_job(job, deadline=soon())

    def __enter__(self) -> None:
        self.place.claim()
        self.place.is_held_up = True
        self.thread.start()
        wait((self.place.job() / "launching").exists)

    def __exit__(self, *_: object) -> None:
        assert self.channel.call is not None
        self.channel.call.cancel()
        self.thread.join(60)


def test_a_start_whose_connection_was_lost_may_begin_late(place: Place) -> None:
    with cut_start(place):
        pass
    assert place.phase() is JobPhase.ABSENT
    place.run_task()
    assert place.ended().exit_code == 5


def test_it_does_not_begin_after_a_later_attempt(place: Place) -> None:
    with cut_start(place):
        pass
    assert place.claim(attempt=2)["kind"] == "claimed"
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert "its attempt 2 has the lock, and this order is of attempt 1" in place.note()
    assert not (place.job() / "events").exists()


def test_it_does_not_begin_after_another_run_has_the_machine(place: Place) -> None:
    with cut_start(place):
        pass
    place.claim(release="yes")
    place.claim("other")
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert "run other (anne) has it" in place.note()


def test_it_does_not_begin_when_its_start_dies_just_before(place: Place, tmp_path: Path) -> None:
    """Between the job's look at its start and its meta.json, the start dies and a later attempt comes."""
    here, gate, mark = tmp_path / "here", tmp_path / "gate", "if (-not (Add-FpOwnMeta)) { return $false }"
    held = (
        f"$null = New-Item -Path '{here}'; while (-not (Test-Path -LiteralPath '{gate}')) {{ Start-Sleep -Milli 20 }}"
    )
    late = threading.Thread(target=place.run_task)
    with cut_start(place):
        text = (place.job() / "run.ps1").read_text()
        assert mark in text
        (place.job() / "run.ps1").write_text(text.replace(mark, f"{held}\n{mark}"))
        late.start()
        wait(here.exists)
    assert place.claim(attempt=2)["kind"] == "claimed"
    gate.touch()
    late.join()
    assert place.phase() is JobPhase.ABSENT
    assert "its attempt 2 has the lock" in place.note()
    assert not (place.job() / "events").exists()


def test_it_does_not_begin_beside_another_job(place: Place, tmp_path: Path) -> None:
    with cut_start(place):
        pass
    place.is_held_up = False
    place.start("two", "waiting", gate=str(tmp_path / "gate"))
    place.begun("two")
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert "job two is running" in place.note()
    (tmp_path / "gate").touch()
    place.ended("two")


def test_a_later_attempt_begins_what_an_earlier_one_has_prepared(place: Place) -> None:
    with cut_start(place):
        pass
    place.is_held_up = False
    place.claim(attempt=2)
    assert place.start(claim_run="run", claim_attempt="2").attached is False
    assert place.ended().exit_code == 5
    place.run_task()  # of the earlier start
    assert len(place.ended().events) == 2


def test_without_a_task_scheduler_nothing_is_left_to_begin() -> None:
    with WarmMachine.opened(Scenario(task_scheduler_error=0x800706BA)) as warm:
        place = Place(warm)
        with pytest.raises(ScriptFailed, match="the task scheduler can't run it"):
            place.start()
        assert place.phase() is JobPhase.ABSENT
        assert not (place.job() / "run.ps1").exists()
