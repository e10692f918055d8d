"""What a Windows machine says of itself, and what is read from that."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from tasks.domain.errors import HostKeyMismatch, ProtocolViolation, UnsupportedSystem
from tasks.domain.model import Facts
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script, ScriptResult
from tasks.domain.states import FindingLevel, MachineKind
from tasks.machines.managers.registry import MANAGER_COMMANDS
from tasks.machines.transport.script_library import load_windows_script
from tasks.rules.machine_checks.precheck import check_disk_space
from tasks.rules.machine_checks.units import ServiceFault, find_missing_services, judge_service
from tasks.rules.machine_identity import normalize_uuid
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.health import build_states_script, parse_service_states
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.machine_facts import RegistryValues
from tests.lab.windows.scenario import SERVICES, Scenario, Service
from tests.lab.windows.state import change_state
from tests.support.builders import make_update
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport

CONTROL = r"SYSTEM\CurrentControlSet\Services"
VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"


def soon() -> Deadline:
    return Deadline.after(CLOCK, 60)


def read_on(warm: WarmMachine) -> Facts:
    return read_facts(warm.open_host(), CLOCK, soon())


@contextmanager
def facts_of(scenario: Scenario) -> Iterator[Facts]:
    with WarmMachine.opened(scenario) as warm:
        yield read_on(warm)


def ask(warm: WarmMachine, text: str) -> ScriptResult:
    """Run a text after the functions of facts.ps1's scripts."""

    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        return f"# Requires: listeners\n{text}" if name == "ask" else load_windows_script(name, package)

    return warm.open_host(script_loader=load).run_script(Script("ask"), deadline=soon())


def test_a_machine_tells_who_it_is_as_its_hypervisor_does(warm: WarmMachine) -> None:
    script = Script("machine_identity", read_only=True, package="tasks.machines.providers")
    answer = warm.open_host().run_script(script, deadline=soon())
    (machine,) = answer.find_records("machine")
    assert machine["asset_tag"] == ""
    assert normalize_uuid(machine["uuid"]) == str(machine["uuid"]).lower() != ""
    assert [card["mac"] for card in answer.find_records("card")] == ["52:54:00:00:00:0A"]


def test_the_facts_of_a_machine_make_sense(warm: WarmMachine) -> None:
    facts = read_on(warm)
    assert (facts.os_id, facts.os_version) == ("windows", "20348.2700")
    assert facts.os_name == "Windows Server 2022 Standard"
    assert (facts.kernel, facts.arch) == ("20348.2700", "AMD64")
    assert facts.default_routes == ("IPv4", "IPv6")
    assert facts.boot_id == warm.read_boot_id()
    assert abs(facts.clock_skew_seconds) < 5
    assert facts.privilege == "administrator"
    assert facts.managers == ("windows-update",)
    assert (facts.job_runner, facts.can_reboot) == ("task-scheduler", True)
    assert [(disk.role, disk.mount, disk.total_bytes) for disk in facts.disks[:2]] == [
        ("system", "C:", 100 * 2**30),
        ("packages", "C:", 100 * 2**30),
    ]
    assert (facts.kind, facts.container_engines, facts.is_arc) == (MachineKind.VIRTUAL, (), False)
    assert facts.services.known
    assert facts.services.failed == ()
    assert "tcp/5985" in facts.services.listening
    assert "tcp/49664" not in facts.services.listening  # of the ports that change at each boot


def test_what_others_need_a_machine_for_is_told_with_the_name_that_it_shares() -> None:
    registry: dict[str, RegistryValues] = {
        r"SYSTEM\CurrentControlSet\Control\ProductOptions": {"ProductType": "LanmanNT"},
        rf"{CONTROL}\Tcpip\Parameters": {"Domain": "CORP.example.org"},
        r"Cluster": {"ClusterName": "HV1"},
    }
    names = ("vmms", "MSSQLSERVER", "MSSQL$PROD")
    services = (*SERVICES, *map(Service, names), Service("ClusSvc", "Stopped", "Manual"))
    with facts_of(Scenario(registry=registry, services=services)) as facts:
        assert facts.roles == (
            "domain controller of corp.example.org", "node of the cluster HV1", "Hyper-V host", "SQL Server",
        )  # fmt: skip
    internal = Service("MSSQL$MICROSOFT##WID")
    off = (*SERVICES, internal, Service("vmms", "Stopped"), Service("ClusSvc", "Stopped", "Disabled"))
    with facts_of(Scenario(services=off)) as facts:
        assert facts.roles == ()
    del registry["Cluster"]["ClusterName"], registry[rf"{CONTROL}\Tcpip\Parameters"]["Domain"]
    with facts_of(Scenario(services=services, registry=registry)) as facts:
        assert facts.roles is not None
        assert facts.roles[:2] == ("domain controller of ", "node of the cluster ")
    with facts_of(Scenario(services=services, registry=registry, denied_keys=["Cluster"])) as facts:
        assert facts.roles is None


