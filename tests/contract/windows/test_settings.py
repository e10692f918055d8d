"""What a Windows machine says of settings that would stop or endanger a run."""

from dataclasses import replace

import pytest

from tasks.domain.errors import UnsupportedSystem
from tasks.domain.model import Facts, Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script
from tasks.domain.states import FindingLevel
from tasks.machines.transport.script_library import load_windows_script
from tasks.steps.machine.facts import read_facts
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.machine_facts import WINRM
from tests.lab.windows.scenario import SERVICES, Disk, Scenario

GIB = 2**30
BAD = Scenario(
    disks=(Disk(free=3 * GIB),),
    services=tuple(replace(each, status="Stopped") if each.name == "Schedule" else each for each in SERVICES),
    registry={r"SOFTWARE\Policies\Microsoft\Windows\PowerShell": {"EnableScripts": 1, "ExecutionPolicy": "AllSigned"}},
    privilege="filtered",
    winrm=WINRM
    | {"Shell\\MaxMemoryPerShellMB": "150", "Service\\AllowUnencrypted": "true", "Shell\\MaxShellsPerUser": "x"},
    listener_certificate_days=(365, 13, -2),
)  # fmt: skip


def ask(warm: WarmMachine) -> Facts:
    facts = read_facts(warm.open_host(), CLOCK, Deadline.after(CLOCK, 60))
    assert not warm.windows.stand_in_errors()
    return facts


def find(findings: tuple[Finding, ...], words: str) -> Finding:
    (found,) = [each for each in findings if words in each.message]
    assert found.remedy
    return found


def test_a_machine_as_windows_is_installed_has_no_findings(warm: WarmMachine) -> None:
    assert ask(warm).findings == ()


def test_what_would_stop_or_endanger_a_run_is_said_with_its_remedy() -> None:
    with WarmMachine.opened(BAD) as warm:
        findings = ask(warm).findings
    said = {words: find(findings, words) for words in (
        "takes their rights away over the network", "Task Scheduler does not run", "MaxMemoryPerShellMB is 150",
        "not encrypted", "allows signed scripts only", "3 GiB free", "expires in 13 days", "has expired",
    )}  # fmt: skip
    assert len(said) == len(findings), findings
    blocking = {words for words, each in said.items() if each.level is FindingLevel.BLOCK}
    assert blocking == {"takes their rights away over the network", "Task Scheduler does not run"}
    assert {words: each.check for words, each in said.items() if each.check != "settings"} == {
        "takes their rights away over the network": "privilege",
        "3 GiB free": "disk",
    }
    assert "LocalAccountTokenFilterPolicy" in said["takes their rights away over the network"].remedy


@pytest.mark.parametrize(("free", "level"), [(GIB, FindingLevel.BLOCK), (9 * GIB, FindingLevel.WARN)])
def test_too_little_room_for_a_cumulative_update(free: int, level: FindingLevel) -> None:
    with WarmMachine.opened(Scenario(disks=(Disk(free=free),))) as warm:
        (finding,) = ask(warm).findings
    assert (finding.check, finding.level) == ("disk", level)


def test_a_machine_that_says_that_it_cannot_be_patched_is_refused_with_its_remedy(warm: WarmMachine) -> None:
    def load(name: str, package: str = "tasks") -> str:
        text = load_windows_script(name, package)
        return text.replace("[System.Version] '5.1'", "[System.Version] '99.0'") if name == "facts" else text

    with pytest.raises(UnsupportedSystem, match="oldest that works") as caught:
        read_facts(warm.open_host(script_loader=load), CLOCK, Deadline.after(CLOCK, 60))
    assert "Management Framework" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"EnableScripts": 0}, ["a group policy forbids scripts (PowerShell)"]),
        ({"EnableScripts": 1, "ExecutionPolicy": "RemoteSigned"}, []),
        ({}, []),
    ],
)
def test_a_group_policy_about_scripts(values: dict[str, int | str | list[str]], words: list[str]) -> None:
    with WarmMachine.opened(Scenario(registry={r"SOFTWARE\Policies\Microsoft\Windows\PowerShell": values})) as warm:
        findings = ask(warm).findings
    assert [finding.message.partition(":")[0] for finding in findings] == words
    assert all(finding.level is FindingLevel.REMARK for finding in findings)


