"""The Windows Update Agent: its members, criteria, refusals, and what searches, downloads and installations do."""

from typing import Literal

import pytest

from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.machine_facts import RegistryValues
from tests.lab.windows.running import CATALOGUE, ID, MakeMachine, run
from tests.lab.windows.scenario import Scenario, Update, update_service

AGENT = r"""
$session = New-Object -ComObject Microsoft.Update.Session
$session.ClientApplicationID = 'test'
function Search([string] $Criteria, [bool] $Online = $true) {
    $searcher = $session.CreateUpdateSearcher()
    $searcher.Online = $Online
    return , $searcher.Search($Criteria).Updates
}
function Titles([string] $Criteria, [bool] $Online = $true) {
    (@(foreach ($update in (Search $Criteria $Online)) { $update.Title }) | Sort-Object) -join ','
}
function Collect($Updates) {
    $collection = New-Object -ComObject Microsoft.Update.UpdateColl
    foreach ($update in $Updates) { [void]$collection.Add($update) }
    return , $collection
}
function Download($Updates) {
    $downloader = $session.CreateUpdateDownloader()
    $downloader.Updates = Collect $Updates
    return $downloader.Download()
}
function Install($Updates) {
    $installer = $session.CreateUpdateInstaller()
    $installer.ForceQuiet = $true
    $installer.AllowSourcePrompts = $false
    $installer.Updates = Collect $Updates
    return $installer.Install()
}
function Show($Result, [int] $Index) {
    $own = $Result.GetUpdateResult($Index)
    '{0} {1:X8} of {2}' -f $own.ResultCode, $own.HResult, $Result.ResultCode
}
function Code([scriptblock] $Script) {
    try { $null = & $Script; return 'no error' } catch {
        $exception = $_.Exception
        while ($exception.InnerException) { $exception = $exception.InnerException }
        return '{0:X8}' -f $exception.HResult
    }
}
"""


def lines(machine: WindowsMachine, script: str) -> list[str]:
    """Run as SYSTEM."""
    return run(machine, AGENT + script, logon="system")


@pytest.mark.parametrize(
    ("criteria", "titles"),
    [
        ("IsInstalled=0", "one,two"),
        ("isinstalled = 0 AND IsHidden=0", "one"),
        ("IsInstalled=1", "three"),
        ("IsInstalled=1 or IsHidden=1", "three,two"),
        ("(IsInstalled=0 and Type='Driver') or (IsInstalled=1)", "three,two"),
        ("Type='Software'", "one,three"),
        ("BrowseOnly=0 and IsInstalled=0 and RebootRequired=0", "one"),
        ("IsPresent=1", "three"),
        ("IsAssigned=1 and AutoSelectOnWebSites=1", "one,two"),
        (f"UpdateID='{ID(1)}' and RevisionNumber=3", "one"),
        (f"UpdateID='{ID(1)}' and RevisionNumber=2", ""),
        (f"UpdateID!='{ID(1)}' and IsInstalled=0", "two"),
        ("CategoryIDs contains 'E0789628-CE08-4437-BE74-2495B842F43B'", "two"),
        ("DeploymentAction='Uninstallation'", "four"),
        ("DeploymentAction=* and IsInstalled=0", "four,one,two"),
    ],
)
def test_criteria(shared_machine: WindowsMachine, criteria: str, titles: str) -> None:
    quoted = criteria.replace("'", "''")
    assert lines(shared_machine, f"Titles '{quoted}'") == [titles]


BAD_CRITERIA = (
    "",
    "IsInstalled",
    "IsInstalled=2",
    "IsInstalled=0 or",
    "IsInstalled='0'",
    "Nope=1",
    "IsInstalled=0 and (IsHidden=0 or IsHidden=1)",
    "not IsInstalled=0",
    "RevisionNumber=3",
    "UpdateID='x'",
    "Type='Nope'",
    "CategoryIDs='e0789628-ce08-4437-be74-2495b842f43b'",
    "IsInstalled=0; IsHidden=0",
    "Title contains 'x'",
)


