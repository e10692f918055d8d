"""A few updates among many that can't be installed, on real machines: nobody else pays for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.managers.apt.manager import AptManager
from tasks.managers.rpm.manager import RpmManager
from tasks.protocols.package_manager import SimulationResult
from tasks.states import UpdateState
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import DEBIAN, DebRepository, RpmRepository

NAMES = [f"w{number:02}" for number in range(90)]
VICTIMS = ("victim-a", "victim-b", "victim-c")
DEB_FIELDS = {
    "w20": "Conflicts: victim-a\nReplaces: victim-a\nProvides: victim-a",
    "w50": "Breaks: victim-b",
    "w70": "Conflicts: victim-c",
    "w71": "Depends: w70 (>= 2)",
    "w80": "Conflicts: w81 (>= 2)",
}
RPM_FIELDS = {
    "w20": "Obsoletes: victim-a < 9",
    "w50": "Conflicts: victim-b",
    "w70": "Obsoletes: victim-c < 9",
    "w71": "Requires: w70 >= 2",
    "w80": "Conflicts: w81 >= 2",
}


def build_deb_world(host: LabHost, place: Path) -> None:
    """All installed in 1.0, security fixes 2.0 for all but w80, which has a bugfix."""
    security, bugfixes = DebRepository(place / "made"), DebRepository(place / "made-bugs", DEBIAN)
    for name in (*VICTIMS, *NAMES):
        security.add(name, "1.0")
        if name not in VICTIMS:
            (bugfixes if name == "w80" else security).add(name, "2.0", control=DEB_FIELDS.get(name, ""))
    security.publish(host)
    bugfixes.publish(host)
    host.sh("dpkg -i /srv/made/*_1.0_all.deb", root=True)


def build_rpm_world(host: LabHost, place: Path) -> None:
    """The same."""
    repository = RpmRepository(place / "made")
    for name in (*VICTIMS, *NAMES):
        repository.add(name, "1.0")
        if name not in VICTIMS:
            kind = "bugfix" if name == "w80" else "security"
            repository.add(name, "2.0", spec=RPM_FIELDS.get(name, ""), advisory=kind, severity="Important")
    repository.publish(host)
    host.sh("rpm -U /srv/made/noarch/*-1.0-1.noarch.rpm", root=True)


@pytest.mark.timeout(900)
@pytest.mark.public_report("https://bugzilla.redhat.com/show_bug.cgi?id=1299989")
@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_only_culprits_and_what_needs_them_are_left_out(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = hosts(1, flavour)
    (build_deb_world if flavour == "apt" else build_rpm_world)(host, tmp_path)
    asked: list[int] = []
    manager: Any = AptManager if flavour == "apt" else RpmManager
    simulate = manager.simulate

    def count(self: Any, transport: Any, updates: Sequence[Any], **more: Any) -> SimulationResult:
        asked.append(len(updates))
        answer: SimulationResult = simulate(self, transport, updates, **more)
        return answer

    monkeypatch.setattr(manager, "simulate", count)
    outcome = outcome_of(Fleet([host], tmp_path).patch("w*", reboot="Never"), host)

    left = {each.update.name: each for each in outcome.updates if each.state is not UpdateState.INSTALLED}
    left = {name: each for name, each in left.items() if each.state is not UpdateState.NOT_SELECTED}
    assert sorted(left) == ["w20", "w50", "w70", "w71", "w80"]
    assert {each.state for each in left.values()} == {UpdateState.BLOCKED}
    assert "victim-a" in left["w20"].reason
    assert "victim-b" in left["w50"].reason
    assert "victim-c" in left["w70"].reason
    assert "w70" in left["w71"].reason
    assert "w81" in left["w80"].reason  # two that conflict: the more urgent one is installed
    versions = host.package_versions(*NAMES, *VICTIMS)
    assert {name for name in NAMES if versions[name].startswith("1.0")} == set(left)
    assert all(versions[name].startswith("1.0") for name in VICTIMS)
    assert len(asked) <= 24
