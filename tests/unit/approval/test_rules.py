"""What was approved, and what of a plan that changed since stands."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import MachinePlan, Update
from tasks.domain.states import UpdateState
from tasks.rules.runs.approval import ChangePolicy, collect_planned_updates, compute_plan_digest, restrict_to_approved
from tests.support import builders as make

NAMES = st.text(min_size=1, max_size=8)  # any text at all: machines name their packages
VERSIONS = st.text(max_size=6)
ITEMS = st.dictionaries(NAMES, VERSIONS, max_size=6)
APPROVED = st.dictionaries(NAMES, ITEMS, max_size=4)


def plan_of(items: dict[str, str], machine: str = "web") -> MachinePlan:
    return MachinePlan(machine, tuple(update(name, version) for name, version in items.items()), ())


def update(name: str, version: str) -> Update:
    return make.make_update(id=name, name=name, available=version)


class TestDigest:
    @given(APPROVED, st.randoms(use_true_random=False))
    def test_order_makes_no_difference(self, approved: dict[str, dict[str, str]], dice: random.Random) -> None:
        machines = list(approved)
        dice.shuffle(machines)
        again = {name: dict(reversed(list(approved[name].items()))) for name in machines}
        assert compute_plan_digest(again, {}) == compute_plan_digest(approved, {})

    @given(APPROVED, APPROVED)
    def test_two_are_the_same_only_for_the_same_updates(
        self, one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]
    ) -> None:
        def rows(approved: dict[str, dict[str, str]]) -> set[tuple[str, str, str]]:
            return {(machine, *item) for machine, items in approved.items() for item in items.items()}

        assert (compute_plan_digest(one, {}) == compute_plan_digest(other, {})) == (rows(one) == rows(other))

    @pytest.mark.parametrize(
        "other",
        [{"web": {"a": "2"}}, {"web": {"b": "1"}}, {"db": {"a": "1"}}, {"web": {"a": "1", "b": "1"}}, {}],
    )
    def test_each_part_counts(self, other: dict[str, dict[str, str]]) -> None:
        assert compute_plan_digest({"web": {"a": "1"}}, {}) != compute_plan_digest(other, {})

    def test_parts_can_not_be_mistaken_for_each_other(self) -> None:
        assert compute_plan_digest({"a": {"b": "c"}}, {}) != compute_plan_digest({"a": {"bc": ""}}, {})
        assert compute_plan_digest({"a": {"b": "c"}}, {}) != compute_plan_digest({"a\x00b": {"c": ""}}, {})

    def test_a_machine_without_updates_makes_no_difference(self) -> None:
        assert compute_plan_digest({"web": {"a": "1"}, "db": {}}, {}) == compute_plan_digest({"web": {"a": "1"}}, {})

    def test_it_is_that_of_the_plans(self) -> None:
        assert collect_planned_updates([plan_of({"a": "1"}), plan_of({}, "db")]) == {"web": {"a": "1"}, "db": {}}


class TestKeptTo:
    @given(ITEMS, ITEMS, st.sampled_from(["trim", "refuse"]))
    def test_nothing_else_than_what_was_approved_is_installed_and_nothing_is_lost(
        self, now: dict[str, str], approved: dict[str, str], change: ChangePolicy
    ) -> None:
        plan = plan_of(now)
        kept = restrict_to_approved(plan, {"web": approved}, change, "anna")
        left = {each.id: each.available for each in kept.chosen}
        assert left.items() <= approved.items()
        assert left.items() <= now.items()
        assert {each.id for each in kept.chosen} | {each.update.id for each in kept.skipped} == set(now)
        assert len(kept.chosen) + len(kept.skipped) == len(now)
        assert all(each.state is UpdateState.NOT_SELECTED and each.reason for each in kept.skipped)

    @given(ITEMS, ITEMS)
    def test_trimming_keeps_all_that_both_agree_on(self, now: dict[str, str], approved: dict[str, str]) -> None:
        kept = restrict_to_approved(plan_of(now), {"web": approved}, "trim", "anna")
        assert {each.id: each.available for each in kept.chosen} == dict(now.items() & approved.items())

    @given(ITEMS, ITEMS)
    def test_refusing_is_all_or_nothing(self, now: dict[str, str], approved: dict[str, str]) -> None:
        plan = plan_of(now)
        kept = restrict_to_approved(plan, {"web": approved}, "refuse", "anna")
        assert kept is plan if now == approved else kept.chosen == ()

    @given(ITEMS, ITEMS, st.sampled_from(["trim", "refuse"]))
    def test_twice_is_the_same_as_once(
        self, now: dict[str, str], approved: dict[str, str], change: ChangePolicy
    ) -> None:
        once = restrict_to_approved(plan_of(now), {"web": approved}, change, "anna")
        twice = restrict_to_approved(once, {"web": approved}, change, "anna")
        assert (twice.chosen, twice.skipped) == (once.chosen, once.skipped)

    def test_what_was_approved_is_left_as_it_is(self) -> None:
        plan = plan_of({"a": "1"})
        for change in ("trim", "refuse"):
            assert restrict_to_approved(plan, {"web": {"a": "1"}}, change, "anna") is plan

    def test_it_says_what_changed(self) -> None:
        plan = replace(plan_of({"a": "2", "b": "1", "c": "1"}), notes=("a note",))
        kept = restrict_to_approved(plan, {"web": {"a": "1", "c": "1", "gone": "5"}}, "trim", "anna")
        assert {each.update.id: each.reason for each in kept.skipped} == {
            "a": "anna approved 1, and not 2, which is offered now",
            "b": "not part of what anna approved",
        }
        assert kept.notes == ("a note", "cut down to what anna approved: a 2, b 1 came in; gone 5 went")

    def test_a_machine_that_nobody_approved_anything_for_installs_nothing(self) -> None:
        assert restrict_to_approved(plan_of({"a": "1"}), {"db": {"a": "1"}}, "trim", "anna").chosen == ()

    def test_trimming_leaves_a_plan_alone_that_only_became_smaller(self) -> None:
        plan = plan_of({"a": "1"})
        assert restrict_to_approved(plan, {"web": {"a": "1", "b": "1"}}, "trim", "anna") is plan
