"""Whatever stands in a file is read or refused in words; nothing else ever happens."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.azure.converter import convert_azure_document
from deployments.checks.configuration_checks import check_configurations
from deployments.configuration.loader import InvalidConfigurations, load_configurations
from deployments.configuration.model import Configurations
from inventory.errors import InventoryError
from tests.support.fuzzing import Path_, paths, put
from tests.unit.config.folder import FLEETS, NOW, TODAY
from tests.unit.config.test_azure import azure
from tests.unit.config.test_docs import WHOLE, Words

TREE: dict[str, Any] = yaml.load(WHOLE, Loader=Words)
ODD = st.one_of(
    st.sampled_from(
        ["", "0001-01-01", "9999-12-31", "9999-12-31 23:59", "-1", "1e400", "nan", "machine", "last:", "name=x or"]
    ),
    st.sampled_from(
        ["99999d", "999:59", "FREQ=DAILY;COUNT=1", "Month day31", "* * * * *", "\x00", "a" * 3000, "0", "{}", "~user"]
    ),
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.sampled_from(["name", "start", "file", "x"]), st.text(max_size=5), max_size=2),
)


def load(text: str) -> Configurations | InvalidConfigurations:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.yaml"
        file.write_text(text, encoding="utf-8", errors="replace")
        try:
            return load_configurations(file, TODAY)
        except InvalidConfigurations as error:
            return error


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(paths(TREE)[1:]), ODD), min_size=1, max_size=2))
def test_any_value_anywhere(changes: list[tuple[Path_, Any]]) -> None:
    tree: Any = TREE
    for path, value in sorted(changes, key=lambda change: -len(change[0])):
        tree = put(tree, path, value)
    found = load(yaml.safe_dump(tree, allow_unicode=True))
    if isinstance(found, Configurations):
        assert isinstance(check_configurations(found, FLEETS, NOW), tuple)
    else:
        assert all(each.file and each.hint for each in found.problems)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    found = load(text)
    assert isinstance(found, Configurations) or found.problems


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(paths(azure())[1:]), ODD)
def test_any_value_in_azures(path: Path_, value: Any) -> None:
    hint, imported = "", None
    try:
        imported = convert_azure_document(put(azure(), path, value), "stem", "*")
    except InventoryError as error:
        hint = error.hint
    assert hint or (imported and (imported.configurations or imported.notes))
