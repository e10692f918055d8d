"""Schedule.Service: tasks that outlive who started them, end with the power, and what they leave."""

import time
from pathlib import Path

import pytest

from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.running import MakeMachine, run
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state

REGISTER = r"""
function Register([string] $Name, [string] $Script, [string] $At) {
    $service = New-Object -ComObject Schedule.Service
    $null = $service.Connect()
    $definition = $service.NewTask(0)
    $definition.Principal.UserId = 'S-1-5-18'
    $definition.Principal.LogonType = 5
    $definition.Principal.RunLevel = 1
    $definition.Settings.ExecutionTimeLimit = 'PT0S'
    $definition.Settings.DisallowStartIfOnBatteries = $false
    $definition.Settings.StopIfGoingOnBatteries = $false
    $definition.Settings.StartWhenAvailable = $true
    if ($At) { $definition.Triggers.Create(1).StartBoundary = $At }
    $file = Join-Path -Path $env:SystemRoot -ChildPath "$Name script.ps1"
    [System.IO.File]::WriteAllText($file, $Script)
    $action = $definition.Actions.Create(0)
    $action.Path = Join-Path $env:SystemRoot 'System32\WindowsPowerShell\v1.0\powershell.exe'
    $action.Arguments = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$file`""
    $service.GetFolder('\').RegisterTaskDefinition($Name, $definition, 6, $null, $null, 5)
}
function Find([string] $Name) {
    $service = New-Object -ComObject Schedule.Service
    $null = $service.Connect()
    $service.GetFolder('\').GetTask($Name)
}
function Code($Failure) {
    $exception = $Failure.Exception
    while ($exception.InnerException) { $exception = $exception.InnerException }
    '{0:X8}' -f $exception.HResult
}
"""
WAIT = "while (-not (Test-Path (Join-Path $env:SystemRoot 'go'))) { Start-Sleep -Milliseconds 10 }\n"


def release(machine: WindowsMachine) -> None:
    (machine.folder / "C/Windows/go").touch()


def begin(machine: WindowsMachine, script: str) -> list[str]:
    quoted = script.replace("'", "''")
    return run(
        machine,
        REGISTER + f"$task = Register job '{quoted}'; $task.LastTaskResult; $task.State\n"
        "$running = $task.RunEx($null, 2, 0, ''); $running.EnginePID; $task.State; $task.LastTaskResult",
    )


def test_a_task_runs_as_system_and_outlives_who_started_it(machine: WindowsMachine) -> None:
    told = begin(
        machine, WAIT + "Get-FpPrivilege; (New-Object -ComObject Microsoft.Update.SystemInfo).RebootRequired\nexit 7"
    )
    number = told[2]
    assert told == ["267011", "3", number, "4", "267009"]  # not run yet, ready; running, running

    again = run(
        machine, REGISTER + f"$t = Find job; $t.State; (Get-Process -Id {number}).ProcessName; $t.GetInstances(0).Count"
    )
    assert again == ["4", "powershell", "1"]
    assert run(machine, REGISTER + "$null -eq (Find job).RunEx($null, 2, 0, '')") == ["True"]  # it runs already
    release(machine)

    state = machine.wait_until(lambda state: state["tasks"]["job"]["instance"] is None)
    assert (state["tasks"]["job"]["last_result"], state["tasks"]["job"]["runs"]) == (7, 1)
    assert run(machine, REGISTER + "$t = Find job; $t.State; $t.LastTaskResult; $t.LastRunTime.Year -gt 2000") == [
        "3",
        "7",
        "True",
    ]
    assert (machine.folder / "task_output.log").read_text().splitlines() == ["administrator", "False"]


def test_a_deleted_task_runs_on(machine: WindowsMachine) -> None:
    script = WAIT + "[System.IO.File]::WriteAllText((Join-Path $env:SystemRoot 'done'), 'x')"
    begin(machine, script)
    run(
        machine,
        REGISTER + "$s = New-Object -ComObject Schedule.Service; $s.Connect(); $s.GetFolder('\\').DeleteTask('job', 0)",
    )
    release(machine)

    wait_for(machine.folder / "C/Windows/done")


def wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, f"no {file}"
        time.sleep(0.02)