def test_a_physical_container_host_with_azure_arc_says_all_three() -> None:
    computer = {"Manufacturer": "HPE", "Model": "ProLiant DL380 Gen10", "HypervisorPresent": True}  # VBS runs
    services = (*SERVICES, Service("docker"))
    with WarmMachine.opened(Scenario(cim={"root/cimv2:Win32_ComputerSystem": [computer]}, services=services)) as warm:
        agent = "$env:ProgramData\\AzureConnectedMachineAgent\\Config"
        ask(warm, f'$null = New-Item -ItemType Directory "{agent}"; Set-Content "{agent}\\agentconfig.json" \'{{}}\'')
        facts = read_on(warm)
    assert (facts.kind, facts.container_engines, facts.is_arc) == (MachineKind.PHYSICAL, ("docker",), True)


def test_they_are_the_same_when_asked_again(warm: WarmMachine) -> None:
    first, second = read_on(warm), read_on(warm)
    assert first.boot_epoch is not None
    assert second.boot_epoch is not None
    assert abs(first.boot_epoch - second.boot_epoch) <= 2
    assert without_times(first) == without_times(second)


def without_times(facts: Facts) -> Facts:
    """Return the facts without those that are others whenever they are read."""
    return dataclasses.replace(facts, clock_skew_seconds=0, clock_error_seconds=0, uptime_seconds=0, boot_epoch=0)


