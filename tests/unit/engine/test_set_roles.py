"""Roles in machine sets: members of an early role have their turns first, also when roles move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import RoleSource
from tasks.domain.states import OperationState
from tests.support.fleet import outcome_of
from tests.support.set_fleet import SetFleet


@pytest.fixture
def fleet() -> SetFleet:
    made = SetFleet()
    made.add_members("web-1", "web-2", "web-3")
    return made


def with_roles(fleet: SetFleet, **roles: str) -> None:
    fleet.roles.update({name.replace("_", "-"): role for name, role in roles.items()})
    role = RoleSource(command="ask-role")
    fleet.add_set("db", "web-1", "web-2", "web-3", role=role, order=("replica", "primary"))


def order_of(fleet: SetFleet) -> list[str]:
    return [each.split()[1] for each in fleet.slots.story if each.startswith("take")]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("at_once", [1, 3])
def test_the_primary_comes_last_in_whatever_wave_it_was(fleet: SetFleet, size: int, at_once: int) -> None:
    with_roles(fleet, web_1="primary", web_2="replica", web_3="replica")

    report = fleet.run(fleet.request(waves={"size": size, "at_once": at_once}))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert order_of(fleet)[-1] == "web-1"
    assert fleet.slots.most == {"db": 1}


def test_a_member_that_became_primary_goes_back_to_the_queue(fleet: SetFleet) -> None:
    with_roles(fleet, web_1="replica", web_2="primary", web_3="replica")

    def fail_over() -> None:
        fleet.roles.update({"web-1": "primary", "web-2": "replica"})

    fleet.machines["web-1"].on_start("stage", 0, fail_over)
    report = fleet.run(fleet.request())

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert order_of(fleet)[0] == "web-1"  # it was still a replica then
    assert fleet.story[0] == "drain web-3"
    assert fleet.story[-1] == "undrain web-1"
    assert any(each.startswith("web-1 waits: set db: it is primary, and first come ") for each in fleet.waits())


def test_a_role_that_can_not_be_asked_is_waited_for_only_some_minutes(fleet: SetFleet) -> None:
    with_roles(fleet, web_1="replica")
    fleet.machines["web-1"].answer("probe", {"kind": "probe", "exit_code": 2, "text": "no cluster here"})

    report = fleet.run(fleet.request(scope="name=web-1"))

    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.NOT_STARTED
    assert "set db: its role is not known: the command for its role ended with 2: no cluster here" in outcome.reason


@pytest.mark.parametrize("canaries", [0, 1])
def test_a_primary_is_no_canary(fleet: SetFleet, canaries: int) -> None:
    with_roles(fleet, web_1="primary", web_2="replica", web_3="replica")

    report = fleet.run(fleet.request(waves={"size": 1, "canary_count": canaries}))

    assert [wave.machines for wave in report.waves] == [("web-2",), ("web-3",), ("web-1",)]
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}


def test_a_plan_says_who_is_in_which_set_and_in_what_order(fleet: SetFleet) -> None:
    with_roles(fleet, web_1="primary", web_2="replica", web_3="replica")
    fleet.add_set("all", "web-1", "web-2", "web-3", "gone", max_unavailable=2, update_domain="rack", quorum=1)

    report = fleet.run(fleet.request(dry_run=True))

    assert report.notes == (
        "set db: at most 1 of 3 members at a time, roles in the order replica, primary; web-2, web-3, web-1",
        "set all: at most 2 of 4 members at a time, one rack at a time, 1 must be healthy; web-2, web-3, web-1",
    )


@given(st.data())
def test_in_random_fleets_the_limits_hold_and_every_machine_is_patched(data: st.DataObject) -> None:
    fleet = SetFleet()
    names = [f"m{number}" for number in range(data.draw(st.integers(2, 6)))]
    fleet.add_members(*names)
    for number in range(data.draw(st.integers(1, 2))):
        members = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        most = data.draw(st.integers(1, len(members)))
        roles = (
            {"role": RoleSource(command="ask-role"), "order": ("replica", "primary")}
            if data.draw(st.booleans())
            else {}
        )
        fleet.add_set(f"set-{number}", *members, max_unavailable=most, **roles)
    fleet.roles = {name: data.draw(st.sampled_from(["replica", "primary", "witness"])) for name in names}
    waves = {"at_once": data.draw(st.integers(1, 4)), "size": data.draw(st.integers(1, 6))}

    report = fleet.run(fleet.request(minutes=20_000, waves=waves))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert len(report.outcomes) == len(names)
    for each in fleet.sets:
        assert fleet.slots.most[each.name] <= each.allowed_unavailable
    assert fleet.slots.stored == {}


def test_a_member_whose_role_changes_in_its_wave_is_postponed_to_the_wave_of_the_others(fleet: SetFleet) -> None:
    with_roles(fleet, web_1="primary", web_2="replica", web_3="replica")

    def fail_over() -> None:
        fleet.roles.update({"web-1": "replica", "web-2": "primary"})

    fleet.machines["web-2"].on_start("stage", 0, fail_over)
    report = fleet.run(fleet.request(waves={"size": 1}))

    assert [wave.machines for wave in report.waves] == [("web-2",), ("web-3",), ("web-1",)]
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert [each for each in fleet.story if each.startswith("drain")] == ["drain web-3", "drain web-1", "drain web-2"]


def test_orders_of_two_sets_that_contradict_each_other_hold_nobody_up_for_ever() -> None:
    fleet = SetFleet()
    fleet.add_members("a", tags={"left": "first", "right": "second"})
    fleet.add_members("b", tags={"left": "second", "right": "first"})
    for tag in ("left", "right"):
        fleet.add_set(tag, "a", "b", role=RoleSource(tag=tag), order=("first", "second"))
    began = fleet.clock.now()

    report = fleet.run(fleet.request())

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert (fleet.clock.now() - began).total_seconds() < 1800
