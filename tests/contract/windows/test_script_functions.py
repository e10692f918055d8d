"""Functions of the scripts for Windows, where a machine has to be odd to need them."""

from pathlib import Path

import pytest

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script, ScriptResult
from tasks.machines.managers.windows_update.manager import PACKAGE
from tasks.machines.transport.script_library import compose_script, load_windows_script
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.machine import add_event
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state


def ask(warm: WarmMachine, scripts: str, text: str, **params: str) -> ScriptResult:
    """Run a text after the functions of scripts."""

    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        return f"# Requires: {scripts}\n{text}" if name == "ask" else load_windows_script(name, package)

    host = warm.open_host(warm.make_place(), script_loader=load)
    return host.run_script(Script("ask", params), deadline=Deadline.after(CLOCK, 60))


def value(result: ScriptResult) -> object:
    (record,) = result.find_records("it")
    return record["value"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$null", None),
        ("[System.DBNull]::Value", None),
        ("$true, $false", [True, False]),
        ("[double]::NaN, 1.5, [single]2", [None, 1.5, 2]),
        ("[System.DayOfWeek]::Friday", "Friday"),
        ("[datetime]::new(1970, 1, 2)", 86400),
        ("(ConvertTo-FpEpoch $null)", None),
        ("[System.Version]'5.1'", "5.1"),
        ("[char]65", "A"),
        ("@{ a = @(1) }", {"a": [1]}),
        ("'\"\u00fc\U0001f600\n'", '"\u00fc\U0001f600\n'),
    ],
)
def test_every_value_becomes_json(warm: WarmMachine, text: str, expected: object) -> None:
    result = ask(warm, "programs", f"Write-FpRecord 'it' @{{ value = {text} }}")
    assert value(result) == expected


def test_long_records_bytes_and_odd_exit_codes_come_through(warm: WarmMachine) -> None:
    result = ask(
        warm,
        "programs",
        """
        Write-FpRecord 'it' @{ value = 'x' * 150000 }
        Write-FpSection 'bytes' -Bytes ([byte[]](0x41, 0x0a, 0xc3, 0xbc, 0xff, 0xf0, 0x9f, 0x98, 0x80)) -ExitCode 1000
        Write-FpSection 'nothing' -Bytes ([byte[]]@())
        Exit-FpScript 4711
        """,
    )
    assert value(result) == "x" * 150_000
    sections = {record["name"]: record for record in result.find_records("section")}
    assert sections["bytes"]["text"] == "A\n\u00fc\ufffd\U0001f600"
    assert sections["bytes"]["exit_code"] == 255
    assert sections["nothing"]["text"] == ""
    assert result.exit_code == 255


def test_a_port_is_read_from_netstat_where_there_is_no_cmdlet(warm: WarmMachine) -> None:
    text = """
        function Get-Command { }
        function Invoke-FpProgram { @{ ExitCode = CODE; Output = '  TCP  0.0.0.0:135  0.0.0.0:0  LISTENING  888' } }
        $found = @(Get-FpListener)
        Write-FpRecord 'it' @{ value = $found }
    """
    assert value(ask(warm, "listeners, programs", text.replace("CODE", "0"))) == [{"Port": 135, "Process": 888}]
    failed = ask(warm, "listeners, programs", text.replace("CODE", "5"))
    (error,) = failed.find_records("error")
    assert "netstat.exe failed (5)" in str(error["message"])


def test_a_file_that_another_program_keeps_open_is_not_taken_for_a_missing_one(
    warm: WarmMachine, tmp_path: Path
) -> None:
    text = """
        $path = Get-FpParam path
        Write-FpRecord 'it' @{ value = "$(Read-FpText -Path $path)" }
        $other = [System.IO.File]::Open($path, 'Create', 'ReadWrite', 'None')
        Invoke-FpOrder -Order { $null = Read-FpText -Path $path }
        $other.Dispose()
        Invoke-FpOrder -Order { $null = Enter-FpFile -Path (Join-Path $path 'none') -Seconds 0 }
    """
    result = ask(warm, "job_common", text, path=str(tmp_path / "file"))
    assert value(result) == ""
    unreadable, unwritable = result.find_records("refused")
    assert unreadable["about"] == "unsure"
    assert str(unreadable["why"]).startswith("cannot read ")
    assert unwritable["about"] == "room"


