"""A few updates among many that can't be installed, on real machines: nobody else pays for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.request.patch_request import UpdatesRequest
from tasks.domain.model import Outcome, UpdateResult
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import UpdateState
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.rpm.manager import RpmManager
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import DEBIAN, DebRepository, RpmRepository

NAMES = [f"w{number:02}" for number in range(90)]
VICTIMS = ("victim-a", "victim-b", "victim-c")


@dataclass
class World:
    """Packages that are installed in 1.0, and their updates to 2.0: security fixes, except those in ``bugfixes``.

    Attributes:
        fields: name -> lines of the update's control file, and of its spec.
        new: packages that are offered, and not installed.
    """

    names: Sequence[str]
    fields: Mapping[str, tuple[str, str]]
    bugfixes: Sequence[str]
    new: Sequence[str] = ()

    def build(self, host: LabHost, place: Path) -> None:
        """Publish and install them on a host."""
        fixes: DebRepository | RpmRepository = RpmRepository(place / "made")
        if host.flavour == "apt":
            fixes, bugfixes = DebRepository(place / "made"), DebRepository(place / "made-bugs", DEBIAN)
        for name in (*VICTIMS, *self.names):
            fixes.add(name, "1.0")
        for name in (*self.names, *self.new):
            control, spec = self.fields.get(name, ("", ""))
            is_bugfix = name in self.bugfixes
            if isinstance(fixes, RpmRepository):
                kind = "bugfix" if is_bugfix else "security"
                fixes.add(name, "2.0", spec=spec, advisory=kind, severity="Important")
            else:
                (bugfixes if is_bugfix else fixes).add(name, "2.0", control=control)
        fixes.publish(host)
        if host.flavour == "apt":
            bugfixes.publish(host)
            host.sh("dpkg -i /srv/made/*_1.0_all.deb", root=True)
        else:
            host.sh("rpm -U /srv/made/noarch/*-1.0-1.noarch.rpm", root=True)


MANY = World(
    NAMES,
    {
        "w20": ("Conflicts: victim-a\nReplaces: victim-a\nProvides: victim-a", "Obsoletes: victim-a < 9"),
        "w50": ("Breaks: victim-b", "Conflicts: victim-b"),
        "w70": ("Conflicts: victim-c", "Obsoletes: victim-c < 9"),
        "w71": ("Depends: w70 (>= 2)", "Requires: w70 >= 2"),
        "w80": ("Conflicts: w81 (>= 2)", "Conflicts: w81 >= 2"),
    },
    bugfixes=("w80",),
)
FEW = World(
    ["needs-bully", "bully", "needs-new", "plain-a", "plain-b"],
    {
        "needs-bully": ("Depends: bully (>= 2)", "Requires: bully >= 2"),
        "bully": ("Conflicts: victim-a", "Obsoletes: victim-a < 9"),
        "needs-new": ("Depends: made-new", "Requires: made-new"),
    },
    bugfixes=("bully",),
    new=("made-new",),
)


def count_simulations(flavour: Flavour, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of each set that a machine is asked about."""
    asked: list[int] = []
    manager: Any = AptManager if flavour == "apt" else RpmManager
    simulate = manager.simulate

    def count(self: Any, transport: Any, updates: Sequence[Any], **more: Any) -> SimulationResult:
        asked.append(len(updates))
        answer: SimulationResult = simulate(self, transport, updates, **more)
        return answer

    monkeypatch.setattr(manager, "simulate", count)
    return asked


def find_left_out(outcome: Outcome) -> dict[str, UpdateResult]:
    """Return what was selected and not installed, by name."""
    others = {UpdateState.INSTALLED, UpdateState.NOT_SELECTED}
    return {each.update.name: each for each in outcome.updates if each.state not in others}


@pytest.mark.timeout(900)
@pytest.mark.public_report("https://bugzilla.redhat.com/show_bug.cgi?id=1299989")
@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_only_culprits_and_what_needs_them_are_left_out(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = hosts(1, flavour)
    MANY.build(host, tmp_path)
    asked = count_simulations(flavour, monkeypatch)
    left = find_left_out(outcome_of(Fleet([host], tmp_path).patch("w*", reboot="Never"), host))

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


@pytest.mark.timeout(600)
@pytest.mark.public_report("https://github.com/mvo5/unattended-upgrades/issues/165")
@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_what_needs_a_culprit_that_nobody_selected_is_left_out(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = hosts(1, flavour)
    FEW.build(host, tmp_path)
    asked = count_simulations(flavour, monkeypatch)
    updates = UpdatesRequest(exclude=["made-new", "lab-*"])
    left = find_left_out(outcome_of(Fleet([host], tmp_path).patch(reboot="Never", updates=updates), host))

    assert {"needs-bully", "needs-new"} <= set(left)
    assert left["needs-bully"].state is UpdateState.BLOCKED
    assert "victim-a" in left["needs-bully"].reason
    assert left["needs-new"].state is UpdateState.EXCLUDED  # by the person who excludes what it needs
    assert "made-new" in left["needs-new"].reason
    versions = host.package_versions(*FEW.names, "victim-a")
    assert {name for name in FEW.names if versions[name].startswith("2.0")} == {"plain-a", "plain-b"}
    assert versions["victim-a"].startswith("1.0")
    assert len(asked) <= 14
