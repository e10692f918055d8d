"""One run over Linux machines of three families and a Windows machine: one request and one report for all."""

import json
from pathlib import Path

import pytest
import yaml

from tasks.reporting import write_report
from tasks.states import OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts
from tests.lab.test_mixed_fleet import MANAGERS
from tests.lab.windows.patching import WindowsFleet, cumulative, judge, kb, offer
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.scenario import Scenario

WINDOWS = "WIN-1"


def test_linux_and_windows_in_one_run_and_one_report(hosts: BootHosts, tmp_path: Path) -> None:
    if find_powershell() is None:
        pytest.skip("PowerShell (pwsh) is not on PATH")
    updates = (cumulative(1, severity="Critical"), offer(2), offer(3, eula_accepted=False))
    with WindowsFleet.opened(tmp_path, Scenario(name=WINDOWS, updates=updates)) as windows:
        fleet = Fleet([host for flavour in MANAGERS for host in hosts(1, flavour)], tmp_path)
        fleet.describe()
        inventory = yaml.safe_load(fleet.inventory.read_text())
        inventory["machines"] += windows.entries()
        fleet.inventory.write_text(yaml.safe_dump(inventory))

        report = fleet.patch("lab-sec", "lab-plain", "lab-reboot", "KB50*", coming_up_minutes=5)

        (on_windows,) = [each for each in report.outcomes if each.machine == WINDOWS]
        judge(windows.one, on_windows)
    assert report.run.state is OperationState.SUCCEEDED, [(each.machine, each.reason) for each in report.outcomes]
    assert len(report.outcomes) == len(MANAGERS) + 1
    assert on_windows.reboot is RebootState.COMPLETED, on_windows.reason
    assert {result.update.name: result.state for result in on_windows.updates} == {
        kb(1): UpdateState.INSTALLED,
        kb(2): UpdateState.INSTALLED,
        kb(3): UpdateState.EXCLUDED,
    }
    for host in fleet.hosts:
        outcome = outcome_of(report, host)
        assert outcome.reboot is RebootState.COMPLETED, f"{host.flavour}: {outcome.reason}"
        assert {result_of(outcome, name).state for name in ("lab-sec", "lab-plain")} == {UpdateState.INSTALLED}
    write_report(report, tmp_path, formats=["html", "json"])
    (page,) = (each.read_text() for each in tmp_path.glob("**/report.html"))
    assert all(name in page for name in (WINDOWS, kb(1), *(host.name for host in fleet.hosts)))
    (document,) = (json.loads(each.read_text()) for each in tmp_path.glob("**/report.json"))
    used = {machine["patchServiceUsed"] for machine in document["machines"]}
    assert used == {*MANAGERS, "windows-update"}
    titles = {patch["patchName"]: patch["patchTitle"] for each in document["machines"] for patch in each["patches"]}
    assert titles[kb(1)].startswith("2026-03 Cumulative Update")
    assert titles["lab-sec"] is None