def test_of_two_processes_one_begins_a_job(warm: WarmMachine, tmp_path: Path) -> None:
    text = """
        $folder = Get-FpParam folder
        $made = foreach ($number in 1, 2) { Add-FpMeta -Folder $folder -Content ([ordered]@{ pid = $number }) }
        Write-FpRecord 'it' @{ value = @($made) }
    """
    assert value(ask(warm, "job_common", text, folder=str(tmp_path))) == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]
    assert '"pid":1' in (tmp_path / "meta.json").read_text()


def test_an_id_that_is_no_name_of_a_folder_is_refused(warm: WarmMachine) -> None:
    host = warm.open_host(warm.make_place())
    result = host.run_script(Script("job_look", {"id": "../other", "offset": "0"}), deadline=Deadline.after(CLOCK, 60))
    (error,) = result.find_records("error")
    assert "no id of a job" in str(error["message"])


def test_a_worker_whose_work_cannot_be_measured_prevents_a_reboot() -> None:
    with WarmMachine.opened(Scenario(broken_cim_classes=["Win32_Process"])) as warm:
        with change_state(warm.windows.folder) as state:
            state["processes"].append({"pid": 888, "name": "TiWorker", "start": 1_760_000_000.0})
        host = warm.open_host(warm.make_place())
        result = host.run_script(Script("reboot_obstacles"), deadline=Deadline.after(CLOCK, 60))
        (obstacle,) = result.find_records("obstacle")
        assert (obstacle["about"], obstacle["why"]) == ("lock", "TiWorker.exe is installing or removing updates")


def test_the_prelude_alone_has_defaults(warm: WarmMachine) -> None:
    """Whoever runs it by hand, to look for a fault, gets records without a mark, and the time."""
    tail = "Write-FpRecord 'it' @{ value = (Get-FpParam none 'other') }\nWrite-FpEnd\nTest-FpStopRequested"
    prelude = compose_script(Script("prelude"), load_windows_script, required_loader=load_windows_script)
    done = warm.windows.powershell.run_script(f"{prelude}\n{tail}", logon="system")
    assert done.stdout.decode().split() == ["=", '{"kind":"it","value":"other"}', "False"]
    assert (done.exit_code, done.stderr) == (0, b"")


def test_a_job_says_for_whom_it_is_to_stop(warm: WarmMachine, tmp_path: Path) -> None:
    text = """
        function Read-FpReason { param([string] $FpJobDirectory) Get-FpStopReason }
        $folders = '', (Get-FpParam quiet), (Get-FpParam asked)
        Write-FpRecord 'it' @{ value = @($folders | ForEach-Object { Read-FpReason $_ }) }
    """
    asked, quiet = tmp_path / "asked", tmp_path / "quiet"
    for folder in (asked, quiet):
        folder.mkdir()
    (asked / "stop").write_text("run-2 (anna)\n")
    result = ask(warm, "stop_request", text, asked=str(asked), quiet=str(quiet))
    assert value(result) == ["", "", "run-2 (anna)"]