def test_criteria_that_the_agent_does_not_know(shared_machine: WindowsMachine) -> None:
    quoted = ", ".join("'{}'".format(criteria.replace("'", "''")) for criteria in BAD_CRITERIA)
    told = lines(shared_machine, f"foreach ($c in {quoted}) {{ Code {{ Search $c }} }}")
    assert told == ["80240032"] * len(BAD_CRITERIA)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("$session.CreateUpdateInstaller()", "80070005"),
        ("$session.CreateUpdateDownloader()", "80070005"),
        ("(New-Object -ComObject Microsoft.Update.SystemInfo).RebootRequired", "80070005"),
        ("(Search 'IsInstalled=0').Item(0).AcceptEula()", "80070005"),
        ("(Search 'IsInstalled=0').Item(1).IsHidden = $true", "80070005"),
        ("(New-Object -ComObject Microsoft.Update.AutoUpdate).Settings", "80070005"),
        ("(New-Object -ComObject Microsoft.Update.AutoUpdate).ServiceEnabled", "80070005"),
        ("(Search 'IsInstalled=0').Item(0).IsHidden", "no error"),
        ("$session.CreateUpdateSearcher().GetTotalHistoryCount()", "no error"),
        ("(New-Object -ComObject Microsoft.Update.AutoUpdate).Results.LastSearchSuccessDate", "no error"),
        ("(New-Object -ComObject Microsoft.Update.ServiceManager).Services.Item(0).Name", "no error"),
        ("(New-Object -ComObject Microsoft.Update.AgentInfo).GetInfo('ProductVersionString')", "no error"),
        ("$session.CreateUpdateSearcher().QueryHistory(0, 0)", "80240007"),
    ],
)
def test_what_a_login_over_the_network_may_not_do(shared_machine: WindowsMachine, script: str, code: str) -> None:
    assert run(shared_machine, AGENT + f"Code {{ {script} }}") == [code]
    if "History" not in script:
        assert lines(shared_machine, f"Code {{ {script} }}") == ["no error"]
    assert shared_machine.stand_in_errors() == []


@pytest.mark.parametrize("shape", ["bare", "wrapped"])
def test_failures_have_both_shapes(make_machine: MakeMachine, shape: Literal["bare", "wrapped"]) -> None:
    machine = make_machine(Scenario(com_errors=shape))
    told = run(machine, AGENT + "try { $session.CreateUpdateInstaller() } catch { $_.Exception.GetType().Name }")
    assert told == ["COMException" if shape == "bare" else "MethodInvocationException"]


def test_what_the_agent_lacks_is_an_error(machine: WindowsMachine) -> None:
    wrong = (
        "$session.Nope",
        "$session.Nope = 1",
        "$session.ReadOnly = $true",
        "$session.CreateUpdateSearcher().Search()",
    )
    told = lines(machine, "".join(f"try {{ {each}; 'no error' }} catch {{ 'error' }}\n" for each in wrong))
    assert told == ["error"] * len(wrong)
    assert len(machine.stand_in_errors()) == len(wrong)


def test_searches_fail_as_the_server_does_and_offline_ones_do_not(make_machine: MakeMachine) -> None:
    updates = (*CATALOGUE, Update(ID(5), "five", fresh=True))
    machine = make_machine(Scenario(updates=updates, search_hresults=[0x80244022, 0x8024402C, 0]))
    script = """
    Titles 'IsInstalled=0' $false; Code { Search 'IsInstalled=0' }; Code { Search 'IsInstalled=0' }
    Titles 'IsInstalled=0'; Titles 'IsInstalled=0' $false
    """
    assert lines(machine, script) == ["one,two", "80244022", "8024402C", "five,one,two", "five,one,two"]


def test_a_search_with_warnings(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(search_result=3))
    script = """
    $r = $session.CreateUpdateSearcher().Search('IsInstalled=0')
    $r.ResultCode; '{0:X8}' -f $r.Warnings.Item(0).HResult
    """
    assert lines(machine, script) == ["3", "80240438"]


def test_servers_that_are_not_there(make_machine: MakeMachine) -> None:
    script = """
    $s = $session.CreateUpdateSearcher(); $s.ServerSelection = 1; Code { $s.Search('IsInstalled=0') }
    $s.ServerSelection = 3; $s.ServiceID = '7971f918-a847-4430-9279-4a52d1efe18d'; Code { $s.Search('IsInstalled=0') }
    """
    assert lines(make_machine(), script) == ["80244011", "80248014"]
    wsus = update_service("WSUS", "3da21691-e39d-4da6-8a4b-b43877bcb1b7", managed=True, default=True)
    managed = make_machine(Scenario(services_registered=[wsus]))
    assert lines(managed, script) == ["no error", "80248014"]


