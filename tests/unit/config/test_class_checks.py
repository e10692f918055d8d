"""A classification that updates of the machines can't have is told at each key that takes one."""

import pytest

from deployments.checks.class_checks import check_classes
from tests.unit.config.folder import FLEETS, NOW, WEEKLY, Folder

APT = dict.fromkeys(("web-1", "web-2", "db-1", "nyc-1", "tok-1", "old-1"), "apt")
HEAD = f"name: a\nscope: env=prod\n{WEEKLY}\n"
KEYS = {
    "updates": HEAD + "updates: {classifications: [Critical]}\n",
    "maintenance": HEAD + "maintenance: {hold: 35 days, not_held: [Critical]}\n",
    "classifications": "automatic: {classifications: [Critical]}\n",
}


def check(folder: Folder, text: str, managers: dict[str, str], **files: str) -> list[tuple[str, str, str]]:
    found = list(check_classes(folder.read(text, **files), FLEETS, managers, NOW))
    assert all(finding.remedy for finding in found)
    return [(finding.configuration, finding.key, finding.message) for finding in found]


@pytest.mark.parametrize("key", KEYS)
def test_a_class_that_no_update_can_have_is_told(folder: Folder, key: str) -> None:
    ((_, told_key, message),) = check(folder, KEYS[key], APT)
    assert told_key == key
    assert "with apt can be Critical: apt knows Security, Security-ESM, Other, Unclassified" in message


@pytest.mark.parametrize("key", KEYS)
def test_machines_that_were_never_assessed_are_not_known(folder: Folder, key: str) -> None:
    ((_, told_key, message),) = check(folder, KEYS[key], {})
    assert told_key == key
    assert "is not known before their first assessment" in message


@pytest.mark.parametrize("key", KEYS)
def test_a_class_that_updates_can_have_is_not_told(folder: Folder, key: str) -> None:
    assert check(folder, KEYS[key], dict.fromkeys(APT, "dnf")) == []
    assert check(folder, KEYS[key].replace("[Critical]", "[Critical, Security]"), APT) == []


def test_a_rule_of_the_policy_is_checked(folder: Folder) -> None:
    rule = "policy: {rules: [{name: production, scope: env=prod, ask: anna, classifications: [Critical]}]}\n"
    ((name, key, message),) = check(folder, HEAD, APT, policy_yaml=rule)
    assert (name, key) == ("policy", "production.classifications")
    assert "no update of 3 machines with apt can be Critical" in message
