"""Patching real machines: what is promised when all is well, and when something about the updates is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.rules.machine_checks.service_restarts import SERVICE_RESTART_CHECK
from tasks.states import FindingLevel, OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, configured_times, outcome_of, result_of
from tests.lab.fleet import LabHost

Boot = Callable[[int], list[LabHost]]


@pytest.fixture
def fleet(hosts: Boot, tmp_path: Path) -> Fleet:
    """One host; tests that need more make their own."""
    return Fleet(hosts(1), tmp_path)


def test_every_security_update_is_installed_and_nothing_else(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    plain_before = host.package_versions("lab-plain")
    boot = host.boot_id()
    assert host.pending_security() > 10

    outcome = outcome_of(fleet.patch(), host)

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    (warning,) = [each for each in outcome.findings if each.level is FindingLevel.WARN]
    assert warning.check == SERVICE_RESTART_CHECK  # the host was not rebooted: what runs still has the old libc
    assert "fleetpatch-" not in warning.message
    assert host.pending_security() == 0
    assert host.package_versions("lab-sec") == {"lab-sec": "2.0"}, "2.1 is newer, and no security fix"
    assert host.package_versions("lab-plain") == plain_before
    assert host.boot_id() == boot
    assert outcome.reboot is RebootState.NOT_NEEDED
    not_installed = [result for result in outcome.updates if result.state is not UpdateState.INSTALLED]
    assert not_installed
    assert all(result.reason for result in not_installed)


def test_a_failing_package_fails_alone_and_the_fleet_goes_on(hosts: Boot, tmp_path: Path) -> None:
    bad, good = hosts(2)
    good.sh("touch /etc/lab-failing-fixed", root=True)
    fleet = Fleet([bad, good], tmp_path)

    report = fleet.patch(
        "lab-failing", "lab-plain", "lab-conffile", waves={"size": 1, "failure_budget_count": 1}, allow_removals=False
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


def test_a_spent_failure_budget_stops_the_waves(hosts: Boot, tmp_path: Path) -> None:
    bad, spared = hosts(2)
    report = Fleet([bad, spared], tmp_path).patch("lab-failing", waves={"size": 1, "failure_budget_count": 0})

    assert outcome_of(report, bad).state is OperationState.FAILED
    outcome = outcome_of(report, spared)
    assert outcome.state is OperationState.NOT_STARTED
    assert "budget" in outcome.reason
    assert result_of(outcome, "lab-failing").state is UpdateState.NOT_ATTEMPTED
    assert spared.package_versions("lab-failing") == {"lab-failing": "1.0"}


def test_a_conffile_edited_by_hand_is_kept_and_reported(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    outcome = outcome_of(fleet.patch("lab-conffile"), host)

    assert outcome.state is not OperationState.FAILED, outcome.reason
    assert host.sh("cat /etc/lab.conf").strip() == "setting=changed by hand"
    assert outcome.install is not None
    assert any("/etc/lab.conf" in path for path in outcome.install.kept_configuration_files)
    (told,) = [finding for finding in outcome.findings if finding.check == "configuration-files"]
    assert "/etc/lab.conf (the update's version: /etc/lab.conf.dpkg-dist)" in told.message


def test_a_held_package_stays_as_it_is_and_says_why(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    host.sh("apt-mark hold lab-plain", root=True)

    outcome = outcome_of(fleet.patch("lab-plain", "lab-conffile"), host)

    held = result_of(outcome, "lab-plain")
    assert held.state is UpdateState.EXCLUDED
    assert "held" in held.reason
    assert result_of(outcome, "lab-conffile").state is UpdateState.INSTALLED
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}
    assert host.sh("apt-mark showhold").strip() == "lab-plain"


def test_an_update_that_would_remove_a_package_is_left_out(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    outcome = outcome_of(fleet.patch("lab-removes", "lab-conffile"), host)

    assert result_of(outcome, "lab-removes").state is UpdateState.EXCLUDED
    assert "lab-plain" in result_of(outcome, "lab-removes").reason
    assert result_of(outcome, "lab-conffile").state is UpdateState.INSTALLED
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}


def test_packages_that_need_each_other_move_together(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    outcome = outcome_of(fleet.patch("lab-dep-a"), host)

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert host.package_versions("lab-dep-a", "lab-dep-b") == {"lab-dep-a": "2.0", "lab-dep-b": "2.0"}
    along = result_of(outcome, "lab-dep-b")
    assert along.state is UpdateState.INSTALLED
    assert "dependency" in along.reason


@pytest.mark.parametrize(
    ("policy", "masks", "rebooted", "state"),
    [
        ("IfRequired", ["lab-reboot"], True, RebootState.COMPLETED),
        ("IfRequired", ["lab-plain"], False, RebootState.NOT_NEEDED),
        ("Never", ["lab-reboot"], False, RebootState.REQUIRED),
        ("Always", ["lab-plain"], True, RebootState.COMPLETED),
    ],
)
def test_reboot_policies(fleet: Fleet, policy: str, masks: list[str], rebooted: bool, state: RebootState) -> None:
    (host,) = fleet.hosts
    before = host.boot_id()

    outcome = outcome_of(fleet.patch(*masks, reboot=policy), host)

    assert (host.boot_id() != before) is rebooted
    assert outcome.reboot is state, outcome.reason
    assert result_of(outcome, masks[0]).state is UpdateState.INSTALLED
    if rebooted:
        assert outcome.reboot_result is not None
        assert outcome.reboot_result.boot_id_before == before
        assert outcome.reboot_result.boot_id_after == host.boot_id()
        assert outcome.reboot_result.count == 1


def test_a_pending_reboot_is_taken_first_when_allowed(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    host.sh("touch /run/reboot-required; echo lab > /run/reboot-required.pkgs", root=True)
    before = host.boot_id()

    outcome = outcome_of(fleet.patch("lab-plain", reboot_pending_first=True), host)

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert host.boot_id() != before
    assert [record.step.value for record in outcome.steps].index("reboot") < [
        record.step.value for record in outcome.steps
    ].index("install")
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}


def test_a_second_run_finds_nothing_to_do(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    fleet.patch("lab-plain")
    outcome = outcome_of(fleet.patch("lab-plain"), host)

    assert outcome.state is OperationState.SUCCEEDED
    assert not [result for result in outcome.updates if result.state is UpdateState.INSTALLED]
    assert configured_times(host, "lab-plain", "2.0") == 1


def test_a_dry_run_changes_nothing(fleet: Fleet) -> None:
    (host,) = fleet.hosts
    before = host.package_versions()

    report = fleet.patch(dry_run=True)

    assert host.package_versions() == before
    assert report.run.kind == "plan"
    (plan,) = report.plans
    assert len(plan.chosen) > 10
    assert plan.prediction.total_seconds > 0
    assert all(result.reason for result in plan.skipped)
    assert not (host.root / "var/lib/fleetpatch/jobs").exists()
