"""Jobs of Windows at their edges: power cuts, two starts at once, and files that others have touched."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script
from tests.contract.windows.job_places import Place, soon
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.scenario import Scenario


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
    assert log == (b"a line of the log " * 10 + b"\n") * 3_000


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


def test_a_file_that_can_not_be_read_is_named(place: Place) -> None:
    place.start()
    place.ended()
    (place.job() / "rc").unlink()
    (place.job() / "rc").mkdir()  # reading it fails, as when another process keeps it
    with pytest.raises(ProtocolViolation, match=r"cannot read .*rc"):
        place.host.poll_job("one", deadline=soon())


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
        place.take_lock()
        place.start(what="endless", lock_run="run", lock_attempt="1")
        place.begun()
        warm.windows.power_cut()
        view = place.ended()
        assert (view.phase, view.exit_code, view.events) == (JobPhase.LOST, None, ({"kind": "begun"},))
        again = place.start(what="endless", lock_run="run", lock_attempt="1")
        assert (again.attached, again.phase) == (True, JobPhase.LOST)
        assert place.take_lock("other")["kind"] == "taken"
        assert place.take_lock(release="yes")["kind"] == "released"
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
    place.take_lock()
    place.job().mkdir(parents=True)
    (place.job() / "script.ps1.new").write_text("half")
    assert place.start().attached is False
    assert place.ended().exit_code == 5


def test_the_last_twenty_finished_jobs_are_kept(place: Place) -> None:
    place.take_lock()
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
