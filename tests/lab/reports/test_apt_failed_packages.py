"""Packages whose scripts fail cost themselves and what depends on them, and are told each time."""

import re
import time
from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.states import Compliance, FindingLevel, OperationState, UpdateState
from tasks.machines.managers.apt.manager import AptManager
from tasks.rules.machine_checks.packages import FAILED_SCRIPT_REMEDY, PACKAGES_CHECK, REPAIR_REMEDY
from tests.contract.manager_subjects import apt_subject
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import LabHost
from tests.lab.packages import DebRepository

APT = AptManager()
FAILS = """[ "$1" = configure ] || exit 0
echo try >> /root/tries
[ -e /root/fixed ] || { echo "no room for it; sorry" >&2; exit 1; }"""
WORDS = "no room for it"


def count_tries(host: LabHost) -> int:
    return int(host.sh("wc -l < /root/tries", root=True))


def state_of(host: LabHost, name: str) -> str:
    return host.query_dpkg("-W", "-f", "${db:Status-Status} ${Version}", name)


def warnings_about_packages(outcome: Outcome) -> list[tuple[str, str]]:
    return [
        (each.message, each.remedy)
        for each in outcome.findings
        if each.check == PACKAGES_CHECK and each.level is FindingLevel.WARN
    ]


@pytest.mark.public_report("https://github.com/freedomofpress/securedrop/issues/4003: one package stops all updates")
def test_a_failed_package_costs_itself_and_what_depends_on_it(host: LabHost, tmp_path: Path) -> None:
    """Until a repair sets it up, or a new version of it: x-needs depends on x-broken, and x-free on nothing."""
    repository, fleet = DebRepository(tmp_path / "own"), Fleet([host], tmp_path)
    relations = {
        "x-broken": "",
        "x-needs": "Depends: x-broken",
        "x-above": "Depends: x-needs",
        "x-free": "",
        "y-bad": "",
    }
    for name, control in relations.items():
        repository.add(name, "1.0", control=control)
    repository.publish(host)
    host.sh("dpkg -i /srv/own/*.deb", root=True)
    repository.add("x-broken", "2.0", scripts={"postinst": FAILS})
    repository.add("y-bad", "2.0", scripts={"postinst": "exit 1"})
    repository.publish(host)
    outcome = outcome_of(fleet.patch("x-broken", "y-bad"), host)
    assert outcome.state is OperationState.FAILED
    assert WORDS in outcome.reason
    assert (state_of(host, "x-broken"), state_of(host, "y-bad")) == ("half-configured 2.0", "half-configured 2.0")

    for name in ("x-needs", "x-above", "x-free"):
        repository.add(name, "2.0", control=relations[name])
    repository.add("y-bad", "3.0")
    repository.publish(host)
    report = fleet.patch("x-*", "y-bad", "lab-plain")
    outcome = outcome_of(report, host)
    assert result_of(outcome, "y-bad").state is UpdateState.INSTALLED  # its new version mends it
    assert state_of(host, "y-bad") == "installed 3.0"
    assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED
    assert result_of(outcome, "x-free").state is UpdateState.INSTALLED
    assert result_of(outcome, "x-above").state is UpdateState.INSTALLED  # what it needs is set up, in its old version
    needs = result_of(outcome, "x-needs")
    assert needs.state is UpdateState.BLOCKED
    assert "it depends on x-broken, which is half-configured" in needs.reason
    assert state_of(host, "x-needs") == "installed 1.0"
    assert state_of(host, "x-broken") == "half-configured 2.0"
    assert count_tries(host) == 1
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    ((message, remedy),) = warnings_about_packages(outcome)
    assert re.search(
        r"x-broken 2\.0 is half-configured since \d{4}-\d\d-\d\d \d\d:\d\d UTC: installed x-broken", message
    )
    assert WORDS in message
    assert "y-bad" not in message  # it is whole now
    assert remedy == FAILED_SCRIPT_REMEDY
    (after,) = [each for each in report.assessments if each.machine == host.name]
    assert after.compliance is Compliance.NON_COMPLIANT

    repository.add("x-free", "3.0")
    repository.publish(host)
    outcome = outcome_of(fleet.patch("x-free", repair=True), host)  # a repair tries it once
    assert result_of(outcome, "x-free").state is UpdateState.INSTALLED
    assert count_tries(host) == 2
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert [remedy for _, remedy in warnings_about_packages(outcome)] == [FAILED_SCRIPT_REMEDY]
    host.sh("touch /root/fixed", root=True)
    outcome = outcome_of(fleet.patch("x-needs", repair=True), host)
    assert result_of(outcome, "x-broken").state is UpdateState.REPAIRED
    assert state_of(host, "x-broken") == "installed 2.0"
    assert not warnings_about_packages(outcome)


