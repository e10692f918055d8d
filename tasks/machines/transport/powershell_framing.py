"""Builds the command line and the input for PowerShell. Pure: it knows no connection.

The command line is the same for every script: a bootstrap in base64. It reads stdin, and runs the script that it finds
there. Stdin is ASCII: a JSON object with the script, its parameters, and the mark of framed lines (framing.py says what
they are). So neither code pages nor the limit of 8,191 characters for a command line matter. It is not compressed: a
bootstrap that unpacks a script is what detection rules look for (Elastic's "PowerShell Suspicious Payload Encoded and
Compressed": FromBase64String with GzipStream), and who watches the machine is to see what runs there.
Parameters are never script text: each text has "=" before it, because ConvertFrom-Json makes dates of some texts.
"""

import base64
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from tasks.domain.errors import RequestError
from tasks.domain.protocols.transport import Script, ScriptParameter
from tasks.machines.transport.framing import build_frame_mark, require_valid_param
from tasks.machines.transport.script_library import compose_script, load_windows_script

MAX_COMMAND_LINE_CHARACTERS: Final = 8191
"""The longest command line that cmd.exe accepts."""

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


@cache
def build_command_line() -> str:
    """Return the command line that reads a script from stdin and runs it."""
    encoded = base64.b64encode(_BOOTSTRAP.encode("utf-16-le")).decode("ascii")
    return f"powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {encoded}"


def encode_params(params: Mapping[str, ScriptParameter]) -> str:
    """Return parameters as JSON in ASCII, as prelude.ps1 reads them.

    Raises:
        RequestError: a name that is not valid, or that another one is except for case; or a value that no script can
            hold (see framing.require_valid_param).
    """
    seen: dict[str, str] = {}
    encoded: dict[str, str | list[str]] = {}
    for name, value in params.items():
        require_valid_param(name, value)
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise RequestError(f"parameters '{other}' and '{name}': PowerShell takes them for the same")
        encoded[name] = f"={value}" if isinstance(value, str) else [f"={item}" for item in value]
    return json.dumps(encoded, separators=(",", ":"))


def wrap_script(script: str) -> str:
    """Return prelude and script: its end is always reported, and errors that it does not catch are records.

    A script whose comment says ``# Prelude: answers`` needs only that part of the prelude.
    """
    name = next(iter(_PRELUDE_PATTERN.findall(script)), "prelude")
    prelude = compose_script(Script(name), load_windows_script, required_loader=load_windows_script)
    tail = "} catch {\n$FpState.ExitCode = 1\nWrite-FpError $_\n} finally { Write-FpEnd }"
    return f"{prelude}\ntry {{\n{script}\n{tail}\n"


def build_script_stdin(script: str, params: Mapping[str, ScriptParameter], nonce: str) -> bytes:
    """Return the stdin for the command line."""
    payload = json.dumps(
        {
            "script": f"{_HEAD}\n{wrap_script(script)}exit $FpState.ExitCode\n",
            "params": json.loads(encode_params(params)),
            "mark": build_frame_mark(nonce),
        }
    )
    return payload.encode("ascii")


def build_job_script(script: str) -> str:
    """Return the text of a job's script file. job_run.ps1 sets $FpParams and $FpJobDirectory before it runs it."""
    return wrap_script(script)
