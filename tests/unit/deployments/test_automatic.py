"""The deployment of automatic patching: there while the folder asks for it, removed with it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.configuration.loader import load_configurations
from deployments.refresh_schedules import refresh_schedules
from deployments.sync.desired_state import build_desired_state
from deployments.sync.diff import find_changes
from deployments.sync.model import CANCEL_NEW_LIMIT, ChangeAction, DeploymentSet
from flows.request.automatic_request import AutomaticRequest
from inventory.machine import Inventory, Machine

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FLEET = Inventory((Machine("web-1", "10.0.0.1"),))
PLACE = Path("/srv/fleet.yaml")


def aim(folder: Path, text: str, fleet: str = "default") -> DeploymentSet:
    (folder / "auto.yaml").write_text(text)
    configurations = load_configurations(folder, NOW.date())
    names = [each.name for each in configurations.all_configurations] + ["automatic"]
    inventories: Mapping[str, Inventory] = dict.fromkeys(names, FLEET)
    return build_desired_state(
        configurations,
        inventories,
        NOW,
        inventory_paths=dict.fromkeys(names, PLACE),
        fleet=fleet,
        pool="p",
        inventory=PLACE,
        sites=["default"],
        current_schedules={},
        refresh_flow=refresh_schedules,
    )


@pytest.mark.parametrize(
    ("fleet", "name"),
    [("default", "patch-automatically/automatic"), ("north", "patch-automatically/automatic@north")],
)
def test_it_ticks_every_quarter_of_an_hour_and_never_twice_at_once(tmp_path: Path, fleet: str, name: str) -> None:
    made = aim(tmp_path, "automatic: {scope: env=prod, enabled: false, due_days: 20}", fleet)
    (deployment,) = [each for each in made.deployments if each.flow == "patch-automatically"]
    assert deployment.full_name == name
    (schedule,) = deployment.schedules
    assert (schedule.every, schedule.active) == (900, True)
    assert (deployment.at_once, deployment.paused) == (1, False)
    assert deployment.limit == CANCEL_NEW_LIMIT
    request = AutomaticRequest.model_validate(deployment.parameters["request"])
    assert (request.scope, request.enabled, request.due_days, request.inventory) == ("env=prod", False, 20, PLACE)
    assert "fleetpatch:configuration=automatic" in deployment.tags


def test_without_the_key_it_is_removed(tmp_path: Path) -> None:
    there = aim(tmp_path, "automatic: {}")
    window = "{start: 2026-12-06 22:00, length: 2h, zone: UTC}"
    wanted = aim(tmp_path, f"name: web\nscope: '*'\nwindow: {window}\n")
    changes = find_changes(wanted, there, prune=True)
    assert ("remove", "patch-automatically/automatic") in [(each.action.value, each.name) for each in changes]
    assert not [each for each in changes if each.action is ChangeAction.CREATE and "automatic" in each.name]
