"""policy.yaml: where it is found, that it is read exactly, and that what can't be read stops every run."""

import os
from datetime import date
from pathlib import Path

import pytest

from flows.policy import policy_file
from flows.policy.policy_file import InvalidPolicy, find_policy_files, load_policy, load_policy_file
from inventory.errors import InventoryError
from tasks.domain.states import Classification, RebootPolicy
from tasks.rules.policy.model import RiskyOption

TODAY = date(2026, 11, 25)
WHOLE = """
policy:
  inventories: [fleet.yaml, /etc/fleet.yaml]
  rules:
    - name: production
      description: what customers use
      scope: env=prod
      ask: the platform team
      approval: {by: [anna, "role:approve"]}
      freezes:
        - {start: 2026-12-19, end: 2027-01-06, reason: year-end closing}
        - {file: holidays.ics}
      forbid: [allow_removals, accept_licences]
      hooks: [/opt/drain]
      classifications: [Critical, Security]
      reboots: [IfRequired]
      longest_window: "04:00"
      failure_budget_percent: 10
      unreachable_percent: 20
      at_once_percent: 25
"""
CALENDAR = """BEGIN:VCALENDAR
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261225
SUMMARY:the sale
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller without any policy."""
    for variable in ("FLEETPATCH_POLICY", "FLEETPATCH_CONFIGURATIONS", "FLEETPATCH_INVENTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(policy_file, "SYSTEM_FOLDERS", (tmp_path / "etc", tmp_path / "etc/configurations"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def write(path: Path, text: str = "policy: {rules: [{name: a, scope: '*', ask: us, forbid: [repair]}]}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_key_is_read(place: Path) -> None:
    write(place / "holidays.ics", CALENDAR)
    path = write(place / "policy.yaml", WHOLE)
    policy = load_policy_file(path, TODAY)
    (rule,) = policy.rules
    assert (rule.name, str(rule.scope), rule.place, rule.ask) == (
        "production",
        "env=prod",
        f"{path}:5",
        "the platform team",
    )
    assert rule.approvers == frozenset({"anna", "role:approve"})
    assert [freeze.reason for freeze in rule.freezes] == ["year-end closing", "the sale"]
    assert rule.forbidden == {RiskyOption.ALLOW_REMOVALS, RiskyOption.ACCEPT_LICENCES}
    assert (rule.hooks, rule.reboots) == (frozenset({"/opt/drain"}), frozenset({RebootPolicy.IF_REQUIRED}))
    assert rule.classifications == frozenset({Classification.CRITICAL, Classification.SECURITY})
    assert (rule.longest_window_minutes, rule.failure_budget_percent) == (240, 10)
    assert (rule.unreachable_percent, rule.at_once_percent) == (20, 25)
    (limit,) = policy.inventory_limits
    assert limit.paths == {os.path.realpath(place / "fleet.yaml"), os.path.realpath("/etc/fleet.yaml")}


def test_without_a_file_there_is_no_rule(place: Path) -> None:
    assert load_policy(TODAY).rules == ()
    assert load_policy(TODAY).inventory_limits == ()


def test_every_place_holds_at_once_and_none_replaces_another(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets a variable or changes the folder adds rules, and gets rid of none."""
    named = write(place / "named.yaml")
    found = [
        named,
        write(place / "etc/policy.yaml"),
        write(place / "etc/configurations/policy.yaml"),
        write(place / "site/policy.yaml"),
        write(place / "work/configurations/policy.yaml"),
        write(place / "home/fleetpatch/configurations/policy.yaml"),
    ]
    monkeypatch.setenv("FLEETPATCH_POLICY", str(named))
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(place / "site"))
    assert list(find_policy_files()) == found
    assert len(load_policy(TODAY).rules) == len(found)


def test_a_policy_beside_a_single_file_of_configurations_holds(place: Path) -> None:
    write(place / "work/configurations.yaml", "")
    path = write(place / "work/policy.yaml")
    assert find_policy_files() == (path,)


@pytest.mark.parametrize("variable", ["FLEETPATCH_POLICY", "FLEETPATCH_CONFIGURATIONS"])
def test_a_variable_that_leads_nowhere_stops_every_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(place / "nowhere"))
    with pytest.raises(InventoryError, match=f"named by {variable}"):
        load_policy(TODAY)


def test_a_link_that_leads_nowhere_stops_every_run(place: Path) -> None:
    (place / "etc").mkdir()
    (place / "etc/policy.yaml").symlink_to(place / "gone")
    with pytest.raises(InvalidPolicy):
        load_policy(TODAY)


WRONG = {
    "": "this file is empty",
    "rules: []": "unknown key 'rules'",
    "policy: {rules: []}": "this list is empty",
    "policy: {}": "'rules' is missing",
    "policy: {rules: [{name: a, scope: '*', ask: x}]}": "limits nothing",
    "policy: {rules: [{name: a, scope: '*', ask: x, hooks: }]}": "`hooks` has no value",
    "policy: {rules: [{name: a, scope: 'env=', ask: x, hooks: []}]}": "lacks a value",
    "policy: {rules: [{name: a, scope: '*', ask: x, forbid: [removals]}]}": "'removals' is not one of",
    "policy: {rules: [{name: a, scope: '*', ask: x, approval: {by: []}}]}": "this list is empty",
    "policy: {rules: [{name: a, scope: '*', ask: x, approval: {by: ['role:run']}}]}": "no role that approves",
    "policy: {rules: [{name: a, scope: '*', ask: x, approval: {by: ['a|b']}}]}": "is no login",
    "policy: {rules: [{name: a, scope: '*', ask: x, freezes: [{file: gone.ics}]}]}": "gone.ics",
    "policy: {rules: [{name: a, scope: '*', hooks: []}]}": "'ask' is missing",
    "policy: {rules: [{name: a, scope: '*', ask: x, hooks: []}, {name: a, scope: '*', ask: x, hooks: []}]}": "second",
    "policy: {rules: [{name: a, scope: '*', ask: x, hooks: []}]}\nconfigurations: []": "unknown key 'configurations'",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_not_valid_is_an_error_and_never_no_rule(place: Path, text: str) -> None:
    path = write(place / "etc/policy.yaml", text)
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(TODAY)
    assert WRONG[text] in str(caught.value)
    assert str(path) in str(caught.value)


def test_without_a_list_only_the_controllers_own_inventory_may_be_used(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(write(place / "fleet.yaml", "machines: []")))
    policy = load_policy_file(write(place / "policy.yaml"), TODAY)
    assert policy.inventory_limits[0].paths == {os.path.realpath(place / "fleet.yaml")}
