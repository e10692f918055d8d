from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.states import Classification
from tasks.rules.automatic.deadlines import compute_due, find_missing_since
from tasks.rules.automatic.model import AutomaticPolicy, CveRisk, DueUpdate, RiskRule

START = datetime(2025, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
UPDATE = DueUpdate("linux", "6.1", Classification.SECURITY, START, cves=("CVE-1", "CVE-2"))
KEV = RiskRule(due_days=3, known_exploited=True)


def due_days(policy, risks, update=UPDATE):
    return (compute_due(policy, update, risks) - START) / DAY


def test_without_rules_the_policy_counts():
    assert due_days(AutomaticPolicy(), {}) == 30
    assert due_days(AutomaticPolicy(due_days=7), {"CVE-1": CveRisk(cvss=10)}) == 7


def test_the_earliest_rule_that_applies_counts():
    policy = AutomaticPolicy(risk_rules=(RiskRule(20, cvss=7), RiskRule(10, epss=0.5), RiskRule(60, cvss=1)))
    assert due_days(policy, {"CVE-2": CveRisk(cvss=7)}) == 20
    assert due_days(policy, {"CVE-2": CveRisk(cvss=6.9)}) == 30
    assert due_days(policy, {"CVE-1": CveRisk(cvss=9, epss=0.5)}) == 10
    assert due_days(policy, {"CVE-3": CveRisk(cvss=9, epss=0.5)}) == 30
    assert due_days(policy, {"CVE-1": CveRisk()}) == 30


def test_all_conditions_of_a_rule_must_hold():
    policy = AutomaticPolicy(risk_rules=(RiskRule(3, known_exploited=True, cvss=9),))
    day = date(2025, 2, 1)
    assert due_days(policy, {"CVE-1": CveRisk(exploited_since=day)}) == 30
    assert due_days(policy, {"CVE-1": CveRisk(exploited_since=day, cvss=9)}) == 3


def test_an_exploited_vulnerability_counts_from_the_day_it_became_known():
    policy = AutomaticPolicy(risk_rules=(KEV,))
    assert due_days(policy, {"CVE-1": CveRisk(exploited_since=date(2025, 1, 1))}) == 3
    assert due_days(policy, {"CVE-1": CveRisk(exploited_since=date(2025, 3, 11))}) == 12.5
    assert due_days(policy, {"CVE-1": CveRisk(exploited_since=date(2025, 6, 1))}) == 30


def test_a_newer_version_does_not_postpone():
    sightings = {("a", "1"): START, ("a", "2"): START + 20 * DAY}
    first = find_missing_since({}, [("a", "1")], sightings, START + DAY)
    assert first == {"a": START}
    assert find_missing_since(first, [("a", "2")], sightings, START + 21 * DAY) == {"a": START}


def test_the_publication_counts_before_the_first_sight():
    sightings = {("a", "1"): START - 5 * DAY, ("b", "1"): START}
    found = find_missing_since({}, [("a", "1"), ("b", "1"), ("c", "1")], sightings, START + DAY)
    assert found == {"a": START - 5 * DAY, "b": START, "c": START + DAY}


def test_what_is_fixed_is_forgotten_and_what_was_installed_counts_anew():
    sightings = {("a", "2"): START + 20 * DAY}
    known = {"a": START, "b": START}
    assert find_missing_since(known, [("a", "2")], sightings, START + 21 * DAY, {"a"}) == {"a": START + 20 * DAY}
    assert find_missing_since(known, [], sightings, START) == {}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=10))
def test_a_deadline_never_moves_on_while_nothing_is_installed(days):
    known: dict[str, datetime] = {}
    earliest = None
    for number, day in enumerate(sorted(days)):
        now = START + day * DAY
        known = find_missing_since(known, [("a", str(number))], {("a", str(number)): now}, now)
        earliest = earliest or now
        assert known == {"a": earliest}
        update = replace(UPDATE, since=known["a"])
        assert compute_due(AutomaticPolicy(), update, {}) == earliest + 30 * DAY
