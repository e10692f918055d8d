"""The forms that Prefect makes of the requests: they explain themselves, and the server refuses what makes no sense."""

from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import BaseModel

from deployments.sync.builtin_deployments import build_builtin_deployments
from flows.assess import assess_fleet
from flows.patch import patch_fleet
from flows.plan import plan_fleet
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest, PlanRequest
from tests.flows.served import put_forms

FLOWS: dict[str, tuple[Any, type[BaseModel]]] = {
    "patch-fleet": (patch_fleet, PatchRequest),
    "assess-fleet": (assess_fleet, AssessRequest),
    "plan-fleet": (plan_fleet, PlanRequest),
}


def definitions(flow: Any) -> dict[str, Any]:
    schema = flow.parameters.model_dump()
    found: dict[str, Any] = schema["definitions"]
    return found


def fields(flow: Any) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{model}.{name}", field)
        for model, definition in definitions(flow).items()
        for name, field in definition.get("properties", {}).items()
    ]


@pytest.mark.parametrize("name", FLOWS)
def test_every_field_explains_itself(name: str) -> None:
    flow, model = FLOWS[name]
    found, groups = fields(flow), definitions(flow)
    assert {key.split(".")[1] for key, _ in found} >= set(model.model_fields)
    unexplained = [
        key
        for key, field in found
        if not field.get("description")  # a group of fields is explained by what it groups
        and not groups.get(str(field.get("$ref", "")).rsplit("/", 1)[-1], {}).get("description")
    ]
    assert [key for key in unexplained if not key.endswith(".report_formats")] == []


def test_figures_have_bounds_and_choices_are_lists() -> None:
    found = dict(fields(patch_fleet))
    assert (found["WavesRequest.percent"]["exclusiveMinimum"], found["WavesRequest.percent"]["maximum"]) == (0, 100)
    assert found["PatchRequest.max_reboots"]["maximum"] == 10
    assert found["WindowRequest.minutes"]["exclusiveMinimum"] == 0
    assert found["PatchRequest.patched_by_others"]["enum"] == ["patch", "fail", "skip"]
    assert found["PatchRequest.patched_by_others"]["default"] == "patch"
    assert definitions(patch_fleet)["RebootPolicy"]["enum"] == ["IfRequired", "Never", "Always"]
    assert "Security" in definitions(patch_fleet)["Classification"]["enum"]


@pytest.fixture(scope="module")
def deployments(prefect_server: None) -> dict[str, Any]:
    return put_forms("forms")


def ask(deployment_id: Any, parameters: dict[str, Any]) -> Any:
    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(deployment_id, parameters=parameters)


@pytest.mark.parametrize(
    ("flow", "request_", "blamed"),
    [
        ("patch-fleet", {}, "scope"),
        ("patch-fleet", {"scope": ""}, "scope"),
        ("patch-fleet", {"scope": "*", "window": {"minutes": 0}}, "minutes"),
        ("patch-fleet", {"scope": "*", "reboot": "Sometimes"}, "Sometimes"),
        ("patch-fleet", {"scope": "*", "waves": {"percent": 101}}, "101"),
        ("patch-fleet", {"scope": "*", "nonsense": 1}, "nonsense"),
        ("assess-fleet", {"scope": "*", "at_once": 0}, "at_once"),
    ],
)
def test_the_server_refuses_what_makes_no_sense(
    deployments: dict[str, Any], flow: str, request_: dict[str, Any], blamed: str
) -> None:
    with pytest.raises(PrefectHTTPStatusError) as caught:
        ask(deployments[flow], {"request": request_})
    assert caught.value.response.status_code in {409, 422}
    assert blamed in caught.value.response.text or "is not valid" in caught.value.response.text


@pytest.mark.parametrize("flow", FLOWS)
def test_the_server_takes_what_makes_sense(deployments: dict[str, Any], flow: str) -> None:
    run = ask(deployments[flow], {"request": {"scope": "*"}})
    assert FLOWS[flow][1].model_validate(run.parameters["request"]).model_dump()["scope"] == "*"


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    "parameters",
    [
        {"request": {"scope": "*"}, "dry_run": True},
        {"request": {"scope": "*", "hours": 2}},
        {"request": {"scope": "*", "minutes": 0}},
        {"request": {"scope": "*", "zone": "Europe/Berlin; x"}},
        {"request": {"scope": ""}},
        {},
    ],
)
def test_the_server_refuses_a_wrong_plan_before_a_run_exists(parameters: dict[str, Any]) -> None:
    (built,) = (each for each in build_builtin_deployments("default", "", None) if each.flow == "plan-fleet")
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            flow_id=client.create_flow(plan_fleet),
            name="short-form",
            parameter_openapi_schema=dict(built.schema),
            enforce_parameter_schema=True,
        )
        accepted = client.create_flow_run_from_deployment(deployment, parameters={"request": {"scope": "env=prod"}})
        assert accepted.parameters == {"request": {"scope": "env=prod"}}
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            client.create_flow_run_from_deployment(deployment, parameters=parameters)
        client.delete_deployment(deployment)
