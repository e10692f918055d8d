"""A system that may restart the machine by itself: what blocks, what warns, and what is only mentioned."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import RebootNeed, SelfRestart
from tasks.domain.states import FindingLevel, YesNoUnknown
from tasks.machines.managers.windows_update.self_restarts import find_self_restarts
from tasks.rules.machine_checks.packages import block_server_deadlines, check_self_restarts, clear_passed_warnings
from tests.support.builders import make_package_state, make_update

POLICY = SelfRestart("a policy restarts it")
PAUSABLE = SelfRestart("Automatic Updates restarts it", is_lasting=False)
UNTIL = datetime(2027, 1, 15, 8, tzinfo=UTC)


def policies(group: dict[str, str] | None = None, mdm: dict[str, str] | None = None) -> list[str]:
    values = {**(group or {}), **{f"mdm:{name}": value for name, value in (mdm or {}).items()}}
    return [restart.reason for restart in find_self_restarts(values, (), (), None, (), ())]


@given(
    answer=st.sampled_from(YesNoUnknown),
    needs=st.lists(st.sampled_from([True, False, None]), max_size=3),
    restarts=st.lists(st.sampled_from([POLICY, PAUSABLE]), max_size=2),
    forbidden=st.booleans(),
)
def test_nothing_is_installed_where_a_lasting_reason_breaks_the_promise_and_only_there(
    answer: YesNoUnknown, needs: list[bool | None], restarts: list[SelfRestart], forbidden: bool
) -> None:
    packages = make_package_state(reboot=RebootNeed(answer), self_restarts=tuple(restarts))
    chosen = [make_update(requires_reboot=needed) for needed in needs]
    levels = [finding.level for finding in check_self_restarts(packages, chosen, forbidden=forbidden)]
    if not restarts:
        assert levels == []
        return
    may_wait = answer is not YesNoUnknown.NO or any(needed is not False for needed in needs)
    blocks = forbidden and chosen and may_wait and POLICY in restarts
    assert levels == [FindingLevel.BLOCK if blocks else FindingLevel.WARN if may_wait else FindingLevel.REMARK]


def test_the_warning_is_over_when_nothing_waits_any_more() -> None:
    packages = make_package_state(reboot=RebootNeed(YesNoUnknown.NO), self_restarts=(POLICY,))
    before = tuple(check_self_restarts(packages, [make_update(requires_reboot=True)], forbidden=False))
    waits = make_package_state(reboot=RebootNeed(YesNoUnknown.YES), self_restarts=(POLICY,))
    gone = make_package_state(reboot=RebootNeed(YesNoUnknown.NO))
    assert [finding.level for finding in before] == [FindingLevel.WARN]
    assert clear_passed_warnings(before, waits) == before
    assert [finding.level for finding in clear_passed_warnings(before, packages)] == [FindingLevel.REMARK]
    assert clear_passed_warnings(before, gone) == ()


@pytest.mark.parametrize(
    ("needed", "blocked", "is_blocked"), [(True, "", True), (None, "", True), (False, "", False), (True, "x", False)]
)
def test_a_deadline_blocks_an_update_that_may_need_a_reboot(
    needed: bool | None, blocked: str, is_blocked: bool
) -> None:
    update = make_update(requires_reboot=needed, blocked=blocked, server_deadline=UNTIL)
    (found,) = block_server_deadlines(make_package_state(updates=(update,))).updates
    assert ("the machine restarts for it from 2027-01-15 08:00 UTC on" in found.blocked) is is_blocked
    assert block_server_deadlines(make_package_state(updates=(make_update(),))).updates == (make_update(),)


def test_a_policy_of_a_group_needs_its_switch_and_one_of_an_mdm_does_not() -> None:
    days = {"ConfigureDeadlineForQualityUpdates": "0"}
    words = "(ConfigureDeadlineForQualityUpdates) restarts it with a deadline of 0 days after an update is offered"
    assert policies(group=days) == policies(group={**days, "SetComplianceDeadline": "0"}) == []
    assert policies(group={**days, "SetComplianceDeadlineForQU": "1"}) == [f"a group policy {words}"]
    assert policies(mdm=days) == [f"the MDM {words}"]
    older = {"SetAutoRestartDeadline": "1", "AutoRestartDeadlinePeriodInDays": "7"}
    assert "AutoRestartDeadlinePeriodInDays) restarts it at the latest 7 days" in policies(group=older)[0]
    always = {"AlwaysAutoRebootAtScheduledTime": "1"}
    assert "restarts it 15 minutes or more after an installation" in policies(group=always)[0]
    assert policies(group={**always, "NoAutoRebootWithLoggedOnUsers": "1"}) == []
    assert policies(mdm={"AllowAutoUpdate": "1", "EngagedRestartDeadline": "0"}) == []


def test_policies_that_could_not_be_read_are_a_lasting_reason() -> None:
    unread = SelfRestart("whether policies restart it could not be read")
    assert find_self_restarts({}, None, (), None, (), ()) == (unread,)
    assert find_self_restarts({}, ["HKLM:"], (), None, (), ()) == (unread,)


def test_a_policy_that_is_on_without_its_days_has_the_days_of_windows() -> None:
    """Policy CSP - Update has these defaults; without a deadline, an engaged restart waits for a person."""
    words = "a group policy (ConfigureDeadlineForQualityUpdates) restarts it with a deadline of 7 days after an update"
    assert policies(group={"SetComplianceDeadline": "1"}) == [f"{words} is offered"]
    (older,) = policies(group={"SetAutoRestartDeadline": "1"})
    assert older.endswith("(AutoRestartDeadlinePeriodInDays) restarts it at the latest 7 days after a reboot is due")
    assert policies(group={"SetEngagedRestartTransitionSchedule": "1"}) == []
