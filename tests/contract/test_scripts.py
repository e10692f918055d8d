"""The product's own scripts, run for real on this machine: jobs at their edges, facts, probes, and no reboot."""

import json
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.errors import JobLost, ManagerBusy, ProtocolViolation, ScriptFailed
from tasks.domain.model import Facts
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import (
    SHARED_SCRIPTS,
    Job,
    JobPhase,
    JobStatus,
    Script,
    ScriptRecord,
    ScriptResult,
)
from tasks.domain.states import MachineKind
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.steps.machine.facts import read_facts
from tests.contract.transport_subjects import scripts
from tests.support.boot import read_boot
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport

CLOCK = SystemClock()
EXTRA = {
    "quick": "fp_emit ran; fp_emit params 'value=$(fp_param value)'; umask; exit 5",
    "loud": """
        yes 'a line of the log' | head -n 30000
        for _ in 1 2 3; do fp_section big head -c 700000 /dev/zero; done""",
    "torn": 'fp_emit whole; printf \'{"kind":"torn\' >&3; kill -9 $$',
    "garbage": "printf 'not json\\n[1]\\n' >&3; fp_emit after",
    "short": "sleep 2; fp_emit ran",
    "binary": "printf 'a\\377\\303' ; fp_section out printf 'b\\000\\377'",
}


def all_scripts(name: str, package: str = SHARED_SCRIPTS) -> str:
    return EXTRA[name] if name in EXTRA else scripts(name, package)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def shell(root: Path) -> PosixShell:
    line = LocalShellChannel(CLOCK)
    privilege = PrivilegeEscalator(PrivilegeMethod.NONE)
    return PosixShell(
        line, machine="here", privilege=privilege, clock=CLOCK, job_root=str(root), script_loader=all_scripts
    )


def soon(seconds: float = 90.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def ended(shell: PosixShell, job_id: str) -> JobStatus:
    for _ in range(300):
        view = shell.poll_job(job_id, deadline=soon())
        if view.phase is not JobPhase.RUNNING:
            return view
        CLOCK.sleep(0.05)
    raise JobLost(f"{job_id} does not end")


def test_a_jobs_files_are_its_owners_alone_and_its_work_is_not(shell, root):
    shell.start_job(Job("j", Script("quick", {"value": "x"})), deadline=soon())
    view = ended(shell, "j")
    assert view.exit_code == 5
    assert view.log == "0022\n"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (root / "j").iterdir()}
    assert modes.pop("script") == 0o700
    assert set(modes.values()) == {0o600}
    assert {"run", "params", "log", "events", "meta", "rc"} <= set(modes)
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_job_has_what_its_script_needs_of_others(shell, root):
    shell.start_job(Job("j", Script("restart_services", {"units": ()})), deadline=soon())
    assert ended(shell, "j").exit_code == 0
    assert "fp_each_holder() {" in (root / "j" / "script").read_text()


def test_a_finished_job_shows_all_its_events_and_its_log_piece_by_piece(shell):
    shell.start_job(Job("j", Script("loud")), deadline=soon())
    view = ended(shell, "j")
    assert [len(str(event["text"])) for event in view.events] == [700_000] * 3
    log = b""
    while view.log:
        log += view.log.encode()
        assert view.log_offset == len(log)
        view = shell.poll_job("j", deadline=soon(), events_from=view.events_offset, log_from=view.log_offset)
    assert log == b"a line of the log\n" * 30_000


def test_a_torn_event_is_never_read_as_whole(shell, root):
    shell.start_job(Job("j", Script("torn")), deadline=soon())
    view = ended(shell, "j")
    assert view.phase is JobPhase.LOST
    assert view.events == ({"kind": "whole"},)
    assert view.events_offset == len(b'{"kind":"whole"}\n')


def test_an_event_that_cannot_be_read_says_so_and_hides_nothing(shell):
    shell.start_job(Job("j", Script("garbage")), deadline=soon())
    events = ended(shell, "j").events
    assert [event["kind"] for event in events] == ["garbled", "garbled", "after"]
    assert events[0]["text"] == "not json"


def test_offsets_count_bytes_whatever_the_bytes_are(shell, root):
    shell.start_job(Job("j", Script("binary")), deadline=soon())
    view = ended(shell, "j")
    assert view.events[0]["text"] == "b\ufffd\ufffd"
    assert view.events_offset == (root / "j/events").stat().st_size
    assert view.log_offset == (root / "j/log").stat().st_size == 3


