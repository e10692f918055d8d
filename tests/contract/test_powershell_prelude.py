"""The prelude of all Windows scripts, in a real PowerShell: parameters, records, errors and the end of an answer.

It is PowerShell 7. tests/ci compares the scripts with what Windows PowerShell 5.1 has.
"""

import json

import pytest

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Script
from tasks.machines.transport.powershell_host import PowerShellHost
from tasks.machines.transport.script_library import compose_script, load_windows_script
from tests.contract.windows.warm_machine import WarmChannel, WarmMachine
from tests.support.local_powershell import LocalPowerShell, require_pwsh

CLOCK = SystemClock()
PRELUDE = compose_script(Script("prelude"), load_windows_script, required_loader=load_windows_script)
ODD = 'it\'s "odd" $(id) `n %PATH% \\u0041 ünï €\U0001f600 \x01\x7f\u2028 <&>\nsecond line\n'


@pytest.fixture(autouse=True)
def _pwsh():
    require_pwsh()


@pytest.fixture(scope="module")
def warm():
    with WarmMachine.opened() as machine:
        yield machine


def run(text, params=None, environment=None, channel=None):
    host = PowerShellHost(
        channel or LocalPowerShell(CLOCK, environment),
        machine="here",
        clock=CLOCK,
        script_loader=lambda name, package="": text,
    )
    return host.run_script(Script("it", params or {}), deadline=Deadline.after(CLOCK, 120))


def test_parameters_and_records_keep_every_character_and_type():
    text = """
        Write-FpRecord 'given' ([ordered]@{
            odd = (Get-FpParam odd); date = (Get-FpParam date); jsdate = (Get-FpParam jsdate)
            equals = (Get-FpParam equals)
            none = (Get-FpParam none); other = (Get-FpParam none 'other'); empty = (Get-FpParam empty 'other')
            list = @(Get-FpListParam list); one = @(Get-FpListParam one); nothing = @(Get-FpListParam nothing)
            joined = (Get-FpParam list)
            has = @((Test-FpParam odd), (Test-FpParam empty), (Test-FpParam none), (Test-FpParam list))
            inner = (Get-FpParam lock -From (ConvertFrom-FpParamText (Get-FpParam token)))
        })
        Write-FpRecord 'types' ([ordered]@{
            int = 1; long = 5000000000; negative = -3; uint64 = [uint64]::MaxValue; double = 1.5; whole = [double]5
            nan = [double]::NaN; true = $true; false = $false; null = $null; dbnull = [System.DBNull]::Value
            char = [char]65; half = [string][char]0xd800; second = [string][char]0xdc80
            utc = [datetime]::new(2026, 1, 2, 3, 4, 5, [System.DateTimeKind]::Utc)
            unspecified = [datetime]::new(1970, 1, 2)
            local = ([datetime]::new(2026, 1, 2, 3, 4, 5, [System.DateTimeKind]::Utc)).ToLocalTime()
            enum = [System.IO.FileMode]::Open; guid = [guid]'6f9619ff-8b86-d011-b42d-00c04fc964ff'
            nested = @{ a = @([ordered]@{ b = @(@(1), @()) }) }; arraylist = [System.Collections.ArrayList]@('x')
        })
        Write-FpRecord 'bare'
        """
    token = json.dumps({"lock": "=run-1"})
    result = run(
        text,
        {
            "odd": ODD,
            "date": "2026-01-02T03:04:05Z",
            "jsdate": "/Date(1)/",
            "equals": "=x",
            "empty": "",
            "list": ("a", "", ODD.replace("\n", " ")),
            "one": ("single",),
            "nothing": (),
            "token": token,
        },
        {"TZ": "Asia/Kolkata"},
    )
    given, types, bare = result.records
    assert given == {
        "kind": "given",
        "odd": ODD,
        "date": "2026-01-02T03:04:05Z",
        "jsdate": "/Date(1)/",
        "equals": "=x",
        "none": "",
        "other": "other",
        "empty": "other",
        "list": ["a", "", ODD.replace("\n", " ")],
        "one": ["single"],
        "nothing": [],
        "joined": "a\n\n" + ODD.replace("\n", " "),
        "has": [True, False, False, True],
        "inner": "run-1",
    }
    assert types == {
        "kind": "types",
        "int": 1,
        "long": 5_000_000_000,
        "negative": -3,
        "uint64": 2**64 - 1,
        "double": 1.5,
        "whole": 5,
        "nan": None,
        "true": True,
        "false": False,
        "null": None,
        "dbnull": None,
        "char": "A",
        "half": "\ufffd",
        "second": "\ufffd",
        "utc": 1767323045,
        "unspecified": 86400,
        "local": 1767323045,
        "enum": "Open",
        "guid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "nested": {"a": [{"b": [[1], []]}]},
        "arraylist": ["x"],
    }
    assert bare == {"kind": "bare"}
    assert result.exit_code == 0
    assert result.unframed_output == ""


