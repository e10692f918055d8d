"""What Prefect gets for a fleet of several sites, and what the doctor says of their pools."""

from dataclasses import replace
from pathlib import Path

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import Configurations
from deployments.refresh_schedules import refresh_schedules
from deployments.server.settings import CLOSED_JOB_TEMPLATE
from deployments.server.snapshot import WorkerInfo, WorkPoolInfo
from deployments.sync.desired_state import build_desired_state
from deployments.sync.model import DeploymentSet
from inventory.machine import Inventory
from tests.unit.deployments import test_server_doctor as doctor
from tests.unit.deployments.test_server_doctor import BLOCK, GOOD, deployed, found
from tests.unit.deployments.test_wanted import EVENING, FLEET, NOW, PLACE, read


def aim_at(inventory: Inventory, configurations: Configurations) -> DeploymentSet:
    names = {each.name: inventory for each in configurations.all_configurations}
    return build_desired_state(
        configurations,
        names,
        NOW,
        inventory_paths=dict.fromkeys(names, PLACE),
        fleet="default",
        pool="p",
        inventory=PLACE,
        sites=inventory.sites,
        current_schedules={},
        refresh_flow=refresh_schedules,
    )


def test_each_site_has_a_pool_and_the_deployments_that_contact_machines(tmp_path: Path) -> None:
    there = replace(FLEET.machines[0], name="shop-1", environment="shop", site="hamburg")
    (tmp_path / "shop.yaml").write_text(f"name: shop\nscope: env=shop\nwindow: {{{EVENING}}}\n")
    read(tmp_path, EVENING)

    desired = aim_at(Inventory((*FLEET.machines, there)), load_configurations(tmp_path, NOW.date()))

    assert [pool.name for pool in desired.pools] == ["p", "p-hamburg"]
    pools = {deployment.full_name: deployment.pool for deployment in desired.deployments}
    assert pools["patch-fleet/web"] == "p"
    assert pools["patch-fleet/shop"] == "p-hamburg"
    assert {name for name, pool in pools.items() if pool == "p-hamburg"} == {
        "patch-fleet/shop",
        "assess-fleet/scheduled-hamburg",
        *(f"{flow}/on-demand-hamburg" for flow in ("assess-fleet", "plan-fleet", "patch-fleet", "resume-fleet")),
        "stage-fleet/on-demand-hamburg",
    }
    scopes = {
        deployment.name: deployment.parameters["request"]["scope"]  # type: ignore[index]
        for deployment in desired.deployments
        if deployment.full_name.startswith("assess-fleet/scheduled")
    }
    assert scopes == {"scheduled": "site=default", "scheduled-hamburg": "site=hamburg"}
    for deployment in desired.deployments:
        site = "hamburg" if deployment.pool == "p-hamburg" else "default"
        assert f"fleetpatch:site={site}" in deployment.tags


def test_a_fleet_of_one_site_has_one_pool_and_assesses_all(tmp_path: Path) -> None:
    desired = aim_at(FLEET, read(tmp_path, EVENING))

    assert [pool.name for pool in desired.pools] == ["p"]
    (assessment,) = (each for each in desired.deployments if each.full_name == "assess-fleet/scheduled")
    assert assessment.parameters["request"] == {"scope": "*", "inventory": str(PLACE)}


def test_each_site_is_named_with_its_pool() -> None:
    pools = tuple(
        WorkPoolInfo.model_validate({"name": name, "type": "process", "base_job_template": CLOSED_JOB_TEMPLATE})
        for name in ("dc1", "dc1-hamburg")
    )
    deployments = (
        deployed(tags=["fleetpatch", "fleetpatch:site=default"]),
        deployed(id="d2", tags=["fleetpatch", "fleetpatch:site=hamburg"], work_pool_name="dc1-hamburg"),
    )
    workers = {"dc1": (WorkerInfo(name="w", last_heartbeat_time=doctor.NOW),)}

    here, there = (found(f"pool {pool.name}", pools=pools, workers=workers, deployments=deployments) for pool in pools)

    assert (here.level, here.message) == (GOOD, "online: w")
    assert there.level is BLOCK
    assert there.message == "site hamburg: no worker is online; there was never one"
    assert "systemctl start fleetpatch-worker@dc1-hamburg" in there.remedy
