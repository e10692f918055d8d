"""One run over machines of all families: one request, one report, the same words for all."""

from pathlib import Path

from tasks.reporting import write_report
from tasks.states import OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour

MANAGERS: tuple[Flavour, ...] = ("apt", "dnf", "zypper")


def test_machines_of_all_families_in_one_run_and_one_report(hosts: BootHosts, tmp_path: Path) -> None:
    fleet = Fleet([host for flavour in MANAGERS for host in hosts(1, flavour)], tmp_path)

    report = fleet.patch("lab-sec", "lab-plain", "lab-reboot", "lab-conffile", "lab-dep-a")

    assert report.run.state is OperationState.COMPLETED_WITH_WARNINGS  # a configuration file was kept everywhere
    told = {}
    for host in fleet.hosts:
        outcome = outcome_of(report, host)
        told[host.flavour] = {
            (result.update.name, result.state, result.version_after is not None)
            for result in outcome.updates
            if result.update.name.startswith("lab-") and result.state is not UpdateState.NOT_SELECTED
        }
        assert result_of(outcome, "lab-sec").update.classification == "Security"
        assert outcome.reboot == "Completed", f"{host.flavour}: {outcome.reason}"
    assert told["apt"] == told["dnf"] == told["zypper"]
    assert ("lab-dep-b", UpdateState.INSTALLED, True) in told["apt"], "it came along"
    write_report(report, tmp_path, formats=["html"])
    (page,) = (each.read_text() for each in tmp_path.glob("**/report.html"))
    assert all(host.name in page for host in fleet.hosts)