def test_the_answer_is_ascii_and_long_records_come_in_pieces():
    shell = LocalPowerShell(CLOCK)
    text = "Write-FpSection 'long' ('ü' * 50000 + \"`n\" * 50000); 'noise'; [System.Console]::Error.WriteLine('more')"
    host = PowerShellHost(shell, machine="here", clock=CLOCK, script_loader=lambda name, package="": text)
    result = host.run_script(Script("it"), deadline=Deadline.after(CLOCK, 120))
    (section,) = result.records
    assert section == {
        "kind": "section",
        "name": "long",
        "text": "ü" * 50000 + "\n" * 50000,
        "exit_code": 0,
        "stderr": "",
    }
    assert shell.last_stdout.isascii()
    assert max(map(len, shell.last_stdout.splitlines())) < 61_000
    assert "noise" in result.unframed_output
    assert "more" in result.unframed_output


def test_the_bytes_of_a_section_are_known_exactly():
    data = bytes(range(256)) + "ünï€\U0001f600".encode() + b"\xed\xa0\x80\xf5\xc0\xaf\xe2\x82"
    text = (
        f"$data = [byte[]]({','.join(map(str, data))})\nWrite-FpSection 'log' -Bytes $data -ExitCode 3010 -Stderr 'no'"
    )
    text += "\nWrite-FpSection 'none' -Bytes ([byte[]]@())"
    shell = LocalPowerShell(CLOCK)
    host = PowerShellHost(shell, machine="here", clock=CLOCK, script_loader=lambda name, package="": text)
    answer = host._execute_script(Script("it"), Deadline.after(CLOCK, 120))
    log, none = answer.records
    assert str(log["text"]).encode("utf-8", "surrogateescape") == data
    assert (log["exit_code"], log["stderr"], none["text"]) == (255, "no", "")


ENDS = {
    "its last line": ("Write-FpRecord 'x'", 0, None),
    "return": ("return; Write-FpRecord 'x'", 0, None),
    "an exit code": (
        "function Stop-It { try { Exit-FpScript 7 } catch { 'caught' } }; Stop-It; Write-FpRecord 'x'",
        7,
        None,
    ),
    "a code that is no byte": ("Exit-FpScript 3010", 255, None),
    "an error of COM": (
        "function Invoke-It { throw [System.Runtime.InteropServices.COMException]::new('refused', -2147024891) }\n"
        "Invoke-It",
        1,
        {"message": "refused", "hresult": 0x80070005, "place": "at Invoke-It, <No file>"},
    ),
    "an error within errors": (
        "[System.Convert]::FromBase64String('?')",
        1,
        {"hresult": 0x80131537, "exception": "System.Management.Automation.MethodInvocationException"},
    ),
    "a variable that is not set": ("$nothing.Length", 1, {"statement": "$nothing.Length"}),
    "a command that is not there": ("Get-NoSuchThing", 1, {"place": "at <ScriptBlock>, <No file>"}),
    "an error that a cmdlet writes": ("Get-Item -LiteralPath '/no/such'; Write-FpRecord 'x'", 1, {}),
    "half a script": ("Write-FpRecord 'x'; if (", 122, None),
}


IN_A_PROCESS = ("an exit code", "an error of COM", "half a script")  # of its own, which costs more


