"""The warm PowerShell: calls, their streams and exit codes, and what they must not have in common."""

import threading
from pathlib import Path

import pytest

from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.running import ID, MakeMachine, order_restart, run
from tests.lab.windows.scenario import Scenario, Update


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("'fine'", 0),
        ("exit 3", 3),
        ("& { exit 5 }", 5),
        ("& ([ScriptBlock]::Create('exit 7')); 'not reached'", 7),
        ("throw 'oops'", 1),
        ("$ErrorActionPreference = 'Stop'; Get-Item HKLM:\\SOFTWARE\\Nope", 1),
        ("if (", 1),
        ("try { exit 4 } finally { [Console]::Out.Write('end') }", 4),
    ],
)
def test_exit_codes(shared_machine: WindowsMachine, script: str, code: int) -> None:
    done = shared_machine.powershell.run_script(script)

    assert done.exit_code == code
    assert b"not reached" not in done.stdout
    assert (done.stderr != b"") is (code == 1)


def test_a_file_gets_its_arguments_and_ends_with_its_own_exit_code(machine: WindowsMachine) -> None:
    file = machine.folder / "C/Windows/Temp/some script.ps1"
    file.write_text('param([string] $Name, [switch] $Loud) "$Name $Loud $PSCommandPath"; exit 9')

    done = machine.powershell.run(["-NoProfile", "-File", str(file), "-Name", "two words", "-Loud"])

    assert (done.exit_code, done.stdout.decode()) == (9, f"two words True {file}\r\n")
    assert machine.powershell.run(["-File", str(file) + "x"]).exit_code == -196608


@pytest.mark.parametrize("arguments", [["-Nope", "-Command", "1"], ["-NoProfile"], ["-EncodedCommand"]])
def test_arguments_that_powershell_does_not_know_are_errors(machine: WindowsMachine, arguments: list[str]) -> None:
    done = machine.powershell.run(arguments)

    assert done.exit_code == 1
    assert b"stand-in: powershell.exe" in done.stderr
    assert machine.stand_in_errors() != []


def test_calls_at_once_have_their_own_streams_and_numbers(machine: WindowsMachine) -> None:
    script = (
        "$text = [Console]::In.ReadToEnd(); $gate = Join-Path $env:SystemRoot ('Temp/' + $text)\n"
        '[System.IO.File]::WriteAllText($gate, "$PID")\n'
        'while (@(Get-ChildItem "$env:SystemRoot/Temp/call*").Count -lt 6) { Start-Sleep -Milliseconds 9 }\n'
        '1..50 | ForEach-Object { [Console]::Out.WriteLine("$text $PID"); [Console]::Error.WriteLine($text) }\n'
        "exit [int]$text.Substring(4)\n"
    )
    ended: dict[int, tuple[int | None, bytes, bytes]] = {}

    def call(number: int) -> None:
        done = machine.powershell.run(["-NoProfile", "-Command", script], f"call{number}".encode())
        ended[number] = (done.exit_code, done.stdout, done.stderr)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    pids = {n: (machine.folder / f"C/Windows/Temp/call{n}").read_text() for n in range(1, 7)}
    assert len(set(pids.values())) == 6
    assert ended == {n: (n, f"call{n} {pids[n]}\r\n".encode() * 50, f"call{n}\r\n".encode() * 50) for n in range(1, 7)}


def test_what_a_call_sets_is_gone_with_it(machine: WindowsMachine) -> None:
    run(machine, "$env:FP_TEST = '1'; $env:SystemRoot = 'elsewhere'; function Get-Date { 'mine' }; $global:FpX = 1")

    lines = run(machine, '"$env:FP_TEST $env:SystemRoot $((Get-Date).Year -gt 2000) $(Test-Path variable:FpX)"')

    assert lines == [f" {machine.folder}/C/Windows True False"]


def test_output_comes_while_the_script_runs_and_a_call_can_be_ended(machine: WindowsMachine) -> None:
    came = threading.Event()
    output: list[bytes] = []

    def hear(name: str, data: bytes) -> None:
        output.append(data)
        came.set()

    call = machine.powershell.call(
        ["-Command", "'first'; while ($true) { Start-Sleep -Milliseconds 10 }"], on_output=hear
    )
    assert came.wait(60)
    assert (b"".join(output), call.ended.is_set()) == (b"first\r\n", False)
    call.cancel()

    assert call.wait(60) == 1


def test_a_power_cut_ends_calls_without_an_exit_code(machine: WindowsMachine) -> None:
    came = threading.Event()
    call = machine.powershell.call(["-Command", "'on'; Start-Sleep 600"], on_output=lambda *_: came.set())
    assert came.wait(60)

    machine.power_cut(and_on=False)

    assert call.wait(60) is None
    with pytest.raises(ConnectionError, match="no power"):
        _ = machine.powershell