def test_what_fails_in_a_job_costs_no_package_of_the_jobs_next_transaction(host: LabHost, tmp_path: Path) -> None:
    repository = DebRepository(tmp_path / "own")
    for name, control in (("x-broken", ""), ("x-needs", "Depends: x-broken")):
        repository.add(name, "1.0", control=control)
    repository.publish(host)
    host.sh("dpkg -i /srv/own/*.deb", root=True)
    repository.add("x-broken", "2.0", scripts={"postinst": FAILS})
    repository.add("x-needs", "2.0", control="Pre-Depends: lab-plain (>= 1) | x-none, x-broken (>= 1.0)")
    repository.publish(host)
    subject = apt_subject(host)
    state = APT.assess(subject.transport, refresh=True, deadline=Deadline.after(SystemClock(), 120))
    updates = {update.id: update for update in state.updates}
    begin = time.time() + 600
    first = Transaction(0, (updates["x-broken"],), begin, 10.0)
    second = Transaction(1, (updates["x-needs"], updates["lab-plain"]), begin, 10.0)
    ended = subject.carry_out("two", APT.build_job_script(JobKind.INSTALL, [first, second]))
    (told,) = [event for event in ended.events if event["kind"] == "not_attempted"]
    assert (told["number"], told["why"], told["detail"]) == (1, "broken", "x-needs needs x-broken")
    assert state_of(host, "x-needs") == "installed 1.0"
    alone = APT.build_job_script(JobKind.INSTALL, [Transaction(0, (updates["lab-plain"],), begin, 10.0)])
    subject.carry_out("alone", alone)
    assert state_of(host, "lab-plain") == "installed 2.0"


def test_what_was_interrupted_is_finished_first_or_nothing_is_done(host: LabHost, tmp_path: Path) -> None:
    """apt was ended between two calls of dpkg: nothing failed, and no journal is left."""
    host.sh("apt-get -qq update; apt-get -qq download lab-plain; dpkg --unpack lab-plain_*.deb", root=True)
    fleet = Fleet([host], tmp_path)
    outcome = outcome_of(fleet.patch("lab-sec"), host)
    assert outcome.state is OperationState.FAILED
    (found,) = [each for each in outcome.findings if each.check == PACKAGES_CHECK]
    assert (found.level, found.remedy) == (FindingLevel.BLOCK, REPAIR_REMEDY)
    assert state_of(host, "lab-sec") == "installed 1.0"
    outcome = outcome_of(fleet.patch("lab-sec", repair=True), host)
    assert result_of(outcome, "lab-plain").state is UpdateState.REPAIRED
    assert result_of(outcome, "lab-sec").state is UpdateState.INSTALLED


def transaction_details(outcome: Outcome) -> list[tuple[int | None, list[str]]]:
    assert outcome.install is not None
    return [(each.exit_code, each.detail.split("; ")) for each in outcome.install.transactions]


@pytest.mark.public_report("https://github.com/community-scripts/ProxmoxVE/issues/6078: a hook that ends with 1")
def test_a_hook_that_fails_is_told_with_its_words(host: LabHost, tmp_path: Path) -> None:
    hook = 'DPkg::Post-Invoke {"echo no inventory server, giving up >&2; false"; };'
    host.sh(f"cat > /etc/apt/apt.conf.d/99hook <<'END'\n{hook}\nEND", root=True)
    outcome = outcome_of(Fleet([host], tmp_path).patch("lab-plain"), host)
    assert state_of(host, "lab-plain") == "installed 2.0"
    ((code, parts),) = transaction_details(outcome)
    assert code == 100
    assert len(parts) == 1
    assert "Problem executing scripts DPkg::Post-Invoke" in parts[0]
    assert "(no inventory server, giving up)" in parts[0]
    assert outcome.state is not OperationState.SUCCEEDED


