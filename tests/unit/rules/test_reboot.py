from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Assessment, RebootNeed, UpdateResult, Window
from tasks.domain.states import RebootPolicy, RebootState, UpdateState, YesNoUnknown
from tasks.rules.runs.reboot_decision import LivePatchPolicy, add_updates_need, date_reboot_need, decide_reboot
from tasks.rules.timing.maintenance_window import TimeFit
from tasks.rules.updates.transaction_planning import predict_reboot_need
from tests.support.builders import make_facts, make_package_state, make_update

FITS, FULL = (
    TimeFit(fits=True, explanation="plenty"),
    TimeFit(fits=False, explanation="a reboot needs about 5 min; 2 min are left"),
)
YES, NO = RebootNeed(YesNoUnknown.YES, ("a new kernel",)), RebootNeed(YesNoUnknown.NO)
UNKNOWN = RebootNeed(YesNoUnknown.UNKNOWN, ("no tool tells",))


def ask(policy, need, **given):
    usual: dict[str, Any] = {
        "installed": 3,
        "can_reboot": True,
        "reboots_so_far": 0,
        "max_reboots": 2,
        "time_fit": FITS,
    }
    return decide_reboot(policy, need, **(usual | given))


@pytest.mark.parametrize(
    ("policy", "need", "so_far", "reboot", "state"),
    [
        (RebootPolicy.IF_REQUIRED, YES, 0, True, RebootState.REQUIRED),
        (RebootPolicy.IF_REQUIRED, NO, 0, False, RebootState.NOT_NEEDED),
        (RebootPolicy.IF_REQUIRED, UNKNOWN, 0, False, RebootState.UNKNOWN),
        (RebootPolicy.IF_REQUIRED, NO, 1, False, RebootState.COMPLETED),
        (RebootPolicy.IF_REQUIRED, YES, 1, True, RebootState.REQUIRED),
        (RebootPolicy.NEVER, YES, 0, False, RebootState.REQUIRED),
        (RebootPolicy.NEVER, NO, 0, False, RebootState.NOT_NEEDED),
        (RebootPolicy.NEVER, UNKNOWN, 0, False, RebootState.UNKNOWN),
        (RebootPolicy.ALWAYS, NO, 0, True, RebootState.NOT_NEEDED),
        (RebootPolicy.ALWAYS, UNKNOWN, 0, True, RebootState.UNKNOWN),
        (RebootPolicy.ALWAYS, NO, 1, False, RebootState.COMPLETED),
        (RebootPolicy.ALWAYS, YES, 1, True, RebootState.REQUIRED),
    ],
)
def test_the_decision(policy, need, so_far, reboot, state):
    found = ask(policy, need, reboots_so_far=so_far)
    assert (found.reboot, found.state_without_reboot) == (reboot, state)
    assert found.reason


MITIGATED = RebootNeed(YesNoUnknown.YES, ("a new kernel",), "kpatch: all fixes")


@pytest.mark.parametrize("policy", RebootPolicy)
@pytest.mark.parametrize("need", [YES, NO, UNKNOWN, MITIGATED])
@pytest.mark.parametrize("wanted", [True, False])
def test_only_a_mitigated_reboot_waits_and_only_when_asked_to(policy, need, wanted):
    usual, found = ask(policy, need), ask(policy, need, live_patch_policy=LivePatchPolicy(reboot=wanted))
    if need is not MITIGATED or wanted or policy is RebootPolicy.ALWAYS:
        assert found == usual
        assert found.mitigated_by == ""
        return
    assert (found.reboot, found.state_without_reboot) == (False, RebootState.REQUIRED)
    assert found.mitigated_by == "kpatch: all fixes"
    assert found.reason == (
        "the machine asks for a reboot (a new kernel; mitigated by kpatch: all fixes), "
        "and the request lets such a reboot wait"
    )


def test_a_mitigated_reboot_without_reasons_or_without_need_is_none():
    assert not LivePatchPolicy(reboot=False).may_wait(RebootNeed(YesNoUnknown.NO, (), "x"), RebootPolicy.IF_REQUIRED)


