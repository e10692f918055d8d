"""docs/reference/policy.md shows what the program does, and each cell of its table names a test that exists."""

import json
import re
from pathlib import Path

import pytest
import yaml

from flows.policy.policy_file import PolicyFileForm, RuleForm, load_policy_file
from tasks.rules.policy.model import RiskyOption
from tests.contract.test_policy_doors import CELLS
from tests.unit.config.folder import TODAY

DOCS = Path(__file__).parents[3] / "docs" / "reference"
TEXT = (DOCS / "policy.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_the_example_loads_and_has_every_key(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(EXAMPLE)
    assert [rule.name for rule in load_policy_file(tmp_path / "policy.yaml", TODAY).rules] == [
        "production",
        "everything",
    ]
    keys = {key for rule in yaml.safe_load(EXAMPLE)["policy"]["rules"] for key in rule}
    assert keys == set(RuleForm.model_fields) - {"description"}


@pytest.mark.parametrize("word", [*RuleForm.model_fields, *RiskyOption])
def test_every_key_and_option_is_described(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_each_cell_of_the_table_is_a_test_and_each_test_a_cell() -> None:
    cells = re.findall(r"`([a-z_]+-(?:command|python|deployment|api|pages|automatic|resume))`", TEXT)
    assert cells == [f"{rule}-{door}" for rule, door in CELLS]


@pytest.mark.parametrize("name", re.findall(r"`(test_\w+)`", TEXT.replace("`tests/", "")))
def test_each_named_test_exists(name: str) -> None:
    doors = Path(__file__).parents[2] / "contract" / "test_policy_doors.py"
    assert f"def {name}(" in doors.read_text(encoding="utf-8")


def test_the_schema_beside_it_is_current() -> None:
    assert json.loads((DOCS / "policy.schema.json").read_text(encoding="utf-8")) == PolicyFileForm.build_file_schema(
        "policy"
    )
