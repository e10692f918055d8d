"""Commands of Windows that PowerShell on Linux lacks: CIM, services, processes, access lists, shutdown."""

import threading
import time
from typing import Literal

import pytest

from tests.lab.windows.machine import WindowsMachine, add_event
from tests.lab.windows.running import MakeMachine, order_restart, run
from tests.lab.windows.scenario import SERVICES, Disk, Scenario, Service
from tests.lab.windows.state import change_state

CODE = """
function Code($Failure) {
    $exception = $Failure.Exception
    while ($exception.InnerException) { $exception = $exception.InnerException }
    '{0:X8}' -f $exception.HResult
}
"""


def test_cim_instances(make_machine: MakeMachine) -> None:
    boot = time.time() - 7200
    machine = make_machine(Scenario(disks=(Disk(free=5), Disk("D:", kind=5)), boot_time=boot))
    script = r"""
    $system = Get-CimInstance -ClassName Win32_OperatingSystem; $system.BuildNumber; $system.LastBootUpTime.Kind
    [System.Math]::Round(($system.LocalDateTime - $system.LastBootUpTime).TotalHours)
    $disk = Get-CimInstance -ClassName Win32_LogicalDisk -Filter "DriveType = 3 and DeviceID='c:'"
    "$($disk.FreeSpace) $($disk.FreeSpace.GetType())"
    @(Get-CimInstance -ClassName Win32_LogicalDisk).Count
    @(Get-CimInstance -Namespace root\Microsoft\Windows\DeviceGuard -ClassName Win32_DeviceGuard).Count
    (Get-CimInstance -ClassName Win32_Service -Filter "Name like 'wuau%'").State
    @(Get-CimInstance -ClassName Win32_LogicalDisk -Filter "DeviceID='Z:'").Count
    """
    assert run(machine, script) == ["20348", "Local", "2", "5 ulong", "2", "1", "Stopped", "0"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("Get-CimInstance -ClassName Win32_Nope", "80041010"),
        ("Get-CimInstance -Namespace root\\nope -ClassName Win32_Nope", "8004100E"),
        ("Get-CimInstance -ClassName Win32_LogicalDisk -Filter 'Nope=1'", "80041017"),
        ("Get-CimInstance -ClassName Win32_LogicalDisk -Filter 'DriveType=3 or DriveType=5'", "80041017"),
        (
            "Invoke-CimMethod -Namespace root\\ccm\\ClientSDK -ClassName CCM_ClientUtilities -MethodName Nope",
            "80041010",
        ),
    ],
)
def test_cim_errors(shared_machine: WindowsMachine, command: str, code: str) -> None:
    assert run(shared_machine, CODE + f"try {{ {command}; 'no error' }} catch {{ Code $_ }}") == [code]


def test_a_cim_class_that_is_broken(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(broken_cim_classes=["Win32_BIOS"]))
    assert run(machine, CODE + "try { Get-CimInstance -ClassName Win32_BIOS } catch { Code $_ }") == ["80041001"]


def test_cim_methods(make_machine: MakeMachine) -> None:
    method = "root/ccm/ClientSDK:CCM_ClientUtilities.DetermineIfRebootPending"
    machine = make_machine(Scenario(cim_methods={method: {"RebootPending": True}}))
    call = "Invoke-CimMethod -Namespace root\\ccm\\ClientSDK -ClassName CCM_ClientUtilities"
    assert run(machine, f"({call} -MethodName DetermineIfRebootPending).RebootPending") == ["True"]


def test_services(make_machine: MakeMachine) -> None:
    more = (Service("broken", "Stopped", start_fails=True), Service("off", "Stopped", "Disabled"))
    machine = make_machine(Scenario(services=SERVICES + more))
    script = r"""
    $s = Get-Service -Name wuauserv; "$($s.Status) $($s.Status -eq 'Stopped') $([int]$s.Status)"
    Start-Service -Name bits; (Get-Service bits).Status; Restart-Service -Name Spooler -Force
    foreach ($name in 'broken', 'off') { try { Start-Service -Name $name } catch { $_.Exception.Message } }
    try { Get-Service -Name nope } catch { $_.FullyQualifiedErrorId }; @(Get-Service -Name nope*).Count
    """
    assert run(machine, script) == [
        "Stopped True 1",
        "Running",
        "Service 'broken (broken)' cannot be started: the service did not respond to the start or control request in a "
        "timely fashion.",
        "Service 'off (off)' cannot be started: the service cannot be started, either because it is disabled or "
        "because it has no enabled devices associated with it.",
        "NoServiceFoundForGivenName,Microsoft.PowerShell.Commands.GetServiceCommand",
        "0",
    ]
    starts = {service["name"]: service["starts"] for service in machine.read_state()["services"]}
    assert (starts["Spooler"], starts["bits"], starts["broken"]) == (1, 1, 0)


