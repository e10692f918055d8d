"""One run over machines of all families, Windows among them: one request, one report, the same words for all."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tasks.domain.model import Outcome
from tasks.domain.states import OperationState, RebootState, UpdateState
from tasks.reports import write_report
from tests.lab.engine import Fleet, outcome_of, read_installations, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.windows.patching import WindowsFleet, count, cumulative, judge, kb, offer, states
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.served_machine import ServedMachine
from tests.support.local_powershell import require_pwsh

MANAGERS: tuple[Flavour, ...] = ("apt", "dnf", "zypper")
LAB = {"lab-sec", "lab-plain", "lab-reboot", "lab-conffile", "lab-dep-a", "lab-dep-b"}  # b comes along with a
WINDOWS = (
    Scenario(name="win-1", updates=(offer(1), cumulative(2))),
    Scenario(name="win-2", updates=(offer(3, install_hresult=0x80070643), offer(4))),
)
SOUTH = ("zypper", "win-1")
"""Everything else is in the north, which comes first; win-2 fails there, and one may fail."""


def write_inventory(linux: Fleet, windows: WindowsFleet) -> None:
    linux.describe()
    described = yaml.safe_load(linux.inventory.read_text())
    described["machines"] += windows.entries()
    kinds = {host.name: host.flavour for host in linux.hosts}
    for machine in described["machines"]:
        machine["location"] = "south" if kinds.get(machine["name"], machine["name"]) in SOUTH else "north"
    linux.inventory.write_text(yaml.safe_dump(described))


def judge_host(host: LabHost, outcome: Outcome) -> set[datetime]:
    """Hold what was reported against the machine's own package database; return when it has installed something."""
    assert outcome.reboot is RebootState.COMPLETED, f"{host.flavour}: {outcome.reason}"
    installed = {
        each.update.name: each.version_after for each in outcome.updates if each.state is UpdateState.INSTALLED
    }
    assert set(installed) == LAB, f"{host.flavour}: {outcome.reason}"
    assert host.package_versions(*LAB) == installed
    assert host.half_done_packages() == ""
    log = [each for each in read_installations(host) if each.version in installed.values() and each.package in LAB]
    assert sorted(each.package for each in log) == sorted(LAB), "each was installed once"
    return {each.at for each in log}


def judge_windows(served: ServedMachine, outcome: Outcome) -> set[datetime]:
    judge(served, outcome)
    journal = [each for each in served.machine.read_state()["journal"] if each["what"] == "install"]
    return {datetime.fromtimestamp(each["time"], UTC) for each in journal}


def chosen(outcome: Outcome) -> dict[str, str]:
    return {name: state.value for name, state in states(outcome).items() if state is not UpdateState.NOT_SELECTED}


def read_states(place: Path) -> dict[str, dict[str, str]]:
    """Return what the report says in JSON: the states of chosen updates, by machine and name."""
    (path,) = place.glob("**/report.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return {
        machine["machineName"]: {
            patch["patchName"]: patch["installationState"]
            for patch in machine["patches"]
            if patch["installationState"] != UpdateState.NOT_SELECTED
        }
        for machine in document["machines"]
    }


def test_machines_of_all_families_in_one_run_and_one_report(hosts: BootHosts, tmp_path: Path) -> None:
    require_pwsh()
    linux = Fleet([host for flavour in MANAGERS for host in hosts(1, flavour)], tmp_path)
    with WindowsFleet.opened(tmp_path / "windows", *WINDOWS) as windows:
        write_inventory(linux, windows)
        waves = {"keep_locations_apart": True, "failure_budget_count": 1}

        report = linux.patch("lab-sec", "lab-plain", "lab-reboot", "lab-conffile", "lab-dep-a", "KB500*", waves=waves)

        outcomes = {outcome.machine: outcome for outcome in report.outcomes}
        assert len(outcomes) == len(report.outcomes) == 5
        worked = {host.name: judge_host(host, outcomes[host.name]) for host in linux.hosts}
        worked |= {served.host.name: judge_windows(served, outcomes[served.host.name]) for served in windows.served}
        assert count(windows.find("win-1"), "boot", clean=True) == 1
        assert count(windows.find("win-2"), "boot") == 0
    assert states(outcomes["win-1"]) == {kb(1): UpdateState.INSTALLED, kb(2): UpdateState.INSTALLED}
    assert states(outcomes["win-2"]) == {kb(3): UpdateState.FAILED, kb(4): UpdateState.INSTALLED}
    assert outcomes["win-1"].state is OperationState.SUCCEEDED, outcomes["win-1"].reason
    assert (outcomes["win-2"].state, report.run.state) == (OperationState.FAILED, OperationState.FAILED)
    debian, rocky, suse = (outcome_of(report, host) for host in linux.hosts)
    for outcome in (debian, rocky, suse):  # a configuration file was kept everywhere
        assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
        assert result_of(outcome, "lab-sec").update.classification == "Security"

    first, second = report.waves
    assert (set(first.machines), set(second.machines)) == (
        {debian.machine, rocky.machine, "win-2"},
        {suse.machine, "win-1"},
    )
    done = max(at for name in first.machines for at in worked[name])
    assert done <= min(at for name in second.machines for at in worked[name]), "by the machines' own logs"

    write_report(report, tmp_path / "report", formats=["html", "csv", "json"])
    assert read_states(tmp_path / "report") == {name: chosen(each) for name, each in outcomes.items()}
    (page,) = (each.read_text() for each in (tmp_path / "report").glob("**/report.html"))
    assert all(text in page for text in (*outcomes, kb(3), "0x80070643"))