OPENS = datetime(2026, 12, 20, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def put_off(days: float | None, *, reboot: bool = False) -> LivePatchPolicy:
    return LivePatchPolicy(reboot, days, Window(OPENS, OPENS + DAY / 12, "Europe/Berlin"))


def test_a_put_off_reboot_says_until_when_and_then_why_it_is_done():
    waiting = replace(MITIGATED, since=OPENS - 29 * DAY)
    found = ask(RebootPolicy.IF_REQUIRED, waiting, live_patch_policy=put_off(30))
    assert (found.reboot, found.mitigated_by) == (False, MITIGATED.mitigated_by)
    assert found.reason.endswith("the request lets such a reboot wait; put off until 2026-12-21 02:00 CET")
    due = replace(MITIGATED, since=OPENS - 34 * DAY)
    found = ask(RebootPolicy.IF_REQUIRED, due, live_patch_policy=put_off(30))
    words = "due since 2026-12-16 02:00 CET: live patches mitigate it, but it has waited 34 days, and may wait 30"
    assert (found.reboot, found.mitigated_by) == (True, "")
    assert found.reason.endswith(f"(a new kernel; mitigated by kpatch: all fixes); {words}")
    never = ask(RebootPolicy.NEVER, due, live_patch_policy=put_off(30))
    assert (never.reboot, never.mitigated_by) == (False, "")
    assert never.reason.endswith(f"and the reboot policy is Never; {words}")


@given(
    st.sampled_from(RebootPolicy),
    st.sampled_from((YES, NO, UNKNOWN, MITIGATED)),
    st.none() | st.timedeltas(timedelta(0), 400 * DAY),
    st.none() | st.floats(0, 365, exclude_min=True),
    st.booleans(),
)
def test_a_mitigated_reboot_waits_exactly_until_its_deadline(policy, need, waited, days, wanted):
    dated = replace(need, since=None if waited is None else OPENS - waited)
    found = ask(policy, dated, live_patch_policy=put_off(days, reboot=wanted))
    over = days is not None and waited is not None and OPENS - waited + timedelta(days=days) <= OPENS
    waits = need is MITIGATED and not wanted and policy is not RebootPolicy.ALWAYS and not over
    assert bool(found.mitigated_by) is waits
    if waits:
        assert not found.reboot
        assert ("put off until" in found.reason) is (days is not None and waited is not None)
    else:
        assert found.reboot is ask(policy, need).reboot
        assert "put off" not in found.reason


FACTS = make_facts(boot_id="b1", boot_epoch=(OPENS - 50 * DAY).timestamp())


def assessed(since: datetime | None, *, boot: str = "b1", answer: YesNoUnknown = YesNoUnknown.YES) -> Assessment:
    packages = make_package_state(reboot=RebootNeed(answer, since=since))
    return Assessment("web", OPENS - 10 * DAY, 1, replace(FACTS, boot_id=boot), packages)


@pytest.mark.parametrize(
    ("told", "previous", "days"),
    [
        (None, None, 0),
        (OPENS - 3 * DAY, None, 3),
        (OPENS - 3 * DAY, assessed(OPENS - 20 * DAY), 20),  # the first newer kernel was removed since
        (OPENS - 30 * DAY, assessed(OPENS - 20 * DAY), 30),
        (None, assessed(None), 10),  # recorded by an earlier version
        (None, assessed(OPENS - 20 * DAY, boot="b0"), 0),
        (None, assessed(None, answer=YesNoUnknown.NO), 0),
        (OPENS - 90 * DAY, None, 50),  # installed before the boot, which chose an older kernel
        (OPENS + DAY, None, 0),
    ],
)
def test_a_reboot_is_needed_since_the_earliest_time_of_this_boot(told, previous, days):
    need = date_reboot_need(replace(MITIGATED, since=told), FACTS, previous, OPENS)
    assert need == replace(MITIGATED, since=OPENS - days * DAY)


def test_a_boot_that_an_earlier_release_has_noted_is_the_same_one():
    facts = replace(FACTS, boot_id="b1.17")
    assert date_reboot_need(YES, facts, assessed(OPENS - 20 * DAY), OPENS).since == OPENS - 20 * DAY
    assert date_reboot_need(YES, facts, assessed(OPENS - 20 * DAY, boot="b1.5"), OPENS).since == OPENS


def test_what_is_not_needed_has_no_time():
    assert date_reboot_need(NO, FACTS, assessed(OPENS - DAY), OPENS) == NO


def test_the_boot_of_a_machine_without_facts_is_not_known():
    assert date_reboot_need(YES, None, assessed(OPENS - DAY), OPENS).since == OPENS


def test_always_reboots_even_when_nothing_was_installed():
    assert ask(RebootPolicy.ALWAYS, NO, installed=0).reboot


def test_a_reboot_before_the_installation_is_not_the_one_that_always_asks_for():
    assert ask(RebootPolicy.ALWAYS, NO, reboots_so_far=1, reboots_since_install=0).reboot
    assert not ask(RebootPolicy.ALWAYS, NO, reboots_so_far=2, max_reboots=5, reboots_since_install=1).reboot


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"can_reboot": False}, "its host must restart it"),
        ({"reboots_so_far": 2}, "2 of 2 allowed reboots are used up"),
        ({"time_fit": FULL}, "a reboot needs about 5 min; 2 min are left"),
    ],
)
def test_what_stands_in_the_way_is_said(given_, words):
    found = ask(RebootPolicy.IF_REQUIRED, YES, **given_)
    assert not found.reboot
    assert found.state_without_reboot is RebootState.REQUIRED
    assert words in found.reason
    assert "a new kernel" in found.reason


