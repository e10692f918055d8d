"""Deployments of earlier releases: their entrypoints still give the flows, and `deploy` replaces them."""

from dataclasses import replace
from pathlib import Path

import pytest
from prefect.flows import load_flow_from_entrypoint

from deployments.refresh_schedules import refresh_schedules
from deployments.sync.builtin_deployments import build_builtin_deployments, build_refresh_deployment
from deployments.sync.diff import find_changes
from deployments.sync.model import FORMER_ENTRYPOINTS, ChangeAction, Deployment, DeploymentSet
from deployments.sync.plan import require_names_not_taken
from flows.assess import assess_fleet
from flows.compliance.flow import report_compliance
from flows.maintenance import prune_records, report_fleet, stage_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.plan import plan_fleet
from flows.reconcile import reconcile_fleet

STORED = {
    "flows.assess.assess_fleet": assess_fleet,
    "flows.compliance.flow.report_compliance": report_compliance,
    "flows.patch.patch_fleet": patch_fleet,
    "flows.patch.resume_fleet": resume_fleet,
    "flows.plan.plan_fleet": plan_fleet,
    "flows.reconcile.reconcile_fleet": reconcile_fleet,
    "flows.upkeep.prune_records": prune_records,
    "flows.upkeep.report_fleet": report_fleet,
    "flows.upkeep.stage_fleet": stage_fleet,
    "deployments.deploying.refresh.refresh_schedules": refresh_schedules,
}
FLEET = ("default", "pool", Path("/fleet.yaml"))
BUILTIN = (
    *build_builtin_deployments(*FLEET),
    build_refresh_deployment(refresh_schedules, *FLEET, Path("/configurations")),
)


def as_stored(deployment: Deployment) -> Deployment:
    return replace(deployment, entrypoint=FORMER_ENTRYPOINTS.get(deployment.entrypoint, deployment.entrypoint))


@pytest.mark.parametrize("entrypoint", STORED)
def test_an_entrypoint_that_is_stored_in_prefect_gives_its_flow(entrypoint: str) -> None:
    assert load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False) is STORED[entrypoint]


def test_every_deployment_names_a_flow_that_can_be_imported() -> None:
    for each in BUILTIN:
        assert load_flow_from_entrypoint(each.entrypoint, use_placeholder_flow=False).name == each.flow


def test_every_builtin_deployment_is_covered() -> None:
    assert {as_stored(each).entrypoint for each in BUILTIN} == set(STORED)


def test_deploying_writes_the_present_entrypoint() -> None:
    changes = find_changes(DeploymentSet(BUILTIN), DeploymentSet(tuple(as_stored(each) for each in BUILTIN)))

    differences = {change.name: change.differences for change in changes if change.action is ChangeAction.UPDATE}

    assert differences == {
        f"{name}/{'scheduled' if name == 'refresh-schedules' else 'on-demand'}": (f"entrypoint: {old} → {new}",)
        for name, old, new in (
            ("stage-fleet", "flows.upkeep.stage_fleet", "flows.maintenance.stage_fleet"),
            ("report-fleet", "flows.upkeep.report_fleet", "flows.maintenance.report_fleet"),
            ("prune-records", "flows.upkeep.prune_records", "flows.maintenance.prune_records"),
            (
                "refresh-schedules",
                "deployments.deploying.refresh.refresh_schedules",
                "deployments.refresh_schedules.refresh_schedules",
            ),
        )
    }


def test_an_older_deployment_without_a_fleet_is_ours() -> None:
    missing = {each.full_name: each for each in BUILTIN}
    older = {name: replace(as_stored(each), tags=("fleetpatch",)) for name, each in missing.items()}

    require_names_not_taken(missing, older, "default")