def test_a_task_that_is_stopped(machine: WindowsMachine) -> None:
    number = begin(machine, WAIT)[2]

    run(machine, REGISTER + "(Find job).Stop(0)")

    state = machine.wait_until(lambda state: state["tasks"]["job"]["instance"] is None)
    assert state["tasks"]["job"]["last_result"] == 0x41306
    gone = f"try {{ Get-Process -Id {number} }} catch {{ $_.FullyQualifiedErrorId }}"
    assert run(machine, gone) == ["NoProcessFoundForGivenId,Microsoft.PowerShell.Commands.GetProcessCommand"]


def test_a_power_cut_ends_a_task_and_its_number_is_used_again(machine: WindowsMachine) -> None:
    begin(machine, WAIT)

    machine.power_cut()

    release(machine)
    assert run(machine, REGISTER + "$t = Find job; $t.State; $t.LastTaskResult; $t.GetInstances(0).Count") == [
        "3",
        "267014",
        "0",
    ]
    assert run(machine, "$PID -lt 4100") == ["True"]


DONE = "[System.IO.File]::WriteAllText((Join-Path $env:SystemRoot ''done''), ''x'')"


def register_later(machine: WindowsMachine, seconds: int) -> None:
    at = f"(Get-Date).ToUniversalTime().AddSeconds({seconds}).ToString('yyyy-MM-ddTHH:mm:ss') + 'Z'"
    run(machine, REGISTER + f"[void](Register later '{DONE}' ({at}))")


def test_a_task_starts_at_its_time(machine: WindowsMachine) -> None:
    register_later(machine, 2)

    wait_for(machine.folder / "C/Windows/done")


@pytest.mark.parametrize("late", [False, True])
def test_a_task_whose_time_passes_while_the_machine_is_off(machine: WindowsMachine, late: bool) -> None:
    register_later(machine, 3600)
    machine.power_cut(and_on=False)
    with change_state(machine.folder) as state:
        state["tasks"]["later"].update(start_at=time.time() - 1, start_late=late)

    machine.power_cut()

    if late:
        wait_for(machine.folder / "C/Windows/done")
    task = machine.read_state()["tasks"]["later"]
    assert (task["start_at"], task["runs"]) == (None, late)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("$s.NewTask(0)", "80070015"),
        ("$s.Connect(); $s.GetFolder('\\').GetTask('nope')", "80070002"),
        ("$s.Connect(); $s.GetFolder('\\Nope')", "80070002"),
        ("$s.Connect(); $s.GetFolder('\\').DeleteTask('nope', 0)", "80070002"),
        ("(Register job '').Enabled = $false; (Find job).RunEx($null, 2, 0, '')", "80041326"),
    ],
)
def test_errors_are_the_real_ones(shared_machine: WindowsMachine, script: str, code: str) -> None:
    tried = f"$s = New-Object -ComObject Schedule.Service; try {{ {script}; 'no error' }} catch {{ Code $_ }}"
    known = shared_machine.stand_in_errors()
    assert run(shared_machine, REGISTER + tried) == [code]
    assert shared_machine.stand_in_errors() == known


@pytest.mark.parametrize(
    "script",
    [
        "$d.Nope",
        "$d.Nope = 1",
        "$d.Nope()",
        "$s.NewTask()",
        "$s.GetFolder('\\').RegisterTaskDefinition('x', $d, 6, 'Administrator', $null, 2)",
        "$d.Triggers.Create(2)",
        "New-Object -ComObject Schedule.Nope",
    ],
)
def test_what_the_stand_in_lacks_is_an_error(shared_machine: WindowsMachine, script: str) -> None:
    known = len(shared_machine.stand_in_errors())
    begun = (
        "$s = New-Object -ComObject Schedule.Service; $s.Connect(); $d = $s.NewTask(0); $null = $d.Actions.Create(0)\n"
    )
    assert run(shared_machine, begun + f"try {{ {script}; 'no error' }} catch {{ 'error' }}") == ["error"]
    assert len(shared_machine.stand_in_errors()) == known + 1


def test_a_scheduler_that_fails(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(task_scheduler_error=0x800706BA, com_errors="bare"))
    tried = "try { (New-Object -ComObject Schedule.Service).Connect() } catch { $_.Exception.GetType().Name; Code $_ }"
    assert run(machine, REGISTER + tried) == ["COMException", "800706BA"]
