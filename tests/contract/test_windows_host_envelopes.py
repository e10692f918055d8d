"""Envelopes: every client's way to write a request is understood, and answers have all that a real host's have.

What is written here follows recordings that others have published: requests of pywinrm (winrm/tests/conftest.py), of
masterzen/winrm (request.go: CDATA, an argument an element, End only at the end) and of other clients; answers of real
hosts in masterzen/winrm (fixture_test.go) and pywinrm (winrm/tests/test_exceptions.py).
"""

import base64
import threading
from xml.etree import ElementTree

import pytest

from tests.lab.windows import wsman_faults
from tests.lab.windows.accounts import Logon
from tests.lab.windows.executor import Script, ScriptedExecutor
from tests.lab.windows.messages import CMD, NAMES, SHELL, parse, seconds
from tests.lab.windows.noise import QUIET
from tests.lab.windows.service import Service
from tests.lab.windows.shells import ClientGone, Quotas, Shells
from tests.lab.windows.windows_host import ADMINISTRATOR

TRANSFER = NAMES["x"]


class Caller:
    """A client that waits for its answer."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def gone(self) -> bool:
        return self.ended.is_set()


@pytest.fixture
def service():
    executor = ScriptedExecutor({"ipconfig": Script((b"out {stdin}",), (b"err",), exit_code=2, reads=True)})
    shells = Shells(Quotas(), executor, QUIET)
    yield Service("WIN1", "10.0.20348", shells, lambda: "http://win1:5985/wsman")
    shells.lose_all()


def request(action: str, body: str = "", *, shell: str = "", soap: str = "s", header: str = "") -> bytes:
    """A request with the prefixes of one client or another."""
    names = " ".join(f'xmlns:{short}="{uri}"' for short, uri in (NAMES | {soap: NAMES["s"]}).items())
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>' if shell else ""
    return (
        f'<?xml version="1.0" encoding="utf-8"?><{soap}:Envelope {names}><{soap}:Header>'
        '<a:To>http://win1:5985/wsman</a:To><a:ReplyTo><a:Address mustUnderstand="true">'
        "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>"
        f'<a:MessageID>uuid:11111111-1111-1111-1111-111111111111</a:MessageID><w:Locale xml:lang="en-US"/>{header}'
        f'<w:ResourceURI mustUnderstand="true">{CMD}</w:ResourceURI>'
        f'<a:Action mustUnderstand="true">{action}</a:Action>{selector}</{soap}:Header>'
        f"<{soap}:Body>{body}</{soap}:Body></{soap}:Envelope>"
    ).encode()


def ask(service, envelope: bytes) -> tuple[int, ElementTree.Element]:
    status, body = service.answer(parse(envelope), Logon(ADMINISTRATOR, "basic"), Caller())
    return status, ElementTree.fromstring(body)


def text(root: ElementTree.Element, path: str) -> str:
    found = root.findtext(path, None, NAMES)
    assert found is not None, f"there is no {path}"
    return found


def wanted(command: str) -> str:
    return f'<rsp:Receive><rsp:DesiredStream CommandId="{command}">stdout stderr</rsp:DesiredStream></rsp:Receive>'


def open_shell(service) -> str:
    return text(ask(service, request(f"{TRANSFER}/Create", "<rsp:Shell/>"))[1], ".//rsp:ShellId")


@pytest.mark.parametrize("soap", ["env", "s", "soap"])
@pytest.mark.parametrize(
    "command",
    [
        "<rsp:Command>ipconfig</rsp:Command><rsp:Arguments>/all /b</rsp:Arguments>",
        "<rsp:Command><![CDATA[ipconfig]]></rsp:Command><rsp:Arguments><![CDATA[/all]]></rsp:Arguments>"
        "<rsp:Arguments><![CDATA[/b]]></rsp:Arguments>",
        '<rsp:Command>"ipconfig" /all "/b"</rsp:Command>',
    ],
)
def test_a_command_may_be_written_in_several_ways(service, soap, command):
    options = '<w:OptionSet><w:Option Name="WINRS_SKIP_CMD_SHELL">FALSE</w:Option></w:OptionSet>'
    shell = open_shell(service)
    line = f"<rsp:CommandLine>{command}</rsp:CommandLine>"
    status, root = ask(service, request(f"{SHELL}/Command", line, shell=shell, soap=soap, header=options))
    started = text(root, "s:Body/rsp:CommandResponse/rsp:CommandId")
    for stream in ('Name="stdin">YQ==', 'Name="stdin" End="true">Yg=='):
        part = stream.replace(">", f' CommandId="{started}">')
        ask(service, request(f"{SHELL}/Send", f"<rsp:Send><rsp:Stream {part}</rsp:Stream></rsp:Send>", shell=shell))
    out, code = b"", ""
    while not code:
        _, root = ask(service, request(f"{SHELL}/Receive", wanted(started.lower()), shell=shell.lower()))
        for piece in root.iterfind(".//rsp:Stream[@Name='stdout']", NAMES):
            out += base64.b64decode(piece.text or "")
        code = root.findtext(".//rsp:ExitCode", "", NAMES)
    assert (status, out, code) == (200, b"out ab", "2")
    (call,) = service.shells.executor.calls
    assert call == (("ipconfig", "/all", "/b"), b"ab", "network")


def test_the_answer_to_create_has_all_that_a_real_one_has(service):
    streams = "<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"
    status, root = ask(service, request(f"{TRANSFER}/Create", f"<rsp:Shell>{streams}</rsp:Shell>"))
    assert status == 200
    assert text(root, "s:Header/a:Action") == f"{TRANSFER}/CreateResponse"
    assert text(root, "s:Header/a:RelatesTo") == "uuid:11111111-1111-1111-1111-111111111111"
    created = "s:Body/x:ResourceCreated"
    assert text(root, f"{created}/a:Address") == "http://win1:5985/wsman"
    selected = text(root, f"{created}/a:ReferenceParameters/w:SelectorSet/w:Selector")
    names = ("ResourceUri", "Owner", "ClientIP", "IdleTimeOut", "InputStreams", "OutputStreams", "ShellRunTime")
    told = {name: text(root, f"s:Body/rsp:Shell/rsp:{name}") for name in ("ShellId", *names, "ShellInactivity")}
    assert told["ShellId"] == selected == selected.upper()
    assert (told["IdleTimeOut"], told["Owner"]) == ("PT7200.000S", "WIN1\\Administrator")


def test_the_answer_to_receive_has_all_that_a_real_one_has(service):
    shell = open_shell(service)
    line = "<rsp:CommandLine><rsp:Command>nonsense</rsp:Command></rsp:CommandLine>"
    started = text(ask(service, request(f"{SHELL}/Command", line, shell=shell))[1], ".//rsp:CommandId")
    ends: list[ElementTree.Element] = []
    while not ends:
        _, root = ask(service, request(f"{SHELL}/Receive", wanted(started), shell=shell))
        ends = root.findall(".//rsp:Stream[@End='true']", NAMES)
    assert {(each.get("Name"), each.get("CommandId")) for each in ends} == {("stdout", started), ("stderr", started)}
    (state,) = root.findall("s:Body/rsp:ReceiveResponse/rsp:CommandState", NAMES)
    assert (state.get("CommandId"), state.get("State")) == (started, f"{SHELL}/CommandState/Done")


def test_a_fault_has_all_that_a_real_one_has(service):
    _, body = service.fault(wsman_faults.timed_out(), "uuid:1")
    root = ElementTree.fromstring(body)
    fault = "s:Body/s:Fault"
    assert text(root, "s:Header/a:Action") == "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
    assert text(root, f"{fault}/s:Code/s:Value") == "s:Receiver"
    assert text(root, f"{fault}/s:Code/s:Subcode/s:Value") == "w:TimedOut"
    reason = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  "
    assert text(root, f"{fault}/s:Reason/s:Text") == reason
    detail = root.find(f"{fault}/s:Detail/{{http://schemas.microsoft.com/wbem/wsman/1/wsmanfault}}WSManFault", NAMES)
    assert detail is not None
    assert detail.attrib == {"Code": "2150858793", "Machine": "WIN1"}


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("PT20S", 20),
        ("PT60.000S", 60),
        ("PT1M", 60),
        ("P1DT1H1M1.5S", 90061.5),
        ("P0Y0M0DT0H5M00S", 300),
        ("P", None),
        ("20", None),
        ("", None),
    ],
)
def test_a_duration_may_be_written_in_several_ways(duration, expected):
    assert seconds(duration) == expected


def test_nothing_starts_for_a_client_whose_connection_was_cut(service):
    """A message that was on its way when the machine lost its power starts nothing in its next boot."""
    caller = Caller()
    shell = service.shells.create(ADMINISTRATOR, {}, {}, None, caller)
    caller.ended.set()
    with pytest.raises(ClientGone):
        service.shells.create(ADMINISTRATOR, {}, {}, None, caller)
    with pytest.raises(ClientGone):
        service.shells.start(shell, "ipconfig", caller, skip_cmd=False)
