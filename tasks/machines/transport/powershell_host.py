"""Runs scripts and jobs in PowerShell on Windows, over any channel.

The command line is the same for every script: a bootstrap in base64. It reads stdin, and runs the script that it finds
there. Stdin is ASCII: a JSON object with the script, its parameters, and the mark of framed lines (output_decoder.py
says what they are). So neither code pages nor the limit of 8,191 characters for a command line matter. It is not
compressed: a bootstrap that unpacks a script is what detection rules look for (Elastic's "PowerShell Suspicious Payload
Encoded and Compressed": FromBase64String with GzipStream), and who watches the machine is to see what runs there.
Parameters are never script text: each text has "=" before it, because ConvertFrom-Json makes dates of some texts.
PowerShell writes CLIXML, its own format of objects, to a redirected stderr.
"""

import base64
import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final, NoReturn, Protocol

from tasks.domain.errors import PrivilegeError, ProtocolViolation, RequestError, UnsupportedSystem
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptParameter
from tasks.machines.transport.output_decoder import ScriptOutput, ScriptOutputDecoder, build_frame_mark, generate_nonce
from tasks.machines.transport.script_host import Channel, ScriptHost, find_raw_sections
from tasks.machines.transport.script_library import (
    compose_script,
    find_required_scripts,
    load_windows_script,
    require_valid_param,
)
from tasks.rules.redaction import redact_text

LANGUAGE_MODE_EXIT_CODE: Final = 123
"""The exit code of a PowerShell that runs in constrained language mode, where no script of fleetpatch can run."""

# [Console]::In, not $input: PowerShell reads stdin itself if a command mentions $input. The names are short on purpose:
# a command line has an end. UTF-16 in base64 makes 2.7 characters of each.
_BOOTSTRAP: Final = """\
if("$($ExecutionContext.SessionState.LanguageMode)" -ne 'FullLanguage'){exit 123}
$ErrorActionPreference='Stop'
$ProgressPreference='SilentlyContinue'
try{[Console]::OutputEncoding=New-Object System.Text.UTF8Encoding $false}catch{}
$p=$null
try{
$p=ConvertFrom-Json -InputObject ([Console]::In.ReadToEnd().Trim([char]0xFEFF,[char]32,[char]13,[char]10,[char]9))
$s=[ScriptBlock]::Create($p.script)
}catch{
[Console]::Error.WriteLine("the script was not read: $($_.Exception.Message)")
if($null -ne $p){[Console]::Out.Write("`n$($p.mark)! 122`n")}
exit 122
}
& $s $p
"""

_PRELUDE_PATTERN: Final = re.compile(r"^# Prelude: (\w+)$", re.MULTILINE)
_HEAD: Final = (
    "param($FpRequest)\n$FpParams = $FpRequest.params\n$FpMark = [string]$FpRequest.mark\n$FpJobDirectory = ''"
)


class PowerShellChannel(Channel, Protocol):
    """An open connection that runs command lines as the login. Implementation: winrm/channel.py."""

    def execute(
        self,
        command_line: str,
        stdin: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
        may_be_ended: bool = False,
    ) -> int | None:
        """Run a command line. Decoder, deadline, result and errors are those of a ShellChannel (posix_shell.py).

        ``command_line`` has at most 8,191 characters, because cmd.exe reads it. ``stdin`` is its whole input, in ASCII;
        then its stdin is closed. ``may_be_ended``: it only reads. If it is left running, it is ended by the next
        connection: a machine allows only so many of them.
        """


@cache
def build_command_line() -> str:
    """Return the command line that reads a script from stdin and runs it."""
    encoded = base64.b64encode(_BOOTSTRAP.encode("utf-16-le")).decode("ascii")
    return f"powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {encoded}"


def encode_powershell_params(params: Mapping[str, ScriptParameter]) -> str:
    """Return parameters as JSON in ASCII, as prelude.ps1 reads them.

    Raises:
        RequestError: a name that is not valid, or that another one is except for case; or a value that no script can
            hold (see require_valid_param).
    """
    names: dict[str, str] = {}
    encoded: dict[str, str | list[str]] = {}
    for name, value in params.items():
        require_valid_param(name, value)
        if (namesake := names.setdefault(name.lower(), name)) != name:
            raise RequestError(f"parameters '{namesake}' and '{name}': PowerShell takes them for the same")
        encoded[name] = f"={value}" if isinstance(value, str) else [f"={text}" for text in value]
    return json.dumps(encoded, separators=(",", ":"))


def wrap_powershell_script(script: str) -> str:
    """Return prelude and script: its end is always reported, and errors that it does not catch are records.

    A script whose comment says ``# Prelude: answers`` needs only that part of the prelude. A job's script file has the
    same text: job_run.ps1 sets $FpParams and $FpJobDirectory before it runs it.
    """
    name = next(iter(_PRELUDE_PATTERN.findall(script)), "prelude")
    prelude = compose_script(Script(name), load_windows_script, required_loader=load_windows_script)
    tail = "} catch {\n$FpState.ExitCode = 1\nWrite-FpError $_\n} finally { Write-FpEnd }"
    return f"{prelude}\ntry {{\n{script}\n{tail}\n"


