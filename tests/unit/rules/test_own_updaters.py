"""Switches of the systems' own updaters: what a plan does, and when a machine differs from its owner's words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import PatchOwner
from tasks.domain.protocols.package_manager import UpdaterMeans
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.registry import build_manager
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tasks.machines.managers.windows_update.other_managers import AUTOMATIC_UPDATES
from tasks.rules.own_updaters import (
    SwitchFacts,
    SwitchPlan,
    UnitFacts,
    UpdaterAction,
    UpdaterRequest,
    UpdaterStatus,
    describe_drift,
    find_updater_status,
    list_units_to_look_at,
    plan_switch,
    refuse_switch,
)

ON, OFF = UpdaterAction
LOADED = UnitFacts("loaded", "disabled", "inactive")
ACTIVE = UnitFacts("loaded", "enabled", "active")
MASKED = UnitFacts("masked", "masked", "inactive")
NONE = UnitFacts("not-found")
UPGRADE, DAILY = "apt-daily-upgrade.timer", "apt-daily.timer"


APT, DNF = AptManager.updater_means, build_manager("dnf").updater_means
IMAGE, WINDOWS = build_manager("rpm-ostree").updater_means, WindowsUpdateManager.updater_means
MEANS = (APT, DNF, IMAGE, WINDOWS, None)


def plan(action: UpdaterAction, means: UpdaterMeans | None, *installing: str, **facts: Any) -> SwitchPlan:
    return plan_switch(action, SwitchFacts(means, installing, **facts))


def test_apt_is_switched_by_its_setting_so_that_package_lists_are_still_read() -> None:
    made = plan(OFF, APT, UPGRADE, units={UPGRADE: ACTIVE})
    assert (made.enable, made.disable) == ((), ())
    assert made.file_text.splitlines()[1:] == ['APT::Periodic::Unattended-Upgrade "0";']
    made = plan(ON, APT, units={UPGRADE: LOADED, DAILY: ACTIVE}, has_program=True)
    assert made.enable == (UPGRADE,)
    assert 'APT::Periodic::Unattended-Upgrade "1";' in made.file_text
    assert made.steps[-1] == f"systemctl enable --now {UPGRADE}"


@pytest.mark.parametrize(
    ("means", "facts", "words"),
    [
        (APT, {"has_program": False, "units": {UPGRADE: LOADED}}, "unattended-upgrade is not installed"),
        (APT, {"has_program": True, "units": {UPGRADE: MASKED, DAILY: ACTIVE}}, f"masked on the machine: {UPGRADE}"),
        (DNF, {"units": {"dnf-automatic.timer": NONE}}, "it has no updater of its own"),
        (DNF, {"units": {"dnf-automatic.timer": ACTIVE}}, "switched on already, and installs nothing"),
        (DNF, {"unread": "the machine does not run systemd"}, "does not run systemd"),
        (None, {}, "is not known"),
    ],
)
def test_what_people_have_to_do_first_is_refused_with_the_remedy(
    means: UpdaterMeans | None, facts: Any, words: str
) -> None:
    made = plan(ON, means, **facts)
    assert words in made.refusal
    assert made.remedy
    assert made.steps == ()


def test_the_best_timer_of_dnf_is_switched_on_and_each_that_installs_is_switched_off() -> None:
    install, automatic = "dnf-automatic-install.timer", "dnf-automatic.timer"
    made = plan(ON, DNF, units={install: LOADED, automatic: LOADED})
    assert (made.enable, made.note) == ((install,), "")
    made = plan(ON, DNF, units={install: NONE, automatic: LOADED})
    assert (made.enable, made.note) == ((automatic,), "what it installs is said in its own file")
    made = plan(OFF, DNF, install, automatic)
    assert made.disable == (install, automatic)


def test_a_service_that_may_change_packages_is_never_switched_off() -> None:
    service, timer = "other-updater.service", "other-updater.timer"
    assert plan(OFF, DNF, service, units={timer: ACTIVE}).disable == (timer,)
    assert plan(OFF, DNF, service, units={timer: NONE}).refusal == f"no unit switches it off: {service}"
    assert plan(OFF, DNF, "dnf-automatic.service").disable == ("dnf-automatic.timer",)
    assert plan(OFF, DNF, "yum-cron.service").disable == ("yum-cron.service",)
    assert plan(OFF, UpdaterMeans(stoppable=frozenset({"agent.service"})), "agent.service").disable == (
        "agent.service",
    )
    assert plan(OFF, DNF, "/etc/cron.daily/yum-cron").refusal


def test_windows_is_switched_by_the_policy_unless_another_manager_is_at_work() -> None:
    assert plan(OFF, WINDOWS, AUTOMATIC_UPDATES).policy_values == ("NoAutoUpdate=1",)
    assert plan(ON, WINDOWS).policy_values[:2] == ("NoAutoUpdate=0", "AUOptions=4")
    assert "ConfigMgr" in plan(OFF, WINDOWS, AUTOMATIC_UPDATES, "ConfigMgr's client (ccmexec)").refusal


NAMES = st.sampled_from([UPGRADE, "dnf-automatic.timer", "x.service", "zincati.service", "/etc/cron.d/x"])


@given(st.sampled_from(UpdaterAction), st.sampled_from(MEANS), st.lists(NAMES, unique=True, max_size=3), st.data())
def test_a_plan_does_something_exactly_where_something_is_to_do(
    action: UpdaterAction, means: UpdaterMeans | None, installing: list[str], data: st.DataObject
) -> None:
    kinds = st.sampled_from([LOADED, ACTIVE, MASKED, NONE])
    units = {unit: data.draw(kinds) for unit in list_units_to_look_at(means, installing)}
    made = plan_switch(action, SwitchFacts(means, tuple(installing), units, data.draw(st.booleans())))
    is_so = find_updater_status(installing) is (UpdaterStatus.ON if action is ON else UpdaterStatus.OFF)
    assert is_so is (made == SwitchPlan())
    assert bool(made.refusal) is (not is_so and not made.steps)
    assert not (made.enable and made.disable)
    assert "x.service" not in made.disable
    assert all(units[unit].load == "loaded" for unit in made.enable)
    if made.refusal:
        assert made.remedy
        assert (made.enable, made.disable, made.file_text, made.policy_values) == ((), (), "", ())


@pytest.mark.parametrize(
    ("action", "owner", "is_refused"),
    [
        (ON, PatchOwner.OS, False),
        (ON, PatchOwner.FLEETPATCH, True),
        (ON, PatchOwner.MANAGED, True),
        (ON, PatchOwner.MANUAL, True),
        (OFF, PatchOwner.OS, True),
        (OFF, PatchOwner.FLEETPATCH, False),
        (OFF, PatchOwner.MANAGED, False),
        (OFF, PatchOwner.MANUAL, True),
    ],
)
def test_two_patchers_or_none_are_refused(action: UpdaterAction, owner: PatchOwner, is_refused: bool) -> None:
    assert bool(refuse_switch(action, owner)) is is_refused


OFF_ONCE = UpdaterRequest(OFF, datetime(2026, 11, 2, tzinfo=UTC), "anne")
ON_ONCE = UpdaterRequest(ON, datetime(2026, 11, 2, tzinfo=UTC), "anne")


@pytest.mark.parametrize(
    ("owner", "installing", "request_", "words"),
    [
        (PatchOwner.OS, (), None, "none is switched on"),
        (PatchOwner.OS, (UPGRADE,), OFF_ONCE, ""),
        (PatchOwner.MANUAL, (UPGRADE,), None, f"people patch it, by the inventory, and {UPGRADE} installs"),
        (PatchOwner.MANUAL, (), None, ""),
        (PatchOwner.MANAGED, (UPGRADE,), OFF_ONCE, "anne switched that off on 2026-11-02"),
        (PatchOwner.MANAGED, (UPGRADE,), ON_ONCE, ""),
        (PatchOwner.FLEETPATCH, (UPGRADE,), None, ""),  # as a system comes: runs warn, and can pause it
        (PatchOwner.OS, None, None, ""),  # it has said nothing yet
        (None, (), None, ""),  # it is in no inventory
    ],
)
def test_drift(owner: PatchOwner, installing: Any, request_: UpdaterRequest | None, words: str) -> None:
    drift = describe_drift(owner, installing, request_)
    assert words in drift
    assert bool(drift) is bool(words)


def test_what_was_never_said_is_not_off() -> None:
    assert find_updater_status(None) is UpdaterStatus.UNKNOWN
