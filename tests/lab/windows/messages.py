"""WS-Management's envelopes: what a request asks for, and how answers are written."""

import re
import uuid
from dataclasses import dataclass
from typing import Literal, get_args
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import ParseError, fromstring

from tests.lab.windows import wsman_faults

Operation = Literal["Identify", "Create", "Command", "Send", "Receive", "Signal", "Delete"]
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CMD = f"{SHELL}/cmd"
_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
FAULT = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
_IDENTITY = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
ACTIONS: dict[str, Operation] = {
    f"{_TRANSFER if name in {'Create', 'Delete'} else SHELL}/{name}": name
    for name in get_args(Operation)
    if name != "Identify"
}
NAMES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "x": _TRANSFER,
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": SHELL,
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "wsmid": _IDENTITY,
}
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
MAX_WAIT_SECONDS = 60.0
"""MaxTimeoutms: no operation takes longer, whatever it asks for."""
_DURATION = re.compile(r"P(?:0+Y)?(?:0+M)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


@dataclass(frozen=True)
class Message:
    """A request, as far as it matters."""

    operation: Operation
    action: str
    message_id: str
    resource: str
    shell_id: str
    options: dict[str, str]
    wait_seconds: float
    max_envelope: int
    body: Element

    def find(self, path: str) -> Element | None:
        return self.body.find(path, NAMES)

    def text(self, path: str) -> str:
        return self.body.findtext(path, "", NAMES) or ""


def seconds(duration: str) -> float | None:
    """The length of an XML duration such as PT20S or PT1M; None: it is none."""
    found = _DURATION.fullmatch(duration.strip())
    if not found or not any(found.groups()):
        return None
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (86400, 3600, 60, 1), strict=True))


def parse(envelope: bytes) -> Message:
    """What a request asks for.

    Raises:
        WSManFault: it is no envelope, or asks for what there is not.
    """
    try:
        root: Element = fromstring(envelope)
    except (ParseError, ValueError) as error:
        raise wsman_faults.bad_schema() from error
    header, body = (root.find(f"s:{name}", NAMES) for name in ("Header", "Body"))
    if header is None or body is None:
        raise wsman_faults.bad_schema()
    if body.find("wsmid:Identify", NAMES) is not None:
        return Message("Identify", "", "", "", "", {}, MAX_WAIT_SECONDS, 0, body)
    action = (header.findtext("a:Action", "", NAMES) or "").strip()
    if action not in ACTIONS:
        raise wsman_faults.unknown_action(action)
    selectors = {
        each.get("Name", "").lower(): (each.text or "").strip() for each in header.iterfind(".//w:Selector", NAMES)
    }
    wait = seconds(header.findtext("w:OperationTimeout", "", NAMES) or "")
    size = header.findtext("w:MaxEnvelopeSize", "", NAMES) or ""
    return Message(
        ACTIONS[action],
        action,
        (header.findtext("a:MessageID", "", NAMES) or "").strip(),
        (header.findtext("w:ResourceURI", "", NAMES) or "").strip(),
        selectors.get("shellid", ""),
        {each.get("Name", ""): (each.text or "").strip() for each in header.iterfind(".//w:Option", NAMES)},
        min(wait if wait is not None else MAX_WAIT_SECONDS, MAX_WAIT_SECONDS),
        int(size) if size.isdigit() else 153_600,
        body,
    )


def envelope(action: str, relates_to: str, body: str) -> bytes:
    """An answer."""
    names = " ".join(f'xmlns:{short}="{uri}"' for short, uri in NAMES.items() if short != "wsmid")
    related = f"<a:RelatesTo>{relates_to}</a:RelatesTo>" if relates_to else ""
    return (
        f'<s:Envelope xml:lang="en-US" {names}><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{ANONYMOUS}</a:To>{related}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def identity(version: str) -> bytes:
    """The answer to Identify."""
    return (
        f'<s:Envelope xml:lang="en-US" xmlns:s="{NAMES["s"]}"><s:Header/><s:Body>'
        f'<wsmid:IdentifyResponse xmlns:wsmid="{_IDENTITY}">'
        "<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
        "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
        f"<wsmid:ProductVersion>{version}</wsmid:ProductVersion></wsmid:IdentifyResponse></s:Body></s:Envelope>"
    ).encode()
