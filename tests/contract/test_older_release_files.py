"""Prefect objects and files of an older release: `deploy` only updates objects, and files load without faults."""

from dataclasses import replace
from typing import Any

import pytest
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import Configurations
from deployments.configuration.prefect_names import ASSESSMENT_QUEUE
from deployments.refresh_schedules import refresh_schedules
from deployments.sync.desired_state import build_desired_state
from deployments.sync.diff import find_changes
from deployments.sync.model import ChangeAction, DeploymentSet
from deployments.sync.plan import SyncPlan, require_names_not_taken
from fleetpatch.cli.runtime.request_parsing import load_request_file
from flows.prefect_api.tags import DISABLED_TAG, build_fleet_tag
from flows.request.patch_request import PatchRequest
from inventory.loader import load_inventory
from inventory.machine import Inventory, Machine
from tests.contract.older_release import DATA, NOW, list_form_keys, load_forms, load_json, load_prefect_objects

INVENTORY = Inventory(
    (
        Machine("lab-3", "192.0.2.13", environment="lab", zone="America/New_York"),
        Machine("lab-4", "192.0.2.14", environment="lab", zone="Europe/Berlin"),
        Machine("lab-5", "192.0.2.15", environment="lab", zone="Europe/Berlin"),
    )
)
NAMES = {
    *("canaries", "web", "shops", "by.rule", "by_cron"),
    *("every-3-days", "month-days", "tonight", "waiting", "closed"),
}
ENTRYPOINTS = sorted({each["entrypoint"] for each in load_json("prefect_objects.json")["deployments"]})
EXPECTED_DIFFERENCES = ("description: ", "entrypoint: ", "form: ")
"""What an upgrade may change in a deployment. A download also ends when its window opens, which it did not before."""


@pytest.fixture(scope="module")
def configurations() -> Configurations:
    return load_configurations(DATA / "configurations", NOW.date())


@pytest.fixture(scope="module")
def plan(configurations: Configurations) -> SyncPlan:
    """What `deploy` would do to the old objects."""
    names = [each.name for each in configurations.all_configurations]
    inventories, place, actual = dict.fromkeys(names, INVENTORY), DATA / "fleet.yaml", load_prefect_objects()
    desired = build_desired_state(
        configurations,
        inventories,
        NOW,
        inventory_paths=dict.fromkeys(names, place),
        fleet="default",
        pool="fleetpatch",
        inventory=place,
        current_schedules={(each.full_name, line.slug): line for each in actual.deployments for line in each.schedules},
        refresh_flow=refresh_schedules,
    )
    return SyncPlan(configurations, inventories, place, desired, actual, find_changes(desired, actual), NOW)


@pytest.mark.parametrize("entrypoint", ENTRYPOINTS)
def test_every_stored_entrypoint_gives_its_flow(entrypoint: str) -> None:
    stored = load_json("prefect_objects.json")["deployments"]

    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)

    names = {each["flow"] for each in stored if each["entrypoint"] == entrypoint}
    assert isinstance(flow, Flow)
    assert {flow.name} == names


NEW = {"plan-fleet/on-demand", "report-compliance/on-demand"}
"""Deployments that the older release did not have."""
NEW_AUTOMATION = "fleetpatch:fleet=default: scheduled runs that did not begin"


def test_deploying_only_updates_and_adds(plan: SyncPlan) -> None:
    others = [each for each in plan.changes if each.action not in {ChangeAction.KEEP, ChangeAction.UPDATE}]

    assert {(each.name, each.action) for each in others} == {
        (name, ChangeAction.CREATE) for name in (*NEW, NEW_AUTOMATION)
    }
    assert len(plan.actual.deployments) == len(plan.desired.deployments) - len(NEW) == 21


def test_deploying_adds_the_tag_that_people_see(plan: SyncPlan) -> None:
    shown = {each.full_name: each.tags[0] for each in plan.desired.deployments if each.schedules}
    assert shown["patch-fleet/by_cron"] == "configuration: by_cron"


def test_names_tags_and_schedules_stay(plan: SyncPlan) -> None:
    def pick(objects: DeploymentSet) -> dict[str, object]:
        return {
            each.full_name: (
                tuple(tag for tag in each.tags if tag != DISABLED_TAG and not tag.startswith("configuration: ")),
                tuple(line.slug for line in each.schedules),
                each.paused,
                each.at_once,
            )
            for each in objects.deployments
            if each.full_name not in NEW
        }

    assert pick(plan.actual) == pick(plan.desired)
    assert {each.name for each in plan.actual.automations} == {each.name for each in plan.desired.automations} - {
        NEW_AUTOMATION
    }
    assert plan.actual.pools == plan.desired.pools


def test_requests_and_dates_of_windows_stay(plan: SyncPlan) -> None:
    differences = {
        (change.name, each)
        for change in plan.changes
        if change.kind == "deployment"
        for each in change.differences
        if not each.startswith((*EXPECTED_DIFFERENCES, "tags: "))
    }

    behind = ("assess-fleet/on-demand", "assess-fleet/scheduled", "prune-records/on-demand", "report-fleet/on-demand")
    moved = {(name, f"queue:  → {ASSESSMENT_QUEUE}") for name in behind}
    assert differences == {("stage-fleet/web", "parameters request.window.minutes: 235.0 → nothing"), *moved}


def test_old_deployments_without_a_fleet_are_ours(plan: SyncPlan) -> None:
    missing = {each.full_name: each for each in plan.desired.deployments}
    untagged = {
        each.full_name: replace(each, tags=tuple(tag for tag in each.tags if tag != build_fleet_tag("default")))
        for each in plan.actual.deployments
    }

    require_names_not_taken(missing, untagged, "default")


@pytest.mark.parametrize("flow", sorted(load_forms()))
def test_every_key_of_an_old_form_is_still_a_key(flow: str, plan: SyncPlan) -> None:
    present = next(each.schema for each in plan.desired.deployments if each.flow == flow)

    assert list_form_keys(load_forms()[flow]) - list_form_keys(present) == set()


def test_the_old_form_of_patching_has_its_nested_keys() -> None:
    assert {".request.window.minutes", ".request.hooks.before_run[].name"} <= list_form_keys(
        load_forms()["patch-fleet"]
    )


def test_parameters_of_old_deployments_are_requests() -> None:
    for each in load_json("prefect_objects.json")["deployments"]:
        if each["flow"] in {"patch-fleet", "stage-fleet"} and each["parameters"]:
            PatchRequest.model_validate(each["parameters"]["request"])


def test_configurations_load_without_faults(configurations: Configurations) -> None:
    names = {each.name for each in configurations.all_configurations}

    assert names == NAMES
    assert {each.name for each in configurations.all_configurations if not each.is_enabled} == {"every-3-days"}


def test_the_inventory_loads_without_faults() -> None:
    machines = {each.name: each for each in load_inventory(DATA / "fleet.yaml").machines}

    assert len(machines) == 12
    assert machines["web-02"].jump == ("bastion",)
    assert machines["old-box"].legacy_crypto
    assert machines["win-1"].transport == "winrm"


def test_the_request_file_loads_without_faults() -> None:
    request = PatchRequest.model_validate(load_request_file(DATA / "request.yaml"))

    assert (request.scope, request.configuration, request.waves.canary_count) == ("ring=canary", "canaries", 1)
    assert [each.name for each in request.hooks.before_machine] == ["drain"]
