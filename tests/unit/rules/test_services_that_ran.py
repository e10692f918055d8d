"""Services of a machine that says what ran before: only that counts afterwards."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Finding, Services
from tasks.domain.states import FindingLevel
from tasks.rules.machine_checks.services import check_services, find_late_services
from tasks.rules.machine_checks.units import (
    ServiceFault,
    ServiceStatus,
    check_service_starts,
    find_missing_services,
    judge_service,
)

BEFORE = Services(failed=("Broken",), running=("Backup", "Database", "Spooler"))
ALL_RUN = Services(failed=("Broken",), running=BEFORE.running)
GOOD, WARN, BLOCK = FindingLevel.GOOD, FindingLevel.WARN, FindingLevel.BLOCK


def check(after: Services, *told: ServiceStatus, rebooted: bool = True) -> list[tuple[FindingLevel, str]]:
    assert find_missing_services(BEFORE, after) == tuple(each.name for each in told)
    found: tuple[Finding, ...] = check_services(BEFORE, after, rebooted=rebooted, services=told)
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
    late = ("Backup", "Other")
    after = Services(failed=late, running=("Database", "Spooler"), late=late, late_start_seconds=120)
    assert find_late_services(BEFORE, after) == ["Backup"]
    ((level, message),) = check(after)
    assert level is WARN
    assert message.endswith("the system starts them late: Backup")


WITHOUT_SPOOLER = Services(failed=("Broken",), running=("Backup", "Database"))
RUNS = {"status": "Running", "exit_code": None}


@pytest.mark.parametrize(
    ("now", "rebooted", "unrebooted"),
    [
        ({}, ServiceFault.STOPPED, ServiceFault.STOPPED),
        ({"status": "StartPending"}, ServiceFault.STOPPED, ServiceFault.STOPPED),
        (RUNS, None, None),  # as it is written now, or since a moment ago
        ({"start": "unknown"}, ServiceFault.STOPPED, ServiceFault.STOPPED),
        ({"start": "disabled"}, ServiceFault.DISABLED, ServiceFault.DISABLED),
        ({"start": "disabled", **RUNS}, ServiceFault.NOT_AT_BOOT, ServiceFault.NOT_AT_BOOT),
        ({"start": "", "status": ""}, ServiceFault.GONE, ServiceFault.GONE),
        ({"name": "Updater142.0.7416.0", "start": "", "status": ""}, ServiceFault.REPLACED, ServiceFault.REPLACED),
        ({"start": "manual"}, ServiceFault.MANUAL, ServiceFault.MANUAL),
        ({"start": "manual", **RUNS}, None, ServiceFault.NOT_AT_BOOT),  # after a reboot, something starts it
        ({"start": "trigger"}, ServiceFault.TRIGGERED, ServiceFault.TRIGGERED),
        ({"start": "trigger", **RUNS}, None, None),
        ({"name": "TrustedInstaller", "start": "manual"}, None, None),
        ({"name": "BITS", "start": "disabled"}, ServiceFault.DISABLED, ServiceFault.DISABLED),
        ({"is_late": True, "exit_code": 0}, None, None),
        ({"is_late": True}, ServiceFault.LATE, ServiceFault.LATE),
        ({"is_late": True, "exit_code": 1053}, ServiceFault.STOPPED, ServiceFault.STOPPED),
    ],
)
def test_what_is_told_of_a_service_that_ran(
    now: dict[str, Any], rebooted: ServiceFault | None, unrebooted: ServiceFault | None
) -> None:
    status = ServiceStatus(**{"name": "Spooler", **now})
    assert judge_service(status, rebooted=True) is rebooted
    assert judge_service(status, rebooted=False) is unrebooted


def test_what_ran_and_is_disabled_or_gone_blocks_and_what_is_started_otherwise_warns() -> None:
    blocked = (BLOCK, "ran before patching, and disabled since: Spooler")
    assert check(WITHOUT_SPOOLER, ServiceStatus("Spooler", "disabled")) == [blocked]
    warned = (WARN, "ran before patching, and not started since: only somebody starts it now: Spooler")
    assert check(WITHOUT_SPOOLER, ServiceStatus("Spooler", "manual")) == [warned]
    assert check(WITHOUT_SPOOLER, ServiceStatus("Spooler", is_late=True, exit_code=0)) == [
        (GOOD, "everything that ran before runs now, or has ended by itself: Spooler")
    ]


def test_services_that_can_not_be_read_any_more_are_not_healthy() -> None:
    assert check(Services(listening=("tcp/445",))) == [(WARN, "the machine can't show which services run")]


STATUSES = st.builds(
    ServiceStatus,
    st.sampled_from(["Spooler", "bits", "Updater1.2.3"]),
    st.sampled_from(["", "automatic", "manual", "disabled", "trigger", "unknown"]),
    st.sampled_from(["Running", "Stopped", "Paused", "StopPending", ""]),
    is_late=st.booleans(),
    exit_code=st.sampled_from([None, 0, 1053, 1077]),
)


@given(status=STATUSES, rebooted=st.booleans())
def test_what_ran_and_does_not_run_is_never_silent(status: ServiceStatus, rebooted: bool) -> None:
    found = list(check_service_starts([status], rebooted=rebooted))
    if found or status.runs:
        return
    has_ended = status.is_late and status.exit_code == 0 and status.start == "automatic"
    assert has_ended or (status.name, status.start) == ("bits", "manual")
