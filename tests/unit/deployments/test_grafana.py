"""The dashboard is one that Grafana knows: by the schemas of its own package, and by rules that these do not have."""

import json
from itertools import combinations
from typing import Any

import jsonschema
import pytest

from tests.ci import tree

DASHBOARD: dict[str, Any] = json.loads((tree.TOP / "deployments/grafana/fleetpatch.json").read_text())
SCHEMAS: dict[str, Any] = json.loads((tree.TOP / "tests/data/grafana/schema-13.2.3.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def find_faults(kind: str, name: str, document: object) -> list[str]:
    validator = jsonschema.Draft7Validator({**SCHEMAS[kind], "$ref": f"#/definitions/{name}"})
    return [f"{list(fault.absolute_path)}: {fault.message}" for fault in validator.iter_errors(document)]


def test_the_dashboard_follows_grafanas_schema() -> None:
    assert find_faults("dashboard", "Dashboard", DASHBOARD) == []


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_follows_the_schema_of_its_kind(panel: dict[str, Any]) -> None:
    assert find_faults(panel["type"], "Options", panel["options"]) == []
    custom = panel["fieldConfig"]["defaults"].get("custom")
    if custom is not None:
        assert find_faults(panel["type"], "FieldConfig", custom) == []


def test_the_schema_finds_faults() -> None:
    assert find_faults("dashboard", "Dashboard", {**DASHBOARD, "panel": []})
    assert find_faults("stat", "Options", {**PANELS[0]["options"], "graphMode": "bars"})


def test_panels_have_their_own_ids_and_places() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_queries_use_the_variables_that_exist() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "environment"}
    for panel in PANELS:
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
