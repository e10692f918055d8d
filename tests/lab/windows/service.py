"""The WS-Management service of a host: what it does for each message."""

import base64
import binascii
from collections.abc import Callable
from xml.sax.saxutils import escape

from tests.lab.windows import messages, wsman_faults
from tests.lab.windows.accounts import Logon
from tests.lab.windows.messages import CMD, NAMES, SHELL, Message
from tests.lab.windows.ports import ADDRESS
from tests.lab.windows.shells import Caller, Command, Received, Shell, Shells
from tests.lab.windows.wsman_faults import WSManFault

MAX_ENVELOPE = 500 * 1024
"""MaxEnvelopeSizekb: what a host takes."""
_AROUND = 4096
"""What an envelope needs besides the output in it."""

Reply = tuple[int, bytes]


class Service:
    """Answers messages. It knows nothing of connections."""

    def __init__(self, name: str, version: str, shells: Shells, address: Callable[[], str]) -> None:
        """`address` is where the host says that its shells are."""
        self.name = name
        self.version = version
        self.shells = shells
        self._address = address

    def answer(self, message: Message, logon: Logon, caller: Caller) -> Reply:
        """Do what a message asks for; `caller` is who sent it."""
        try:
            return 200, self._act(message, logon, caller)
        except WSManFault as fault:
            return self.fault(fault, message.message_id)

    def identify(self, *, known: bool) -> Reply:
        """What it is; strangers learn no version."""
        return 200, messages.identity(f"OS: {self.version if known else '0.0.0'} SP: 0.0 Stack: 3.0")

    def fault(self, fault: WSManFault, relates_to: str) -> Reply:
        return 500, messages.envelope(messages.FAULT, relates_to, fault.body(self.name))

    def _act(self, message: Message, logon: Logon, caller: Caller) -> bytes:
        if message.operation == "Identify":
            return self.identify(known=True)[1]
        if not logon.account.administrator:
            raise wsman_faults.access_denied()
        if message.resource != CMD:
            raise wsman_faults.unknown_resource(message.resource)
        if message.operation == "Create":
            body = self._create(message, logon, caller)
        else:
            body = self._on_shell(message, self.shells.find(message.shell_id, logon.account), caller)
        return messages.envelope(f"{message.action}Response", message.message_id, body)

    def _create(self, message: Message, logon: Logon, caller: Caller) -> str:
        timeout = message.text("rsp:Shell/rsp:IdleTimeOut")
        idle = messages.seconds(timeout) if timeout else None
        if timeout and idle is None:
            raise wsman_faults.bad_schema()
        variables = message.body.iterfind("rsp:Shell/rsp:Environment/rsp:Variable", NAMES)
        environment = {each.get("Name", ""): each.text or "" for each in variables}
        shell = self.shells.create(logon.account, message.options, environment, idle, caller)
        selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell.id}</w:Selector></w:SelectorSet>'
        uri = f"<w:ResourceURI>{CMD}</w:ResourceURI>"
        return (
            f"<x:ResourceCreated><a:Address>{self._address()}</a:Address>"
            f"<a:ReferenceParameters>{uri}{selector}</a:ReferenceParameters></x:ResourceCreated>"
            f"<rsp:Shell><rsp:ShellId>{shell.id}</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri>"
            f"<rsp:Owner>{escape(self.name)}\\{escape(logon.account.user)}</rsp:Owner>"
            f"<rsp:ClientIP>{ADDRESS}</rsp:ClientIP><rsp:IdleTimeOut>PT{shell.idle_seconds:.3f}S</rsp:IdleTimeOut>"
            "<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"
            "<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
        )

    def _on_shell(self, message: Message, shell: Shell, caller: Caller) -> str:
        match message.operation:
            case "Command":
                return self._command(message, shell, caller)
            case "Send":
                return self._send(message, shell)
            case "Receive":
                return self._receive(message, shell, caller)
            case "Signal":
                return self._signal(message, shell)
            case _:
                self.shells.delete(shell)
                return ""

    def _command(self, message: Message, shell: Shell, caller: Caller) -> str:
        name = message.text("rsp:CommandLine/rsp:Command")
        arguments = [each.text or "" for each in message.body.iterfind("rsp:CommandLine/rsp:Arguments", NAMES)]
        if not name.strip():
            raise wsman_faults.invalid_parameter()
        skip = message.options.get("WINRS_SKIP_CMD_SHELL", "FALSE").upper() == "TRUE"
        command = self.shells.start(shell, " ".join([name, *arguments]), caller, skip_cmd=skip)
        return f"<rsp:CommandResponse><rsp:CommandId>{command.id}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, message: Message, shell: Shell) -> str:
        for stream in message.body.iterfind("rsp:Send/rsp:Stream", NAMES):
            command = _command_of(shell, stream.get("CommandId", ""))
            try:
                data = base64.b64decode(stream.text or "", validate=True)
            except binascii.Error as error:
                raise wsman_faults.bad_schema() from error
            if not command.running:
                raise wsman_faults.pipe_closed()
            if not command.stdin.write(data, end=stream.get("End", "").lower() == "true"):
                raise wsman_faults.invalid_parameter()
        return "<rsp:SendResponse/>"

    def _receive(self, message: Message, shell: Shell, caller: Caller) -> str:
        wanted = message.find("rsp:Receive/rsp:DesiredStream")
        if wanted is None:
            raise wsman_faults.bad_schema()
        command = _command_of(shell, wanted.get("CommandId", ""))
        size = (min(message.max_envelope, MAX_ENVELOPE) - _AROUND) * 3 // 4
        received = command.receive(size, message.wait_seconds, caller)
        return f"<rsp:ReceiveResponse>{output(command.id, received)}</rsp:ReceiveResponse>"

    def _signal(self, message: Message, shell: Shell) -> str:
        signal = message.find("rsp:Signal")
        code = message.text("rsp:Signal/rsp:Code").rsplit("/", 1)[-1].lower()
        command = _command_of(shell, signal.get("CommandId", "") if signal is not None else "")
        if code == "terminate":
            command.end()
            del shell.commands[command.id]
        elif code in {"ctrl_c", "ctrl_break"}:
            command.interrupt()
        else:
            raise wsman_faults.invalid_parameter()
        return "<rsp:SignalResponse/>"


def _command_of(shell: Shell, command_id: str) -> Command:
    command = shell.commands.get(command_id.upper())
    if command is None:
        raise wsman_faults.command_not_found()
    return command


def output(command_id: str, received: Received) -> str:
    """What a Receive took, as elements of its answer."""
    parts = [
        f'<rsp:Stream Name="{name}" CommandId="{command_id}">{base64.b64encode(data).decode()}</rsp:Stream>'
        for name, data in received.pieces
    ]
    if received.exit_code is None:
        parts.append(f'<rsp:CommandState CommandId="{command_id}" State="{SHELL}/CommandState/Running"/>')
        return "".join(parts)
    parts += [f'<rsp:Stream Name="{name}" CommandId="{command_id}" End="true"/>' for name in ("stdout", "stderr")]
    code = received.exit_code if received.exit_code < 2**31 else received.exit_code - 2**32
    state = f'<rsp:CommandState CommandId="{command_id}" State="{SHELL}/CommandState/Done">'
    return "".join([*parts, state, f"<rsp:ExitCode>{code}</rsp:ExitCode></rsp:CommandState>"])
