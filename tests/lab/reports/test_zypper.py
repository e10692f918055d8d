"""What zypper leaves unsaid: skipped scripts, plugins, rpm's lock, settings, locks of patches, and dead repositories.

One host plays all of them, in three runs.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import Lab, LabHost
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
SKIPPED = {
    "a-kernel": f'%posttrans\necho "ran with $1" >>{NOTES}',
    "b-kernel": f"%posttrans\n{FAILS}",
    "c-bad": f"%pre\n{FAILS}",
    "d-last": f'%posttrans\necho "ran last" >>{NOTES}',
}
LOCKED = {
    "l-one": "%post\nsetsid python3 /root/hold.py </dev/null >/dev/null 2>&1 &\nsleep 1",
    "l-two": "",
    "m-bee": "",
}
RANGES = ("r-good", "r-range", "r-newest", "r-older")
SETTINGS = "solver.focus = Update\ncommit.downloadMode = DownloadOnly\n"
LOCKS = "zypper -n addlock 'r-range > 1.5'; zypper -n addlock --type patch LAB-r-newest-2.0 LAB-r-older-2.0"
DEAD = "[dead]\nname=dead\nbaseurl=http://127.0.0.1:9/x\nenabled=1\ngpgcheck=0\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def host(lab: Lab, place: Path) -> Iterator[LabHost]:
    """A host with the first version of all packages that the tests update."""
    (booted,) = lab.up(1, "zypper")
    made = RpmRepository(place / "made")
    for name, text in {**SKIPPED, **LOCKED, **dict.fromkeys((*RANGES, "p-one", "p-two"), "")}.items():
        made.add(name, "1.0")
        made.add(name, "2.0", scriptlets=text, advisory="security", severity="Critical")
    made.add("r-older", "3.0", advisory="security")
    made.add("s-stuck", "1.0", scriptlets=f"%preun\n{FAILS}")
    made.add("s-stuck", "2.0", advisory="security", severity="Critical")
    for version in ("1.0", "2.0"):
        made.add("t-library", version)
        made.add("t-program", version, spec="Requires: t-library", advisory="security" if version == "2.0" else "")
    made.publish(booted)
    booted.sh("rpm -U /srv/made/noarch/*-1.0-1.noarch.rpm", root=True)
    (booted.root / "root/hold.py").write_text(HOLDER)
    yield booted
    booted.drop()


def patch(host: LabHost, place: Path, *masks: str) -> Outcome:
    return outcome_of(Fleet([host], place).patch(*masks, reboot="Never"), host)


@pytest.fixture(scope="module")
def waited(host: LabHost, place: Path) -> Outcome:
    """The outcome of the first run: another process has rpm's lock in the middle of it."""
    return patch(host, place, *LOCKED)


@pytest.fixture(scope="module")
def failed(host: LabHost, place: Path, waited: Outcome) -> Outcome:
    """The outcome of a run in which scripts fail."""
    assert waited.install is not None
    return patch(host, place, *SKIPPED, "s-stuck")


@pytest.fixture(scope="module")
def after(host: LabHost, place: Path, failed: Outcome) -> Outcome:
    """The outcome of a run after it, with settings, locks, a plugin that fails, and a repository that is dead."""
    assert failed.install is not None
    host.sh(f"zypper -n refresh; {LOCKS}; printf '{SETTINGS}' >>/etc/zypp/zypp.conf; {PLUGIN}", root=True)
    (host.root / "etc/zypp/repos.d/dead.repo").write_text(DEAD)
    return patch(host, place, *RANGES, "lab-sec", "p-one", "p-two", "s-stuck", "t-program")


@pytest.mark.public_report("https://github.com/saltstack/salt/issues/62204")
def test_rpms_lock_between_two_packages_is_waited_for(host: LabHost, waited: Outcome) -> None:
    assert waited.state is OperationState.SUCCEEDED
    assert host.package_versions(*LOCKED) == dict.fromkeys(LOCKED, "2.0-1")


@pytest.mark.public_report("https://github.com/openSUSE/libzypp/blob/master/zypp/zypp/target/RpmPostTransCollector.cc")
def test_scripts_that_zypper_skips_are_run(host: LabHost, failed: Outcome) -> None:
    assert host.sh(f"cat {NOTES}", root=True).split("\n")[:2] == ["ran with 2", "ran last"]
    assert result_of(failed, "a-kernel").state is UpdateState.INSTALLED
    assert result_of(failed, "d-last").state is UpdateState.INSTALLED
    assert result_of(failed, "c-bad").state is UpdateState.FAILED
    assert result_of(failed, "b-kernel").state is UpdateState.SETUP_FAILED
    assert "exit status 3" in result_of(failed, "b-kernel").reason


@pytest.mark.public_report("AWS Neuron's documentation: %preun(aws-neuronx-dkms) scriptlet failed, erase failed")
def test_one_package_that_can_not_be_removed_costs_itself(host: LabHost, failed: Outcome, after: Outcome) -> None:
    assert result_of(failed, "s-stuck").state is UpdateState.FAILED
    assert result_of(after, "lab-sec").state is UpdateState.INSTALLED
    assert host.package_versions("lab-sec")["lab-sec"].startswith("2.")
    warnings = [finding.message for finding in after.findings if finding.level is FindingLevel.WARN]
    assert any("%preun(s-stuck-1.0-1.noarch) scriptlet failed" in message for message in warnings)
    assert after.state is not OperationState.SUCCEEDED


@pytest.mark.public_report("https://github.com/openSUSE/zypper/issues/568")
def test_a_failed_plugin_is_a_warning_with_its_words(after: Outcome) -> None:
    assert after.state is OperationState.COMPLETED_WITH_WARNINGS
    assert {result_of(after, name).state for name in ("p-one", "p-two")} == {UpdateState.INSTALLED}
    warnings = [finding.message for finding in after.findings if finding.level is FindingLevel.WARN]
    assert any("etckeeper.sh: git: cannot write the index" in message for message in warnings)


@pytest.mark.public_report("https://bugzilla.suse.com/show_bug.cgi?id=1146415")
def test_settings_do_not_change_what_an_update_means(host: LabHost, after: Outcome) -> None:
    assert result_of(after, "t-program").state is UpdateState.INSTALLED
    assert host.package_versions("t-library", "t-program") == {"t-library": "1.0-1", "t-program": "2.0-1"}


@pytest.mark.public_report("https://github.com/openSUSE/os-update/issues/15")
@pytest.mark.public_report("https://github.com/Azure/LinuxPatchExtension/pull/111")
def test_a_repository_that_was_never_read_keeps_no_update_from_being_installed(after: Outcome) -> None:
    states = {each.update.name: each.state for each in after.updates if each.update.name in RANGES}
    assert states == {
        "r-good": UpdateState.INSTALLED,
        "r-range": UpdateState.EXCLUDED,
        "r-newest": UpdateState.EXCLUDED,
        "r-older": UpdateState.INSTALLED,  # a newer patch than the locked one
    }
    assert after.state is OperationState.COMPLETED_WITH_WARNINGS
    (dead,) = [finding for finding in after.findings if finding.check == "repositories" and "dead" in finding.message]
    assert dead.level is FindingLevel.WARN