MUTEX = """
    $key = 'HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Installer\\InProgress'
    $installer = [System.Threading.Mutex]::new($false)
    $kept, $end = [System.Threading.ManualResetEvent]::new($false), [System.Threading.ManualResetEvent]::new($false)
    $other = [System.Management.Automation.PowerShell]::Create()
    $keep = 'param($Mutex, $Kept, $End) $null = $Mutex.WaitOne(), $Kept.Set(), $End.WaitOne()
        [System.Threading.Thread]::CurrentThread'
    $null = $other.AddScript($keep).AddArgument($installer).AddArgument($kept).AddArgument($end)
    function Open-FpOther { OPEN }
    Set-Alias -Name Open-FpInstallerMutex -Value Open-FpOther
    try {
        BEFORE
        Write-FpRecord 'it' @{ value = (Test-FpInstallerBusy) }
    } finally {
        $null = $end.Set()
        Remove-Item -LiteralPath $key -ErrorAction SilentlyContinue
    }
"""
KEEP = "$call = $other.BeginInvoke(); $null = $kept.WaitOne()"
ABANDON = "$null = $end.Set(); if (-not $other.EndInvoke($call)[0].Join(60000)) { throw 'it goes on' }"
DENIED = "throw [System.UnauthorizedAccessException]::new()"


@pytest.mark.parametrize(
    ("mutex", "before", "expected"),
    [
        ("throw [System.Threading.WaitHandleCannotBeOpenedException]::new()", "", False),
        ("$installer", "", False),
        ("$installer", KEEP, True),
        ("$installer", f"{KEEP}; {ABANDON}", False),
        (DENIED, "", False),
        (DENIED, "$null = New-Item -Path $key -Force", True),
    ],
    ids=["none", "free", "kept", "abandoned", "denied", "denied and at work"],
)
def test_an_installation_of_windows_installer_is_seen(
    warm: WarmMachine, mutex: str, before: str, *, expected: bool
) -> None:
    """Windows Installer keeps a mutex meanwhile; if nobody else may ask for it, a key says it."""
    text = MUTEX.replace("OPEN", mutex).replace("BEFORE", before)
    assert value(ask(warm, "job_common, servicing", text)) is expected


@pytest.mark.parametrize(
    ("name", "says", "expected"),
    [
        ("Test-FpInstallerBusy", "$true", "Windows Installer (msiexec) is in an installation"),
        ("Find-FpUnfinished", "'setup.exe changes packages'", "setup.exe changes packages"),
    ],
)
def test_who_installs_prevents_a_reboot(warm: WarmMachine, name: str, says: str, expected: str) -> None:
    text = f"""
        function Find-FpOther {{ {says} }}
        Set-Alias -Name {name} -Value Find-FpOther
        $found = Find-FpObstacle -Note $null -Run run
        Write-FpRecord 'it' @{{ value = "$($found.About): $($found.Why)" }}
    """
    assert value(ask(warm, "job_common, servicing", text)) == f"lock: {expected}"


def test_a_registry_that_can_not_be_read_has_no_value(warm: WarmMachine) -> None:
    text = """
        function Get-FpDenied { throw [System.Security.SecurityException]::new('not allowed') }
        $path = 'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion'
        $before = Get-FpRegistryNumber $path 'UBR'
        Set-Alias -Name Get-Item -Value Get-FpDenied
        Write-FpRecord 'it' @{ value = @($before, (Get-FpRegistryNumber $path 'UBR')) }
    """

    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        own = f"# Requires: registry_values\n{text}"
        return own if name == "ask" else load_windows_script(name, package)

    host = warm.open_host(script_loader=load)
    result = host.run_script(Script("ask", package=PACKAGE), deadline=Deadline.after(CLOCK, 60))
    assert value(result) == [2700, None]


def test_an_event_without_values_is_an_order_all_the_same(warm: WarmMachine) -> None:
    with change_state(warm.windows.folder) as state:
        add_event(state, "User32", 1074)
        state["events"][-1]["message"] = None
    text = "Write-FpRecord 'it' @{ value = (Find-FpShutdown).Words }"
    try:
        assert value(ask(warm, "shutdown_events", text)) == "Windows does not say by whom"
    finally:
        with change_state(warm.windows.folder) as state:
            state["events"] = []
