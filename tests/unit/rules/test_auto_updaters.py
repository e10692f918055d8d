"""What a run does with a machine that others patch: which updaters count, and what the policies say of them."""

import pytest

from tasks.domain.states import FindingLevel
from tasks.machines.managers.apt.assessment import NON_INSTALLING_UPDATERS as APT
from tasks.machines.managers.rpm.system_state import NON_INSTALLING_UPDATERS as RPM
from tasks.machines.managers.rpm.system_state import TIMERS, YUM_CRON_UNIT
from tasks.rules.machine_checks.packages import (
    AUTO_UPDATER_CHECK,
    OthersPolicy,
    check_auto_updaters,
    describe_left_out,
    find_other_patchers,
)
from tasks.rules.machine_checks.precheck import check_machine_state
from tests.support.builders import make_facts, make_package_state

STATE = make_package_state(
    auto_updaters=(("timer", 60.0), ("at-work", 0.0), ("agent", None), ("lists", None)),
    unpausable_updaters=("agent",),
    non_installing_updaters=("lists", "another"),
)


def test_who_installs_by_itself_and_is_not_paused_counts() -> None:
    assert find_other_patchers(STATE, paused=False) == ("timer", "at-work", "agent")
    assert find_other_patchers(STATE, paused=True) == ("agent",)
    assert find_other_patchers(make_package_state(auto_updaters=()), paused=False) == ()


@pytest.mark.parametrize(
    ("policy", "paused", "levels"),
    [
        ("patch", False, ["Remark", "Remark", "Remark", "Remark"]),
        ("skip", False, ["Remark", "Remark", "Remark", "Remark"]),
        ("fail", False, ["Block", "Block", "Block", "Remark"]),
        ("patch", True, ["Good", "Remark", "Remark", "Good"]),
        ("fail", True, ["Good", "Remark", "Block", "Good"]),
    ],
)
def test_only_fail_blocks_and_says_what_helps(policy: OthersPolicy, paused: bool, levels: list[str]) -> None:
    found = list(check_auto_updaters(STATE, policy, paused=paused))
    assert [each.level for each in found] == [FindingLevel[level.upper()] for level in levels]
    assert {each.check for each in found} == {AUTO_UPDATER_CHECK}
    for each in found:
        assert bool(each.remedy) is (each.level is not FindingLevel.GOOD)
        assert ("patched_by_others: skip" in each.remedy) is (each.level is FindingLevel.BLOCK)
        assert ("native_updaters: pause" in each.remedy) is bool(each.remedy and "agent" not in each.message)


def test_only_skip_leaves_out_and_names_who_patches_it() -> None:
    why = "left out: others patch this machine (agent), and the request skips such machines"
    assert describe_left_out(STATE, "skip", paused=True) == why
    assert "(timer, at-work, agent)" in describe_left_out(STATE, "skip", paused=False)
    assert describe_left_out(STATE, "fail", paused=False) == describe_left_out(STATE, "patch", paused=False) == ""
    only_lists = make_package_state(auto_updaters=(("lists", 0.0),), non_installing_updaters=("lists",))
    assert describe_left_out(only_lists, "skip", paused=False) == ""


@pytest.mark.parametrize(("policy", "blocks"), [("patch", False), ("fail", True), ("skip", False)])
def test_the_pre_check_blocks_by_the_policy(policy: OthersPolicy, blocks: bool) -> None:
    found = check_machine_state(make_facts(), STATE, (), patched_by_others=policy)
    assert any(each.level is FindingLevel.BLOCK and each.check == AUTO_UPDATER_CHECK for each in found) is blocks


def test_what_only_reads_lists_downloads_or_notifies_is_no_patcher() -> None:
    def patchers(*names: str, harmless: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple((name, None) for name in names)
        state = make_package_state(auto_updaters=found, non_installing_updaters=harmless)
        return find_other_patchers(state, paused=False)

    upgrades = ("apt-daily-upgrade.timer", "apt-daily-upgrade.service")
    assert patchers("apt-daily.timer", "apt-daily.service", *upgrades, harmless=APT) == upgrades
    assert patchers(*TIMERS, YUM_CRON_UNIT, "packagekit.service", harmless=RPM) == (
        "dnf-automatic.timer",
        "dnf-automatic-install.timer",
        "dnf5-automatic.timer",
        "os-update.timer",
        "packagekit-background.timer",
        YUM_CRON_UNIT,
    )