def test_access_lists(machine: WindowsMachine) -> None:
    script = r"""
    $folder = New-Item -ItemType Directory -Path (Join-Path $env:SystemRoot 'FleetPatch')
    function Show { (Get-Acl -LiteralPath $folder.FullName).Sddl }
    Show
    $program = Join-Path -Path $env:SystemRoot -ChildPath 'System32\icacls.exe'
    $arguments = $folder.FullName, '/inheritance:r', '/grant:r', '*S-1-5-18:(OI)(CI)F', '*S-1-5-32-544:(OI)(CI)F', '/Q'
    $null = & $program @arguments 2>&1; $LASTEXITCODE; Show
    $null = icacls.exe $folder.FullName /setowner '*S-1-5-21-1-2-3-1001'
    (Get-Acl -LiteralPath $folder.FullName).GetOwner([string]).Value
    $below = New-Item -ItemType Directory -Path (Join-Path $folder.FullName 'jobs')
    (Get-Acl -LiteralPath $below.FullName).Sddl
    $null = icacls.exe (Join-Path $env:SystemRoot 'nope') /setowner '*S-1-5-18'; $LASTEXITCODE
    foreach ($bad in '/nope', '/grant:x') { try { icacls.exe $folder.FullName $bad } catch { 'error' } }
    """
    assert run(machine, script) == [
        "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;OICIID;FA;;;CO)",
        "0",
        "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)",
        "S-1-5-21-1-2-3-1001",
        "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)",
        "2",
        "error",
        "error",
    ]


def test_a_shutdown_is_scheduled_once_can_be_aborted_and_reboots_the_machine(machine: WindowsMachine) -> None:
    old = run(machine, "(Get-CimInstance Win32_OperatingSystem).LastBootUpTime.ToFileTimeUtc()")
    script = "& (Join-Path $env:SystemRoot 'System32\\shutdown.exe') {}; $LASTEXITCODE"

    def shutdown(arguments: str) -> str:
        return run(machine, script.replace("{}", arguments))[-1]

    assert shutdown("/a") == "1116"
    assert shutdown("/r /t 600 /d p:2:17 /c 'updates'") == "0"
    assert shutdown("/r /t 600") == "1190"
    assert shutdown("/a") == "0"
    order_restart(machine, "/r /t 0 /d p:2:17")
    machine.wait_for_boot(2)

    assert run(machine, "(Get-CimInstance Win32_OperatingSystem).LastBootUpTime.ToFileTimeUtc()") != old
    assert run(machine, "@(Get-WinEvent -FilterHashtable @{ LogName = 'System'; Id = 1074 }).Count") == ["2"]
    assert machine.read_state()["journal"][-1]["clean"] is True


def test_a_shutdown_in_progress(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(shutdown_seconds=600))
    run(machine, "shutdown.exe /r /t 0")
    machine.wait_until(lambda state: state["shutdown"]["in_progress"])
    search = "(New-Object -ComObject Microsoft.Update.Session).CreateUpdateSearcher().Search('IsInstalled=0')"

    assert run(machine, "shutdown.exe /r /t 0; shutdown.exe /a; $LASTEXITCODE")[-1] == "1115"
    assert run(machine, CODE + f"try {{ {search} }} catch {{ Code $_ }}") == ["8007045B"]


@pytest.mark.parametrize("arguments", ["/x", "/r /a", "/r /t", "/r /d p:2", "/r nope"])
def test_arguments_that_shutdown_does_not_know_are_errors(shared_machine: WindowsMachine, arguments: str) -> None:
    assert run(shared_machine, f"try {{ shutdown.exe {arguments}; 'no error' }} catch {{ 'error' }}") == ["error"]
    assert shared_machine.read_state()["shutdown"] is None


def test_a_mutex_belongs_to_one_call_of_one_machine(make_machine: MakeMachine) -> None:
    mine, other = make_machine(), make_machine()
    take = "$m = New-Object -TypeName System.Threading.Mutex -ArgumentList $false, 'Global\\FleetPatch'; "
    taken = threading.Event()
    call = mine.powershell.call(
        ["-Command", take + "$m.WaitOne(0); while ($true) { Start-Sleep -Milliseconds 10 }"],
        on_output=lambda *_: taken.set(),
    )
    asked = take + "try { $m.WaitOne(0) } catch [System.Threading.AbandonedMutexException] { 'abandoned' }"
    assert taken.wait(60)

    assert run(mine, asked) == ["False"]
    assert run(other, asked) == ["True"]
    call.cancel()
    call.wait(60)
    assert run(mine, asked) == ["abandoned"]
    assert run(mine, "(New-Object -TypeName System.Text.StringBuilder -ArgumentList 'abc').Length") == ["3"]


