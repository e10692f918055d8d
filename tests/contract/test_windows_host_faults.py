"""Every fault of the Windows host for tests happens when it is due, and looks to pywinrm like a real one."""

import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from tests.lab.windows.certificates import Authority
from tests.lab.windows.executor import Script
from tests.lab.windows.fault_schedule import ALWAYS, AT_CONNECT, Fault, Point, Schedule, What
from tests.support.winrm_client import client, impatient, run, scripted

HOSTNAME = {"hostname": Script((b"WIN1" * 20,)), "hangs": Script((b"begun",), hangs=True)}
GOOD = (b"WIN1" * 20, b"", 0)
BROKEN = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def host(tmp_path, authority):
    with scripted("WIN1", tmp_path, HOSTNAME, authority=authority) as it:
        yield it


@pytest.fixture(params=[("ntlm", False), ("basic", True)], ids=["encrypted", "https"])
def protocol(request, host):
    transport, https = request.param
    made = client(host, transport, https=https)
    yield made
    made.transport.close_session()


@pytest.mark.parametrize(
    ("at", "what", "code"),
    [
        ("Command", What.SHELL_LOST, 2150858843),
        ("Create", What.QUOTA_SHELLS, 2150859173),
        ("Command", What.QUOTA_OPERATIONS, 2150859174),
        ("Create", What.ACCESS_DENIED, 5),
        ("Receive", What.ABORTED, 995),
        ("Command", What.STALE_PROFILE, 2147943418),
    ],
)
def test_a_fault_has_its_code(host, protocol, at, what, code):
    host.schedule.add(Fault(at, what))
    with pytest.raises(WSManFaultError) as caught:
        run_whole(protocol)
    assert (caught.value.code, caught.value.wsman_fault_code) == (500, code)
    assert host.schedule.met() == [Fault(at, what)]
    assert run(protocol, "hostname") == GOOD


def run_whole(protocol):
    """Without a goodbye, which would hide what went wrong."""
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "hostname")
    output = protocol.get_command_output_raw(shell, command)
    protocol.close_shell(shell, close_session=False)
    return output


def test_a_quota_of_server_2022_has_its_code_elsewhere(host, protocol):
    host.schedule.add(Fault("Command", What.QUOTA_OPERATIONS_WMI))
    with pytest.raises(WSManFaultError) as caught:
        run_whole(protocol)
    assert (caught.value.wsman_fault_code, caught.value.wmierror_code) == (None, 2150859174)


def test_a_read_that_times_out_can_be_tried_again(host, protocol):
    host.schedule.add(Fault("Receive", What.TIMED_OUT, times=2))
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "hostname")
    for _ in range(2):
        with pytest.raises(WinRMOperationTimeoutError):
            protocol.get_command_output_raw(shell, command)
    assert protocol.get_command_output(shell, command) == GOOD


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (What.EMPTY_500, "500"),
        (What.UNAVAILABLE, "503"),
        (What.RESET, BROKEN),
        (What.CUT, BROKEN),
        (What.POWER_LOSS, BROKEN),
    ],
)
@pytest.mark.parametrize("acts", [False, True])
def test_an_operation_that_fails_has_happened_or_not_as_it_was_scheduled(host, protocol, what, expected, acts):
    host.schedule.add(Fault("Command", what, acts=acts))
    shell = protocol.open_shell()
    kind = WinRMTransportError if isinstance(expected, str) else expected
    with pytest.raises(kind, match=expected if isinstance(expected, str) else None):
        protocol.run_command(shell, "hangs")
    begun = [command.line for shell in host.shells.open for command in shell.commands.values()]
    happened = acts or what is What.CUT  # half of an answer is one of something that was done
    assert begun == (["hangs"] if happened and what is not What.POWER_LOSS else [])
    assert host.is_on is (what is not What.POWER_LOSS)


def test_a_login_that_ran_out_in_the_middle_ends_an_encrypted_connection(host):
    """The client logs in again, with a body that it encrypted for the login before: no host takes that."""
    protocol = client(host)
    shell = protocol.open_shell()
    host.schedule.add(Fault("Command", What.UNAUTHORISED))
    with pytest.raises(requests.exceptions.ConnectionError):
        protocol.run_command(shell, "hostname")
    again = client(host)
    assert again.run_command(shell, "hostname")
    for each in (protocol, again):
        each.transport.close_session()
    assert host.accounts.wrong_passwords == 0


def test_a_login_that_is_refused_over_https(host):
    host.schedule.add(Fault("Create", What.UNAUTHORISED))
    with pytest.raises(InvalidCredentialsError):
        client(host, "basic", https=True).open_shell()