def test_an_update_has_what_the_catalogue_says(make_machine: MakeMachine) -> None:
    update = Update(
        ID(7), "all", revision=201, kbs=("5044281",), severity="Critical", size=5_000_000_000, cves=("CVE-1",),
        supersedes=(ID(8),), reboot_behavior=2, impact=2, asks_user=True, published=1_700_000_000.0,
    )  # fmt: skip
    bundle = Update(ID(9), "bundle", no_installation_behavior=True)
    machine = make_machine(Scenario(updates=(update, Update(ID(8), "old"), bundle)))
    script = """
    $u = (Search "UpdateID='00000007-0000-4000-8000-000000000000'").Item(0); $b = $u.InstallationBehavior
    "$($u.Identity.UpdateID) $($u.Identity.RevisionNumber) $($u.KBArticleIDs.Item(0)) $($u.MsrcSeverity)"
    $size = $u.MaxDownloadSize
    "$size $($size.GetType()) $($u.CveIDs.Item(0)) $($u.SupersededUpdateIDs.Count) $($u.Type)"
    $u.IsDownloaded
    "$($b.Impact) $($b.RebootBehavior) $($b.CanRequestUserInput) $($u.Categories.Item(1).CategoryID)"
    "$($u.LastDeploymentChangeTime.ToString('s')) $($u.LastDeploymentChangeTime.Kind)"
    $null -eq (Search "UpdateID='00000009-0000-4000-8000-000000000000'").Item(0).InstallationBehavior
    Titles 'IsInstalled=0'
    """
    assert lines(machine, script) == [
        f"{ID(7)} 201 5044281 Critical",
        "5000000000 decimal CVE-1 1 1",
        "False",
        "2 2 True 0fa1201d-4330-4fa8-8ae9-b877473b6441",
        "2023-11-14T22:13:20 Unspecified",
        "True",
        "all,bundle",
    ]


def test_downloads(make_machine: MakeMachine) -> None:
    machine = make_machine(
        Scenario(
            updates=(
                Update(ID(1), "1", download_hresult=0x80240034, download_failures=1),
                Update(ID(2), "2", eula_accepted=False),
                Update(ID(3), "3"),
            )
        )
    )
    script = """
    $all = Search 'IsInstalled=0'; $r = Download $all; Show $r 0; Show $r 1; Show $r 2
    $all.Item(1).AcceptEula(); $r = Download $all; Show $r 0; Show $r 1; Show $r 2
    foreach ($u in $all) { $u.IsDownloaded }
    Code { Download @() }; Code { $r.GetUpdateResult(3) }; Code { $all.Item(-1) }
    """
    assert lines(machine, script) == [
        *("4 80240034 of 3", "4 80240023 of 3", "2 00000000 of 3"),
        *("2 00000000 of 2", "2 00000000 of 2", "2 00000000 of 2"),
        *("True", "True", "True"),
        *("80240024", "80240007", "80240007"),
    ]


def test_installations_are_seen_everywhere_and_end_with_the_boot(make_machine: MakeMachine) -> None:
    machine = make_machine(
        Scenario(
            updates=(
                Update(ID(1), "lcu", kbs=("11",), needs_reboot=True, build_after=20349, ubr_after=99, downloaded=True),
                Update(ID(2), "after", appears_after=(ID(1),)),
                Update(ID(3), "undone", needs_reboot=True, rolled_back=True, downloaded=True),
                Update(ID(4), "net", kbs=("44",), downloaded=True),
                Update(ID(5), "lies", lies=True, downloaded=True),
            )
        )
    )
    keys = (
        "Test-Path 'HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired'\n"
    )
    number = "(Get-ItemProperty 'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion').UBR\n"
    script = "$r = Install (Search 'IsInstalled=0'); foreach ($i in 0..3) { Show $r $i }; $r.RebootRequired\n"
    told = lines(
        machine, script + keys + number + "Titles 'IsInstalled=0'; Titles 'RebootRequired=1'; Titles 'IsInstalled=1'"
    )
    assert told == [*["2 00000000 of 2"] * 4, "True", "True", "2700", "lcu,lies,undone", "lcu,undone", "net"]

    machine.power_cut()

    told = lines(machine, keys + number + "Titles 'IsInstalled=0'; Titles 'RebootRequired=1'; Titles 'IsInstalled=1'")
    assert told == ["False", "99", "after,lies,undone", "", "lcu,net"]
    history = "$s = $session.CreateUpdateSearcher(); foreach ($e in $s.QueryHistory(0, $s.GetTotalHistoryCount())) "
    told = lines(machine, history + "{ '{0} {1} {2:X8}' -f $e.Title, $e.ResultCode, $e.HResult }")
    assert told == ["undone 4 800F0922", *(f"{title} 2 00000000" for title in ("lies", "net", "undone", "lcu"))]
    fixes = "(Get-CimInstance -ClassName Win32_QuickFixEngineering).HotFixID | Sort-Object"
    assert lines(machine, fixes) == ["KB11", "KB44"]


