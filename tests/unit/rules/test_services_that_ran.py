"""Services of a machine that says what ran before: only that counts afterwards."""

import pytest

from tasks.model import Finding, Services
from tasks.rules.machine_checks.services import check_services, find_late_services
from tasks.states import FindingLevel

BEFORE = Services(failed=("Broken",), running=("Backup", "Database", "Spooler"))
ALL_RUN = Services(failed=("Broken",), running=BEFORE.running)
GOOD, WARN, BLOCK = FindingLevel.GOOD, FindingLevel.WARN, FindingLevel.BLOCK


def check(after: Services, *, rebooted: bool = True) -> list[tuple[FindingLevel, str]]:
    found: tuple[Finding, ...] = check_services(BEFORE, after, rebooted=rebooted)
    assert all(finding.remedy for finding in found if finding.level is not GOOD)
    return [(finding.level, finding.message) for finding in found]


def test_all_that_ran_runs() -> None:
    assert check(ALL_RUN) == [(GOOD, "everything that ran before runs now")]


def test_what_ran_and_does_not_run_blocks_and_what_did_not_run_does_not() -> None:
    after = Services(failed=("Broken", "Database", "Other"), running=("Backup", "Spooler"))
    assert check(after) == [(BLOCK, "failed since patching: Database")]


@pytest.mark.parametrize("failed", [(), ("Broken",)])
def test_a_machine_that_only_says_what_has_failed_is_compared_by_that(failed: tuple[str, ...]) -> None:
    found = check_services(Services(failed=failed), Services(failed=("Broken", "Other")))
    (finding,) = found
    assert finding.message == f"failed since patching: {'Other' if failed else 'Broken, Other'}"


def test_what_ended_without_an_error_has_ended_by_itself_after_a_reboot_and_was_stopped_without_one() -> None:
    after = Services(running=("Backup", "Database"), ended=("Spooler", "Updater"))
    assert check(after) == [(GOOD, "everything that ran before runs now, or has ended by itself: Spooler")]
    assert check(after, rebooted=False) == [(BLOCK, "stopped since patching, and not started again: Spooler")]


def test_what_is_still_to_be_started_is_only_a_warning() -> None:
    after = Services(failed=("Backup", "Other"), late=("Backup", "Other"), late_start_seconds=120)
    assert find_late_services(BEFORE, after) == ["Backup"]
    ((level, message),) = check(after)
    assert level is WARN
    assert message.endswith("the system starts them late: Backup")