def test_the_first_scripts_of_a_boot_agree_on_its_id() -> None:
    with WarmMachine.opened() as warm:
        before = warm.read_boot_id()
        warm.windows.power_cut()
        ids: list[str] = []
        threads = [threading.Thread(target=lambda: ids.append(warm.read_boot_id())) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ids == [ids[0]] * 6
        assert ids[0] not in {before, ""}


def test_a_script_that_ended_while_it_made_the_id_of_the_boot_keeps_no_other_from_it() -> None:
    with WarmMachine.opened() as warm:
        text = "$null = New-Object -TypeName System.Threading.Mutex -ArgumentList $true, 'Global\\FleetPatch-Boot'"
        assert warm.windows.powershell.run_script(text, logon="system").exit_code == 0
        known = warm.read_boot_id()
        assert known
        assert warm.read_boot_id() == known


@pytest.mark.parametrize("error", ["UnauthorizedAccessException", "Threading.WaitHandleCannotBeOpenedException"])
def test_a_mutex_that_another_account_has_or_whose_name_it_took_is_no_obstacle(error: str) -> None:
    denied = f"throw [System.{error}]::new()"
    text = f"""
        function New-FpDenied {{ {denied} }}
        function Start-FpNoSleep {{ $script:slept = "$args" }}
        Set-Alias -Name New-Object -Value New-FpDenied -Option AllScope -Force
        Set-Alias -Name Start-Sleep -Value Start-FpNoSleep
        Write-FpRecord boot @{{ id = (Get-FpBootId); slept = $script:slept }}"""
    with WarmMachine.opened() as warm:
        (record,) = ask(warm, text).records
        assert record["id"] == warm.read_boot_id()
        assert record["slept"] == "-Seconds 2"


def test_a_port_is_told_once_for_each_program_and_without_the_range_of_each_boot(warm: WarmMachine) -> None:
    text = """
        function Get-FpTwice { 4, 4, 99999 | ForEach-Object { [pscustomobject]@{ Port = 445; Process = $_ } } }
        function Stop-FpProgram { throw 'netsh.exe is not there' }
        Set-Alias -Name Get-FpListener -Value Get-FpTwice -Option AllScope -Force
        Set-Alias -Name Invoke-FpProgram -Value Stop-FpProgram -Option AllScope -Force
        Write-FpListeners"""
    result = ask(warm, text)
    assert [(each["name"], each["program"]) for each in result.find_records("socket")] == [
        ("tcp/445", "System"),
        ("tcp/445", ""),
    ]
    (ports,) = result.find_records("ports")
    assert ports["ephemeral"] == "49152 65535"


def test_a_small_reserved_partition_does_not_keep_updates_away(warm: WarmMachine) -> None:
    records = warm.open_host().run_script(Script("facts", {"managers": MANAGER_COMMANDS}), deadline=soon()).records
    roles = {str(record["role"]) for record in records if record["kind"] == "disk"}
    assert roles == {"system", "packages", "reserved"}
    facts = read_on(warm)
    tiny = tuple(
        dataclasses.replace(disk, free_bytes=2**20) if disk.role == "reserved" else disk for disk in facts.disks
    )
    update = make_update(requires_reboot=True, size_bytes=10**8)
    (finding,) = check_disk_space(dataclasses.replace(facts, disks=tiny), None, (update,))
    assert finding.level is FindingLevel.GOOD


@pytest.mark.parametrize(
    ("kind", "name"), [("Server Core", "Windows Server 2022 Standard (Server Core)"), ("Client", "Windows 11 Pro")]
)
def test_the_name_of_the_system(kind: str, name: str) -> None:
    core = kind == "Server Core"
    values: dict[str, int | str | list[str]] = {"InstallationType": kind}
    if not core:
        values["ProductName"] = "Windows 10 Pro"
    build = 20348 if core else 22631
    with facts_of(Scenario(registry={VERSION: values}, build=build)) as facts:
        assert facts.os_name == name


NEVER_STARTED = 1077
SERVICES_OF_ALL_KINDS = (
    *SERVICES,
    Service("MSSQL", "Stopped", exit_code=1067),
    Service("Backup", is_delayed=True),
    Service("Late", "Stopped", is_delayed=True, exit_code=NEVER_STARTED),
    Service("LateAndBroken", "Stopped", is_delayed=True, exit_code=1053),
    Service("LateAndDone", "Stopped", is_delayed=True, exit_code=0),
    Service("Done", "Stopped", exit_code=0),
    Service("OnEvent", "Stopped", is_triggered=True, exit_code=NEVER_STARTED),
    Service("CDPUserSvc_1a2b3", "Stopped", exit_code=NEVER_STARTED),
)


def test_what_windows_starts_by_itself_is_told_by_what_became_of_it() -> None:
    registry: dict[str, dict[str, int | str | list[str]]] = {rf"{CONTROL}\CDPUserSvc_1a2b3": {"Start": 2, "Type": 0xE0}}
    scenario = Scenario(services=SERVICES_OF_ALL_KINDS, registry=registry, counter_ahead=100 * 86_400)
    with facts_of(scenario) as facts:
        services = facts.services
        assert services.failed == ("MSSQL", "Late", "LateAndBroken")
        assert services.ended == ("Done",)
        assert (services.late, services.late_start_seconds) == (("Late",), 120)
        assert {"Backup", "WinRM"} <= set(services.running)
        assert not {"wuauserv", "MSSQL", "OnEvent"} & set(services.running)
        assert abs(facts.uptime_seconds - 3600) < 60


def test_without_exit_codes_a_delayed_start_excuses_a_service_and_nothing_else_does() -> None:
    scenario = Scenario(services=SERVICES_OF_ALL_KINDS, broken_cim_classes=["Win32_Service"])
    with facts_of(scenario) as facts:
        services = facts.services
        assert services.known
        assert services.failed == ("MSSQL", "Done", "CDPUserSvc_1a2b3")
        assert (services.ended, services.late) == ((), ())


CHANGES: tuple[Literal["", "Manual", "Disabled", "Triggered", "Gone"], ...] = (
    "", "Manual", "Disabled", "Triggered", "Gone",
)  # fmt: skip


def test_what_an_update_makes_of_a_service_that_ran_is_told_and_of_another_is_not() -> None:
    swept = [
        Service(f"{becomes or 'Automatic'}{before}", before, becomes=becomes, exit_code=0)
        for becomes in CHANGES
        for before in ("Running", "Stopped")
    ]  # each is stopped for the comparison, except for what a boot starts
    with WarmMachine.opened(Scenario(services=(*SERVICES, *swept))) as warm:
        before = read_on(warm).services
        warm.windows.power_cut()
        after = read_on(warm).services
        missing = find_missing_services(before, after)
        assert missing == ("DisabledRunning", "GoneRunning", "ManualRunning", "TriggeredRunning")
        script = build_states_script(missing)
        statuses = parse_service_states(script, warm.open_host().run_script(script, deadline=soon()))
        assert [(status.start, status.status, status.exit_code) for status in statuses] == [
            ("disabled", "Stopped", None),
            ("", "", None),
            ("manual", "Stopped", None),
            ("trigger", "Stopped", 1077),
        ]
        assert {name: judge_service(each, rebooted=True) for name, each in zip(missing, statuses, strict=True)} == {
            "DisabledRunning": ServiceFault.DISABLED,
            "GoneRunning": ServiceFault.GONE,
            "ManualRunning": ServiceFault.MANUAL,
            "TriggeredRunning": ServiceFault.TRIGGERED,
        }
        # in another spelling, and with a start that is delayed
        script = build_states_script(["winrm", "AutomaticRunning"])
        with change_state(warm.windows.folder) as state:
            (service,) = [each for each in state["services"] if each["name"] == "AutomaticRunning"]
            service["status"] = "Stopped"
            values = state["registry"][rf"{CONTROL}\AutomaticRunning"]["values"]
            values["DelayedAutostart"] = {"kind": "DWord", "data": 1}
        winrm, late = parse_service_states(script, warm.open_host().run_script(script, deadline=soon()))
        assert (winrm.start, winrm.status) == ("automatic", "Running")
        assert (late.is_late, late.exit_code, judge_service(late, rebooted=True)) == (True, 0, None)
        with pytest.raises(ProtocolViolation, match="did not tell the states"):
            parse_service_states(build_states_script(["WinRM"]), ScriptResult((), 0))
        with pytest.raises(ProtocolViolation, match="can't be understood"):
            parse_service_states(script, ScriptResult(({"kind": "service_state", "name": 1},), 0))


@pytest.mark.parametrize(("told", "seconds"), [(7, 7), (99999, 120)])
def test_the_delay_of_late_services_may_be_set(told: int, seconds: int) -> None:
    late = Service("Late", "Stopped", is_delayed=True, exit_code=NEVER_STARTED)
    with facts_of(Scenario(services=(*SERVICES, late), late_start_seconds=told)) as facts:
        assert facts.services.late_start_seconds == seconds


def test_where_wmi_is_broken_the_rest_is_told() -> None:
    broken = ["Win32_OperatingSystem", "Win32_LogicalDisk", "Win32_Volume", "Win32_Service"]
    with facts_of(Scenario(broken_cim_classes=broken)) as facts:
        assert facts.os_version == "20348.2700"
        assert facts.disks == ()
        assert facts.services.known
        assert "tcp/135" in facts.services.listening


@pytest.mark.parametrize(
    ("privilege", "remedy"), [("none", "local group Administrators"), ("filtered", "LocalAccountTokenFilterPolicy")]
)
def test_a_login_without_rights_is_told_the_remedy(privilege: str, remedy: str) -> None:
    scenario = Scenario()
    scenario.privilege = privilege  # type: ignore[assignment]
    with facts_of(scenario) as facts:
        (finding,) = (each for each in facts.findings if each.check == "privilege")
        assert finding.level is FindingLevel.BLOCK
        assert remedy in finding.remedy


def test_a_powershell_that_is_too_old_is_refused_with_the_remedy(warm: WarmMachine) -> None:
    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_windows_script(name, package)
        assert name != "facts" or "[System.Version] '5.1'" in text
        return text.replace("[System.Version] '5.1'", "[System.Version] '99.1'")

    with pytest.raises(UnsupportedSystem, match="it has Windows PowerShell") as caught:
        read_facts(warm.open_host(script_loader=load), CLOCK, soon())
    assert "Windows Management Framework" in caught.value.hint


def test_what_does_not_answer_is_left_out_and_the_rest_is_told(warm: WarmMachine) -> None:
    broken = "function Stop-FpPart { throw 'it does not answer' }\n" + "\n".join(
        f"Set-Alias -Name {name} -Value Stop-FpPart -Option AllScope -Force"
        for name in ("Get-FpPrivilege", "Get-FpBootId", "Get-FpService", "Get-FpListener")
    )

    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_windows_script(name, package)
        return f"{broken}\n{text}" if name == "facts" else text

    result = warm.open_host(script_loader=load).run_script(Script("facts"), deadline=soon())
    told = {str(record["kind"]): record for record in result.records}
    assert "error" not in told
    assert told["os"]["version"] == told["kernel"]["release"] == "20348.2700"
    assert told["kernel"]["boot_id"] == ""
    assert (told["privilege"]["way"], told["privilege"]["remedy"]) == (
        "none", "Add it to the local group Administrators."
    )  # fmt: skip
    assert (told["services"]["failed_known"], told["services"]["listening_known"]) == (False, False)
    assert told["runner"]["can_reboot"] is True
    assert "services: it does not answer" in str(result)
    assert "disk" in told


@pytest.mark.parametrize(("told", "arch"), [("ARM64", "ARM64"), ("", "AMD64")])
def test_the_kind_of_processor(warm: WarmMachine, told: str, arch: str) -> None:
    def load(name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_windows_script(name, package)
        return f"$env:PROCESSOR_ARCHITECTURE = '{told}'\n{text}" if name == "facts" else text

    assert read_facts(warm.open_host(script_loader=load), CLOCK, soon()).arch == arch


def test_a_container_can_not_be_rebooted() -> None:
    registry: dict[str, dict[str, int | str | list[str]]] = {r"SYSTEM\CurrentControlSet\Control": {"ContainerType": 2}}
    with facts_of(Scenario(registry=registry)) as facts:
        assert facts.can_reboot is False


def test_a_refusal_needs_a_remedy_for_people() -> None:
    clock = FakeClock()
    machine = FakeTransport(clock)
    machine.answer("facts", ScriptResult(({"kind": "refused", "why": "it is too old", "remedy": "Renew it."},), 0))
    with pytest.raises(UnsupportedSystem, match="too old") as caught:
        read_facts(machine, clock, Deadline.after(clock, 60))
    assert caught.value.hint == "Renew it."


NETSTAT = r"""

Aktive Verbindungen

  Proto  Lokale Adresse         Remoteadresse          Status           PID
  TCP    0.0.0.0:135            0.0.0.0:0              ABH\u00d6REN      888
  TCP    10.0.0.5:5985          10.0.0.9:50211         HERGESTELLT     4
  TCP    [::]:445               [::]:0                 ABH\u00d6REN      4
  UDP    0.0.0.0:123            *:*                                    1020
"""


def test_listeners_are_read_from_netstat_in_any_language(warm: WarmMachine) -> None:
    text = f"""
        foreach ($found in ConvertFrom-FpNetstat -Text @'
{NETSTAT.encode("ascii", "backslashreplace").decode()}
'@) {{ Write-FpRecord found @{{ port = $found.Port; process = $found.Process }} }}"""
    found = ask(warm, text).find_records("found")
    assert [(record["port"], record["process"]) for record in found] == [(135, 888), (445, 4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Start Port      : 1025\nNumber of Ports : 64510\n", "1025 65534"),
        ("Startport       : 49152\r\nAnzahl von Ports: 16384\r\n", "49152 65535"),
        ("", "49152 65535"),
        ("The request is not supported.", "49152 65535"),
    ],
)
def test_the_ports_of_each_boot_are_read_in_any_language(warm: WarmMachine, text: str, expected: str) -> None:
    lines = text.replace("\r", "`r").replace("\n", "`n")
    (record,) = ask(warm, f'Write-FpRecord range @{{ told = (Get-FpDynamicRange -Text "{lines}") }}').records
    assert record["told"] == expected


def test_another_machine_at_the_same_address_is_refused(warm: WarmMachine) -> None:
    """As that of a cluster, after a reboot: a login with NTLM proves nothing."""
    known = read_facts(warm.open_host(), CLOCK, soon())
    assert read_facts(warm.open_host(), CLOCK, soon(), known).machine_id == known.machine_id != ""
    other = dataclasses.replace(known, machine_id="0b7c1f0e-0000-4000-8000-000000000000")
    with pytest.raises(HostKeyMismatch, match="another machine answers") as caught:
        read_facts(warm.open_host(), CLOCK, soon(), other)
    assert "cluster" in caught.value.hint
    assert read_facts(warm.open_host(), CLOCK, soon(), dataclasses.replace(known, machine_id="")).machine_id
