"""Runs taken back on real machines: with apt, dnf and zypper."""

from pathlib import Path
from typing import Any

import pytest

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.undo import build_undo_request
from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import OperationState, RebootState, Step, UpdateState, YesNoUnknown
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.kept_packages import KEEP_CHECK
from tasks.rules.runs.figures import predict_reboot
from tasks.rules.undo import LEFT_REBOOT, REMOVAL_TERMS, find_removals
from tasks.steps.context.run_control import LoggingListener
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import Advisory, DebRepository, RpmRepository

pytestmark = pytest.mark.slow

NEW = ("shop-lib", "shop-db", "shop-late", "shop-used")
"""What the new version of the shop needs. Somebody chooses the database and the late one, and a tool needs the last."""
NAMES = ("shop", *NEW, "shop-gone", "shop-later", "shop-held", "shop-plain")
CHOOSE: dict[Flavour, str] = {
    "apt": "apt-mark manual {0}",
    "dnf": "dnf -q mark install {0}",
    "zypper": "zypper -q -n install {0}",  # it is there already: only zypper's log has this
}
DATA = {
    "postinst": "mkdir -p /var/lib/{0}; echo data >/var/lib/{0}/data",
    "postrm": '[ "$1" != purge ] || rm -rf /var/lib/{0}',
}
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
                needs = self.need(*NEW)
            self.repository.add("shop", version, **needs)
            for name in NAMES[len(NEW) + 1 :]:
                self.repository.add(name, version)
        for name in NEW:
            scripts = {script: text.format(name) for script, text in DATA.items()}
            data: dict[str, Any] = {"scripts": scripts} if is_apt else {}
            self.repository.add(name, "2.0", **data)
        if isinstance(self.repository, DebRepository):
            self.repository.add("shop-plain", "2.0", scripts={"postinst": "touch /run/reboot-required"})
        else:
            self.repository.advisories.append(Advisory("shop-plain", "2.0", "bugfix", "", reboot=True))
        self.repository.add("shop-tool", "1.0", **self.need("shop-used"))
        self.repository.publish(host)
        for name in NAMES:
            if name not in NEW:
                self.repository.install(host, name, "1.0")

    def need(self, *names: str) -> dict[str, Any]:
        """Return what a package of the repository that needs these packages has besides."""
        key, word = ("control", "Depends") if self.host.flavour == "apt" else ("spec", "Requires")
        return {key: f"{word}: {', '.join(names)}"}

    def choose(self, name: str) -> None:
        """Let somebody choose a package that is there as a dependency."""
        self.host.sh(CHOOSE[self.host.flavour].format(name), root=True)

    def read_versions(self) -> dict[str, str]:
        return {name: version.removesuffix("-1") for name, version in self.host.package_versions(*NAMES).items()}

    def live_on(self) -> None:
        """Let the machine and its repository change after the run, and people with them."""
        self.withdraw("shop-gone", "1.0")
        self.repository.add("shop-later", "3.0")
        self.repository.publish(self.host)
        self.repository.install(self.host, "shop-later", "3.0")
        self.host.sh(HOLDS[self.host.flavour], root=True)
        self.choose("shop-db")
        self.repository.install(self.host, "shop-tool", "1.0")

    def withdraw(self, name: str, version: str) -> None:
        """Let the repository no longer have a version of a package."""
        for file in self.repository.folder.rglob(f"{name}[-_]{version}*"):
            file.unlink()
        self.repository.publish(self.host)

    def undo(self, run: str, listener: LoggingListener | None = None, **fields: Any) -> tuple[RunReport, Outcome]:
        with open_records(self.fleet.records_url) as records:
            request = build_undo_request(History(records), run, inventory=self.fleet.inventory, **fields)
        request = request.model_copy(update={"settle_seconds": 0, "come_back_seconds": 20, "reboot_reserve_minutes": 2})
        caller = Caller(listener=listener or LoggingListener(), records_url=self.fleet.records_url)
        report = execute_run(request, caller, lambda request, ports: LocalRunner())
        return report, outcome_of(report, self.host)


class LateChoice(LoggingListener):
    """Chooses a package when the older versions are back, before anything is removed."""

    def __init__(self, undone: UndoHost) -> None:
        self.undone = undone

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        if step is Step.INSTALL:
            self.undone.choose("shop-late")


