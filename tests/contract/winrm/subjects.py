"""What the tests of the WinRM transport share: a Windows host whose PowerShell is a table of answers."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.machine import (
    Inventory,
    Machine,
    OsFamily,
    TransportKind,
    WinrmAuthentication,
    WinrmScheme,
    WinrmSettings,
)
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.session import Session
from tasks.machines.transport.session_factory import build_session
from tests.lab.windows.accounts import Account
from tests.lab.windows.executor import Cancelled, OnOutput, Stdin
from tests.lab.windows.windows_host import WindowsHost

CLOCK = SystemClock()
NTLM, BASIC = WinrmAuthentication.NTLM, WinrmAuthentication.BASIC
GUEST = Account("guest", "guest", administrator=False)


@dataclass
class PowerShellTable:
    """Answers as PowerShell would, by a word of the script.

    Attributes:
        denied: nothing is executed, as if a virus scanner prevented it: nobody reads the input.
        gates: a script "wait NAME" ends when the gate is open.
        runs: the words of the scripts that were executed, in order.
    """

    denied: bool = False
    gates: dict[str, threading.Event] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)

    def gate(self, name: str) -> threading.Event:
        return self.gates.setdefault(name, threading.Event())

    def run(self, arguments: Sequence[str], stdin: Stdin, logon: str, on_output: OnOutput) -> int:
        """See Executor."""
        if not self.denied:
            return self._answer(stdin, on_output)
        on_output("stderr", b"Access is denied.\r\n")
        return 1

    def _answer(self, stdin: Stdin, on_output: OnOutput) -> int:
        payload = json.loads(stdin.read())
        script = payload["script"].partition("\ntry {\n")[2].partition("\n} catch")[0]
        verb, _, argument = script.partition(" ")
        self.runs.append(script)
        answer = _Answer(payload["mark"], on_output)
        if verb == "crash":
            return 5
        if verb == "wait":
            answer.record({"kind": "begun"})
            self._wait(argument, stdin)
        elif verb == "count":
            for number in range(int(argument)):
                answer.record({"kind": "number", "value": number, "text": "x" * 100})
        elif verb == "pour":
            for _ in range(int(argument)):
                on_output("stderr", b"y" * 1_000_000)
        elif verb == "say":
            answer.record({"kind": "said", **{key: value[1:] for key, value in payload["params"].items()}})
        answer.end(0)
        return 0

    def _wait(self, name: str, stdin: Stdin) -> None:
        while not self.gate(name).wait(0.02):
            if stdin.cancelled:
                raise Cancelled


@dataclass
class _Answer:
    mark: str
    on_output: OnOutput
    length: int = 0

    def record(self, record: Mapping[str, object]) -> None:
        line = json.dumps(record)
        self.length += len(line)
        self.on_output("stdout", f"{self.mark}= {line}\n".encode())

    def end(self, code: int) -> None:
        self.on_output("stdout", f"\n{self.mark}! {code} {self.length}\n".encode())


def scripts(name: str, package: str = "") -> str:
    """The script's name is its text."""
    return name


def ask(script: str, *, read_only: bool = True, **params: str) -> Script:
    return Script(script, params, read_only=read_only)


def machine(
    host: WindowsHost, how: WinrmAuthentication = WinrmAuthentication.NTLM, *, https: bool = True, **winrm: object
) -> Machine:
    """The host in an inventory; over HTTPS it is trusted by its CA unless something else is given."""
    if https and not winrm.keys() & {"ca_file", "certificate_thumbprint"}:
        winrm["ca_file"] = host.ca_file
    if how is WinrmAuthentication.CERTIFICATE:
        winrm.setdefault("client_certificate", host.client_certificate().chain)
    scheme = WinrmScheme.HTTPS if https else WinrmScheme.HTTP
    return Machine(
        host.name,
        host.address,
        port=host.https_port if https else host.http_port,
        transport=TransportKind.WINRM,
        os=OsFamily.WINDOWS,
        user=host.user,
        credential="env:PASSWORD",
        winrm=WinrmSettings(scheme=scheme, authentication=how, **winrm),  # type: ignore[arg-type]
    )


def session(
    one: Machine,
    password: str,
    *,
    key: Path | None = None,
    guard: LockoutGuard | None = None,
    resolve: Callable[[str], Credential] | None = None,
) -> Session:
    """A session to it, with scripts that are their own names."""
    kind = CredentialKind.KEY if key else CredentialKind.PASSWORD
    credential = Credential(kind, key, None if key else Secret(password))
    return build_session(
        one,
        Inventory((one,)),
        clock=CLOCK,
        resolve_credential=resolve or (lambda _: credential),
        lockout_guard=guard,
        script_loader=scripts,
    )


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def values(result: ScriptResult) -> list[object]:
    return [record["value"] for record in result.find_records("number")]
