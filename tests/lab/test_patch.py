"""Patching real machines: what is promised when all is well, and when something about the updates is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tests.lab.engine import Fleet, Telling, configured_times, expect_logins, outcome_of, result_of
from tests.lab.fleet import LabHost
from tests.lab.process_accounting import count_starts, expect_few_processes, record_processes

Boot = Callable[[int], list[LabHost]]

OWN_PROCESSES = 1000
"""How many processes a run may need on the machine, beside those that apt-get starts."""


@pytest.fixture
def fleet(hosts: Boot, tmp_path: Path) -> Fleet:
    """One host; tests that need more make their own."""
    return Fleet(hosts(1), tmp_path)


def test_every_security_update_is_installed_and_nothing_else(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    _a_dry_run_changes_nothing(fleet)
    plain_before = host.package_versions("lab-plain")
    boot = host.boot_id()
    assert host.pending_security() > 10

    # the validation logs in anew, and so does the second look at the services that were restarted
    with record_processes(host, fleet.place) as processes, expect_logins(host, 4):
        outcome = outcome_of(fleet.patch(), host)

    assert 0 < (starts := count_starts(processes)).total() <= 30, starts
    expect_few_processes(processes, OWN_PROCESSES)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert not outcome.services_to_restart
    assert host.pending_security() == 0
    assert host.package_versions("lab-sec") == {"lab-sec": "2.0"}, "2.1 is newer, and no security fix"
    assert host.package_versions("lab-plain") == plain_before
    assert host.boot_id() != boot, "only a reboot renews dbus, which ran the old libraries"
    assert outcome.reboot is RebootState.COMPLETED
    not_installed = [result for result in outcome.updates if result.state is not UpdateState.INSTALLED]
    assert not_installed
    assert all(result.reason for result in not_installed)


def _a_dry_run_changes_nothing(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    before = host.package_versions()

    with expect_logins(host, 1):
        report = fleet.patch(dry_run=True)

    assert host.package_versions() == before
    assert report.run.kind == "plan"
    (plan,) = report.plans
    assert len(plan.chosen) > 10
    assert plan.prediction.total_seconds > 0
    assert all(result.reason for result in plan.skipped)
    assert not (host.root / "var/lib/fleetpatch/jobs").exists()


def test_a_full_disk_is_found_before_anything_is_changed(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    used = int(host.sh("du -sm /var", root=True).split()[0])
    host.sh(
        f"mount -t tmpfs -o size={used + 40}m tmpfs /mnt && cp -a /var/. /mnt/ && mount --bind /mnt /var", root=True
    )
    before = host.package_versions()

    outcome = outcome_of(fleet.patch(), host)

    assert outcome.state is OperationState.FAILED
    assert "disk" in outcome.reason or "space" in outcome.reason, outcome.reason
    assert host.package_versions() == before


def test_a_failing_package_fails_alone_and_a_spent_failure_budget_stops_the_waves(hosts: Boot, tmp_path: Path) -> None:
    """That a fleet goes on while its budget lasts is seen in test_hooks.py."""
    good, bad, spared = hosts(3)
    good.sh("touch /etc/lab-failing-fixed", root=True)
    fleet = Fleet([good, bad, spared], tmp_path)

    report = fleet.patch(
        "lab-failing", "lab-plain", "lab-conffile", waves={"size": 1, "failure_budget_count": 0}, allow_removals=False
    )

    failed = outcome_of(report, bad)
    assert failed.state is OperationState.FAILED
    assert result_of(failed, "lab-failing").state is UpdateState.FAILED
    assert result_of(failed, "lab-failing").reason
    assert result_of(failed, "lab-plain").state is UpdateState.INSTALLED
    assert result_of(failed, "lab-conffile").state is UpdateState.INSTALLED
    assert bad.package_versions("lab-plain", "lab-conffile") == {"lab-plain": "2.0", "lab-conffile": "2.0"}
    assert "kept as edited" in outcome_of(report, good).reason
    assert outcome_of(report, good).state is OperationState.COMPLETED_WITH_WARNINGS
    assert good.package_versions("lab-failing") == {"lab-failing": "2.0"}
    assert report.run.state is OperationState.FAILED

    outcome = outcome_of(report, spared)
    assert outcome.state is OperationState.NOT_STARTED
    assert "budget" in outcome.reason
    assert result_of(outcome, "lab-failing").state is UpdateState.NOT_ATTEMPTED
    assert spared.package_versions("lab-failing") == {"lab-failing": "1.0"}


def test_what_is_held_or_removes_others_stays_and_what_needs_each_other_moves_together(fleet: Fleet) -> None:
    """A second run over the same finds nothing to do."""
    (host,) = fleet.hosts
    host.sh("apt-mark hold lab-sec", root=True)

    outcome = outcome_of(fleet.patch("lab-sec", "lab-removes", "lab-dep-a", "lab-conffile"), host)

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    held, removes, along = (result_of(outcome, name) for name in ("lab-sec", "lab-removes", "lab-dep-b"))
    assert (held.state, removes.state, along.state) == (
        UpdateState.EXCLUDED,
        UpdateState.BLOCKED,
        UpdateState.INSTALLED,
    )
    assert result_of(outcome, "lab-conffile").state is UpdateState.INSTALLED
    assert "hold" in held.reason
    assert "lab-plain" in removes.reason
    assert "dependency" in along.reason
    names = ("lab-sec", "lab-plain", "lab-removes", "lab-dep-a", "lab-dep-b", "lab-conffile")
    assert host.package_versions(*names) == dict(zip(names, ("1.0", "1.0", "1.0", "2.0", "2.0", "2.0"), strict=True))
    assert host.sh("apt-mark showhold").strip() == "lab-sec"
    _a_conffile_edited_by_hand_is_kept_and_reported(host, outcome)

    again = outcome_of(fleet.patch("lab-dep-a"), host)
    assert again.state is OperationState.SUCCEEDED
    assert not [result for result in again.updates if result.state is UpdateState.INSTALLED]
    assert configured_times(host, "lab-dep-a", "2.0") == 1


def _a_conffile_edited_by_hand_is_kept_and_reported(host: LabHost, outcome: Outcome) -> None:
    assert host.sh("cat /etc/lab.conf").strip() == "setting=changed by hand"
    assert outcome.install is not None
    assert any("/etc/lab.conf" in path for path in outcome.install.kept_configuration_files)
    (told,) = [finding for finding in outcome.findings if finding.check == "configuration-files"]
    assert "/etc/lab.conf (the update's version: /etc/lab.conf.dpkg-dist)" in told.message


def test_reboot_policies(fleet: Fleet) -> None:
    """One after the other, on one host. None is needed: see above; one after each run: test_two_names.py."""
    (host,) = fleet.hosts
    host.sh("dpkg -i /var/cache/lab/lab-reboot-sec_1.0_all.deb", root=True)
    _reboots(fleet, "lab-reboot-sec", reboot="IfRequired")

    before = host.boot_id()
    outcome = outcome_of(fleet.patch("lab-reboot", reboot="Never"), host)
    assert result_of(outcome, "lab-reboot").state is UpdateState.INSTALLED
    assert (host.boot_id(), outcome.reboot) == (before, RebootState.REQUIRED), outcome.reason

    outcome = outcome_of(fleet.patch("lab-sec", reboot_pending_first=True), host)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert result_of(outcome, "lab-sec").state is UpdateState.INSTALLED
    assert host.package_versions("lab-sec") == {"lab-sec": "2.1"}, "a mask asks for the newest version"
    assert host.boot_id() != before
    steps = [record.step for record in outcome.steps]
    assert steps.index(Step.REBOOT) < steps.index(Step.INSTALL)


def _reboots(fleet: Fleet, mask: str, **options: Any) -> Outcome:
    """Patch the one host, which is rebooted once by that."""
    (host,) = fleet.hosts
    before = host.boot_id()
    watch = Telling()
    with expect_logins(host, 4):  # while it goes down it is asked again, when it is back, and for the validation
        outcome = outcome_of(fleet.patch(mask, watch=watch, **options), host)
    assert [text for text in watch.messages if "waiting" in text] == []  # the own job's inhibitor ends with it
    assert result_of(outcome, mask).state is UpdateState.INSTALLED
    assert outcome.reboot is RebootState.COMPLETED, outcome.reason
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.boot_id_before == before != host.boot_id()
    assert outcome.reboot_result.boot_id_after == host.boot_id()
    assert outcome.reboot_result.count == 1
    return outcome
