"""Scripts and jobs of a whole Windows machine, over WinRM: what the Transport contract asks of every transport."""

import uuid
from collections.abc import Iterator

import pytest

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.machine import Inventory, Machine, OsFamily, TransportKind, WinrmSettings
from tasks.domain.errors import DeadlineExceeded, ManagerBusy, RequestError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Job, JobPhase, JobStatus, Script
from tasks.machines.transport.script_library import load_windows_script
from tasks.machines.transport.session import Session
from tasks.machines.transport.session_factory import build_session
from tests.lab.windows.certificates import Authority
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.served_machine import ServedMachine

pytestmark = pytest.mark.skipif(find_powershell() is None, reason="there is no PowerShell here")
CLOCK = SystemClock()
SCRIPTS = {
    "greet": """
        'said on stdout'
        [System.Console]::Error.WriteLine('said on stderr')
        Write-FpRecord 'greeting' ([ordered]@{ name = (Get-FpParam name); n = 42 })
        foreach ($item in @(Get-FpListParam list)) { Write-FpRecord 'item' @{ value = $item } }
        Exit-FpScript 7""",
    "torrent": "[System.Console]::Error.Write('x' * 4000000); Write-FpRecord 'after'",
    "long": "Write-FpSection 'log' ('x' * 3000000)",
    "sleepy": "Start-Sleep -Seconds 60; Write-FpRecord 'late'",
    "work": """
        Write-FpRecord 'begun'
        Start-Sleep -Seconds 1
        Write-FpRecord 'done' @{ text = [string][char]0xfc + 'n' }
        Exit-FpScript 3""",
    "endless": """
        Write-FpRecord 'begun'
        while (-not (Test-FpStopRequested)) { Start-Sleep -Milliseconds 100 }
        Write-FpRecord 'stopped'""",
}


def scripts(name: str, package: str = SHARED_SCRIPTS) -> str:
    """The contract's own scripts, and the product's."""
    return SCRIPTS[name] if name in SCRIPTS else load_windows_script(name, package)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[ServedMachine]:
    folder = tmp_path_factory.mktemp("windows")
    with ServedMachine(folder / "machine", authority=Authority(folder)) as it:
        yield it
        assert it.machine.stand_in_errors() == []


@pytest.fixture
def connect(served) -> Iterator[object]:
    host = served.host
    one = Machine(
        "subject",
        host.address,
        port=host.https_port,
        transport=TransportKind.WINRM,
        os=OsFamily.WINDOWS,
        user=host.user,
        credential="env:P",
        winrm=WinrmSettings(ca_file=host.ca_file),
    )
    credential = Credential(CredentialKind.PASSWORD, secret=Secret(host.password))
    opened: list[Session] = []

    def open_it() -> Session:
        session = build_session(
            one, Inventory((one,)), clock=CLOCK, resolve_credential=lambda _: credential, script_loader=scripts
        )
        opened.append(session)
        return session

    yield open_it
    for each in opened:
        each.close()


def soon(seconds: float = 120.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def new_id() -> str:
    return f"job-{uuid.uuid4().hex[:8]}"


def ended(transport: Session, job_id: str) -> JobStatus:
    for _ in range(300):
        view = transport.poll_job(job_id, deadline=soon())
        if view.phase is not JobPhase.RUNNING:
            return view
        CLOCK.sleep(0.1)
    raise AssertionError(f"{job_id} is still running")


def test_a_script_gives_its_records_exit_code_and_noise(connect):
    odd = 'it\'s "odd" $(id) `n %PATH% \\n ünï €\U0001f600\n'
    script = Script("greet", {"name": odd, "list": ("one", "two words", "")})
    transport = connect()
    for _ in range(2):
        result = transport.run_script(script, deadline=soon())
        assert result.records == (
            {"kind": "greeting", "name": odd, "n": 42},
            *({"kind": "item", "value": value} for value in ("one", "two words", "")),
        )
        assert result.exit_code == 7
        assert "said on stdout" in result.unframed_output
        assert "CLIXML" not in result.unframed_output


def test_megabytes_come_whole_or_are_left_out_as_noise(connect):
    transport = connect()
    result = transport.run_script(Script("torrent"), deadline=soon())
    assert result.find_records("after") == ({"kind": "after"},)
    assert 0 < len(result.unframed_output) < 200_000
    (section,) = transport.run_script(Script("long"), deadline=soon()).records
    assert section["text"] == "x" * 3_000_000


def test_a_deadline_is_honoured_and_the_transport_still_works(connect):
    transport = connect()
    transport.run_script(Script("greet", {"name": "x"}), deadline=soon())
    began = CLOCK.now()
    with pytest.raises(DeadlineExceeded) as caught:
        transport.run_script(Script("sleepy"), deadline=soon(2.0))
    assert (CLOCK.now() - began).total_seconds() < 40
    assert caught.value.machine == "subject"
    assert transport.run_script(Script("greet", {"name": "x"}), deadline=soon()).exit_code == 7


def test_an_unknown_script_is_a_request_error(connect):
    with pytest.raises(RequestError, match="no-such"):
        connect().run_script(Script("no-such"), deadline=soon())


def test_a_job_is_read_by_offsets_to_its_end_over_several_connections(connect):
    job = Job(new_id(), Script("work"))
    started = connect().start_job(job, deadline=soon())
    assert (started.phase, started.attached) == (JobPhase.RUNNING, False)
    again = connect().start_job(job, deadline=soon())
    assert again.attached
    view = ended(connect(), job.id)
    assert (view.phase, view.exit_code) == (JobPhase.FINISHED, 3)
    assert list(view.events) == [{"kind": "begun"}, {"kind": "done", "text": "ün"}]
    rest = connect().poll_job(job.id, deadline=soon(), events_from=view.events_offset, log_from=view.log_offset)
    assert (rest.events, rest.log) == ((), "")
    third = connect().start_job(job, deadline=soon())
    assert (third.attached, third.phase, third.exit_code) == (True, JobPhase.FINISHED, 3)


def test_a_second_job_is_refused_while_one_runs_and_that_one_stops_when_asked(connect):
    transport = connect()
    first, second = Job(new_id(), Script("endless")), Job(new_id(), Script("work"))
    transport.start_job(first, deadline=soon())
    with pytest.raises(ManagerBusy, match=first.id):
        transport.start_job(second, deadline=soon())
    assert transport.poll_job(second.id, deadline=soon()).phase is JobPhase.ABSENT
    (record,) = transport.run_script(Script("job_stop", {"id": first.id}), deadline=soon()).find_records("job")
    assert record["asked"] is True
    assert ended(transport, first.id).events[-1] == {"kind": "stopped"}


def test_a_job_outlives_broken_connections_and_is_lost_by_a_power_cut(connect, served):
    transport = connect()
    job = Job(new_id(), Script("endless"))
    transport.start_job(job, deadline=soon())
    served.host.drop_connections()
    while not transport.poll_job(job.id, deadline=soon()).events:
        CLOCK.sleep(0.1)
    boot = served.machine.boot_number
    served.host.reboot()
    served.machine.wait_for_boot(boot + 1)
    view = ended(connect(), job.id)
    assert (view.phase, view.exit_code, view.events) == (JobPhase.LOST, None, ({"kind": "begun"},))
