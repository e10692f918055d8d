"""Remote shells of the Windows host for tests: what commands are sent and leave, and what ends them, by pywinrm."""

import base64
import threading
import time
import xml.etree.ElementTree as ET

import pytest
import requests
from winrm.exceptions import WinRMOperationTimeoutError, WSManFaultError

from tests.lab.windows.accounts import Account
from tests.lab.windows.certificates import Authority
from tests.lab.windows.executor import Script
from tests.lab.windows.messages import SHELL
from tests.lab.windows.noise import Noise
from tests.lab.windows.shells import CMD_LIMIT, PROCESS_LIMIT, Quotas, split
from tests.lab.windows.windows_host import ADMINISTRATOR
from tests.support.winrm_client import POWERSHELL, client, impatient, run, scripted

SCRIPTS = {
    "powershell": Script((b"{stdin}",), exit_code=3, reads=True),
    "long": Script((b"x" * 300_000, b"y" * 100), (b"e",)),
    "hangs": Script((b"begun",), hangs=True),
    "negative": Script(exit_code=2**32 - 5),
    "hostname": Script((b"WIN1",)),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def host(tmp_path, authority):
    with scripted(
        "WIN1", tmp_path, SCRIPTS, authority=authority, accounts=[ADMINISTRATOR, Account("other", "o")]
    ) as it:
        yield it


@pytest.fixture
def protocol(host):
    """A connection over basic: as good as any, and the quickest."""
    made = client(host, "basic", https=True)
    yield made
    made.transport.close_session()


def started(protocol, line="hangs"):
    shell = protocol.open_shell()
    return shell, protocol.run_command(shell, line)


def fault(call, *arguments, **options):
    with pytest.raises(WSManFaultError) as caught:
        call(*arguments, **options)
    return caught.value


def test_a_command_gets_all_its_input_and_its_output_and_exit_code_come_back(protocol):
    sent = base64.b64encode(bytes(range(256)) * 3000)
    assert run(protocol, POWERSHELL, sent) == (sent, b"", 3)


def test_the_executor_is_given_arguments_input_and_logon(host, protocol):
    run(protocol, 'powershell.exe -File "C:\\a b.ps1" -EncodedCommand QQA=', b"in")
    expected = ("powershell.exe", "-File", "C:\\a b.ps1", "-EncodedCommand", "QQA=")
    assert host.shells.executor.calls == [(expected, b"in", "network")]


def test_output_comes_in_pieces_that_fit_an_envelope(protocol):
    shell, command = started(protocol, "long")
    sizes, answers = [], [b""]
    send = protocol.transport.send_message

    def listen(message):
        answers.append(send(message))
        return answers[-1]

    protocol.transport.send_message = listen
    done, stderr = False, b""
    while not done:
        out, err, code, done = protocol.get_command_output_raw(shell, command)
        sizes.append(len(out))
        stderr += err
    assert (sum(sizes), stderr, code) == (300_100, b"e", 0)
    assert len(sizes) >= 3
    assert max(map(len, answers)) <= 153_600


@pytest.mark.parametrize(
    ("length", "skip_cmd", "fits"),
    [
        (CMD_LIMIT, False, True),
        (CMD_LIMIT + 1, False, False),
        (CMD_LIMIT + 1, True, True),
        (PROCESS_LIMIT, True, True),
        (PROCESS_LIMIT + 1, True, False),
    ],
)
def test_a_command_line_that_is_too_long_is_not_run(host, protocol, length, skip_cmd, fits):
    line = "hostname ".ljust(length, "x")
    expected = (b"WIN1", b"", 0) if fits else (b"", b"The command line is too long.\r\n", 1)
    assert run(protocol, line, skip_cmd=skip_cmd) == expected
    assert len(host.shells.executor.calls) == fits


def test_an_unknown_program_and_a_negative_exit_code(protocol):
    output = run(protocol, "nonsense")
    assert (output.exit_code, b"is not recognized" in output.stderr) == (9009, True)
    assert run(protocol, "negative").exit_code == -5


def test_receive_waits_for_output_and_no_longer_than_it_was_told(host):
    protocol = client(host, "basic", https=True, operation_timeout_sec=1)
    shell, command = started(protocol)
    assert protocol.get_command_output_raw(shell, command) == (b"begun", b"", -1, False)
    begun = time.monotonic()
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    assert time.monotonic() - begun >= 1
    protocol.close_shell(shell)


def test_a_command_that_is_told_to_terminate_is_gone_and_one_that_is_interrupted_tells_its_exit_code(protocol):
    shell, command = started(protocol)
    protocol.cleanup_command(shell, command)
    assert "command identifier" in fault(protocol.get_command_output_raw, shell, command).reason
    command = protocol.run_command(shell, "hangs")
    message = protocol.build_wsman_header(f"{SHELL}/Signal", f"{SHELL}/cmd", shell)
    names = {"rsp": SHELL, "env": "http://www.w3.org/2003/05/soap-envelope"}
    body = f'<rsp:Signal CommandId="{command}"><rsp:Code>{SHELL}/signal/ctrl_c</rsp:Code></rsp:Signal>'
    header = "".join(
        [
            f'<a:Action xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing">{SHELL}/Signal</a:Action>',
            '<w:ResourceURI xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">',
            f"{message['env:Header']['w:ResourceURI']['#text']}</w:ResourceURI>",
            '<w:SelectorSet xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">',
            f'<w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>',
        ]
    )
    declared = " ".join(f'xmlns:{short}="{uri}"' for short, uri in names.items())
    protocol.send_message(
        f"<env:Envelope {declared}><env:Header>{header}</env:Header><env:Body>{body}</env:Body></env:Envelope>"
    )
    assert protocol.get_command_output(shell, command)[2] == 0xC000013A - 2**32


def test_a_new_connection_goes_on_with_a_command_of_an_old_one(host):
    release = threading.Event()
    host.shells.executor.scripts = {"waits": Script((b"before",), release=release)}
    first = client(host)
    shell, command = started(first, "waits")
    assert first.get_command_output_raw(shell, command)[0] == b"before"
    host.drop_connections()
    with pytest.raises(requests.exceptions.ConnectionError):
        first.get_command_output_raw(shell, command)
    release.set()
    second = client(host)
    assert second.get_command_output(shell, command) == (b"", b"", 0)
    second.close_shell(shell)
    first.transport.close_session()


def test_a_client_that_hung_up_takes_no_output_with_it(host):
    """Its Receive waits at the host still, when another connection asks for the same."""
    release = threading.Event()
    host.shells.executor.scripts = {"waits": Script((), release=release)}
    first = client(host, "basic", https=True)
    shell, command = started(first, "waits")
    with impatient(first), pytest.raises(requests.exceptions.ReadTimeout):
        first.get_command_output_raw(shell, command)
    first.transport.close_session()
    release.set()
    second = client(host, "basic", https=True)
    assert second.get_command_output(shell, command) == (b"", b"", 0)
    second.close_shell(shell)


def test_two_cannot_read_from_one_command_at_once(host, protocol):
    shell, command = started(protocol, "hangs")
    protocol.get_command_output_raw(shell, command)
    waiting = client(host, "basic", https=True)
    told: list[WSManFaultError] = []
    thread = threading.Thread(target=lambda: told.append(fault(waiting.get_command_output_raw, shell, command)))
    thread.start()
    while host.schedule.counts["Receive"] < 2 or not host.shells.open[0].commands[command]._receiver:
        time.sleep(0.01)
    assert fault(protocol.get_command_output_raw, shell, command).wsman_fault_code == 2150858802
    protocol.close_shell(shell)
    thread.join()
    assert [each.wsman_fault_code for each in told] == [995]
    waiting.transport.close_session()


def test_unknown_shells_and_unknown_commands_have_one_code_and_different_words(protocol):
    shell, _ = started(protocol)
    unknown = "11111111-1111-1111-1111-111111111111"
    no_shell = fault(protocol.run_command, unknown, "hostname")
    no_command = fault(protocol.get_command_output_raw, shell, unknown)
    assert {no_shell.wsman_fault_code, no_command.wsman_fault_code} == {2150858843}
    assert unknown in no_shell.reason
    assert "command identifier that does not exist" in no_command.reason
    protocol.close_shell(shell)
    assert fault(protocol.close_shell, shell, close_session=False).wsman_fault_code == 2150858843


def test_a_finished_command_tells_its_end_once(protocol):
    shell, command = started(protocol, "hostname")
    assert protocol.get_command_output(shell, command)[2] == 0
    assert "has completed execution" in fault(protocol.get_command_output_raw, shell, command).reason


def test_a_shell_belongs_to_who_opened_it(host, protocol):
    shell = protocol.open_shell()
    other = client(host, "basic", https=True, username="other", password="o")
    assert fault(other.run_command, shell, "hostname").wsman_fault_code == 5
    other.transport.close_session()


def test_the_quotas_hold_and_a_closed_shell_makes_room(host, protocol):
    host.shells.quotas = Quotas(shells=2, operations=3, processes=2)
    shell, first = started(protocol)
    protocol.run_command(shell, "hangs")
    assert fault(protocol.run_command, shell, "hangs").wsman_fault_code == 2150859241
    protocol.cleanup_command(shell, first)
    protocol.run_command(shell, "hostname")
    second = protocol.open_shell()
    told = fault(protocol.run_command, second, "hostname")  # commands that have ended count as well
    assert (told.wsman_fault_code, "maximum number of 3 concurrent operations" in told.reason) == (2150859174, True)
    told = fault(protocol.open_shell)
    assert (told.wsman_fault_code, "maximum number of 2 concurrent shells" in told.reason) == (2150859173, True)
    protocol.close_shell(shell, close_session=False)
    assert protocol.run_command(second, "hostname")
    assert protocol.open_shell()


def test_a_shell_that_nobody_uses_is_gone_after_its_idle_time(host, protocol):
    idle, usual, busy = protocol.open_shell(idle_timeout="PT600S"), protocol.open_shell(), protocol.open_shell()
    command = protocol.run_command(busy, "hangs")
    host.shells.clock = lambda: time.monotonic() + 601
    assert fault(protocol.run_command, idle, "hostname").wsman_fault_code == 2150858843
    assert protocol.run_command(usual, "hostname")
    host.shells.clock = lambda: time.monotonic() + 7200 + 601 + 1
    assert fault(protocol.run_command, usual, "hostname").wsman_fault_code == 2150858843
    assert protocol.get_command_output_raw(busy, command)[0] == b"begun"
    assert fault(protocol.open_shell, idle_timeout="7200").fault_subcode == "w:SchemaValidationError"
    assert fault(protocol.open_shell, idle_timeout="P40D").wsman_fault_code == 2150859250


def test_options_and_environment_of_a_shell_are_kept(host, protocol):
    protocol.open_shell(codepage=65001, noprofile=True, env_vars={"A": "b c"})
    (shell,) = host.shells.open
    assert shell.options == {"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": "65001"}
    assert shell.environment == {"A": "b c"}


def test_a_reboot_loses_shells_closes_the_ports_and_keeps_their_numbers(host, protocol):
    shell, command = started(protocol)
    ports = host.http_port, host.https_port
    host.power_off()
    with pytest.raises(requests.exceptions.ConnectionError):
        protocol.get_command_output_raw(shell, command)
    with pytest.raises(requests.exceptions.ConnectionError, match="refused"):
        protocol.open_shell()
    host.power_on()
    assert (host.boots, (host.http_port, host.https_port)) == (2, ports)
    assert fault(protocol.get_command_output_raw, shell, command).wsman_fault_code == 2150858843
    assert run(protocol, "hostname").exit_code == 0


def test_the_host_says_what_it_is_and_strangers_learn_no_version(host, protocol):
    session = requests.Session()
    session.trust_env = False
    with session:
        stranger = session.post(host.http_url.replace("/wsman", "/wsman-anon/identify"))
    assert b"Microsoft Corporation" in stranger.content
    assert b"OS: 0.0.0" in stranger.content
    envelope = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><i:Identify xmlns:i='
    uri = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
    assert b"OS: 10.0.20348" in protocol.send_message(f'{envelope}"{uri}"/></s:Body></s:Envelope>')


def test_messages_that_make_no_sense_are_faults(protocol):
    assert fault(protocol.send_message, "<no").fault_subcode == "w:SchemaValidationError"
    assert fault(protocol.send_message, "<a/>").fault_subcode == "w:SchemaValidationError"
    shell = protocol.open_shell()
    assert fault(protocol.run_command, shell, " ").wsman_fault_code == 87
    header = {"env:Envelope": protocol.build_wsman_header("http://x/y", "http://z")}["env:Envelope"]["env:Header"]
    assert header["a:Action"]["#text"] == "http://x/y"
    big = base64.b64encode(b"x" * 400_000).decode()
    assert fault(protocol.send_command_input, shell, "x", big).fault_subcode == "w:EncodingLimit"


def test_output_is_as_odd_as_on_real_hosts(tmp_path, authority):
    text = "".join(f"{{{n}: 'grün €'}}\n" for n in range(3000)).encode()
    scripts = {"powershell": Script((text,))}
    with scripted("WIN1", tmp_path, scripts, authority=authority, noise=Noise()) as host:
        output = run(client(host, "basic", https=True), POWERSHELL)
        assert output.stdout == text.replace(b"\n", b"\r\n")
        start, _, rest = output.stderr.partition(b"\r\n")
        assert start == b"#< CLIXML"
        assert ET.fromstring(rest).tag.endswith("Objs")
        pieces = list(host.shells.noise.pieces(text))
        assert any(not piece.endswith(b"\n") for piece in pieces)
        assert b"".join(pieces) == output.stdout
        assert pieces == list(host.shells.noise.pieces(text))


def test_a_command_line_is_split_at_blanks_outside_of_quotes():
    assert split('a  "b c" d"e f"g ""') == ["a", "b c", "de fg", ""]
