"""Situations from public reports about dnf: what is offered and can't be installed, what fails, what the owner set."""

from pathlib import Path

import pytest

from tasks.model import Outcome, UpdateResult
from tasks.states import Classification, OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.packages import RpmRepository

NOWHERE = "Requires: nowhere-to-be-found"


@pytest.fixture
def host(hosts: BootHosts) -> LabHost:
    (booted,) = hosts(1, "dnf")
    return booted


def make(place: Path, name: str = "own") -> RpmRepository:
    return RpmRepository(place / name)


def by_version(outcome: Outcome, name: str) -> dict[str, UpdateResult]:
    """What became of each pending version of a package."""
    return {each.update.available: each for each in outcome.updates if each.update.name == name}


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf5/issues/734")
def test_a_critical_fix_behind_an_installable_bug_fix_is_not_forgotten(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    own.add("made-tool", "1.0")
    own.add("made-tool", "1.5", advisory="bugfix")
    own.add("made-tool", "2.0", spec=NOWHERE, advisory="security", severity="Critical")
    own.publish(host)
    own.install(host, "made-tool", "1.0")

    report = Fleet([host], tmp_path).patch("made-tool", "lab-plain")

    outcome = outcome_of(report, host)
    found = by_version(outcome, "made-tool")
    assert (found["1.5-1"].state, found["2.0-1"].state) == (UpdateState.INSTALLED, UpdateState.BLOCKED)
    assert found["2.0-1"].update.classification is Classification.CRITICAL
    assert "nothing provides nowhere-to-be-found" in found["2.0-1"].reason
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert host.package_versions("made-tool", "lab-plain") == {"made-tool": "1.5-1", "lab-plain": "2.0-1"}


@pytest.mark.public_report("https://github.com/manatools/dnfdaemon/issues/37")
def test_a_fix_of_a_repository_behind_another_one_is_not_forced(host: LabHost, tmp_path: Path) -> None:
    vendor, distribution = make(tmp_path, "vendor"), make(tmp_path, "distribution")
    vendor.add("made-db", "1.0", spec="Vendor: Their")
    vendor.add("made-db", "1.5", spec="Vendor: Their", advisory="bugfix")
    distribution.add("made-db", "2.0", spec="Vendor: Ours", advisory="security", severity="Critical")
    vendor.publish(host, options="priority=10")
    distribution.publish(host)
    vendor.install(host, "made-db", "1.0")

    outcome = outcome_of(Fleet([host], tmp_path).patch("made-db"), host)

    found = by_version(outcome, "made-db")
    assert (found["1.5-1"].state, found["2.0-1"].state) == (UpdateState.INSTALLED, UpdateState.BLOCKED)
    assert "lower priority than vendor" in found["2.0-1"].reason
    assert host.package_versions("made-db") == {"made-db": "1.5-1"}


@pytest.mark.public_report("https://github.com/manatools/dnfdaemon/issues/58")
def test_a_vendor_that_the_owner_keeps_is_kept(host: LabHost, tmp_path: Path) -> None:
    host.sh("echo allow_vendor_change=False >> /etc/dnf/dnf.conf", root=True)
    own = make(tmp_path)
    own.add("made-db", "1.0", spec="Vendor: Their")
    own.add("made-db", "2.0", spec="Vendor: Ours", advisory="security", severity="Important")
    own.publish(host)
    own.install(host, "made-db", "1.0")

    outcome = outcome_of(Fleet([host], tmp_path).patch("made-db"), host)

    result = result_of(outcome, "made-db")
    assert (result.state, "Their -> Ours" in result.reason) == (UpdateState.BLOCKED, True), result.reason
    assert host.package_versions("made-db") == {"made-db": "1.0-1"}


CONTRARY = """strict=0
skip_broken=1
best=0
tsflags=nodocs noscripts justdb test
assumeyes=1
assumeno=1
color=always
debuglevel=0
rpmverbosity=emergency
diskspacecheck=0
cachedir=/var/cache/elsewhere
"""


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf/pull/414")
def test_settings_of_the_machine_change_no_transaction(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    for version in ("1.0", "2.0"):
        own.add("made-tool", version, scriptlets=f"%post\necho {version} > /root/made-tool", advisory="security")
    own.publish(host)
    own.install(host, "made-tool", "1.0")
    before = host.package_versions()
    host.sh(f"cat >> /etc/dnf/dnf.conf <<'END'\n{CONTRARY}\nEND", root=True)

    fleet = Fleet([host], tmp_path)
    fleet.patch("made-tool", dry_run=True)
    assert host.package_versions() == before, "a question changes nothing"
    outcome = outcome_of(fleet.patch("made-tool", "lab-dep-a"), host)

    assert result_of(outcome, "made-tool").state is UpdateState.INSTALLED, outcome.reason
    assert host.package_versions("made-tool", "lab-dep-b") == {"made-tool": "2.0-1", "lab-dep-b": "2.0-1"}
    assert host.sh("cat /root/made-tool; ls -d /usr/share/made-tool-2.0", root=True).split() == [
        "2.0",
        "/usr/share/made-tool-2.0",
    ]


@pytest.mark.public_report("https://github.com/ansible/ansible/issues/43870")
def test_a_trigger_that_fails_is_told_of_the_update_that_set_it_off(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    own.add("made-watcher", "1.0", scriptlets="%triggerin -- made-tool\necho no module built >&2; exit 1")
    own.add("made-tool", "1.0")
    own.add("made-tool", "2.0", advisory="security")
    own.publish(host)
    own.install(host, "made-tool", "1.0")
    host.sh("rpm -U --notriggers /srv/own/noarch/made-watcher-*.rpm", root=True)

    outcome = outcome_of(Fleet([host], tmp_path).patch("made-tool", "lab-plain"), host)

    result = result_of(outcome, "made-tool")
    assert (result.state, "no module built" in result.reason) == (UpdateState.SETUP_FAILED, True), result.reason
    assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf-plugins-extras/issues/177")
def test_a_plugin_that_fails_is_a_warning(host: LabHost, tmp_path: Path) -> None:
    plugin = (
        "import dnf\nclass P(dnf.Plugin):\n name = 'made'\n def transaction(self):\n  raise ValueError('no snapshot')"
    )
    (host.root / "usr/lib/python3/dist-packages/dnf-plugins/made.py").write_text(plugin)

    outcome = outcome_of(Fleet([host], tmp_path).patch("lab-plain", "lab-dep-a"), host)

    assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert any("no snapshot" in finding.message for finding in outcome.findings), outcome.findings


@pytest.mark.public_report("https://minica.tech/t/removing-duplicate-packages-from-a-failed-yum-transaction/78")
def test_a_package_whose_old_version_does_not_go_costs_itself(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    own.add("made-tool", "1.0", scriptlets="%preun\necho the service does not stop >&2; exit 1")
    own.add("made-tool", "2.0", advisory="security")
    own.publish(host)
    own.install(host, "made-tool", "1.0")
    fleet = Fleet([host], tmp_path)
    first = outcome_of(fleet.patch("made-tool"), host)
    assert (first.state, result_of(first, "made-tool").state) == (OperationState.FAILED, UpdateState.FAILED)

    second = outcome_of(fleet.patch("lab-sec", "lab-plain"), host)

    assert host.package_versions("lab-sec", "lab-plain") == {"lab-sec": "2.1-1", "lab-plain": "2.0-1"}, second.reason
    assert second.state is OperationState.COMPLETED_WITH_WARNINGS
    (told,) = [finding.message for finding in second.findings if finding.check == "packages"]
    assert "made-tool 2.0-1 is installed beside its older version made-tool-1.0-1.noarch since " in told
    assert "%preun(made-tool-1.0-1.noarch) scriptlet failed" in told


def test_a_failed_pre_script_is_told_once(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    own.add("made-tool", "1.0")
    own.add("made-tool", "2.0", scriptlets="%pre\necho no user >&2; exit 1", advisory="security")
    own.publish(host)
    own.install(host, "made-tool", "1.0")
    outcome = outcome_of(Fleet([host], tmp_path).patch("made-tool", "lab-message"), host)
    result = result_of(outcome, "made-tool")
    assert (result.state, "%prein(made-tool-2.0-1.noarch)" in result.reason) == (UpdateState.FAILED, True)
    assert result_of(outcome, "lab-message").state is UpdateState.INSTALLED
    assert not [finding for finding in outcome.findings if finding.check == "transaction"]


@pytest.mark.public_report("https://github.com/Atomicorp/gvm/issues/71")
def test_an_error_of_a_macro_keeps_no_update_away(host: LabHost, tmp_path: Path) -> None:
    host.sh("mkdir -p /etc/rpm; echo '%undefine made' > /etc/rpm/macros.made; rpm -qa 2>&1 | grep ^error: ", root=True)

    outcome = outcome_of(Fleet([host], tmp_path).patch("lab-plain"), host)

    assert host.package_versions("lab-plain") == {"lab-plain": "2.0-1"}, outcome.reason
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert any("rpm says: error:" in finding.message for finding in outcome.findings)


def test_new_packages_are_those_of_the_version_that_is_installed(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    own.add("made-tool", "1.0")
    own.add("made-tool", "2.0", spec="Requires: made-fix", advisory="security")
    own.add("made-tool", "3.0", spec="Requires: made-feature", advisory="bugfix")
    own.add("made-fix", "1.0")
    own.add("made-feature", "1.0")
    own.publish(host)
    own.install(host, "made-tool", "1.0")

    outcome = outcome_of(Fleet([host], tmp_path).patch(), host)

    assert result_of(outcome, "made-tool").version_after == "2.0-1", result_of(outcome, "made-tool")
    came, left = result_of(outcome, "made-fix"), result_of(outcome, "made-feature")
    assert (came.state, came.version_after, left.state) == (UpdateState.INSTALLED, "1.0-1", UpdateState.NOT_SELECTED)
    assert set(host.package_versions()) & {"made-fix", "made-feature"} == {"made-fix"}


@pytest.mark.public_report("https://bugzilla.redhat.com/show_bug.cgi?id=1467450")
def test_a_kernel_without_an_initramfs_is_not_booted(host: LabHost, tmp_path: Path) -> None:
    own = make(tmp_path)
    side_by_side = "Provides: installonlypkg(kernel)"
    own.add("kernel-core", "8.0", spec=side_by_side)
    failing = '%posttrans\necho "dracut: No space left on device" >&2; exit 1'
    own.add("kernel-core", "9.0", spec=side_by_side, scriptlets=failing, advisory="security", severity="Important")
    own.publish(host)
    own.install(host, "kernel-core", "8.0")
    boot = host.boot_id()

    outcome = outcome_of(Fleet([host], tmp_path).patch("kernel-core", "lab-reboot", reboot="Always"), host)

    result = result_of(outcome, "kernel-core")
    assert result.state is UpdateState.SETUP_FAILED
    assert "%posttrans(kernel-core-9.0-1.noarch) scriptlet failed" in result.reason
    assert "dracut: No space left on device" in result.reason
    assert outcome.state in {OperationState.FAILED, OperationState.COMPLETED_WITH_WARNINGS}
    assert (host.boot_id(), outcome.reboot is RebootState.COMPLETED) == (boot, False)
