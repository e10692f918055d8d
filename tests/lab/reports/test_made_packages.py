"""The packages that situations are made of are real to the package managers."""

from pathlib import Path

import pytest

from tasks.domain.states import Classification, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour
from tests.lab.packages import DebRepository, RpmRepository


@pytest.mark.public_report("the lab itself")
@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_a_made_security_update_is_installed(hosts: BootHosts, tmp_path: Path, flavour: Flavour) -> None:
    (host,) = hosts(1, flavour)
    repository: DebRepository | RpmRepository = DebRepository(tmp_path / "made")
    if flavour == "apt":
        repository.add("made-tool", "2.0")
    else:
        repository = RpmRepository(tmp_path / "made")
        repository.add("made-tool", "2.0", advisory="security", severity="Critical")
    repository.add("made-tool", "1.0")
    repository.publish(host)
    repository.install(host, "made-tool", "1.0")

    report = Fleet([host], tmp_path).patch("made-tool", reboot="Never")

    result = result_of(outcome_of(report, host), "made-tool")
    assert result.state is UpdateState.INSTALLED
    assert result.update.classification in {Classification.SECURITY, Classification.CRITICAL}
    assert host.package_versions("made-tool")["made-tool"].startswith("2.0")
