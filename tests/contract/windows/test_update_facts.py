"""What an assessment of a Windows machine tells beside its updates: who else manages it, and what asks for a reboot."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.machines.managers.windows_update.manager import PACKAGE
from tasks.machines.managers.windows_update.unseen_fixes import TimeRecord
from tasks.rules.hotpatch import find_second_tuesday
from tests.contract.windows.update_machine import UpdateMachine, guid, offer
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.machine_facts import COMPONENTS, CURRENT_VERSION, WINDOWS_UPDATE, build_rollup
from tests.lab.windows.scenario import SERVICES, Scenario, Service, history_entry, update_service
from tests.lab.windows.state import change_state

CONTROL = r"SYSTEM\CurrentControlSet\Control"
CLIENT = "root/ccm/ClientSDK:CCM_ClientUtilities"
AGENTS = (*SERVICES, Service("ccmexec"), Service("AmazonSSMAgent"), Service("himds"))
MANAGED = Scenario(
    services=AGENTS,
    cim_methods={
        f"{CLIENT}.DetermineIfRebootPending": {"ReturnValue": 0, "RebootPending": False, "IsHardRebootPending": True}
    },
    registry={
        r"SOFTWARE\Microsoft\CCM": {"CoManagementFlags": 16},
        r"SOFTWARE\Microsoft\Enrollments\{0}": {"ProviderID": "another"},
        r"SOFTWARE\Microsoft\Enrollments\{1}": {"ProviderID": "MS DM Server"},
        r"SOFTWARE\Microsoft\PolicyManager\current\device\Update": {"AllowAutoUpdate": 3},
        rf"{CONTROL}\Session Manager": {"PendingFileRenameOperations": ["\\??\\C:\\old", "", "\\??\\C:\\x", "C:\\y"]},
        rf"{CONTROL}\ComputerName\ComputerName": {"ComputerName": "NEWNAME"},
        r"SYSTEM\CurrentControlSet\Services\Netlogon\JoinDomain": {},
        rf"{COMPONENTS}\RebootPending": {},
        rf"{COMPONENTS}\RebootInProgress": {},
        rf"{COMPONENTS}\PackagesPending": {},
        rf"{WINDOWS_UPDATE}\Auto Update\PostRebootReporting": {},
        r"SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnce": {"DVDRebootSignal": "yes"},
        r"SOFTWARE\Microsoft\Updates": {"UpdateExeVolatile": 1},
        r"SOFTWARE\Microsoft\ServerManager\CurrentRebootAttempts": {},
        CURRENT_VERSION: {"UBR": 42},
    },
    policies={"WUServer": "http://wsus:8530", "AU\\UseWUServer": 1},
)


def ask(warm: WarmMachine) -> ScriptResult:
    return warm.open_host().run_script(Script("wua_assess", package=PACKAGE), deadline=Deadline.after(CLOCK, 60))


def one(result: ScriptResult, kind: str) -> Mapping[str, object]:
    (record,) = result.find_records(kind)
    return record


def test_an_idle_machine_is_managed_by_nobody_and_asks_for_nothing(warm: WarmMachine) -> None:
    result = ask(warm)
    agents, reboot = one(result, "agents"), one(result, "reboot")
    assert not any(agents[name] for name in agents if name != "kind")
    assert reboot["known"] is True
    assert not any(reboot[name] for name in reboot if name not in ("kind", "known"))
    assert one(result, "policy")["values"] == {}
    assert warm.windows.stand_in_errors() == []


def test_every_manager_and_every_reason_for_a_reboot_is_told() -> None:
    with WarmMachine.opened(MANAGED) as warm:
        extension = "Packages/Plugins/Microsoft.SoftwareUpdateManagement.WindowsOsUpdateExtension"
        (warm.system_root.parent / extension).mkdir(parents=True)
        state = warm.system_root.parent / "ProgramData/Amazon/PatchBaselineOperations/State"
        state.mkdir(parents=True)
        (state / "PatchStatesConfiguration.json").write_text("{}")
        result = ask(warm)
        assert warm.windows.stand_in_errors() == []
    assert dict(one(result, "agents")) == {
        "kind": "agents", "config_manager": True, "co_management": 16, "mdm": True, "mdm_updates": True,
        "azure_updates": True, "aws": True, "aws_patches": True,
    }  # fmt: skip
    assert dict(one(result, "reboot")) == {
        "kind": "reboot", "known": True, "update_agent": False, "servicing": True, "servicing_continues": True,
        "config_manager": True, "config_manager_restarts": True, "renamed": True, "joining": True, "file_renames": 2,
        "marks": ["PackagesPending", "PostRebootReporting", "DVDRebootSignal", "UpdateExeVolatile",
                  "CurrentRebootAttempts"],
    }  # fmt: skip
    values = {"WUServer": "http://wsus:8530", "UseWUServer": "1", "mdm:AllowAutoUpdate": "3"}
    assert one(result, "policy")["values"] == values
    assert one(result, "system")["ubr"] == 42
    assert one(result, "hotpatch")["arc"] is True


def test_what_does_not_answer_is_unknown_and_the_rest_is_told() -> None:
    broken = [CLIENT.rpartition(":")[2], "Win32_DeviceGuard"]
    with WarmMachine.opened(Scenario(services=AGENTS, broken_cim_classes=broken)) as warm:
        result = ask(warm)
    unread = one(result, "reboot")
    assert (unread["config_manager"], unread["config_manager_restarts"], unread["known"]) == (None, None, True)
    assert one(result, "hotpatch")["vbs_status"] is None
    assert one(result, "search")["result_code"] == 2


@pytest.mark.parametrize("is_on", [False, True])
def test_products_whose_updates_nobody_offers_are_told(*, is_on: bool) -> None:
    service = update_service("Microsoft Update", "7971F918-A847-4430-9279-4A52D1EFE18D", managed=False, default=True)
    registered = [service] if is_on else []
    with UpdateMachine.opened(services=(*SERVICES, Service("MSSQL$PROD")), services_registered=registered) as machine:
        problems = machine.assess().repository_problems
    expected = "updates of MSSQL$PROD come from Microsoft Update"
    assert [problem.message[: len(expected)] for problem in problems] == ([] if is_on else [expected])


HELD_BACK = {
    r"SOFTWARE\Microsoft\PolicyManager\current\device\Update": {"PauseQualityUpdatesStartTime": "2999-01-01"},
    r"SOFTWARE\Microsoft\WindowsUpdate\UX\Settings": {"DeferQualityUpdatesPeriodInDays": 8},
    r"SOFTWARE\Microsoft\WindowsUpdate\UpdatePolicy\Settings": {"PausedQualityStatus": 1},
}


def test_a_server_that_approves_nothing_and_whoever_holds_updates_back_hide_fixes() -> None:
    policies = {"WUServer": "http://wsus:8530", "AU\\UseWUServer": 1, "DisableWindowsUpdateAccess": 1}
    with UpdateMachine.opened(registry=HELD_BACK, policies=policies, searched_ago=None) as machine:
        state = machine.assess(refresh=False)
        searched = machine.assess()
    assert state.updates == ()
    messages = [problem.message for problem in state.repository_problems]
    assert [message[:48] for message in messages] == [
        "the policy DisableWindowsUpdateAccess forbids Wi",
        "a policy of Intune or another MDM pauses quality",
        "Settings, Windows Update, on the machine defers ",
        "Automatic Updates is not known to have asked the",
        "no cumulative update of Windows is known to be i",
    ]
    assert searched.repository_problems == tuple(
        p for p in state.repository_problems if "Automatic Updates" not in p.message
    )
    assert all(problem.hides_fixes for problem in searched.repository_problems)


SCAN_SOURCES = {f"SetPolicyDrivenUpdateSourceFor{name}Updates": 0 for name in ("Quality", "Feature", "Driver", "Other")}
MDM = r"SOFTWARE\Microsoft\PolicyManager\current\device\Update"


def test_an_mdm_sets_a_server_and_a_deferral_and_may_prefer_windows_update() -> None:
    url: dict[str, int | str | list[str]] = {
        "UpdateServiceUrl": "http://mdm-wsus:8530",
        "DeferQualityUpdatesPeriodInDays": 7,
    }
    services = (*SERVICES, Service("MSSQLSERVER"))
    with UpdateMachine.opened(registry={MDM: url}, services=services) as machine:
        state = machine.assess()
    (problem,) = state.repository_problems
    assert "and WSUS http://mdm-wsus:8530 offers none" in problem.message
    assert [remark.partition(":")[0] for remark in state.remarks] == [
        "a policy of Intune or another MDM defers quality updates by 7 days", "updates of MSSQLSERVER come from WSUS",
    ]  # fmt: skip
    old = 90 * 86_400.0
    with UpdateMachine.opened(registry={MDM: url | SCAN_SOURCES}, rollup_age=old) as machine:
        (problem,) = machine.assess().repository_problems
    assert "Windows Update (a policy prefers it to WSUS http://mdm-wsus:8530) offers none" in problem.message
    with UpdateMachine.opened(registry={MDM: url}, denied_keys=[MDM]) as machine:
        (problem,) = machine.assess().repository_problems
    assert rf"not read: HKLM:\{MDM}" in problem.message
    of_group = {"AU\\UseUpdateClassPolicySource": 1, "DisableDualScan": 1, **SCAN_SOURCES}
    with UpdateMachine.opened(registry={MDM: url}, policies=of_group) as machine:
        assert machine.assess().remarks[1].endswith("judged as WSUS http://mdm-wsus:8530")


def test_the_agent_tells_the_month_that_its_cleared_history_does_not() -> None:
    """Of what the WSUS approves, the agent knows what is installed."""
    policies = {"WUServer": "http://wsus:8530", "AU\\UseWUServer": 1}
    due = datetime.now(UTC).date() - timedelta(days=7)
    if due < find_second_tuesday(due.year, due.month):
        due = due.replace(day=1) - timedelta(days=1)
    for month, is_proven in ((f"{due:%Y-%m}", True), ("2026-01", False)):
        update = offer(1, f"{month} Cumulative Update for Windows Server 2022", installed=True)
        with UpdateMachine.opened(update, policies=policies) as machine:
            state = machine.assess()
        assert state.updates == ()
        assert bool(state.repository_problems) is not is_proven, state.repository_problems


@pytest.mark.parametrize(("age", "is_told"), [(3600.0, False), (90 * 86_400.0, True)])
def test_windows_update_offers_nothing_to_a_machine_that_is_months_old(age: float, *, is_told: bool) -> None:
    with UpdateMachine.opened(rollup_age=age) as machine:
        problems = machine.assess().repository_problems
    assert ["Windows Update offers none" in problem.message for problem in problems] == [True] * is_told


def test_the_package_of_the_build_that_shares_its_files_is_the_running_one() -> None:
    """Windows 10 22H2 (19045) has the package of 19041, Windows 11 23H2 (22631) that of 22621."""
    with WarmMachine.opened(Scenario(registry=build_rollup(20300, 2700, 3600.0), ubr=2700, rollup_age=9e8)) as warm:
        with change_state(warm.windows.folder) as state:
            keys = state["registry"]
            del keys[next(key for key in keys if key.endswith("~20348.2700.1.10"))]
        result = ask(warm)
        with change_state(warm.windows.folder) as state:
            (package,) = (values for key, values in state["registry"].items() if "Package_for_RollupFix" in key)
            package["values"]["InstallTimeHigh"]["data"] = 0x7FFFFFFF
        beyond = ask(warm)
    assert TimeRecord.model_validate(dict(one(result, "running_update"))).day
    assert not beyond.find_records("running_update"), "no FILETIME is so late"


def test_the_internal_database_of_windows_is_no_product() -> None:
    with UpdateMachine.opened(services=(*SERVICES, Service("MSSQL$MICROSOFT##WID"))) as machine:
        assert machine.assess().repository_problems == ()


@pytest.mark.parametrize(("work", "is_lock"), [("nothing", False), ("", True)])
def test_the_worker_of_servicing_is_a_lock_only_while_it_works(work: str, *, is_lock: bool) -> None:
    worker = {"pid": 1096, "name": "TiWorker", "start": 1_760_000_000.0, "work": work}
    with UpdateMachine.opened() as machine:
        with change_state(machine.warm.windows.folder) as state:
            state["processes"].append(worker)
        assert machine.assess().lock_holder == ("Windows servicing (TiWorker.exe)" if is_lock else "")


def test_warnings_of_a_search_and_earlier_installations_are_told() -> None:
    entry = history_entry("2026-10 Update (KB5000007)", guid(7), at=1_760_000_000.0, result=4, hresult=0x80070643)
    defender = "Security Intelligence Update for Microsoft Defender Antivirus - KB2267602 (Version 1.441.{})"
    times = [1_760_000_000.0 + hour * 3600 for hour in range(1, 24 * 25)]  # 24 a day push nothing else out
    definitions = [history_entry(defender.format(n), guid(1000 + n), at=at) for n, at in enumerate(times)]
    with WarmMachine.opened(Scenario(search_result=3, history=[entry, *definitions])) as warm:
        result = ask(warm)
        assert warm.windows.stand_in_errors() == []
    assert one(result, "search")["result_code"] == 3
    assert one(result, "search_warning")["hresult"] == 0x80240438
    assert len(result.find_records("history")) == 501, "more definitions than before"
    past = result.find_records("history")[-1]
    assert (past["title"], past["at"], past["hresult"]) == (entry["title"], 1_760_000_000, 0x80070643)
