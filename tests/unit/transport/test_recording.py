"""What a recording of a machine keeps, and what it never keeps."""

import pytest

from tasks.domain.errors import ConnectionLost, JobLost
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, Script
from tasks.machines.transport.recording import Recording, RecordingTransport, describe_recording
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport, SimulatedJob


class Stage:
    """A machine, and what was kept of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.machine = FakeTransport(self.clock)
        self.kept: list[Recording] = []
        self.transport = RecordingTransport(self.machine, self.kept.append)
        self.deadline = Deadline.after(self.clock, 600)

    def follow(self, job: Job) -> JobPhase:
        self.transport.start_job(job, deadline=self.deadline)
        offset = 0
        while True:
            status = self.transport.poll_job(job.id, deadline=self.deadline, events_from=offset)
            offset = status.events_offset
            if status.phase is not JobPhase.RUNNING:
                return status.phase
            self.clock.sleep(10)


def test_answers_and_errors_are_kept_in_order() -> None:
    stage = Stage()
    stage.machine.answer("facts", {"kind": "os", "id": "debian"})
    script = Script("facts", {"units": "", "managers": ("apt",)})
    stage.machine.fail(ConnectionLost("cut", hint="Look at the cable."), call=2)
    result = stage.transport.run_script(script, deadline=stage.deadline)
    with pytest.raises(ConnectionLost):
        stage.transport.run_script(script, deadline=stage.deadline)
    good, bad = stage.kept
    assert (good.script, good.result, good.error) == (script, result, None)
    assert describe_recording(bad) == {
        "parameters": {"units": "", "managers": ["apt"]},
        "as_job": False,
        "exit_code": None,
        "other_output": "",
        "seconds": None,
        "error": {"kind": "ConnectionLost", "message": "cut", "hint": "Look at the cable."},
    }


def test_a_job_that_reads_is_kept_with_all_its_records() -> None:
    stage = Stage()
    records = ({"kind": "search"}, {"kind": "update"})
    stage.machine.job("wua_assess", SimulatedJob(steps=((0, records[0]), (30, records[1])), seconds=31))
    assert stage.follow(Job("wua-read-1", Script("wua_assess"), reads=True)) is JobPhase.FINISHED
    (kept,) = stage.kept
    assert kept.result is not None
    assert (kept.result.records, kept.as_job) == (records, True)


def test_a_job_that_is_lost_or_not_begun_is_kept_as_failed() -> None:
    stage = Stage()
    stage.machine.job("wua_assess", SimulatedJob(seconds=None))
    job = Job("wua-read-1", Script("wua_assess"), reads=True)
    stage.transport.start_job(job, deadline=stage.deadline)
    stage.machine.crash()
    assert stage.transport.poll_job(job.id, deadline=stage.deadline).phase is JobPhase.LOST
    stage.machine.fail(ConnectionLost("cut"), on="start")
    with pytest.raises(ConnectionLost):
        stage.transport.start_job(Job("wua-read-2", job.script, reads=True), deadline=stage.deadline)
    assert [(each.error.kind, each.as_job) for each in stage.kept if each.error] == [
        (JobLost.__name__, True),
        ("ConnectionLost", True),
    ]


def test_changes_and_commands_of_the_owner_are_never_kept() -> None:
    stage = Stage()
    stage.machine.answer("probe", {"kind": "probe", "exit_code": 0, "text": "their secret"})
    stage.machine.answer("names", {"kind": "name", "of": "host", "value": "payroll"})
    stage.machine.answer("reboot", {"kind": "ordered"})
    stage.machine.job("wua_job", SimulatedJob())
    stage.transport.run_script(Script("probe", {"command": "their secret"}), deadline=stage.deadline)
    stage.transport.run_script(Script("names"), deadline=stage.deadline)
    stage.transport.run_script(Script("reboot", read_only=False), deadline=stage.deadline)
    assert stage.follow(Job("patch-1", Script("wua_job", read_only=False))) is JobPhase.FINISHED
    assert stage.kept == []
