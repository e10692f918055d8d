"""pywinrm as a client of the Windows host for tests: another hand's code judges what that host says."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from winrm.protocol import Protocol

from tests.lab.windows.executor import Script, ScriptedExecutor
from tests.lab.windows.noise import QUIET
from tests.lab.windows.windows_host import Options, WindowsHost

POWERSHELL = "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand QQA="


class Output(NamedTuple):
    """What a command left."""

    stdout: bytes
    stderr: bytes
    exit_code: int


def client(host: WindowsHost, transport: str = "ntlm", *, https: bool = False, **options: Any) -> Protocol:
    """A connection that is not open yet; never through a proxy, and with the host's own authority."""
    given: dict[str, Any] = {
        "transport": transport,
        "username": host.user,
        "password": host.password,
        "ca_trust_path": str(host.ca_file),
        "proxy": "",  # with None, each message changes the environment for a moment, in all threads
        "operation_timeout_sec": 20,
        "read_timeout_sec": 60,
    }
    if transport == "certificate":
        certificate = host.client_certificate()
        given |= {"cert_pem": str(certificate.chain), "cert_key_pem": str(certificate.key)}
    return Protocol(host.https_url if https else host.http_url, **(given | options))


def run(
    protocol: Protocol, command: str, stdin: bytes | None = None, *, skip_cmd: bool = False, piece: int = 200_000
) -> Output:
    """Run a command in a shell of its own."""
    shell = protocol.open_shell(codepage=65001)
    try:
        started = protocol.run_command(shell, command, console_mode_stdin=False, skip_cmd_shell=skip_cmd)
        if stdin is not None:
            for start in range(0, max(len(stdin), 1), piece):
                end = start + piece >= len(stdin)
                protocol.send_command_input(shell, started, stdin[start : start + piece], end=end)
        output = Output(*protocol.get_command_output(shell, started))
        protocol.cleanup_command(shell, started)
        return output
    finally:
        protocol.close_shell(shell, close_session=True)


@contextlib.contextmanager
def impatient(protocol: Protocol) -> Iterator[None]:
    """Wait for no more than a moment for answers that never come."""
    transport: Any = protocol.transport  # it takes a whole number, and hands it to requests, which takes others
    transport.read_timeout_sec, before = 0.5, transport.read_timeout_sec
    try:
        yield
    finally:
        transport.read_timeout_sec = before


def scripted(name: str, folder: Path, scripts: dict[str, Script], **fields: Any) -> WindowsHost:
    """A host whose programs are scripts, without the noise of real ones unless it is asked for."""
    shared = {key: fields.pop(key) for key in ("authority",) if key in fields}
    options = Options(**({"noise": QUIET} | fields))
    return WindowsHost(name, folder, ScriptedExecutor(scripts), options=options, **shared)
