"""A small fleet through a year, and each rule broken on purpose. The large fleet: tests/bench/automatic_year.py."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.automatic_year.checker import RULES
from tests.support.automatic_year.fleet import Setting
from tests.support.automatic_year.mutations import MUTATIONS
from tests.support.automatic_year.simulation import simulate

SMALL = Setting(machines=36, locations=6, tick=timedelta(hours=1), set_size=3, doubled_ticks=0.1)


def test_a_small_fleet_keeps_all_rules_for_a_year():
    result = simulate(replace(SMALL, machines=24, locations=4, tick=timedelta(hours=2)))
    assert not result.checker.violations, dict(result.checker.violations)
    assert all(result.checker.at_stake[rule] for rule in RULES), result.build_table()
    assert result.doubled
    assert result.missed


_SLOW = {"waits for machines that are off"}  # it is noticed after months: a deadline is missed
_SOONER_HOURLY = {"sick sets are patched"}


@pytest.mark.parametrize(
    "mutation",
    [pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.name in _SLOW)) for each in MUTATIONS],
)
def test_a_broken_rule_is_noticed(mutation, monkeypatch):
    for place, name in mutation.places:
        monkeypatch.setattr(place, name, mutation.make(getattr(place, name)))
    hours = 1 if mutation.name in _SOONER_HOURLY else 2
    result = simulate(replace(SMALL, tick=timedelta(hours=hours)), until_broken=mutation.rule)
    assert result.checker.violations[mutation.rule]


def test_every_rule_is_broken_once():
    assert {mutation.rule for mutation in MUTATIONS} == set(RULES)