@pytest.mark.parametrize(
    ("update", "told"),
    [
        (Update(ID(1), "x"), "4 80246007 of 4"),
        (Update(ID(1), "x", downloaded=True, eula_accepted=False), "4 80240023 of 4"),
        (Update(ID(1), "x", downloaded=True, install_hresult=0x80070643), "4 80070643 of 4"),
        (Update(ID(1), "x", downloaded=True, install_hresult=0x80070643, install_failures=0), "2 00000000 of 2"),
        (Update(ID(1), "x", downloaded=True, install_hresult=0x00240005), "2 00240005 of 2"),
        (Update(ID(1), "x", downloaded=True, install_result=3), "3 00000000 of 3"),
        (Update(ID(1), "x", downloaded=True, needs=(ID(2),)), "4 800F0823 of 4"),
    ],
)
def test_installations_that_fail(make_machine: MakeMachine, update: Update, told: str) -> None:
    machine = make_machine(Scenario(updates=(update, Update(ID(2), "stack", hidden=True))))
    assert lines(machine, "Show (Install (Search 'IsInstalled=0 and IsHidden=0')) 0") == [told]
    done = machine.read_state()["updates"][ID(1)]
    assert done["installed"] is (told[0] in "23")


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        (Scenario(updates=(Update(ID(1), "1", impact=2), Update(ID(2), "2"))), "80240019"),
        (Scenario(updates=(Update(ID(1), "1"),), installer_busy_seconds=600), "80240009"),
        (Scenario(updates=(Update(ID(1), "1"),), reboot_before_installation=True), "80240016"),
    ],
)
def test_installations_that_are_refused(make_machine: MakeMachine, scenario: Scenario, code: str) -> None:
    machine = make_machine(scenario)
    assert lines(machine, "Code { Install (Search 'IsInstalled=0') }") == [code]


def test_an_installation_goes_on_when_its_process_is_ended_but_not_without_power(make_machine: MakeMachine) -> None:
    slow = Update(ID(1), "slow", downloaded=True, install_gate="go")
    machine = make_machine(Scenario(updates=(slow, Update(ID(2), "other", downloaded=True))))
    script = AGENT + f"Install (Search \"UpdateID='{ID(1)}'\")"
    call = machine.powershell.call(["-Command", script], logon="system", on_output=lambda *_: None)
    machine.wait_until(lambda state: state["activity"])
    call.cancel()
    assert call.wait(60) == 1

    assert lines(machine, "$session.CreateUpdateInstaller().IsBusy") == ["True"]
    assert lines(machine, f"Code {{ Install (Search \"UpdateID='{ID(2)}'\") }}") == ["80240009"]
    machine.power_cut()
    assert (machine.read_state()["activity"], machine.read_state()["updates"][ID(1)]["installs"]) == (None, 0)

    call = machine.powershell.call(["-Command", script], logon="system", on_output=lambda *_: None)
    machine.wait_until(lambda state: state["activity"])
    call.cancel()
    machine.open_gate("go")
    machine.wait_until(lambda state: state["updates"][ID(1)]["installed"] and state["activity"] is None)


def test_a_disabled_service(make_machine: MakeMachine) -> None:
    from tests.lab.windows.scenario import Service

    machine = make_machine(Scenario(services=(Service("wuauserv", "Stopped", "Disabled"),)))
    assert lines(machine, "Code { Search 'IsInstalled=0' }") == ["80070422"]


def test_a_download_in_a_second_thread(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(updates=(Update(ID(1), "1"),)))
    script = """
    $downloader = $session.CreateUpdateDownloader(); $downloader.Updates = Search 'IsInstalled=0'
    $worker = [System.Management.Automation.PowerShell]::Create()
    [void]$worker.AddScript('param($Downloader) $Downloader.Download()').AddArgument($downloader)
    Show @($worker.EndInvoke($worker.BeginInvoke()))[0] 0
    """
    assert lines(machine, script) == ["2 00000000 of 2"]


@pytest.mark.parametrize(
    ("policies", "level"),
    [({}, "0 False"), ({r"AU\NoAutoUpdate": 1}, "1 True"), ({r"AU\NoAutoUpdate": 0, r"AU\AUOptions": 4}, "4 True")],
)
def test_policies_are_in_the_registry_and_in_the_settings(
    make_machine: MakeMachine, policies: RegistryValues, level: str
) -> None:
    machine = make_machine(Scenario(policies={**policies, "WUServer": "https://wsus:8531"}))
    settings = (
        '$s = (New-Object -ComObject Microsoft.Update.AutoUpdate).Settings; "$($s.NotificationLevel) $($s.ReadOnly)"'
    )
    assert lines(machine, settings) == [level]
    key = r"HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
    assert run(machine, f"(Get-Item -LiteralPath '{key}').GetValue('WUServer')") == ["https://wsus:8531"]
    assert run(machine, f"Test-Path -LiteralPath '{key}\\AU'") == [str(bool(policies))]
