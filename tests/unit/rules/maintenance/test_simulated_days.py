"""Simulated days of maintenance control, and each rule broken on purpose. A year: tests/bench/maintenance_year.py."""

import pytest

from tests.support.maintenance_control.checker import RULES
from tests.support.maintenance_control.mutations import MUTATIONS
from tests.support.maintenance_control.simulation import simulate
from tests.support.maintenance_control.world import Setting


def test_sixty_days_keep_all_rules():
    result = simulate(Setting())
    broken = {rule: cases for rule, cases in result.checker.violations.items() if cases}
    assert not broken
    assert all(result.checker.at_stake[rule] for rule in RULES), result.build_table()
    assert result.missed
    assert result.runs


@pytest.mark.parametrize("mutation", [pytest.param(each, id=each.name) for each in MUTATIONS])
def test_a_broken_rule_is_noticed(mutation, monkeypatch):
    replacement = mutation.make(getattr(mutation.place, mutation.attribute))
    monkeypatch.setattr(mutation.place, mutation.attribute, replacement)
    result = simulate(Setting(days=90), until_broken=mutation.rule)
    assert result.checker.violations[mutation.rule]


def test_every_rule_is_broken_once():
    assert {mutation.rule for mutation in MUTATIONS} == set(RULES)