@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_a_run_is_taken_back_and_what_can_t_be_is_said_before(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour
) -> None:
    (host,) = hosts(1, flavour)
    undone = UndoHost(host, tmp_path)
    before = undone.read_versions()
    patched = undone.fleet.patch("shop*", reboot="Never")
    assert undone.read_versions() == dict.fromkeys(NAMES, "2.0")
    assert outcome_of(patched, host).reboot is RebootState.REQUIRED  # said by its files, or only by an advisory
    undone.live_on()
    kept = {"shop-gone": "2.0", "shop-later": "3.0", "shop-held": "2.0"}
    kept |= dict.fromkeys(("shop-db", "shop-late", "shop-used"), "2.0")

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
    assert f"to be removed ({REMOVAL_TERMS}), because the run has newly installed it: " in notes
    assert sorted(update.name for update in find_removals(plan.skipped)) == ["shop-late", "shop-lib", "shop-used"]
    assert "shop-db: it stays: somebody has chosen it" in notes
    assert 'exclude: ["shop", "shop-plain"]' in notes
    assert "a reboot is pending: " in notes
    asks = flavour != "apt"  # the advisory's reboot is the undo's own. Of the file, nobody knows whose it is
    assert (predict_reboot(plan) is YesNoUnknown.YES, LEFT_REBOOT in notes) == (asks, not asks)
    boot = host.boot_id()

    _, outcome = undone.undo(patched.run.id, LateChoice(undone))

    assert undone.read_versions() == {**before, **kept}
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    assert outcome.reboot is (RebootState.COMPLETED if asks else RebootState.REQUIRED)
    assert (host.boot_id() != boot) is asks
    assert "shop-gone" in outcome.reason
    assert result_of(outcome, "shop").state is UpdateState.INSTALLED
    removed = result_of(outcome, "shop-lib")
    assert (removed.state, removed.version_after) == (UpdateState.INSTALLED, None), removed
    assert "not removed: it stays: somebody has chosen it" in result_of(outcome, "shop-late").reason
    assert "not removed: something needs it" in result_of(outcome, "shop-used").reason
    assert host.half_done_packages() == ""
    if flavour == "apt":  # nothing is purged: data and the configuration of what is gone stay
        assert {(host.root / f"var/lib/{name}/data").read_text() for name in NEW} == {"data\n"}
        assert host.query_dpkg("-W", "-f", "${db:Status-Abbrev}", "shop-lib") == "rc "

    again, _ = undone.undo(patched.run.id, dry_run=True)

    assert again.plans[0].chosen == ()
    assert [update.name for update in find_removals(again.plans[0].skipped)] == [
        "shop-used"
    ]  # as long as a tool needs it
    there = [r.update.name for r in again.plans[0].skipped if "there already" in r.reason]
    assert sorted(there) == ["shop", "shop-plain"]


def test_a_run_is_taken_back_by_the_packages_that_it_has_kept(hosts: BootHosts, tmp_path: Path) -> None:
    (host,) = hosts(1)
    undone = UndoHost(host, tmp_path)
    before = undone.read_versions()
    # two are only in apt's cache, of one there is no file at all, and one is replaced although nobody chose it
    for name in ("shop-plain", "shop-gone"):
        host.sh(f"cp /srv/shop/{name}_1.0_all.deb /var/cache/apt/archives/", root=True)
        undone.withdraw(name, "1.0")
    undone.withdraw("shop-held", "1.0")

    planned = undone.fleet.patch("shop*", reboot="Never", keep_previous=True, dry_run=True)

    notes = "\n".join(planned.plans[0].notes)
    assert "what this run replaces is kept on the machine for an undo" in notes
    assert "not in the repositories any more: 3 of 5" in notes
    assert not (host.root / "var/lib/fleetpatch/kept").exists()

    patched = undone.fleet.patch("shop*", reboot="Never", keep_previous=True)

    outcome = outcome_of(patched, host)
    assert undone.read_versions() == dict.fromkeys(NAMES, "2.0")
    (finding,) = [finding for finding in outcome.findings if finding.check == KEEP_CHECK]
    assert finding.message.startswith("kept 4 of 5 packages that this run replaces; not kept: "), finding
    assert finding.message.endswith("have the file of shop-held"), finding
    folder = f"/var/lib/fleetpatch/kept/{patched.run.id}"
    assert host.sh(f"stat -c '%a %U' /var/lib/fleetpatch/kept {folder}", root=True).split() == ["700", "root"] * 2
    assert host.sh("ls -l /var/lib/fleetpatch/kept 2>&1 || true").endswith("Permission denied\n")
    for name in ("shop", "shop-later"):
        undone.withdraw(name, "1.0")
    host.sh(f"apt-get -qq update; apt-get clean; echo x >>{folder}/shop-gone_1.0_all.deb", root=True)

    _, outcome = undone.undo(patched.run.id, reboot="Never")

    changed = {"shop-held": "2.0", "shop-gone": "2.0"}  # nobody has the one, and the other's file is another one now
    assert undone.read_versions() == before | changed, outcome
    assert "have shop-gone 1.0" in result_of(outcome, "shop-gone").reason
    assert result_of(outcome, "shop").state is UpdateState.INSTALLED
    assert host.half_done_packages() == ""
    assert host.sh("apt-mark showmanual shop shop-plain", root=True).split() == ["shop", "shop-plain"]
    assert host.sh("apt-get -s check && apt-get -s upgrade | grep -c '^Inst shop'", root=True)