@pytest.mark.parametrize("how", ENDS)
def test_every_end_of_a_script_is_reported(how, warm):
    text, code, error = ENDS[how]
    result = run(text, channel=None if how in IN_A_PROCESS else WarmChannel(warm.windows))
    assert result.exit_code == code
    found = result.find_records("error")
    if error is None:
        assert found == ()
        assert len(result.records) == (how == "its last line")
        return
    (record,) = found
    assert result.records == (record,)
    assert {key: record[key] if key != "place" else str(record[key]).partition(":")[0] for key in error} == error
    assert str(record["message"]) in result.unframed_output.replace("\n", " ") or "\n" in str(record["message"])
    assert f"0x{record['hresult']:08X}" in result.unframed_output


def test_a_process_that_is_killed_gives_no_answer():
    with pytest.raises(ProtocolViolation, match="no end; it also said: before"):
        run("'before'; [System.Console]::Out.Flush(); [System.Diagnostics.Process]::GetCurrentProcess().Kill()")


def test_a_job_writes_its_records_to_its_events_file(tmp_path):
    folder = tmp_path / "jobs" / "job-1"
    folder.mkdir(parents=True)
    (folder / "events").write_bytes(b'{"kind":"old"}\n')
    program = f"{PRELUDE}\n{JOB}"
    outer = "$inner = [ScriptBlock]::Create((Get-FpParam program)); $FpJobDirectory = (Get-FpParam folder); . $inner"
    (root,) = run(outer, {"program": program, "folder": str(folder)}, {"SystemRoot": "/x"}).records
    events = (folder / "events").read_bytes().splitlines()
    assert [json.loads(line) for line in events] == [
        {"kind": "old"},
        {"kind": "begun", "text": "ünï", "stop": True},
        {"kind": "long", "text": "x" * 70000},
        {"kind": "stop", "before": False, "after": True},
    ]
    assert root == {"kind": "root", "root": str(tmp_path)}


def test_a_file_that_a_virus_scanner_has_for_a_moment_ends_no_job(tmp_path):
    program = """\
$path = Join-Path -Path $FpJobDirectory -ChildPath 'events'
$hold = {
    param($Path, $Taken)
    $file = [System.IO.File]::Open($Path, 'OpenOrCreate', 'ReadWrite', 'None')
    $null = $Taken.Set()
    Start-Sleep -Milliseconds 700
    $file.Dispose()
}
$taken = New-Object -TypeName System.Threading.ManualResetEvent -ArgumentList $false
$scanner = [System.Management.Automation.PowerShell]::Create()
$null = $scanner.AddScript($hold).AddArgument($path).AddArgument($taken).BeginInvoke()
$null = $taken.WaitOne()
Write-FpRecord 'changed'
$FpJobDirectory = ''
"""
    outer = "$inner = [ScriptBlock]::Create((Get-FpParam program)); $FpJobDirectory = (Get-FpParam folder); . $inner"
    params = {"program": f"{PRELUDE}\n{program}", "folder": str(tmp_path)}
    assert run(outer, params, {"SystemRoot": "/x"}).exit_code == 0
    assert (tmp_path / "events").read_bytes() == b'{"kind":"changed"}\n'


JOB = """
Write-FpRecord 'begun' ([ordered]@{ text = [string][char]0xfc + 'n' + [char]0xef; stop = (Test-FpStopRequested) })
Write-FpRecord 'long' @{ text = 'x' * 70000 }
[void](New-Item -ItemType File -Path (Join-Path -Path $FpJobDirectory -ChildPath 'meta.json'))
$before = Test-FpStopRequested
[void](New-Item -ItemType File -Path (Join-Path -Path $FpJobDirectory -ChildPath 'stop'))
Write-FpRecord 'stop' ([ordered]@{ before = $before; after = (Test-FpStopRequested) })
$root = Get-FpRoot
$FpJobDirectory = ''
Write-FpRecord 'root' @{ root = $root }
"""


def test_the_clock_can_be_set_back_and_now_stays():
    text = """
        $before = Get-FpNow
        Set-FpClockBase
        $FpState.ClockBase += 3600 # as if the clock had been set back by an hour since
        Write-FpRecord 'now' ([ordered]@{ before = $before; after = (Get-FpNow); root = (Get-FpRoot) })
        """
    (record,) = run(text, environment={"SystemRoot": "/windows"}).records
    assert isinstance(record["before"], int)
    assert abs(record["before"] - CLOCK.now().timestamp()) < 120
    assert 3599 <= record["after"] - record["before"] < 3720
    assert record["root"] == "/windows/FleetPatch"
