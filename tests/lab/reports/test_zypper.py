"""What zypper leaves unsaid: failed and skipped scripts, plugins, rpm's lock, and versions that its policy forbids."""

from pathlib import Path

import pytest

from tasks.model import Outcome
from tasks.states import Classification, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.packages import RpmRepository

NOTES = "/root/notes"
FAILS = "echo 'dracut: no space left' >&2; exit 3"
PLUGIN = """mkdir -p /usr/lib/zypp/plugins/commit; cat >/usr/lib/zypp/plugins/commit/etckeeper.sh <<'END'
#!/bin/sh
echo "git: cannot write the index" >&2
exit 4
END
chmod 755 /usr/lib/zypp/plugins/commit/etckeeper.sh"""
HOLDER = """import fcntl, time
lock = open("/var/lib/rpm/.rpm.lock", "r+b")
while True:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
    except OSError:
        time.sleep(0.002)
time.sleep(6)
"""


@pytest.fixture
def zypper_host(hosts: BootHosts) -> LabHost:
    return hosts(1, "zypper")[0]


def make(folder: Path, scripts: dict[str, str]) -> RpmRepository:
    """A repository with a security update from 1.0 to 2.0 of each of these packages, whose 2.0 has these scripts."""
    repository = RpmRepository(folder)
    for name, text in scripts.items():
        repository.add(name, "1.0")
        repository.add(name, "2.0", scriptlets=text, advisory="security", severity="Critical")
    return repository


def install_first(host: LabHost, repository: RpmRepository, *names: str) -> None:
    repository.publish(host)
    for name in names:
        repository.install(host, name, "1.0")


def patch(host: LabHost, place: Path, *masks: str, reboot: str = "Never") -> Outcome:
    return outcome_of(Fleet([host], place).patch(*masks, reboot=reboot), host)


@pytest.mark.public_report("https://bugzilla.suse.com/show_bug.cgi?id=1198139")
@pytest.mark.parametrize("script", ["post", "posttrans"])
def test_a_failed_script_is_told_with_its_package(zypper_host: LabHost, tmp_path: Path, script: str) -> None:
    install_first(
        zypper_host, make(tmp_path / "made", {"a-bad": f"%{script}\n{FAILS}", "a-good": ""}), "a-bad", "a-good"
    )

    outcome = patch(zypper_host, tmp_path, "a-*")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert (result_of(outcome, "a-good").state, result_of(outcome, "a-good").reason) == (UpdateState.INSTALLED, "")
    result = result_of(outcome, "a-bad")
    assert result.state is UpdateState.SETUP_FAILED
    assert f"%{script}(a-bad-2.0-1.noarch) scriptlet failed, exit status 3: dracut: no space left" in result.reason
    assert zypper_host.package_versions("a-bad")["a-bad"] == "2.0-1"


@pytest.mark.public_report("https://github.com/openSUSE/libzypp/blob/master/zypp/zypp/target/RpmPostTransCollector.cc")
def test_scripts_that_zypper_skips_are_run(zypper_host: LabHost, tmp_path: Path) -> None:
    scripts = {
        "a-kernel": f'%posttrans\necho "ran with $1" >>{NOTES}',
        "b-kernel": f"%posttrans\n{FAILS}",
        "c-bad": f"%pre\n{FAILS}",
        "d-last": f'%posttrans\necho "ran last" >>{NOTES}',
    }
    install_first(zypper_host, make(tmp_path / "made", scripts), *scripts)

    outcome = patch(zypper_host, tmp_path, "?-*")

    assert zypper_host.sh(f"cat {NOTES}", root=True).split("\n")[:2] == ["ran with 2", "ran last"]
    assert result_of(outcome, "a-kernel").state is UpdateState.INSTALLED
    assert result_of(outcome, "d-last").state is UpdateState.INSTALLED
    assert result_of(outcome, "c-bad").state is UpdateState.FAILED
    assert result_of(outcome, "b-kernel").state is UpdateState.SETUP_FAILED
    assert "exit status 3" in result_of(outcome, "b-kernel").reason


@pytest.mark.public_report("https://github.com/openSUSE/zypper/issues/568")
def test_a_failed_plugin_is_a_warning_with_its_words(zypper_host: LabHost, tmp_path: Path) -> None:
    install_first(zypper_host, make(tmp_path / "made", {"a-one": "", "a-two": ""}), "a-one", "a-two")
    zypper_host.sh(PLUGIN, root=True)

    outcome = patch(zypper_host, tmp_path, "a-*")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert {each.state for each in outcome.updates if each.update.name.startswith("a-")} == {UpdateState.INSTALLED}
    assert any("etckeeper.sh: git: cannot write the index" in finding.message for finding in outcome.findings)