def test_a_page_instead_of_an_answer_and_an_answer_that_is_no_xml(host, protocol):
    host.schedule.add(Fault("Create", What.GARBAGE), Fault("Create", What.BAD_XML, nth=2))
    for _ in range(2):
        with pytest.raises(ElementTree.ParseError):
            protocol.open_shell()
    assert run(protocol, "hostname") == GOOD


def test_an_answer_that_is_meant_to_do_harm(host, protocol):
    host.schedule.add(Fault("Create", What.XML_BOMB), Fault("Receive", What.BAD_OUTPUT))
    with pytest.raises(ElementTree.ParseError):
        protocol.open_shell()
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "hostname")
    with pytest.raises(ValueError, match=r"good|padding"):
        protocol.get_command_output_raw(shell, command)


def test_an_answer_that_comes_byte_by_byte(host):
    """A client that waits for no byte long does not notice how long the answer takes."""
    host.schedule.add(Fault("Create", What.TRICKLE, seconds=0.001))
    protocol = client(host, "basic", https=True)
    begun = time.monotonic()
    assert protocol.open_shell() == host.shells.open[0].id
    assert time.monotonic() - begun >= 1
    protocol.transport.close_session()


def test_an_answer_that_never_ends(host):
    asked: list[str] = []
    protocol = client(host, "basic", https=True)
    protocol.transport.send_message = asked.append  # type: ignore[method-assign,assignment]  # only what it would send
    with pytest.raises(TypeError):  # it has no answer
        protocol.open_shell()
    host.schedule.add(Fault("Create", What.FLOOD))
    session = requests.Session()
    session.trust_env = False
    session.auth, session.verify = (host.user, host.password), str(host.ca_file)
    with session, session.post(host.https_url, data=asked[0].encode(), stream=True) as reply:
        taken = 0
        while taken < 5_000_000:
            taken += len(reply.raw.read(65536))
    while host.connections:
        time.sleep(0.01)


def test_an_answer_to_another_request_is_taken_by_who_does_not_look(host, protocol):
    host.schedule.add(Fault("Create", What.OTHER_ANSWER), Fault("Receive", What.OTHER_ANSWER))
    shell = protocol.open_shell()
    assert host.shells.open == []
    with pytest.raises(WSManFaultError, match="shell was not found"):
        protocol.run_command(shell, "hostname")
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "hostname")
    assert protocol.get_command_output_raw(shell, command)[0] == b"not yours\r\n"
    assert protocol.get_command_output(shell, command) == GOOD


def test_a_redirect_leads_who_follows_it_elsewhere(host, tmp_path, authority):
    """pywinrm follows redirects, with whatever it sends."""
    with scripted("WIN2", tmp_path / "other", HOSTNAME, authority=authority) as other:
        host.schedule.add(Fault("Create", What.REDIRECT, location=other.https_url))
        with pytest.raises(WinRMTransportError):
            client(host, "basic", https=True).open_shell()
        assert other.connected == 1
    assert host.shells.open == []


def test_an_answer_whose_signature_is_wrong_is_noticed(host):
    protocol = client(host)
    host.schedule.add(Fault("Create", What.BAD_SEAL))
    with pytest.raises(Exception, match="Message Integrity Check"):
        protocol.open_shell()
    protocol.transport.close_session()


@pytest.mark.parametrize("transport", ["ntlm", "basic"])
def test_a_connection_that_is_closed_between_two_messages(host, transport):
    """Without encryption a new one does; with it, the client is poisoned, and a new client goes on."""
    protocol = client(host, transport, https=transport == "basic")
    host.schedule.add(Fault("Create", What.CLOSE))
    shell = protocol.open_shell()
    while host.connections:
        time.sleep(0.01)
    if transport == "ntlm":
        with pytest.raises(requests.exceptions.ConnectionError):
            protocol.run_command(shell, "hostname")
        protocol.transport.close_session()
        protocol = client(host)
    command = protocol.run_command(shell, "hostname")
    assert protocol.get_command_output(shell, command) == GOOD
    assert host.connected >= 2
    protocol.transport.close_session()


def test_a_host_that_never_answers_and_one_that_answers_late(host):
    protocol = client(host, "basic", https=True)
    host.schedule.add(Fault("Create", What.HANG), Fault("Create", What.SLOW, nth=2, seconds=0.3))
    with impatient(protocol), pytest.raises(requests.exceptions.ReadTimeout):
        protocol.open_shell()
    begun = time.monotonic()
    assert protocol.open_shell()
    assert time.monotonic() - begun >= 0.3
    assert len(host.shells.open) == 1
    protocol.transport.close_session()


