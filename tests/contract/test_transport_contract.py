"""The Transport contract, held against every implementation."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.machine import HostKeySettings, Inventory, Machine, PrivilegeMethod, TransportKind
from tasks.domain.errors import DeadlineExceeded, ManagerBusy, RequestError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, Transport
from tasks.machines.transport.session_factory import build_session
from tests.contract.transport_subjects import Subject, fake_machine, scripts
from tests.lab.fleet import Lab, LabHost
from tests.support.fake_clock import FakeClock


@pytest.fixture(scope="module")
def lab_host() -> Iterator[LabHost]:
    """A real host whose login shell prints at every start."""
    with Lab("contract" + os.environ.get("PYTEST_XDIST_WORKER", "")) as lab:
        reason = lab.reason_it_cannot_run()
        if reason:
            pytest.skip(f"the lab can't run here: {reason}")
        (host,) = lab.up(1)
        rc = host.root / "home/patch/.bashrc"
        rc.write_text("echo Welcome to this machine; echo oops >&2; printf 'no line break'\n")
        yield host


@pytest.fixture(params=["fake", "local", pytest.param("ssh", marks=pytest.mark.lab)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    make = {"fake": _fake, "local": _local, "ssh": _ssh}[request.param]
    it = make(request, tmp_path)
    yield it
    it.close()


def _fake(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    clock = FakeClock()
    machine = fake_machine(clock)
    return Subject(lambda: machine, clock, lambda job_id: machine.crash())


def _local(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    clock = SystemClock()
    machine = Machine("subject", "", transport=TransportKind.LOCAL, privilege=PrivilegeMethod.NONE)
    root = tmp_path / "jobs"

    def open_it():
        return build_session(machine, Inventory((machine,)), clock=clock, job_root=str(root), script_loader=scripts)

    def kill(job_id: str) -> None:
        os.killpg(int((root / job_id / "meta").read_text().split()[0]), signal.SIGKILL)

    return Subject(open_it, clock, kill)


def _ssh(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    host: LabHost = request.getfixturevalue("lab_host")
    clock = SystemClock()
    machine = Machine("subject", host.address, user=host.user, credential=f"key:{host.key}")
    inventory = Inventory((machine,), HostKeySettings(known_hosts=host.known_hosts))
    root = f"/var/lib/fleetpatch/jobs-{uuid.uuid4().hex[:8]}"

    def kill(job_id: str) -> None:
        host.sh(f"kill -9 -$(cut -d ' ' -f 1 {root}/{job_id}/meta)", root=True)

    return Subject(
        lambda: build_session(machine, inventory, clock=clock, job_root=root, script_loader=scripts), clock, kill
    )


def soon(subject: Subject, seconds: float = 90.0) -> Deadline:
    return Deadline.after(subject.clock, seconds)


def ended(subject: Subject, transport: Transport, job_id: str) -> JobStatus:
    """The job's whole view, once it has ended."""
    for _ in range(600):
        view = transport.poll_job(job_id, deadline=soon(subject))
        if view.phase is not JobPhase.RUNNING:
            return view
        subject.clock.sleep(0.1)
    raise AssertionError(f"{job_id} is still running")


def wait_for_its_first_record(subject: Subject, transport: Transport, job_id: str) -> None:
    for _ in range(600):
        if transport.poll_job(job_id, deadline=soon(subject)).events:
            return
        subject.clock.sleep(0.1)
    raise AssertionError(f"{job_id} says nothing")


def finish(subject: Subject, transport: Transport, job_id: str) -> None:
    """Leave nothing running on a real machine."""
    transport.run_script(Script("job_stop", {"id": job_id}), deadline=soon(subject))


def test_a_script_gives_its_records_exit_code_and_noise(subject):
    odd = 'it\'s "odd" $(id) `id` \\n ünï\n'
    script = Script("greet", {"name": odd, "list": ("one", "two words", "")})
    result = subject.transport().run_script(script, deadline=soon(subject))
    assert result.records == (
        {"kind": "greeting", "name": f"{odd}\n.", "n": 42},
        {"kind": "item", "value": "one"},
        {"kind": "item", "value": "two words"},
        {"kind": "item", "value": ""},
    )
    assert result.exit_code == 7
    assert "said on stdout" in result.unframed_output
    assert result.seconds >= 0