def test_a_machine_keeps_its_files_and_stable_keys_over_a_power_cut(machine: WindowsMachine) -> None:
    run(machine, "[void](New-Item HKLM:\\SOFTWARE\\Kept); New-FpVolatileKey SOFTWARE\\Gone")

    machine.power_cut()

    assert machine.boot_number == 2
    assert run(machine, "Test-Path HKLM:\\SOFTWARE\\Kept; Test-Path HKLM:\\SOFTWARE\\Gone") == ["True", "False"]
    assert run(machine, "@(Get-WinEvent -FilterHashtable @{ LogName = 'System'; Id = 41 }).Count") == ["1"]


def test_a_machine_that_hangs_at_its_boot_does_not_come_back(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(hangs_at_boot=True))
    order_restart(machine)

    machine.wait_until(lambda state: state["power"] == "restarting")
    with pytest.raises(AssertionError, match="boot 2 did not come"):
        machine.wait_for_boot(2, timeout=0.5)


def test_changes_from_all_sides_at_once_are_all_kept(machine: WindowsMachine) -> None:
    from tests.lab.windows.state import change_state

    script = '1..40 | ForEach-Object { New-FpVolatileKey "SOFTWARE\\From$PID\\Key$_" }'
    threads = [threading.Thread(target=run, args=(machine, script)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):
        with change_state(machine.folder) as state:
            state["journal"].append(number)
    for thread in threads:
        thread.join(120)

    state = machine.read_state()
    assert state["journal"] == list(range(40))
    assert sum("\\Key" in path for path in state["registry"]) == 120


def test_stand_ins_are_compiled_once(machine: WindowsMachine, tmp_path: Path) -> None:
    from tests.lab.windows.powershell_process import compile_stand_ins

    first = compile_stand_ins()
    made = first.stat().st_mtime_ns

    assert (compile_stand_ins(), first.stat().st_mtime_ns) == (first, made)


def test_a_call_that_does_not_notice_its_end_is_over_all_the_same(machine: WindowsMachine) -> None:
    came = threading.Event()
    call = machine.powershell.call(
        ["-Command", "'on'; [System.Threading.Thread]::Sleep(600000)"], on_output=lambda *_: came.set()
    )
    assert came.wait(60)
    call.cancel()

    assert call.wait(60) == 1
    assert run(machine, "@(Get-Process -Name powershell).Count") == ["1"]


def test_a_power_cut_while_a_machine_reboots_makes_it_boot_once(machine: WindowsMachine) -> None:
    before = machine._switched
    machine.power_cut()
    machine._reboot(before)  # what a shutdown before the power cut has begun

    assert (machine.boot_number, run(machine, "'on'")) == (2, ["on"])
    assert [entry["clean"] for entry in machine.read_state()["journal"]] == [False]


def test_servicing_after_a_boot_shows(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(servicing_seconds_after_boot=600))
    key = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Interface"
    script = f"@(Get-Process TiWorker* ).Count; (Get-Item -LiteralPath '{key}').GetValue('ServicingInProgress')"
    assert run(machine, script) == ["0", "0"]

    machine.power_cut()

    assert run(machine, script) == ["1", "2"]


def test_a_drive_letter_works_for_commands(shared_machine: WindowsMachine) -> None:
    (shared_machine.folder / "C/Packages").mkdir()
    script = """
    Test-Path -LiteralPath (Join-Path -Path $env:SystemDrive -ChildPath 'Packages'); Test-Path -LiteralPath 'C:\\Nope'
    (Get-Location).Path -eq (Join-Path -Path $env:SystemRoot -ChildPath 'System32'); Test-Path -LiteralPath 'Z:\\'
    """
    assert run(shared_machine, script) == ["True", "False", "True", "False"]


@pytest.mark.parametrize("lingers", [False, True])
def test_a_flag_of_servicing_may_linger_after_the_reboot(make_machine: MakeMachine, lingers: bool) -> None:
    machine = make_machine(
        Scenario(updates=(Update(ID(1), "x", downloaded=True, needs_reboot=True),), servicing_flag_lingers=lingers)
    )
    flag = r"Test-Path 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending'"
    install = """
    $s = New-Object -ComObject Microsoft.Update.Session; $i = $s.CreateUpdateInstaller(); $i.ForceQuiet = $true
    $i.AllowSourcePrompts = $false; $i.Updates = $s.CreateUpdateSearcher().Search('IsInstalled=0').Updates
    $i.Install().RebootRequired
    """
    assert run(machine, install + flag, logon="system") == ["True", "True"]

    machine.power_cut()

    assert run(machine, flag) == [str(lingers)]