@pytest.mark.parametrize(
    "command",
    [
        "Get-Service -Nope",
        "Get-CimInstance Win32_BIOS -Nope",
        "Get-WinEvent -FilterHashtable @{ Nope = 1 }",
        "w32tm.exe /nope",
    ],
)
def test_parameters_that_the_stand_ins_lack_are_errors(shared_machine: WindowsMachine, command: str) -> None:
    assert run(shared_machine, f"try {{ {command}; 'no error' }} catch {{ 'error' }}") == ["error"]


def test_no_events_are_an_error_as_there(shared_machine: WindowsMachine) -> None:
    command = "Get-WinEvent -FilterHashtable @{ LogName = 'System'; Id = 1074 }"
    found = run(shared_machine, f"try {{ {command} }} catch {{ $_.FullyQualifiedErrorId }}")
    assert found == ["NoMatchingEventsFound,Microsoft.PowerShell.Commands.GetWinEventCommand"]


def test_a_boot_starts_what_is_automatic_and_late_what_is_delayed(make_machine: MakeMachine) -> None:
    services = (
        Service("Runs", "Stopped"),
        Service("Fails", start_fails=True, display_name="It fails"),
        Service("Ends", ends_after_start=True),
        Service("Late", is_delayed=True),
        Service("OnEvent", is_triggered=True),
        Service("ByHand", start_type="Manual"),
    )
    machine = make_machine(Scenario(services=services, late_start_seconds=4))
    script = """
    foreach ($service in Get-CimInstance -ClassName Win32_Service) {
        "$($service.Name) $($service.State) $($service.ExitCode) $($service.ExitCode.GetType().Name)"
    }"""
    before = run(machine, script)
    assert {line.split(" ", 1)[1] for line in before} == {"Running 0 UInt32", "Stopped 0 UInt32"}
    machine.power_cut()
    state = machine.read_state()
    (late,) = [each["starts_at"] for each in state["services"] if each["name"] == "Late"]
    after = run(machine, script) if time.time() < late - 1 else []
    never = "Stopped 1077 UInt32"
    expected = ["Runs Running 0 UInt32", "Fails Stopped 1053 UInt32", "Ends Stopped 0 UInt32", f"Late {never}"]
    assert after in ([], [*expected, f"OnEvent {never}", f"ByHand {never}"])
    time.sleep(max(0.0, late - time.time()))
    assert run(machine, script)[3] == "Late Running 0 UInt32"
    (event,) = [each for each in state["events"] if each["id"] == 7000]
    assert (event["provider"], event["data"]["param1"]) == ("Service Control Manager", "It fails")


def test_events_have_their_values_by_name_in_xml(make_machine: MakeMachine) -> None:
    machine = make_machine()
    with change_state(machine.folder) as state:
        add_event(state, "Service Control Manager", 7031, "", {"param1": "a<b", "param2": "1"})
    script = """
    $xml = [xml] (Get-WinEvent -FilterHashtable @{ LogName = 'System'; Id = 7031, 7034 }).ToXml()
    $xml.Event.EventData.Data.Name -join ' '
    $xml.SelectNodes("//*[local-name()='Data']")[0].InnerText
    $xml.Event.System.Provider.Name
    $xml.Event.xmlns
    (Get-WinEvent -FilterHashtable @{ LogName = 'System'; Id = 7031 }).Properties.Value -join ' '"""
    space = "http://schemas.microsoft.com/win/2004/08/events/event"
    assert run(machine, script) == ["param1 param2", "a<b", "Service Control Manager", space, "a<b 1"]


@pytest.mark.parametrize("state", ["Healthy", "Repairable", "NonRepairable"])
def test_the_component_store_is_only_asked(make_machine: MakeMachine, state: Literal["Healthy"]) -> None:
    machine = make_machine(Scenario(component_store=state))
    assert run(machine, "(Repair-WindowsImage -Online -CheckHealth).ImageHealthState.ToString()") == [state]
    refused = "try { Repair-WindowsImage -Online -RestoreHealth; 'repaired' } catch { $_.FullyQualifiedErrorId }"
    assert run(machine, refused)[0].startswith("NamedParameterNotFound")
