"""One run over Linux machines and Windows machines: one request, one report, the same words for both."""

from pathlib import Path

import yaml

from tasks.reporting import write_report
from tasks.states import OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, configured_times, outcome_of
from tests.lab.fleet import BootHosts
from tests.lab.windows.patching import WindowsFleet, count, cumulative, judge, kb, offer
from tests.lab.windows.scenario import Scenario
from tests.support.local_powershell import require_pwsh


def test_linux_and_windows_in_one_run_and_one_report(hosts: BootHosts, tmp_path: Path) -> None:
    require_pwsh()
    scenarios = (
        Scenario(name="win-1", updates=(offer(1), cumulative(2))),
        Scenario(name="win-2", updates=(offer(3, install_hresult=0x80070643), offer(4))),
    )
    linux = Fleet(hosts(1), tmp_path)
    with WindowsFleet.opened(tmp_path / "windows", *scenarios) as windows:
        linux.describe()
        described = yaml.safe_load(linux.inventory.read_text())
        described["machines"] += windows.entries()
        linux.inventory.write_text(yaml.safe_dump(described))

        report = linux.patch("lab-sec", "lab-plain", "lab-reboot", "KB500*", minutes=240)

        outcomes = {outcome.machine: outcome for outcome in report.outcomes}
        assert set(outcomes) == {linux.hosts[0].name, "win-1", "win-2"}
        debian = outcome_of(report, linux.hosts[0])
        assert (debian.state, debian.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), debian.reason
        assert configured_times(linux.hosts[0], "lab-plain", "2.0") == 1
        for served in windows.served:
            judge(served, outcomes[served.host.name])
        good, bad = outcomes["win-1"], outcomes["win-2"]
        assert (good.state, good.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), good.reason
        assert count(windows.find("win-1"), "boot") == 1
        assert bad.state is OperationState.FAILED
        assert {each.update.name: each.state for each in bad.updates} == {
            kb(3): UpdateState.FAILED,
            kb(4): UpdateState.INSTALLED,
        }
    write_report(report, tmp_path / "report", formats=["html", "csv", "json"])
    (page,) = (each.read_text() for each in (tmp_path / "report").glob("**/report.html"))
    assert all(text in page for text in (linux.hosts[0].name, "win-1", "win-2", kb(3), "0x80070643"))