def test_a_setting_that_can_not_be_read_hides_no_other() -> None:
    broken = """
function Get-FpNoCertificate { throw 'the provider WSMan does not answer' }
Set-Alias -Name Get-FpListenerCertificate -Value Get-FpNoCertificate -Option AllScope -Force
"""

    def load(name: str, package: str = "tasks") -> str:
        text = load_windows_script(name, package)
        return f"{broken}\n{text}" if name == "facts" else text

    with WarmMachine.opened(BAD) as warm:
        findings = read_facts(warm.open_host(script_loader=load), CLOCK, Deadline.after(CLOCK, 60)).findings
    find(findings, "MaxMemoryPerShellMB is 150")
    find(findings, "Task Scheduler does not run")
    assert not [finding for finding in findings if "certificate" in finding.message]


PROVIDERS = """
function Get-FpNode {
    param([string] $Path, [string] $LiteralPath, $ErrorAction)
    $place = ("$Path$LiteralPath" -replace '^WSMan:.localhost.', '') -replace '/', '\\'
    switch ($place) {
        'Listener' { [pscustomobject]@{ Name = 'https' }, [pscustomobject]@{ Name = 'http' } }
        'Listener\\https\\CertificateThumbprint' { [pscustomobject]@{ Value = 'AB CD' } }
        'Listener\\http\\CertificateThumbprint' { [pscustomobject]@{ Value = '' } }
        'Cert:\\LocalMachine\\My\\ABCD' { FOUND }
        'Shell\\MaxShellsPerUser' { [pscustomobject]@{ Value = 30 } }
        default { throw "no such item: $place" }
    }
}
Set-Alias -Name Get-Item -Value Get-FpNode
Set-Alias -Name Get-ChildItem -Value Get-FpNode
function Invoke-FpOwn { & (Get-Command -Name $args[0] -CommandType Function) @($args[1]) }
Write-FpRecord quota @{ known = (Invoke-FpOwn Get-FpWinrmSetting 'Shell\\MaxShellsPerUser')
    unknown = (Invoke-FpOwn Get-FpWinrmSetting 'Service\\None') }
foreach ($one in & (Get-Command -Name Get-FpListenerCertificate -CommandType Function)) {
    Write-FpRecord certificate @{ thumbprint = $one.Thumbprint; until = $one.Until }
}
"""
EXPIRING = """
    $end = [System.DateTime]::new(1970, 1, 2, 0, 0, 0, [System.DateTimeKind]::Utc)
    [pscustomobject]@{ NotAfter = $end.ToLocalTime() }
"""


@pytest.mark.parametrize(("found", "told"), [(EXPIRING, [("ABCD", 86400)]), ("", [])])
def test_the_providers_of_winrm_and_certificates_are_read(
    warm: WarmMachine, found: str, told: list[tuple[str, int]]
) -> None:
    """A listener for HTTP has no certificate, and one whose certificate was removed has none to tell of."""

    def load(name: str, package: str = "tasks") -> str:
        text = "# Requires: settings\n" + PROVIDERS.replace("FOUND", found)
        return text if name == "ask" else load_windows_script(name, package)

    result = warm.open_host(script_loader=load).run_script(Script("ask"), deadline=Deadline.after(CLOCK, 60))
    assert result.find_records("error") == ()
    (quota,) = result.find_records("quota")
    assert (quota["known"], quota["unknown"]) == ("30", "")
    assert [(each["thumbprint"], each["until"]) for each in result.find_records("certificate")] == told
