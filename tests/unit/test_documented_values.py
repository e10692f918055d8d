"""The words that documents offer for a key are exactly those that the key takes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from flows.request.request_parts import OccasionName
from inventory.loader import load_inventory
from inventory.machine import (
    CheckKind,
    FailedCheckEffect,
    HostKeyPolicy,
    OsFamily,
    PatchOwner,
    PrivilegeMethod,
    SetActionKind,
    TransportKind,
    WinrmAuthentication,
    WinrmScheme,
)
from inventory.schema.entries import SetEntry, WakeEntry, WinrmEntry
from tasks.domain.compliance import MAX_ANSWER_AGE
from tasks.domain.states import Compliance, ReadinessState
from tasks.records.machine_rows import Plans, build_machine_row
from tasks.rules.child_environment import PASSED_VARIABLES
from tests.ci import tree
from tests.support.builders import START, make_machine

INVENTORY, HOOKS, NOTIFY = "docs/reference/inventory.md", "docs/how-to/hooks.md", "docs/how-to/notify.md"


def read(document: str, begin: str, end: str) -> str:
    """Return the part of a document between two texts."""
    _, found, rest = (tree.TOP / document).read_text().partition(begin)
    assert found, begin
    return rest.partition(end)[0]


def find_words(text: str) -> set[str]:
    return set(re.findall(r"`([\w-]+)`", text))


def find_first_cells(text: str) -> set[str]:
    return set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("key", "allowed"),
    [("transport", TransportKind), ("os", OsFamily), ("privilege", PrivilegeMethod), ("scheme", WinrmScheme)],
)
def test_a_key_of_the_inventory(key: str, allowed: Iterable[str]) -> None:
    cell = read(INVENTORY, f"\n| `{key}` | ", " |").partition(". ")[0]
    assert find_words(cell) == {str(each) for each in allowed}


def test_the_authentications_of_winrm() -> None:
    cell = read(INVENTORY, "\n| `authentication` | ", ". ")
    assert find_words(cell) == {each.value for each in WinrmAuthentication}


def test_the_keys_of_winrm() -> None:
    section = read(INVENTORY, "### WinRM", "\n### ")
    assert find_first_cells(section) == set(WinrmEntry.model_fields)


def test_the_keys_of_wake() -> None:
    section = read(INVENTORY, "### Machines that are powered off", "\n### ")
    assert find_first_cells(section) == set(WakeEntry.model_fields)


def test_the_keys_of_a_set() -> None:
    section = read(INVENTORY, "### Machine sets", "\n## ")
    assert find_first_cells(section) == set(SetEntry.model_fields)
    kinds = read(INVENTORY, "have `kind` and `target` as", ". They").partition(":")[2]
    assert find_words(kinds) == {each.value for each in SetActionKind}


def test_the_checks() -> None:
    sentence = read(INVENTORY, "A check has", "\n\n")
    kinds, levels = sentence.partition("(")[2].partition(")")[0], sentence.partition("`level` (")[2].partition(")")[0]
    assert find_words(kinds) == {each.value for each in CheckKind}
    assert find_words(levels) == {each.value for each in FailedCheckEffect}


def test_the_policies_of_host_keys() -> None:
    assert find_first_cells(read(INVENTORY, "| `policy` | trusted |", "\n\n")) == {each.value for each in HostKeyPolicy}


def test_the_occasions_of_messages() -> None:
    assert find_first_cells(read(NOTIFY, "| `on` | when |", "\n\n")) == set(get_args(OccasionName))


def test_the_variables_that_hooks_get() -> None:
    sentence = read(HOOKS, "gets these variables of the controller's environment:", ". The others")
    assert find_words(sentence.replace("`LC_…`", "")) == set(PASSED_VARIABLES)


@pytest.mark.parametrize(
    ("document", "heading", "names"),
    [
        ("docs/how-to/winrm.md", "## 4. Write the inventory", ["win-1", "win-2", "win-3"]),
        (INVENTORY, "### WinRM", ["win-1.corp.example.org", "win-2"]),
    ],
)
def test_an_inventory_of_windows_machines_loads(document: str, heading: str, names: list[str], tmp_path: Path) -> None:
    text = read(document, heading, "\n## ").partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "fleet.yaml").write_text(re.sub(r"[0-9A-F:]+…", "0" * 64, text))
    inventory = load_inventory(tmp_path / "fleet.yaml")
    assert [machine.name for machine in inventory.machines] == names
    assert {machine.transport for machine in inventory.machines} == {TransportKind.WINRM}


def test_the_words_of_the_list_of_machines_are_documented() -> None:
    def list_first_cells(begin: str) -> set[str]:
        rows = read("docs/how-to/pages.md", begin, "\n\n").splitlines()[1:]
        return {row.split("|")[1].strip() for row in rows if row.startswith("|") and not row.startswith("|---")}

    rows = [
        build_machine_row("web", make_machine(owner=owner), None, START, plans=Plans((), names, bool(names)))
        for owner in PatchOwner
        for names in ((), ("weekly",))
    ]
    assert list_first_cells("| patch mode |") == {row.patch_mode for row in rows}
    assert list_first_cells("| readiness |") == set(map(str, ReadinessState))
    assert list_first_cells("| compliance |") == {each.value for each in Compliance}
    text = (tree.TOP / "docs/how-to/pages.md").read_text()
    assert f"**{MAX_ANSWER_AGE.days} days**" in text
