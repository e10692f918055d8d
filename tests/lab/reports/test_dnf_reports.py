"""Situations from public reports about dnf: what fails, and what the owner of the machine has set.

One host plays all of them, in two runs.
"""

from collections.abc import Iterator

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import Lab, LabHost
from tests.lab.packages import RpmRepository

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
allow_vendor_change=False
"""
PLUGIN = "import dnf\nclass P(dnf.Plugin):\n name = 'made'\n def transaction(self):\n  raise ValueError('no snapshot')"
FAILED = ("made-watched", "made-stuck", "made-early", "lab-plain", "lab-message")
SET = ("made-set", "made-kept", "lab-sec", "lab-dep-a")


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """A host on which some updates will fail, and others depend on its settings."""
    (booted,) = lab.up(1, "dnf")
    own = RpmRepository(tmp_path_factory.mktemp("made") / "own")
    own.add("made-watcher", "1.0", scriptlets="%triggerin -- made-watched\necho no module built >&2; exit 1")
    own.add("made-watched", "1.0")
    own.add("made-watched", "2.0", advisory="security")
    own.add("made-stuck", "1.0", scriptlets="%preun\necho the service does not stop >&2; exit 1")
    own.add("made-stuck", "2.0", advisory="security")
    own.add("made-early", "1.0")
    own.add("made-early", "2.0", scriptlets="%pre\necho no user >&2; exit 1", advisory="security")
    for version in ("1.0", "2.0"):
        own.add("made-set", version, scriptlets=f"%post\necho {version} > /root/made-set", advisory="security")
    own.add("made-kept", "1.0", spec="Vendor: Their")
    own.add("made-kept", "2.0", spec="Vendor: Ours", advisory="security", severity="Important")
    own.publish(booted)
    booted.sh("cd /srv/own/noarch; rpm -U --notriggers made-*-1.0-1.noarch.rpm", root=True)
    yield booted
    booted.drop()


@pytest.fixture(scope="module")
def failed(host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of a run in which scripts fail."""
    return outcome_of(Fleet([host], tmp_path_factory.mktemp("failed")).patch(*FAILED), host)


@pytest.fixture(scope="module")
def after(host: LabHost, failed: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of a run after it, on a host whose owner has set much: before it, a dry run changes nothing."""
    assert failed.state is OperationState.FAILED
    (host.root / "usr/lib/python3/dist-packages/dnf-plugins/made.py").write_text(PLUGIN)
    host.sh(f"cat >> /etc/dnf/dnf.conf <<'END'\n{CONTRARY}\nEND", root=True)
    host.sh("mkdir -p /etc/rpm; echo '%undefine made' > /etc/rpm/macros.made; rpm -qa 2>&1 | grep ^error: ", root=True)
    before, fleet = host.package_versions(), Fleet([host], tmp_path_factory.mktemp("after"))
    fleet.patch(*SET, dry_run=True)
    assert host.package_versions() == before, "a question changes nothing"
    return outcome_of(fleet.patch(*SET), host)


@pytest.mark.public_report("https://github.com/ansible/ansible/issues/43870")
def test_a_trigger_that_fails_is_told_of_the_update_that_set_it_off(failed: Outcome) -> None:
    result = result_of(failed, "made-watched")
    assert (result.state, "no module built" in result.reason) == (UpdateState.SETUP_FAILED, True), result.reason
    assert result_of(failed, "lab-plain").state is UpdateState.INSTALLED


def test_a_failed_pre_script_is_told_once(failed: Outcome) -> None:
    result = result_of(failed, "made-early")
    assert (result.state, "%prein(made-early-2.0-1.noarch)" in result.reason) == (UpdateState.FAILED, True)
    assert result_of(failed, "lab-message").state is UpdateState.INSTALLED
    assert not [finding for finding in failed.findings if finding.check == "transaction"]


@pytest.mark.public_report("https://minica.tech/t/removing-duplicate-packages-from-a-failed-yum-transaction/78")
def test_a_package_whose_old_version_does_not_go_costs_itself(host: LabHost, failed: Outcome, after: Outcome) -> None:
    assert (failed.state, result_of(failed, "made-stuck").state) == (OperationState.FAILED, UpdateState.FAILED)
    assert host.package_versions("lab-sec", "lab-plain") == {"lab-sec": "2.1-1", "lab-plain": "2.0-1"}, after.reason
    assert after.state is OperationState.COMPLETED_WITH_WARNINGS
    (told,) = [finding.message for finding in after.findings if finding.check == "packages"]
    assert "made-stuck 2.0-1 is installed beside its older version made-stuck-1.0-1.noarch since " in told
    assert "%preun(made-stuck-1.0-1.noarch) scriptlet failed" in told


@pytest.mark.public_report("https://github.com/manatools/dnfdaemon/issues/58")
def test_a_vendor_that_the_owner_keeps_is_kept(host: LabHost, after: Outcome) -> None:
    result = result_of(after, "made-kept")
    assert (result.state, "Their -> Ours" in result.reason) == (UpdateState.BLOCKED, True), result.reason
    assert host.package_versions("made-kept") == {"made-kept": "1.0-1"}


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf/pull/414")
def test_settings_of_the_machine_change_no_transaction(host: LabHost, after: Outcome) -> None:
    assert result_of(after, "made-set").state is UpdateState.INSTALLED, after.reason
    assert host.package_versions("made-set", "lab-dep-b") == {"made-set": "2.0-1", "lab-dep-b": "2.0-1"}
    assert host.sh("cat /root/made-set; ls -d /usr/share/made-set-2.0", root=True).split() == [
        "2.0",
        "/usr/share/made-set-2.0",
    ]


@pytest.mark.public_report("https://github.com/rpm-software-management/dnf-plugins-extras/issues/177")
def test_a_plugin_that_fails_is_a_warning(after: Outcome) -> None:
    assert result_of(after, "lab-sec").state is UpdateState.INSTALLED
    assert after.state is OperationState.COMPLETED_WITH_WARNINGS
    warnings = [finding.message for finding in after.findings if finding.level is FindingLevel.WARN]
    assert any("no snapshot" in message for message in warnings), after.findings


@pytest.mark.public_report("https://github.com/Atomicorp/gvm/issues/71")
def test_an_error_of_a_macro_keeps_no_update_away(after: Outcome) -> None:
    assert result_of(after, "lab-sec").state is UpdateState.INSTALLED, after.reason
    assert after.state is OperationState.COMPLETED_WITH_WARNINGS
    warnings = [finding.message for finding in after.findings if finding.level is FindingLevel.WARN]
    assert any("rpm says: error:" in message for message in warnings), after.findings