def test_a_host_that_restarts_is_gone_for_a_while_and_comes_back_without_its_shells(host, protocol):
    shell = protocol.open_shell()
    seen_off = threading.Event()
    host.before_power_on = seen_off.wait
    host.schedule.add(Fault("Command", What.REBOOT, seconds=0.1))
    with pytest.raises(BROKEN):
        protocol.run_command(shell, "hostname")
    with pytest.raises(requests.exceptions.ConnectionError, match="refused"):
        client(host).open_shell()
    seen_off.set()
    while not host.is_on:
        time.sleep(0.01)
    assert host.boots == 2
    with pytest.raises(WSManFaultError, match="shell was not found"):
        client(host, "basic", https=True).run_command(shell, "hostname")


def test_a_service_that_restarts_loses_shells_and_the_machine_goes_on(host, protocol):
    other, shell = client(host, "basic", https=True), protocol.open_shell()
    kept = other.open_shell()
    host.schedule.add(Fault("Command", What.SERVICE_RESTART, acts=True))
    with pytest.raises(BROKEN):
        protocol.run_command(shell, "hangs")
    assert (host.boots, host.shells.open) == (1, [])
    with pytest.raises((WSManFaultError, *BROKEN)):  # its connection may be noticed to be dead only now
        other.run_command(kept, "hostname")
    assert run(client(host), "hostname") == GOOD
    other.transport.close_session()


def test_an_answer_that_is_late_never_comes_once_the_power_is_off(host, protocol):
    host.schedule.add(Fault("Create", What.SLOW, seconds=600))
    told: list[object] = []

    def ask():
        with pytest.raises(BROKEN) as caught:
            protocol.open_shell()
        told.append(caught.value)

    thread = threading.Thread(target=ask)
    thread.start()
    while not host.schedule.met():
        time.sleep(0.01)
    host.power_off()
    thread.join()
    assert len(told) == 1


def test_a_certificate_that_changes_under_way_is_refused_by_the_next_connection(host):
    protocol = client(host, "basic", https=True)
    before = host.thumbprint
    host.schedule.add(Fault("Create", What.OTHER_CERTIFICATE))
    assert protocol.open_shell()
    assert host.thumbprint != before
    protocol.transport.close_session()
    with pytest.raises(requests.exceptions.SSLError):
        protocol.open_shell()


def test_input_for_a_program_that_has_closed_it_is_refused(host, protocol):
    host.schedule.add(Fault("Send", What.PIPE_CLOSED))
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "hostname")
    with pytest.raises(WSManFaultError) as caught:
        protocol.send_command_input(shell, command, b"x", end=True)
    assert caught.value.wsman_fault_code == 232
    protocol.close_shell(shell, close_session=False)


@pytest.mark.parametrize("what", [What.RESET, What.CLOSE, What.HANG])
def test_a_connection_that_is_no_good_from_the_start(host, what):
    """Over HTTP: ssl leaves a socket open that was reset before it is wrapped, and warns of it later."""
    host.schedule.add(Fault("connect", what))
    protocol = client(host)
    with impatient(protocol), pytest.raises(requests.exceptions.RequestException):
        run(protocol, "hostname")
    protocol.transport.close_session()
    assert run(client(host), "hostname") == GOOD


def test_a_client_whose_first_login_broke_off_sends_the_next_message_in_the_clear(host):
    """What pywinrm does: a connection object is of no use after a failure, and the host refuses what it says."""
    host.schedule.add(Fault("connect", What.CLOSE))
    protocol = client(host, message_encryption="always")
    with pytest.raises(requests.exceptions.ConnectionError):
        protocol.open_shell()
    with pytest.raises(WinRMTransportError) as caught:
        protocol.open_shell()
    assert (caught.value.code, caught.value.response_text) == (500, "")
    assert host.schedule.counts.get("Create", 0) == 0
    assert host.settings.in_the_clear == 1
    protocol.transport.close_session()


def test_faults_are_counted_from_when_they_were_added():
    schedule = Schedule()
    assert schedule.next("Receive") is None
    second = Fault("Receive", What.RESET, nth=2)
    always = Fault("any", What.EMPTY_500, nth=3, times=ALWAYS)
    schedule.add(second, always)
    points: tuple[Point, ...] = ("Receive", "Receive", "Create", "connect", "Receive")
    assert [schedule.next(point) for point in points] == [None, second, always, None, always]
    assert schedule.met() == [second, always, always]
    schedule.clear()
    assert schedule.next("Create") is None
    with pytest.raises(ValueError, match="nothing was asked yet"):
        schedule.add(Fault("connect", What.TIMED_OUT))
    assert What.TIMED_OUT not in AT_CONNECT


def test_all_that_can_go_wrong_is_tried_here():
    """A kind of fault that no test names is one that nobody knows to work."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert [what.name for what in What if f"What.{what.name}" not in text] == []
