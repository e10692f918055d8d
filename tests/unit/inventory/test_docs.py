"""What docs/reference/inventory.md shows is what the program does."""

import re
from pathlib import Path

import pytest

from inventory.errors import InvalidInventory
from inventory.formats.ansible.reader import MACHINE_KEYS as ANSIBLE_KEYS
from inventory.loader import load_inventory
from inventory.schema.entries import MachineEntry, SetActionEntry, SetRoleEntry
from inventory.schema.validation import StrictModel
from inventory.scope import SCOPE_KEYS, Scope

TEXT = (Path(__file__).parents[3] / "docs" / "reference" / "inventory.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("language", "machines"), [("yaml", [21, 2, 2, 41, 7]), ("csv", [9])])
def test_examples_load(tmp_path: Path, language: str, machines: list[int]) -> None:
    name = f"fleet.{language}"
    found = []
    for block in blocks(language):
        (tmp_path / name).write_text(block, encoding="utf-8")
        found.append(len(load_inventory(tmp_path / name).machines))
    assert found == machines


def test_recipes_for_sets_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "machine-sets.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        (tmp_path / "fleet.yaml").write_text(block, encoding="utf-8")
        found += [(each.name, len(each.members)) for each in load_inventory(tmp_path / "fleet.yaml").sets]
    assert found == [("shop", 8), ("shop", 4), ("orders", 3), ("k8s-nodes", 12), ("k8s-control", 3), ("files", 3)]


def test_scopes_parse() -> None:
    block = next(block for block in blocks("text") if block.startswith("all "))
    scopes = [re.split(r"\s{2,}", line)[0] for line in block.splitlines()]
    assert len(scopes) == 9
    assert [str(Scope.parse(scope)) for scope in scopes] == ["*", *scopes[1:]]


def test_faults_look_as_shown(tmp_path: Path) -> None:
    rows = [f"  - m{number}\n" for number in range(5)]
    rows[2] = "  - name: m2\n" + "    # a comment\n" * 6
    rows[3] = "  - name: m3\n    transport: shh\n"
    rows[4] = "  - name: m4\n    os: linux\n    zone: Europe/Berlim\n"
    (tmp_path / "fleet.yaml").write_text("machines:\n" + "".join(rows), encoding="utf-8")
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(tmp_path / "fleet.yaml")
    shown = next(block for block in blocks("text") if block.startswith("2 faults"))
    assert str(caught.value).replace(f"{tmp_path}/", "") == shown.rstrip()


@pytest.mark.parametrize("model", [SetActionEntry, SetRoleEntry])
def test_every_key_of_a_map_is_documented(model: type[StrictModel]) -> None:
    assert [key for key in model.model_fields if f"`{key}" not in TEXT] == []


def test_every_key_is_documented() -> None:
    assert [key for key in (*MachineEntry.model_fields, *ANSIBLE_KEYS, *SCOPE_KEYS) if f"`{key}`" not in TEXT] == []
