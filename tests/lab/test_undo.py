"""Runs taken back on real machines: with apt, dnf and zypper."""

from pathlib import Path
from typing import Any

import pytest

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.undo import build_undo_request
from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import OperationState, UpdateState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import DebRepository, RpmRepository

pytestmark = pytest.mark.slow

NAMES = ("shop", "shop-lib", "shop-gone", "shop-later", "shop-held", "shop-plain")
HOLDS: dict[Flavour, str] = {
    "apt": "apt-mark hold shop-held",
    "dnf": "sed -i '$aexclude=shop-held' /etc/dnf/dnf.conf",
    "zypper": "zypper -q -n addlock shop-held",
}


class UndoHost:
    """A host on which a run has updated packages of a repository of its own."""

    def __init__(self, host: LabHost, place: Path) -> None:
        self.host, self.fleet = host, Fleet([host], place)
        is_apt = host.flavour == "apt"
        self.repository: Any = DebRepository(place / "shop") if is_apt else RpmRepository(place / "shop")
        for version in ("1.0", "2.0"):
            needs: dict[str, Any] = {}
            if version == "2.0":
                needs = {"control": "Depends: shop-lib"} if is_apt else {"spec": "Requires: shop-lib"}
            self.repository.add("shop", version, **needs)
            for name in NAMES[2:]:
                self.repository.add(name, version)
        self.repository.add("shop-lib", "2.0")
        self.repository.publish(host)
        for name in NAMES:
            if name != "shop-lib":
                self.repository.install(host, name, "1.0")

    def read_versions(self) -> dict[str, str]:
        return {name: version.removesuffix("-1") for name, version in self.host.package_versions(*NAMES).items()}

    def withdraw(self, name: str, version: str) -> None:
        """Let the repository no longer have a version of a package."""
        for file in self.repository.folder.rglob(f"{name}[-_]{version}*"):
            file.unlink()
        self.repository.publish(self.host)

    def undo(self, run: str, **fields: Any) -> tuple[RunReport, Outcome]:
        with open_records(self.fleet.records_url) as records:
            request = build_undo_request(History(records), run, inventory=self.fleet.inventory, **fields)
        request = request.model_copy(update={"settle_seconds": 20, "reboot_reserve_minutes": 2})
        caller = Caller(records_url=self.fleet.records_url)
        report = execute_run(request, caller, lambda request, ports: LocalRunner())
        return report, outcome_of(report, self.host)


@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_a_run_is_taken_back_and_what_can_t_be_is_said_before(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour
) -> None:
    (host,) = hosts(1, flavour)
    undone = UndoHost(host, tmp_path)
    before = undone.read_versions()
    patched = undone.fleet.patch("shop*", reboot="Never")
    assert undone.read_versions() == dict.fromkeys(NAMES, "2.0")
    undone.withdraw("shop-gone", "1.0")
    undone.repository.add("shop-later", "3.0")
    undone.repository.publish(host)
    undone.repository.install(host, "shop-later", "3.0")
    host.sh(HOLDS[flavour], root=True)
    kept = {"shop-gone": "2.0", "shop-later": "3.0", "shop-held": "2.0"}

    planned, outcome = undone.undo(patched.run.id, dry_run=True)

    (plan,) = planned.plans
    assert undone.read_versions() == {**dict.fromkeys(NAMES, "2.0"), **kept}
    assert {update.name: update.available.removesuffix("-1") for update in plan.chosen} == {
        "shop": "1.0",
        "shop-plain": "1.0",
    }
    reasons = {result.update.name: result.reason for result in plan.skipped if result.update.goes_back}
    assert "have shop-gone 1.0" in reasons["shop-gone"]
    assert "changed again" in reasons["shop-later"]
    assert "3.0" in reasons["shop-later"]
    assert "hold" in reasons["shop-held"]
    notes = "\n".join(plan.notes)
    assert (
        "to be removed (unless a package that stays needs it), because the run has newly installed it: shop-lib"
        in notes
    )
    assert 'exclude: ["shop", "shop-plain"]' in notes

    _, outcome = undone.undo(patched.run.id)

    assert undone.read_versions() == {**before, **kept}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    assert "shop-gone" in outcome.reason
    assert result_of(outcome, "shop").state is UpdateState.INSTALLED
    removed = result_of(outcome, "shop-lib")
    assert (removed.state, removed.version_after) == (UpdateState.INSTALLED, None), removed
    assert host.half_done_packages() == ""

    again, _ = undone.undo(patched.run.id, dry_run=True)

    assert again.plans[0].chosen == ()
    there = [r.update.name for r in again.plans[0].skipped if "there already" in r.reason]
    assert sorted(there) == ["shop", "shop-plain"]
