"""What is promised on machines of every family, told once. test_dnf.py and test_zypper.py play it on theirs.

Every test has a fresh host: what it leaves behind is nobody else's.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import Classification, FindingLevel, OperationState, RebootState, Step, UpdateState
from tasks.steps.context.run_control import LoggingListener
from tests.contract.manager_subjects import patiently
from tests.lab.engine import Fleet, Telling, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.killing import hold, is_held, let_go
from tests.lab.process_accounting import count_starts, expect_few_processes, record_processes

GOOD = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
_DAEMON = "lab-daemon.service"
_DAEMON_PID = f"systemctl show -p MainPID --value {_DAEMON}"
_OUTDATED_DAEMON = (
    f"cp $(command -v sleep) /usr/bin/lab-daemon; systemd-run -q --unit={_DAEMON} /usr/bin/lab-daemon 3600;"
    " cp /usr/bin/lab-daemon /usr/bin/lab-daemon.new; mv /usr/bin/lab-daemon.new /usr/bin/lab-daemon"
)
"""A service that runs a replaced file, as after an update."""
NOBODY = "http://127.0.0.1:9/"


@dataclass(frozen=True)
class Family:
    """What an administrator of a family types.

    Attributes:
        kernel: name of its kernel package.
        lock: keeps lab-sec as it is.
        locks: prints what is locked.
        unlock: ends it.
        administrate: installs lab-slow by hand, in the background.
        repositories: directory of its repositories' files.
        refresh: reads the repositories again.
        starts: how often a run with two transactions may start the package manager.
        own_processes: how many processes a run may need on the machine, beside those that the package manager starts.
    """

    flavour: Flavour
    kernel: str
    lock: str
    locks: str
    unlock: str
    administrate: str
    repositories: str
    refresh: str
    starts: int
    own_processes: int


DNF = Family(
    "dnf",
    "kernel-core",
    "sed -i '$aexclude=lab-sec' /etc/dnf/dnf.conf",
    "grep exclude= /etc/dnf/dnf.conf",
    "sed -i /^exclude=/d /etc/dnf/dnf.conf",
    "systemd-run --quiet --unit=somebody dnf -q -y upgrade lab-slow",
    "/etc/yum.repos.d",
    "dnf -q makecache --refresh",
    13,
    700,
)
ZYPPER = Family(
    "zypper",
    "kernel-default",
    "zypper -q -n addlock lab-sec",
    "zypper -q -n locks",
    "zypper -q -n removelock lab-sec",
    "systemd-run --quiet --unit=somebody zypper -q -n update lab-slow",
    "/etc/zypp/repos.d",
    "zypper -q -n refresh",
    24,
    640,
)


def whole(host: LabHost) -> None:
    """The database opens, no package is there twice, and each has its files."""
    assert host.half_done_packages() == ""


class FamilyStories:
    """The tests of one family."""

    family: ClassVar[Family]

    @pytest.fixture
    def fleet(self, hosts: BootHosts, tmp_path: Path) -> Fleet:
        return Fleet(hosts(1, self.family.flavour), tmp_path)

    def test_a_machine_is_patched_again_and_again(self, fleet: Fleet) -> None:
        self._install_security_updates_by_advisory_and_reboot_as_one_asks(fleet)
        self._install_what_is_neither_locked_nor_removes_others(fleet)
        self._let_a_failing_package_fail_alone_and_keep_an_edited_file(fleet)
        if self.family is ZYPPER:  # one rule of all
            self._reboot_as_the_policy_says_though_nothing_is_pending(fleet)
        self._tell_that_no_repository_answers(fleet)

    def _install_security_updates_by_advisory_and_reboot_as_one_asks(self, fleet: Fleet) -> None:
        (host,) = fleet.hosts
        host.sh("cd /var/cache/lab; rpm -U lab-reboot-sec-1.0*.rpm", root=True)
        before, boot = host.package_versions(), host.boot_id()
        assert host.pending_security()
        if self.family is ZYPPER:  # one rule of all
            fleet.patch(dry_run=True)
            assert (host.package_versions(), host.boot_id()) == (before, boot)

        outcome = outcome_of(fleet.patch(), host)

        assert outcome.state is OperationState.SUCCEEDED, outcome.reason
        assert host.pending_security() == 0
        assert host.package_versions("lab-sec", "lab-plain") == {"lab-sec": "2.0-1", "lab-plain": "1.0-1"}
        assert (outcome.reboot, host.boot_id() != boot) == (RebootState.COMPLETED, True), outcome.reason
        fixed = result_of(outcome, "lab-sec").update
        assert (fixed.classification, fixed.cves) == (Classification.SECURITY, ("CVE-2026-0001", "CVE-2026-0002"))
        assert "LAB-2026:1" in fixed.advisories
        assert result_of(outcome, "lab-reboot-sec").update.classification is Classification.CRITICAL
        assert all(result.reason for result in outcome.updates if result.state is not UpdateState.INSTALLED)
        whole(host)

    def _install_what_is_neither_locked_nor_removes_others(self, fleet: Fleet) -> None:
        """Kernels are installed beside, the reboot waits, and a repository that is down keeps nothing back."""
        (host,) = fleet.hosts
        kernel, boot = self.family.kernel, host.boot_id()
        host.sh(f"cd /var/cache/lab; rpm -U {kernel}-1.0*.rpm; {self.family.lock}", root=True)
        other = f"[other]\nname=other\nbaseurl={NOBODY}\nenabled=1\ngpgcheck=0\nskip_if_unavailable=1\n"
        (host.root / f"{self.family.repositories}/other.repo".lstrip("/")).write_text(other)

        masks = (kernel, "lab-reboot", "lab-sec", "lab-removes", "lab-plain")
        with record_processes(host, fleet.place) as processes:
            outcome = outcome_of(fleet.patch(*masks, reboot="Never"), host)

        expect_few_processes(processes, self.family.own_processes)
        assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
        assert (outcome.reboot, host.boot_id()) == (RebootState.REQUIRED, boot), outcome.reason
        assert result_of(outcome, kernel).state is UpdateState.INSTALLED, result_of(outcome, kernel)
        assert host.sh(f"rpm -q --qf '%{{version}} ' {kernel}").split() == ["1.0", "2.0"]
        locked, removes = result_of(outcome, "lab-sec"), result_of(outcome, "lab-removes")
        assert (locked.state, removes.state) == (UpdateState.EXCLUDED, UpdateState.BLOCKED)
        assert "hold" in locked.reason
        assert "lab-plain" in removes.reason
        names = ("lab-sec", "lab-removes", "lab-plain", "lab-reboot")
        assert host.package_versions(*names) == dict(zip(names, ("2.0-1", "1.0-1", "2.0-1", "2.0-1"), strict=True))
        assert "lab-sec" in host.sh(self.family.locks, root=True)
        warnings = (finding for finding in outcome.findings if finding.level is FindingLevel.WARN)
        problems = [finding for finding in warnings if finding.check == "repositories"]
        assert problems
        assert all("other" in each.message and each.remedy for each in problems), problems

    def _let_a_failing_package_fail_alone_and_keep_an_edited_file(self, fleet: Fleet) -> None:
        (host,) = fleet.hosts

        with record_processes(host, fleet.place) as processes:
            outcome = outcome_of(fleet.patch("lab-failing", "lab-conffile", "lab-dep-a", reboot="Never"), host)

        assert set(starts := count_starts(processes)) == {self.family.flavour}
        assert starts.total() <= self.family.starts, starts
        assert outcome.state is OperationState.FAILED, outcome.reason
        failed = result_of(outcome, "lab-failing")
        assert failed.state is UpdateState.FAILED
        assert "lab-failing" in failed.reason
        names = ("lab-conffile", "lab-dep-a", "lab-dep-b")
        assert {name: result_of(outcome, name).state for name in names} == dict.fromkeys(names, UpdateState.INSTALLED)
        assert host.package_versions("lab-failing", *names) == {"lab-failing": "1.0-1", **dict.fromkeys(names, "2.0-1")}
        assert "dependency" in result_of(outcome, "lab-dep-b").reason
        assert host.sh("cat /etc/lab.conf").strip() == "setting=changed by hand"
        assert outcome.install is not None
        assert outcome.install.kept_configuration_files == ("/etc/lab.conf",)
        assert "/etc/lab.conf (the update's version: /etc/lab.conf.rpmnew)" in _finding(outcome, "configuration-files")
        whole(host)

    def _reboot_as_the_policy_says_though_nothing_is_pending(self, fleet: Fleet) -> None:
        (host,) = fleet.hosts
        boot = host.boot_id()

        outcome = outcome_of(fleet.patch(reboot="Always"), host)

        assert (outcome.state in GOOD, outcome.count_updates(UpdateState.INSTALLED)) == (True, 0), outcome.reason
        assert outcome.reboot is RebootState.COMPLETED, outcome.reason
        assert host.boot_id() != boot
        whole(host)

    def _tell_that_no_repository_answers(self, fleet: Fleet) -> None:
        (host,) = fleet.hosts
        file = f"{self.family.repositories}/lab.repo"
        host.sh(f"sed -i 's,^baseurl=.*,baseurl={NOBODY},' {file}; {self.family.unlock}", root=True)

        outcome = outcome_of(fleet.patch("lab-sec"), host)

        assert outcome.state in {OperationState.FAILED, OperationState.NOT_STARTED}
        assert outcome.error is not None
        assert (outcome.error.kind, bool(outcome.error.hint)) == ("RepositoryError", True), outcome.error
        assert host.package_versions("lab-sec") == {"lab-sec": "2.0-1"}

    def test_the_transaction_of_an_administrator_is_waited_for(self, fleet: Fleet) -> None:
        (host,) = fleet.hosts
        host.sh(_OUTDATED_DAEMON, root=True)
        before = host.sh(_DAEMON_PID)
        hold([host])
        host.sh(self.family.administrate, root=True)
        patiently(lambda: is_held(host))
        watch = _Waiting()
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(fleet.patch, "lab-plain", watch=watch)
            try:
                patiently(lambda: bool(watch.messages) or run.done())
                assert host.package_versions("lab-plain") == {"lab-plain": "1.0-1"}
            finally:
                let_go([host])
            outcome = outcome_of(run.result(timeout=600), host)
        assert (outcome.state, outcome.services_to_restart) == (OperationState.SUCCEEDED, ()), outcome.reason
        assert f"restarted: {_DAEMON}" in [finding.message for finding in outcome.findings]
        assert host.sh(_DAEMON_PID) not in {before, "0\n"}
        assert self.family.flavour in watch.messages[0], "it says for whom it waits"
        assert host.package_versions("lab-plain", "lab-slow") == {"lab-plain": "2.0-1", "lab-slow": "2.0-1"}
        whole(host)

    def test_a_power_cut_in_a_transaction_is_reported_and_repaired(self, fleet: Fleet) -> None:
        (host,) = fleet.hosts
        hold([host])
        boot = host.boot_id()

        def cut_the_power() -> None:
            patiently(lambda: is_held(host))
            host.crash()
            host.wait_reboot(boot)

        outcome = outcome_of(fleet.patch("lab-slow", "lab-plain", watch=Telling(on_install=cut_the_power)), host)
        assert outcome.state is OperationState.FAILED
        assert "power cut" in outcome.reason or "left no result" in outcome.reason, outcome.reason

        let_go([host])
        host.sh("echo 0 > /etc/lab-slow-seconds", root=True)
        outcome = outcome_of(fleet.patch("lab-slow", "lab-plain", repair=True), host)
        assert outcome.state in GOOD, outcome.reason
        assert host.package_versions("lab-slow", "lab-plain") == {"lab-slow": "2.0-1", "lab-plain": "2.0-1"}
        whole(host)


class _Waiting(LoggingListener):
    """Remembers for whom the run waited."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        if message.startswith("waiting: "):
            self.messages.append(message)


def _finding(outcome: Outcome, check: str) -> str:
    (found,) = [finding for finding in outcome.findings if finding.check == check]
    assert found.remedy
    return found.message