def test_why_there_is_no_reboot_is_said():
    assert ask(RebootPolicy.IF_REQUIRED, NO).reason == "no reboot is asked for"
    assert ask(RebootPolicy.IF_REQUIRED, NO, reboots_so_far=1).reason == "rebooted, and no further reboot is asked for"
    assert ask(RebootPolicy.NEVER, YES).reason == (
        "the machine asks for a reboot (a new kernel), and the reboot policy is Never"
    )


def test_unknown_says_that_it_could_not_be_told():
    assert ask(RebootPolicy.IF_REQUIRED, UNKNOWN).reason == (
        "whether a reboot is needed after 3 updates is not known (no tool tells); "
        "with reboot policy IfRequired, fleetpatch does not reboot then"
    )


@given(
    st.sampled_from(RebootPolicy),
    st.sampled_from((YES, NO, UNKNOWN)),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from((FITS, FULL)),
)
def test_it_never_reboots_against_a_limit(policy, need, installed, can, so_far, most, fits):
    found = decide_reboot(
        policy, need, installed=installed, can_reboot=can, reboots_so_far=so_far, max_reboots=most, time_fit=fits
    )
    if found.reboot:
        assert can
        assert so_far < most
        assert fits.fits
        assert policy is not RebootPolicy.NEVER
        assert need.answer is YesNoUnknown.YES or policy is RebootPolicy.ALWAYS
    assert found.reason


@pytest.mark.parametrize("policy", RebootPolicy)
@pytest.mark.parametrize("pending", [NO, YES], ids=["none pending", "pending"])
@pytest.mark.parametrize(
    ("requires", "changes_boot", "machine"),
    [
        (True, False, NO),  # a patch with reboot_suggested, RebootBehavior: the machine itself says nothing
        (True, False, YES),  # installhint(reboot-needed), /run/reboot-required, needs-restarting's list
        (True, False, UNKNOWN),
        (True, True, YES),  # a kernel: the machine compares it with the running one
        (False, False, NO),
    ],
)
def test_a_reboot_that_the_plan_is_sure_of_is_what_the_run_does(requires, changes_boot, machine, pending, policy):
    update = replace(make_update(), requires_reboot=requires, changes_boot=changes_boot)
    planned = predict_reboot_need([update], pending)
    need = add_updates_need(pending if pending is YES else machine, [UpdateResult(update, UpdateState.INSTALLED)])
    decision = ask(policy, need)
    assert planned is not YesNoUnknown.UNKNOWN
    wanted = policy is RebootPolicy.ALWAYS or (policy is RebootPolicy.IF_REQUIRED and planned is YesNoUnknown.YES)
    assert decision.reboot is wanted
    assert (decision.state_without_reboot is RebootState.REQUIRED) is (planned is YesNoUnknown.YES)
    assert add_updates_need(machine, [UpdateResult(update, UpdateState.FAILED)]) is machine
