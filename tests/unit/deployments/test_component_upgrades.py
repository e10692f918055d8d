"""The schedule that upgrades enrolled components: only with a file of components, one at a time at each site."""

from datetime import UTC, datetime
from pathlib import Path

from deployments.sync.builtin_deployments import build_builtin_deployments
from deployments.sync.model import CANCEL_NEW_LIMIT
from flows.component_upgrades import UPGRADE_INTERVAL_SECONDS

PLACE = Path("/srv/fleet.yaml")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_each_site_upgrades_its_own_machines_one_component_at_a_time() -> None:
    sites = ("default", "berlin")
    made = build_builtin_deployments("north", "p", PLACE, sites, has_components=True)
    upgrades = {one.full_name: one for one in made if one.flow == "upgrade-components"}
    assert sorted(upgrades) == ["upgrade-components/scheduled-berlin@north", "upgrade-components/scheduled@north"]
    for site, deployment in zip(("berlin", "default"), (upgrades[name] for name in sorted(upgrades)), strict=True):
        assert deployment.parameters == {"scope": f"site={site}", "inventory": str(PLACE)}
        (schedule,) = deployment.schedules
        assert (schedule.every, schedule.active) == (UPGRADE_INTERVAL_SECONDS, True)
        assert (deployment.at_once, deployment.limit) == (1, CANCEL_NEW_LIMIT)


def test_without_a_file_of_components_there_is_none() -> None:
    assert "upgrade-components" not in {one.flow for one in build_builtin_deployments("default", "p", PLACE)}
    without_inventory = build_builtin_deployments("default", "p", None, has_components=True)
    assert "upgrade-components" not in {one.flow for one in without_inventory}
