"""A service that answers what a real Windows has answered: conversations that others have recorded.

What they say is in tests/data/windows/conversations.json; its README says who recorded it.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.lab.windows import messages
from tests.lab.windows.accounts import Logon
from tests.lab.windows.messages import CMD, SHELL, Message
from tests.lab.windows.service import Reply
from tests.lab.windows.shells import Caller
from tests.lab.windows.wsman_faults import WSManFault

FILE = Path(__file__).parents[2] / "data/windows/conversations.json"
SHELL_ID, COMMAND_ID = "0D6FCA9D-2D40-44C3-B691-E665BE7AA687", "B0973E54-434E-4D99-B4BE-ADE584CE3BFB"
_WSMAN_FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"

Conversation = Mapping[str, Any]


def conversations() -> list[Conversation]:
    """All that were recorded."""
    found: list[Conversation] = json.loads(FILE.read_text())
    return found


class Replay:
    """Answers the requests of one conversation in their order, in place of a Service.

    Attributes:
        unexpected: requests that Windows was not asked there, or that name another shell or command.
        left: what it was asked there, and not here so far.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.left: list[Mapping[str, Any]] = list(conversation["answers"])
        self.unexpected: list[str] = []
        self._form: str = conversation.get("form", "")

    def answer(self, message: Message, logon: Logon, caller: Caller) -> Reply:
        """Say what Windows said to this request; a Send that was not recorded is answered as others were."""
        if message.operation == "Send" and not (self.left and self.left[0]["to"] == "Send"):
            return 200, self._envelope(message, "<rsp:SendResponse/>")
        if not self.left or self.left[0]["to"] != message.operation or not _names_the_recorded(message):
            self.unexpected.append(message.operation)
            return 500, b""
        said = self.left.pop(0)
        if "fault" in said:
            return 500, messages.envelope(messages.FAULT, message.message_id, _fault(said["fault"]))
        return 200, self._envelope(message, said.get("body") or _BODIES[message.operation](said))

    def identify(self, *, known: bool) -> Reply:
        """Say what it is; no conversation has that."""
        return 200, messages.identity("OS: 0.0.0 SP: 0.0 Stack: 3.0")

    def fault(self, fault: WSManFault, relates_to: str) -> Reply:
        """Say that a request was no good; no conversation has that."""
        self.unexpected.append(str(fault))
        return 500, messages.envelope(messages.FAULT, relates_to, fault.body("WIN1"))

    def _envelope(self, message: Message, body: str) -> bytes:
        whole = messages.envelope(f"{message.action}Response", message.message_id, body).decode()
        if self._form:  # as it was recorded by those who laid it out for readers, whose clients took it
            whole = '<?xml version="1.0" ?>\n' + whole.replace("><", ">\n\t<")
        return whole.encode()


def _names_the_recorded(message: Message) -> bool:
    named = [each.get("CommandId") for each in message.body.iter() if each.get("CommandId")]
    return message.operation == "Create" or (message.shell_id == SHELL_ID and set(named) <= {COMMAND_ID})


def _create(said: Mapping[str, Any]) -> str:
    shell = (
        f'<rsp:Shell xmlns:rsp="{SHELL}"><rsp:ShellId>{SHELL_ID}</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri>'
        f"<rsp:Owner>{escape(said['owner'])}</rsp:Owner><rsp:ClientIP>192.0.2.1</rsp:ClientIP>"
        "<rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams>"
        f"<rsp:OutputStreams>{said.get('streams', 'stdout stderr')}</rsp:OutputStreams>"
        "<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
    )
    return (
        "<x:ResourceCreated><a:Address>http://192.0.2.2:5985/wsman</a:Address><a:ReferenceParameters>"
        f'<w:ResourceURI>{CMD}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{SHELL_ID}</w:Selector>'
        f"</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>{shell if said['owner'] else ''}"
    )


def _command(said: Mapping[str, Any]) -> str:
    return f"<rsp:CommandResponse><rsp:CommandId>{COMMAND_ID}</rsp:CommandId></rsp:CommandResponse>"


def _receive(said: Mapping[str, Any]) -> str:
    of = f'CommandId="{COMMAND_ID}"'
    parts = [
        f'<rsp:Stream Name="{name}" {of}>{base64.b64encode(text.encode()).decode()}</rsp:Stream>'
        for name, text in said["streams"]
    ]
    parts += [f'<rsp:Stream Name="{name}" {of} End="true"/>' for name in said.get("ends", ())]
    state = f'<rsp:CommandState {of} State="{SHELL}/CommandState/'
    code = said.get("exit_code")
    end = f"<rsp:ExitCode>{code}</rsp:ExitCode>" if code is not None else ""
    parts.append(f'{state}{"Running" if code is None else "Done"}">{end}</rsp:CommandState>')
    return f"<rsp:ReceiveResponse>{''.join(parts)}</rsp:ReceiveResponse>"


_BODIES = {
    "Create": _create,
    "Command": _command,
    "Send": lambda _: "<rsp:SendResponse/>",
    "Receive": _receive,
    "Signal": lambda _: "<rsp:SignalResponse/>",
    "Delete": lambda _: "",
}


def _fault(said: Mapping[str, Any]) -> str:
    provided, reason = said["text"], said.get("reason", said["text"])
    if "provider" in said:
        provided = f'<f:ProviderFault provider="{said["provider"]}" path="{said["path"]}">{provided}</f:ProviderFault>'
    detail = f"<w:FaultDetail>{said['detail']}</w:FaultDetail>" if "detail" in said else ""
    return (
        f"<s:Fault><s:Code><s:Value>{said['value']}</s:Value><s:Subcode><s:Value>{said['subcode']}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="{said["language"]}">{reason}</s:Text></s:Reason>'
        f'<s:Detail>{detail}<f:WSManFault xmlns:f="{_WSMAN_FAULT}" Code="{said["code"]}" Machine="192.0.2.2">'
        f"<f:Message>{provided}</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