def test_what_is_said_on_stderr_is_noise_too(subject):
    transport = subject.transport()  # sshd may send it behind the answer's end, which nobody waits for: hence again

    def noise() -> str:
        return str(transport.run_script(Script("greet", {"name": "x"}), deadline=soon(subject)).unframed_output)

    assert any("said on stderr" in noise() for _ in range(20))


def test_one_transport_runs_many_scripts(subject):
    transport = subject.transport()
    names = [
        transport.run_script(Script("greet", {"name": str(number)}), deadline=soon(subject)).records[0]["name"]
        for number in range(5)
    ]
    assert names == [f"{number}\n." for number in range(5)]


def test_four_megabytes_on_stderr_hide_nothing(subject):
    result = subject.transport().run_script(Script("torrent"), deadline=soon(subject))
    assert result.find_records("after") == ({"kind": "after"},)
    assert 0 < len(result.unframed_output) < 200_000


def test_what_a_script_has_left_and_writes_on_does_not_hold_up_the_next_one(subject: Subject) -> None:
    transport = subject.transport()
    assert transport.run_script(Script("noisy"), deadline=soon(subject)).records[0]["kind"] == "left"

    greeting = transport.run_script(Script("greet", {"name": "x"}), deadline=soon(subject, 30))

    assert greeting.exit_code == 7


def test_a_deadline_is_honoured_and_the_transport_still_works(subject):
    transport = subject.transport()
    began = subject.clock.now()
    with pytest.raises(DeadlineExceeded) as caught:
        transport.run_script(Script("sleepy"), deadline=soon(subject, 1.0))
    assert (subject.clock.now() - began).total_seconds() < 25
    assert caught.value.machine == "subject"
    assert transport.run_script(Script("greet", {"name": "x"}), deadline=soon(subject)).exit_code == 7


def test_a_passed_deadline_asks_nothing(subject):
    with pytest.raises(DeadlineExceeded):
        subject.transport().run_script(Script("greet", {"name": "x"}), deadline=soon(subject, -1.0))


def test_an_unknown_script_is_a_request_error(subject):
    with pytest.raises(RequestError, match="no-such"):
        subject.transport().run_script(Script("no-such"), deadline=soon(subject))


def test_a_job_is_read_by_offsets_to_its_end(subject):
    transport = subject.transport()
    started = transport.start_job(Job("job-1", Script("work")), deadline=soon(subject))
    assert started.phase is JobPhase.RUNNING
    assert not started.attached
    events, log, events_at, log_at = [], "", 0, 0
    for _ in range(600):
        view = transport.poll_job("job-1", deadline=soon(subject), events_from=events_at, log_from=log_at)
        assert view.events_offset >= events_at
        events += view.events
        log += view.log
        events_at, log_at = view.events_offset, view.log_offset
        if view.phase is JobPhase.FINISHED:
            break
        assert view.exit_code is None
        subject.clock.sleep(0.1)
    assert view.exit_code == 3
    assert events == [{"kind": "begun"}, {"kind": "done", "text": 'ünï"'}]
    assert log == "working\nworked\n"
    whole = transport.poll_job("job-1", deadline=soon(subject))
    assert (list(whole.events), whole.log, whole.events_offset) == (events, log, events_at)
    nothing = transport.poll_job("job-1", deadline=soon(subject), events_from=events_at, log_from=log_at)
    assert (nothing.events, nothing.log) == ((), "")


def test_a_look_waits_for_the_end_of_a_job(subject):
    transport = subject.transport()
    assert transport.start_job(Job("job-9", Script("work")), deadline=soon(subject)).can_wait
    began = subject.clock.now()
    view = transport.poll_job("job-9", deadline=soon(subject), wait_seconds=60.0)
    assert (view.phase, view.exit_code, view.is_read) == (JobPhase.FINISHED, 3, True)
    assert [event["kind"] for event in view.events] == ["begun", "done"]
    over = transport.poll_job("job-9", deadline=soon(subject), wait_seconds=60.0)
    assert (over.phase, over.is_read) == (JobPhase.FINISHED, True)
    assert (subject.clock.now() - began).total_seconds() < 30.0