@pytest.mark.public_report("https://github.com/saltstack/salt/issues/62204")
def test_rpms_lock_between_two_packages_is_waited_for(zypper_host: LabHost, tmp_path: Path) -> None:
    (zypper_host.root / "root/hold.py").write_text(HOLDER)
    begin = "%post\nsetsid python3 /root/hold.py </dev/null >/dev/null 2>&1 &\nsleep 1"
    install_first(
        zypper_host, make(tmp_path / "made", {"a-one": begin, "a-two": "", "b-bee": ""}), "a-one", "a-two", "b-bee"
    )

    outcome = patch(zypper_host, tmp_path, "a-*", "b-*")

    assert outcome.state is OperationState.SUCCEEDED
    assert set(zypper_host.package_versions("a-one", "a-two", "b-bee").values()) == {"2.0-1"}


@pytest.mark.public_report("https://github.com/openSUSE/zypper/issues/430")
def test_offers_that_zypper_does_not_take_are_blocked_with_why(zypper_host: LabHost, tmp_path: Path) -> None:
    made = RpmRepository(tmp_path / "made")
    for name in ("a-between", "a-low", "a-mixed", "a-conflict", "a-other"):
        made.add(name, "1.0")
    made.add("a-between", "1.5", advisory="bugfix")
    made.add("a-between", "2.0", spec="Requires: not-there", advisory="security", severity="Critical")
    made.add("a-conflict", "2.0", spec="Conflicts: a-other", advisory="security", severity="Important")
    made.add("a-mixed", "2.1", advisory="bugfix")
    install_first(zypper_host, made, "a-between", "a-low", "a-mixed", "a-conflict", "a-other")
    low = RpmRepository(tmp_path / "low")
    low.add("a-low", "2.0", advisory="security", severity="Critical")
    low.add("a-mixed", "2.0", advisory="security", severity="Critical")
    low.publish(zypper_host, options="priority=120")

    outcome = outcome_of(Fleet([zypper_host], tmp_path).patch(reboot="Never"), zypper_host)

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    blocked = {each.update.name: each.reason for each in outcome.updates if each.state is UpdateState.BLOCKED}
    assert "nothing provides not-there needed by a-between-2.0-1.noarch" in blocked["LAB-a-between-2.0"]
    assert "a-conflict-2.0-1.noarch conflicts with a-other" in blocked["a-conflict"]
    assert "a repository with a lower priority" in blocked["LAB-a-low-2.0"]
    versions = zypper_host.package_versions("a-between", "a-low", "a-mixed", "a-conflict", "a-other")
    assert versions == {
        "a-between": "1.0-1",  # a bug fix
        "a-low": "1.0-1",
        "a-mixed": "2.1-1",  # what zypper itself takes, and not the fix in the repository of lower priority
        "a-conflict": "1.0-1",
        "a-other": "1.0-1",
    }
    assert result_of(outcome, "LAB-a-between-2.0").update.classification is Classification.CRITICAL


@pytest.mark.public_report("https://bugzilla.suse.com/show_bug.cgi?id=1146415")
def test_settings_do_not_change_what_an_update_means(zypper_host: LabHost, tmp_path: Path) -> None:
    made = RpmRepository(tmp_path / "made")
    for version in ("1.0", "2.0"):
        made.add("a-library", version)
        made.add("a-program", version, spec="Requires: a-library", advisory="security" if version == "2.0" else "")
    install_first(zypper_host, made, "a-library", "a-program")
    settings = "solver.focus = Update\ncommit.downloadMode = DownloadOnly\n"
    zypper_host.sh(f"printf '{settings}' >>/etc/zypp/zypp.conf", root=True)

    outcome = patch(zypper_host, tmp_path, "a-program")

    assert result_of(outcome, "a-program").state is UpdateState.INSTALLED
    assert zypper_host.package_versions("a-library", "a-program") == {"a-library": "1.0-1", "a-program": "2.0-1"}


@pytest.mark.public_report("AWS Neuron's documentation: %preun(aws-neuronx-dkms) scriptlet failed, erase failed")
def test_one_package_that_can_not_be_removed_costs_itself(zypper_host: LabHost, tmp_path: Path) -> None:
    made = RpmRepository(tmp_path / "made")
    made.add("a-stuck", "1.0", scriptlets=f"%preun\n{FAILS}")
    made.add("a-stuck", "2.0", advisory="security", severity="Critical")
    install_first(zypper_host, made, "a-stuck")
    assert result_of(patch(zypper_host, tmp_path, "a-stuck"), "a-stuck").state is UpdateState.FAILED

    outcome = patch(zypper_host, tmp_path, "lab-sec", "a-stuck")

    assert result_of(outcome, "lab-sec").state is UpdateState.INSTALLED
    assert zypper_host.package_versions("lab-sec")["lab-sec"].startswith("2.")
    assert any("%preun(a-stuck-1.0-1.noarch) scriptlet failed" in finding.message for finding in outcome.findings)
    assert outcome.state is not OperationState.SUCCEEDED
