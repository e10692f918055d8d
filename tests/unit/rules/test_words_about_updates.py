"""What is told of an update is about that update: another one's failure is not its own."""

from dataclasses import replace

import pytest

from tasks.domain.model import PackageState, RebootNeed, TransactionResult, UpdateResult
from tasks.domain.states import FindingLevel, UpdateState, YesNoUnknown
from tasks.rules.machine_checks.packages import check_packages, clear_passed_warnings
from tasks.rules.updates.results import build_update_results
from tests.support.builders import START, make_update

NAMES = ("good", "broken", "needs-broken", "broken-too")
DETAIL = (
    "maintainer-script: installed broken package post-installation script subprocess returned error exit status 1; "
    "dpkg: error processing package broken (--configure); needs-broken is not set up because broken failed; "
    "dpkg: error processing package needs-broken (--configure)"
)


def results() -> dict[str, UpdateResult]:
    updates = tuple(make_update(id=name, name=name, installed="1.0", available="2.0") for name in NAMES)
    state = PackageState("apt", updates, RebootNeed(YesNoUnknown.NO))
    ran = TransactionResult(0, NAMES, START, START, 100, DETAIL)
    found = build_update_results(updates, state, {"good": "2.0", "broken-too": "2.0"}, [ran], {})
    return {result.update.id: result for result in found}


def test_an_update_that_is_well_carries_no_complaint_of_another() -> None:
    found = results()
    assert (found["good"].state, found["good"].reason) == (UpdateState.INSTALLED, "")
    assert (found["broken-too"].state, found["broken-too"].reason) == (UpdateState.INSTALLED, "")


def test_an_update_that_waits_for_another_says_for_which() -> None:
    reason = results()["needs-broken"].reason
    assert "because broken failed" in reason
    assert "post-installation script" not in reason


def test_what_failed_says_its_own_words() -> None:
    reason = results()["broken"].reason
    assert "post-installation script subprocess returned error" in reason
    assert "needs-broken" not in reason


def test_a_busy_package_manager_is_no_repository_to_correct() -> None:
    state = PackageState(
        "apt", (), RebootNeed(YesNoUnknown.NO), lock_holder="apt-get (pid 7)", at_work="apt-get (pid 7)"
    )
    found = check_packages(state, repair_allowed=False)
    assert [finding.check for finding in found] == ["package-lock"]
    assert "was not checked" in found[0].message
    assert "Let it finish" in found[0].remedy


@pytest.mark.parametrize("holder", ["", "apt-get (pid 8)"])  # who reads the lists
def test_who_has_just_ended_uses_nothing_any_more(holder: str) -> None:
    gone = "a process that has just ended"
    state = PackageState("apt", (), RebootNeed(YesNoUnknown.NO), lock_holder=holder, at_work=gone)
    *others, found = check_packages(state, repair_allowed=False)
    assert (found.check, found.level) == ("package-lock", FindingLevel.WARN)
    assert found.message == f"packages were changed by {gone} as they were read: whether they are whole was not checked"
    assert [each.message for each in others] == [f"the package manager is in use by {holder}"] * bool(holder)
    assert clear_passed_warnings((found,), state) == (found,)


def test_who_had_the_package_manager_before_and_has_left_is_no_warning() -> None:
    busy = PackageState("apt", (), RebootNeed(YesNoUnknown.NO), lock_holder="apt-get (pid 7)")
    free = replace(busy, lock_holder="")
    (before,) = check_packages(busy, repair_allowed=False)
    assert before.level is FindingLevel.WARN

    (after,) = clear_passed_warnings((before,), free)

    assert after.level is FindingLevel.GOOD
    assert after.message == "before the installation: the package manager is in use by apt-get (pid 7)"
    assert clear_passed_warnings((before,), busy) == clear_passed_warnings((before,), None) == (before,)


def test_a_failed_script_that_this_run_has_mended_is_no_warning() -> None:
    failed = PackageState("dnf", (), RebootNeed(YesNoUnknown.NO), failed_scripts=("httpd 2-1 is not set up",))
    (before,) = check_packages(failed, repair_allowed=False)
    assert (before.check, before.level) == ("failed-scripts", FindingLevel.WARN)
    (after,) = clear_passed_warnings((before,), replace(failed, failed_scripts=()))
    assert (after.level, after.message) == (FindingLevel.GOOD, "before the installation: httpd 2-1 is not set up")
    assert clear_passed_warnings((before,), failed) == (before,)