def test_a_look_waits_no_longer_than_it_is_asked_to(subject):
    transport = subject.transport()
    transport.start_job(Job("job-10", Script("endless")), deadline=soon(subject))
    began = subject.clock.now()
    view = transport.poll_job("job-10", deadline=soon(subject), wait_seconds=2.0)
    waited = (subject.clock.now() - began).total_seconds()
    assert (view.phase, view.is_read) == (JobPhase.RUNNING, False)
    assert view.events == ({"kind": "begun"},)
    assert 1.9 <= waited < 30.0
    finish(subject, transport, "job-10")


def test_started_twice_is_started_once(subject):
    job = Job("job-2", Script("endless"))
    first = subject.transport().start_job(job, deadline=soon(subject))
    second = subject.transport().start_job(job, deadline=soon(subject))
    assert (first.attached, second.attached) == (False, True)
    assert second.phase is JobPhase.RUNNING
    wait_for_its_first_record(subject, subject.transport(), "job-2")
    subject.kill("job-2")
    assert ended(subject, subject.transport(), "job-2").events == ({"kind": "begun"},)


def test_started_again_after_its_end_it_is_as_it_ended(subject):
    job = Job("job-8", Script("work"))
    subject.transport().start_job(job, deadline=soon(subject))
    view = ended(subject, subject.transport(), "job-8")
    assert [event["kind"] for event in view.events] == ["begun", "done"]
    again = subject.transport().start_job(job, deadline=soon(subject))
    assert (again.attached, again.phase, again.exit_code) == (True, JobPhase.FINISHED, 3)


def test_a_second_job_is_refused_while_one_runs(subject):
    transport = subject.transport()
    transport.start_job(Job("job-3", Script("endless")), deadline=soon(subject))
    with pytest.raises(ManagerBusy, match="job-3") as caught:
        transport.start_job(Job("job-4", Script("work")), deadline=soon(subject))
    assert caught.value.machine == "subject"
    assert transport.poll_job("job-4", deadline=soon(subject)).phase is JobPhase.ABSENT
    finish(subject, transport, "job-3")


def test_an_unknown_job_is_absent(subject):
    view = subject.transport().poll_job("never-started", deadline=soon(subject))
    assert view.phase is JobPhase.ABSENT
    assert view.exit_code is None


def test_a_job_whose_process_is_gone_is_lost_and_not_started_again(subject):
    transport = subject.transport()
    job = Job("job-5", Script("endless"))
    transport.start_job(job, deadline=soon(subject))
    wait_for_its_first_record(subject, transport, "job-5")
    subject.kill("job-5")
    view = ended(subject, transport, "job-5")
    assert view.phase is JobPhase.LOST
    assert view.exit_code is None
    assert view.events == ({"kind": "begun"},)
    again = transport.start_job(job, deadline=soon(subject))
    assert (again.attached, again.phase) == (True, JobPhase.LOST)


def test_closing_leaves_the_job_running(subject):
    transport = subject.transport()
    transport.start_job(Job("job-6", Script("work")), deadline=soon(subject))
    transport.close()
    transport.close()
    assert ended(subject, subject.transport(), "job-6").exit_code == 3
    assert transport.poll_job("job-6", deadline=soon(subject)).phase is JobPhase.FINISHED


def test_a_job_is_asked_to_stop(subject):
    transport = subject.transport()
    transport.start_job(Job("job-7", Script("endless")), deadline=soon(subject))
    (record,) = transport.run_script(Script("job_stop", {"id": "job-7"}), deadline=soon(subject)).find_records("job")
    assert record["phase"] == "running"
    assert record["asked"] is True
    (record,) = transport.run_script(Script("job_stop", {"id": "unknown"}), deadline=soon(subject)).find_records("job")
    assert (record["phase"], record["asked"]) == ("absent", False)


@pytest.mark.parametrize("job_id", ["", "a/b", "..", "a b", "a" * 81, "ünï", "$(id)", "a\n"])
def test_an_id_that_can_be_no_directory_and_unit_is_refused(subject, job_id):
    with pytest.raises(RequestError, match="job's id"):
        subject.transport().start_job(Job(job_id, Script("work")), deadline=soon(subject))
    with pytest.raises(RequestError, match="job's id"):
        subject.transport().poll_job(job_id, deadline=soon(subject))