def test_a_process_of_the_same_number_is_not_the_job(shell: PosixShell, root: Path) -> None:
    shell.start_job(Job("j", Script("quick")), deadline=soon())
    ended(shell, "j")
    (root / "j" / "rc").unlink()
    boot = read_boot()
    with subprocess.Popen(["sleep", "60"]) as other:  # in our session, so it leads none
        start = Path(f"/proc/{other.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]

        def phase(start: int, boot: str) -> JobPhase:
            (root / "j" / "meta").write_text(f"{other.pid} {start} {boot} 1\n")
            return shell.poll_job("j", deadline=soon()).phase

        assert phase(int(start), boot) is JobPhase.RUNNING
        assert phase(int(start) + 1, boot) is JobPhase.LOST
        assert phase(int(start), "another-boot") is JobPhase.LOST
        other.kill()


def test_a_job_whose_shell_was_killed_runs_until_its_last_process_has_ended(shell, root):
    shell.start_job(Job("j", Script("endless")), deadline=soon())
    began = soon()
    while not shell.poll_job("j", deadline=soon()).events:
        assert not began.has_passed(CLOCK)
    os.kill(int((root / "j/meta").read_text().split()[0]), signal.SIGKILL)
    assert shell.poll_job("j", deadline=soon()).phase is JobPhase.RUNNING
    with pytest.raises(ManagerBusy):
        shell.start_job(Job("another", Script("quick")), deadline=soon())
    shell.run_script(Script("job_stop", {"id": "j"}), deadline=soon())
    view = ended(shell, "j")
    assert (view.phase, view.exit_code) == (JobPhase.LOST, None)
    assert view.events[-1]["kind"] == "stopped"


def look(shell: PosixShell, **params: str) -> tuple[JobPhase, list[ScriptRecord], float]:
    """Look at the job "j"; return its phase, the sections, and how long the look took."""
    limits = {"id": "j", "events_from": "0", "log_from": "0", "events_limit": "9999", "log_limit": "9999"}
    began = time.monotonic()
    answer = shell.run_script(Script("job_look", limits | params), deadline=soon())
    phase = JobPhase(str(answer.find_records("job")[0]["phase"]))
    return phase, list(answer.find_records("section")), time.monotonic() - began


def test_a_look_that_waits_ends_with_the_job(shell: PosixShell) -> None:
    shell.start_job(Job("j", Script("short")), deadline=soon())
    phase, sections, seconds = look(shell, wait="60")
    assert phase is JobPhase.FINISHED
    assert [section["text"] for section in sections] == ['{"kind":"ran"}\n', ""]
    assert seconds < 30


def test_a_look_that_waits_for_a_long_job_ends_in_time_and_no_sooner(shell: PosixShell, root: Path) -> None:
    shell.start_job(Job("j", Script("endless")), deadline=soon())
    phase, _, seconds = look(shell, wait="2")
    assert phase is JobPhase.RUNNING
    assert 2 <= seconds < 20
    (root / "j/alive").unlink()  # of an earlier version: there is no lock to wait for
    phase, _, seconds = look(shell, wait="60")
    assert phase is JobPhase.RUNNING
    assert 0.5 < seconds < 20
    shell.run_script(Script("job_stop", {"id": "j"}), deadline=soon())


def test_a_look_reads_bytes_that_no_shell_can_hold(shell: PosixShell, root: Path) -> None:
    shell.start_job(Job("j", Script("quick")), deadline=soon())
    ended(shell, "j")
    (root / "j/log").write_bytes(b"a\0b\n")
    texts = [section["text"] for section in look(shell)[1]]
    assert texts == [(root / "j/events").read_text(), "a\ufffdb\n"]


def test_an_unfinished_exit_code_counts_for_nothing(shell, root):
    shell.start_job(Job("j", Script("endless")), deadline=soon())
    (root / "j" / "rc").write_text("")
    assert shell.poll_job("j", deadline=soon()).phase is JobPhase.RUNNING
    shell.run_script(Script("job_stop", {"id": "j"}), deadline=soon())
    assert ended(shell, "j").exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_asks_a_job_to_end_is_waited_through(shell, root, number):
    shell.start_job(Job("j", Script("endless")), deadline=soon())
    os.kill(int((root / "j/meta").read_text().split()[0]), number)
    CLOCK.sleep(0.3)
    assert shell.poll_job("j", deadline=soon()).phase is JobPhase.RUNNING
    shell.run_script(Script("job_stop", {"id": "j"}), deadline=soon())
    view = ended(shell, "j")
    assert (view.exit_code, view.events[-1]["kind"]) == (0, "stopped")


def test_a_start_that_was_cut_half_way_is_finished_by_the_next(shell, root):
    (root / "j").mkdir(parents=True)
    (root / "j" / "script.new").write_text("half")
    view = shell.start_job(Job("j", Script("quick")), deadline=soon())
    assert not view.attached
    assert ended(shell, "j").exit_code == 5


def test_a_job_that_was_launched_twice_runs_once(shell, root):
    shell.start_job(Job("j", Script("quick")), deadline=soon())
    ended(shell, "j")
    assert os.waitstatus_to_exitcode(os.system(f"/bin/sh {root}/j/run {root}/j")) == 75
    assert len(ended(shell, "j").events) == 2


def test_the_last_twenty_finished_jobs_are_kept(shell, root):
    for number in range(22):
        job = root / f"j{number:02}"
        job.mkdir(parents=True)
        (job / "meta").write_text(f"1 1 another-boot {number}\n")
        if number % 2:  # the others are lost: they are over as well
            (job / "rc").write_text("5 100\n")
        (job / "label").write_text("old\n")
        os.utime(job, (number, number))
    shell.start_job(Job("j22", Script("quick")), deadline=soon())
    ended(shell, "j22")
    listed = shell.run_script(Script("job_list"), deadline=soon()).find_records("job")
    assert [record["id"] for record in listed] == [f"j{number:02}" for number in range(3, 23)]
    assert {(record["phase"], record["exit_code"]) for record in listed} == {("finished", 5), ("lost", None)}
    assert {record["label"] for record in listed} == {"old", "quick"}


def test_a_place_that_cannot_be_written_is_an_error_that_says_so(shell, root):
    root.write_text("a file where a directory is due")
    with pytest.raises(ScriptFailed, match="cannot write"):
        shell.start_job(Job("j", Script("quick")), deadline=soon())


def test_a_probe_tells_its_exit_code_and_its_last_words(shell):
    def ask(command: str, timeout: str = "5"):
        (record,) = shell.run_script(Script("probe", {"command": command, "timeout": timeout}), deadline=soon()).records
        return record["exit_code"], record["text"]

    assert ask("echo fine; echo 'and \"well\"' >&2; exit 4") == (4, 'fine\nand "well"')
    assert ask("true") == (0, "")
    assert ask("sleep 9", "1")[0] == 124
    assert ask("no-such-command")[0] == 127
    assert len(str(ask("yes | head -c 100000")[1])) <= 4000


def test_a_machine_tells_by_which_names_it_is_known(shell):
    records = shell.run_script(Script("names"), deadline=soon()).find_records("name")
    names = {(record["of"], record["value"]) for record in records}
    assert {("host", socket.gethostname()), ("user", pwd.getpwuid(os.geteuid()).pw_name)} <= names
    assert {kind for kind, _ in names} <= {"host", "domain", "user", "serial", "machineid"}
    assert all(value for _, value in names)


def test_a_reboot_is_refused_when_it_was_done_already(shell):
    (record,) = shell.run_script(
        Script("reboot", {"expected_boot_id": "another", "delay": "60"}), deadline=soon()
    ).records
    assert record["kind"] == "refused"
    assert "rebooted already" in str(record["why"])


def test_a_reboot_is_refused_while_a_job_runs(shell):
    shell.start_job(Job("j", Script("endless")), deadline=soon())
    boot = read_boot()
    (record,) = shell.run_script(Script("reboot", {"expected_boot_id": boot, "delay": "600"}), deadline=soon()).records
    shell.run_script(Script("job_stop", {"id": "j"}), deadline=soon())
    assert record["kind"] == "refused"
    assert "still running" in str(record["why"]) or "not root" in str(record["why"])


def test_the_facts_of_this_machine_make_sense(shell):
    facts = read_facts(shell, CLOCK, soon())
    assert facts.boot_id == read_boot()
    assert facts.kernel == os.uname().release
    assert abs(facts.clock_skew_seconds) < 30
    assert facts.uptime_seconds > 0
    assert {disk.role for disk in facts.disks} >= {"system", "packages"}
    total = os.statvfs("/").f_blocks * os.statvfs("/").f_frsize
    assert facts.disks[0].total_bytes == pytest.approx(total, rel=0.01)
    assert not facts.disks[0].read_only
    assert facts.services.known
    assert (facts.kind is MachineKind.CONTAINER) is (not facts.can_reboot or Path("/run/systemd/container").exists())
    assert facts.kind is not MachineKind.UNKNOWN or not Path("/sys/class/dmi/id/sys_vendor").exists()
    assert (facts.container_engines is not None, facts.is_arc) == (True, False)


def test_who_listens_is_named_and_the_kernels_range_of_ports_is_told(shell):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        records = shell.run_script(Script("facts"), deadline=soon()).find_records
        names = {f"tcp/{tcp.getsockname()[1]}", f"udp/{udp.getsockname()[1]}"}
        ours = [each for each in records("socket") if each["name"] in names]
        program = Path("/proc/self/comm").read_text().strip()
        assert {each["name"] for each in ours} == names
        assert {(each["program"], each["uid"]) for each in ours} == {(program, os.getuid())}
        (ports,) = records("ports")
        assert str(ports["ephemeral"]).split() == Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        assert not names & set(read_facts(shell, CLOCK, soon()).services.listening)


FACTS: list[ScriptRecord] = [
    {"kind": "os", "id": "debian", "version": "12", "name": "Debian"},
    {"kind": "kernel", "release": "6.1", "arch": "x86_64", "boot_id": "b", "uptime": 5},
    {"kind": "clock", "epoch": 1_773_104_400.25},
    {"kind": "privilege", "uid": 0, "way": "sudo"},
    {"kind": "manager", "name": "dnf"},
    {"kind": "manager", "name": "dnf"},
    {"kind": "runner", "name": "systemd", "can_reboot": True},
    {
        "kind": "disk",
        "role": "boot",
        "mount": "/boot",
        "total_kib": 10,
        "free_kib": -1,
        "free_files": None,
        "read_only": True,
    },
    {"kind": "service", "name": "ünit.service"},
    {"kind": "socket", "name": "tcp/22"},
    {"kind": "services", "failed_known": True, "listening_known": True},
]


def facts_of(records: Iterable[ScriptRecord]) -> Facts:
    clock = FakeClock()
    machine = FakeTransport(clock)
    machine.answer("facts", ScriptResult(tuple(records), 0), seconds=2)
    return read_facts(machine, clock, Deadline.after(clock, 60))


def test_facts_are_read_into_the_model_and_the_round_trip_is_halved():
    facts = facts_of(FACTS)
    assert facts.managers == ("dnf",)
    assert facts.privilege == "sudo"
    assert facts.disks[0].free_bytes == 0
    assert facts.disks[0].free_files is None
    assert facts.services.failed == ("ünit.service",)
    # asked at 01:00:00 and answered at 01:00:02; 1773104400 is 01:00:00
    assert facts.clock_skew_seconds == pytest.approx(-0.75)
    assert facts.clock_error_seconds == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "day"), [("2024-05-21", "2024-05-21"), ("", ""), ("soon", ""), ("2024-02-30", ""), ("2024-05-21; x", "")]
)
def test_only_a_day_is_the_end_of_support(text: str, day: str):
    assert facts_of([{**FACTS[0], "support_end": text}, *FACTS[1:]]).support_end == day


@pytest.mark.parametrize("missing", ["os", "kernel", "clock", "privilege", "runner", "services"])
def test_facts_that_lack_a_part_are_a_violation_that_names_it(missing):
    with pytest.raises(ProtocolViolation, match=f"0 records '{missing}'"):
        facts_of(record for record in FACTS if record["kind"] != missing)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [("clock", "epoch", "soon"), ("disk", "total_kib", -5), ("runner", "can_reboot", "yes"), ("manager", "name", "")],
)
def test_facts_without_sense_are_a_violation_that_names_the_field(kind, field, value):
    records = json.loads(json.dumps(FACTS))
    next(record for record in records if record["kind"] == kind)[field] = value
    with pytest.raises(ProtocolViolation, match=f"{kind}.{field}"):
        facts_of(records)
