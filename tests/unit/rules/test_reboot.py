from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model import RebootNeed
from tasks.rules.runs.reboot_decision import decide_reboot, may_reboot_wait
from tasks.rules.timing.time_fit import TimeFit
from tasks.states import RebootPolicy, RebootState, YesNoUnknown

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
    usual, found = ask(policy, need), ask(policy, need, reboot_if_live_patched=wanted)
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
    assert not may_reboot_wait(
        RebootNeed(YesNoUnknown.NO, (), "x"), RebootPolicy.IF_REQUIRED, reboot_if_live_patched=False
    )


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