def build_powershell_stdin(script: str, params: Mapping[str, ScriptParameter], nonce: str) -> bytes:
    """Return the stdin for the command line."""
    payload = json.dumps(
        {
            "script": f"{_HEAD}\n{wrap_powershell_script(script)}exit $FpState.ExitCode\n",
            "params": json.loads(encode_powershell_params(params)),
            "mark": build_frame_mark(nonce),
        }
    )
    return payload.encode("ascii")


_DOCUMENT_PATTERN: Final = re.compile(r"#< CLIXML\s*<Objs\b.*?</Objs>|#< CLIXML\s*\Z", re.DOTALL)
_TEXT_PATTERN: Final = re.compile(r'<S S="(?:Error|Warning|Information|Verbose|Debug)">(.*?)</S>', re.DOTALL)
_ESCAPE_PATTERN: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")


def render_clixml(text: str) -> str:
    """Return a text with its CLIXML documents replaced by the messages in them. Progress is left out.

    It does not parse XML: the text comes from a machine, and may be cut.
    """

    def render_document(document: re.Match[str]) -> str:
        lines = "".join(_TEXT_PATTERN.findall(document[0]))
        joined = html.unescape(_ESCAPE_PATTERN.sub(lambda escape: chr(int(escape[1], 16)), lines)).replace("\r\n", "\n")
        # escapes may be half characters
        return joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    return _DOCUMENT_PATTERN.sub(render_document, text).strip("\n") if "#< CLIXML" in text else text


_NOT_FOUND_EXIT_CODES: Final = frozenset({9009, 2, 3})  # of cmd.exe, when there is no powershell.exe
_NOT_READ_EXIT_CODE: Final = 122  # of the bootstrap; Windows PowerShell 2 has no ConvertFrom-Json
_PARAMETERS_OF_SCRIPTS: Final[Mapping[str, Mapping[str, str]]] = {
    "commands": {"policy": "Bypass"},
    "task_start": {"policy": "Bypass"},
    "facts": {"machine_id_key": r"HKLM:\SOFTWARE\Microsoft\Cryptography"},
}
"""By the script that reads them. PowerShell logs each script with such a word as a warning (event 4104), so no script
has them in its text."""
_ANSWER_HINT: Final = (
    "Look at what Windows PowerShell does for this login there: powershell.exe -NoProfile must start, "
    "and a virus scanner may stop it."
)


class PowerShellHost(ScriptHost[PowerShellChannel]):
    r"""A Windows machine behind an open channel; a Transport that does not reconnect (session.py does).

    See ScriptHost. Its login is an administrator: nothing raises its rights. ``job_root`` is "" for
    %SystemRoot%\FleetPatch.
    """

    load_own_script = staticmethod(load_windows_script)
    build_job_program = staticmethod(wrap_powershell_script)
    encode_params = staticmethod(encode_powershell_params)

    def _execute_script(self, script: Script, deadline: Deadline) -> ScriptOutput:
        text, params = self._prepare_script(script)
        for name in (*find_required_scripts(text), script.name):
            params |= _PARAMETERS_OF_SCRIPTS.get(name, {})
        nonce = generate_nonce()
        decoder = ScriptOutputDecoder(nonce, hint=_ANSWER_HINT, raw_sections=find_raw_sections(script.name))
        stdin = build_powershell_stdin(text, params, nonce)
        status = self._channel.execute(
            build_command_line(), stdin, decoder, deadline=deadline, may_be_ended=script.read_only
        )
        if status is not None and not decoder.is_complete:
            _raise_without_answer(status, decoder)
        output = decoder.build_output()
        unframed = redact_text(render_clixml(output.unframed_output.replace("\r\n", "\n"))).strip("\r\n")
        return replace(output, unframed_output=unframed)


def _raise_without_answer(status: int, decoder: ScriptOutputDecoder) -> NoReturn:
    """Raise the error of a command that ended and gave no complete answer, with what it said."""
    output = " ".join(redact_text(render_clixml(decoder.render_unframed_output())).split())[-500:]
    if status == LANGUAGE_MODE_EXIT_CODE and not output:
        raise PrivilegeError(
            "PowerShell runs in constrained language mode for this login, in which fleetpatch's scripts can't run",
            hint="A policy (AppLocker, App Control) decides that: allow full language mode for administrators there.",
        )
    if status in _NOT_FOUND_EXIT_CODES and "powershell" in output.lower():
        raise ProtocolViolation(
            f"the machine has no powershell.exe that this login can start: {output}",
            hint="Windows PowerShell 5.1 is part of Windows Server 2016 and later; look at the PATH of that login.",
        )
    if status == _NOT_READ_EXIT_CODE and "ConvertFrom-Json" in output:
        raise UnsupportedSystem(
            "it has Windows PowerShell 2, and 5.1 is the oldest that works",
            hint="Install the Windows Management Framework 5.1 on it.",
        )
    raise ProtocolViolation(
        f"PowerShell ended there with exit code {status}, and its answer has no end"
        + (f"; it also said: {output}" if output else ""),
        hint=_ANSWER_HINT,
    )