def test_a_trigger_that_fails_is_told_with_its_packages_name(host: LabHost, tmp_path: Path) -> None:
    """As the one of initramfs-tools fails where /boot is full."""
    repository = DebRepository(tmp_path / "own")
    script = '[ "$1" = triggered ] || exit 0\necho "mkinitrd: no space left" >&2; exit 1'
    repository.add("x-initrd", "1.0", scripts={"postinst": script, "triggers": "interest x-make-initrd\n"})
    repository.add("x-kernel", "1.0")
    repository.publish(host)
    host.sh("dpkg -i /srv/own/*.deb", root=True)
    repository.add("x-kernel", "2.0", scripts={"postinst": "dpkg-trigger x-make-initrd"})
    repository.publish(host)
    outcome = outcome_of(Fleet([host], tmp_path).patch("x-kernel", "lab-plain"), host)
    assert state_of(host, "lab-plain") == "installed 2.0"
    assert state_of(host, "x-initrd") == "half-configured 1.0"
    (parts,) = [parts for code, parts in transaction_details(outcome) if code]
    (about,) = [part for part in parts if "x-initrd" in part]
    assert "post-installation script subprocess returned error" in about
    assert "mkinitrd: no space left" in about
    assert outcome.state is OperationState.FAILED  # packages are broken that were whole before


@pytest.mark.public_report("https://github.com/inverse-inc/packetfence/issues/3838")
@pytest.mark.parametrize("conflicting", ["x-lib", "x-app"])
def test_a_file_of_two_packages_costs_its_package_and_what_depends_on_it(
    host: LabHost, tmp_path: Path, conflicting: str
) -> None:
    repository, fleet = DebRepository(tmp_path / "own"), Fleet([host], tmp_path)
    file = {"/usr/share/x/file": "of x-owner\n"}
    relations = {"x-owner": "", "x-lib": "", "x-app": "Depends: x-lib (= {})", "x-free": ""}
    for version in ("1.0", "2.0"):
        for name, control in relations.items():
            has_it = name == "x-owner" or (name == conflicting and version == "2.0")
            if name != "x-owner" or version == "1.0":
                repository.add(name, version, control=control.format(version), files=file if has_it else None)
        repository.publish(host)
        if version == "1.0":
            host.sh("dpkg -i /srv/own/*.deb", root=True)
    outcome = outcome_of(fleet.patch("x-lib", "x-app"), host)
    assert outcome.state is OperationState.FAILED
    assert host.sh("apt-get -s check 2>&1 || true").count("unmet dependencies")
    outcome = outcome_of(fleet.patch("x-free", repair=conflicting == "x-app"), host)
    assert result_of(outcome, "x-free").state is UpdateState.INSTALLED
    assert state_of(host, "x-free") == "installed 2.0"
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    ((message, remedy),) = warnings_about_packages(outcome)
    assert f"{conflicting} could not be unpacked: trying to overwrite '/usr/share/x/file'" in message
    assert remedy == FAILED_SCRIPT_REMEDY
    assert state_of(host, conflicting) == "installed 1.0"
    repository.add("x-lib", "2.1")
    repository.add("x-app", "2.1", control="Depends: x-lib (= 2.1)")
    repository.publish(host)
    fleet.patch("x-*")  # the versions without that file mend all
    assert state_of(host, "x-lib") == state_of(host, "x-app") == "installed 2.1"
    assert "unmet" not in host.sh("apt-get -s check 2>&1")
    assert not host.sh("ls /var/lib/dpkg | grep fleetpatch || true")


def test_what_a_second_round_sets_up_has_no_words_of_the_first(host: LabHost, tmp_path: Path) -> None:
    repository = DebRepository(tmp_path / "own")
    once = '[ "$1" = upgrade ] || exit 0\n[ -e /root/tried ] || { touch /root/tried; echo "not yet" >&2; exit 1; }'
    for version in ("1.0", "2.0"):
        repository.add("x-lib", version, scripts={"preinst": once} if version == "2.0" else None)
        repository.add("x-app", version, control=f"Depends: x-lib (= {version})")
        repository.publish(host)
        if version == "1.0":
            host.sh("dpkg -i /srv/own/*.deb", root=True)
    outcome = outcome_of(Fleet([host], tmp_path).patch("x-*"), host)
    assert [code for code, _ in transaction_details(outcome)] == [100, 0]
    assert state_of(host, "x-lib") == state_of(host, "x-app") == "installed 2.0"
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert all(result_of(outcome, name).state is UpdateState.INSTALLED for name in ("x-lib", "x-app"))
