"""Forms filled in with nonsense: the server refuses them, or the flow does before any machine is asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from flows.patch import patch_fleet
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import FleetpatchError, InventoryError, ReportError, RequestError
from tests.flows.served import put_forms

FORMS: list[Mapping[str, Any]] = [
    {},
    {"scope": None},
    {"scope": ""},
    {"scope": 5},
    {"scope": ["*"]},
    {"scope": "x" * 2001},
    {"scope": "*", "nonsense": 1},
    {"scope": "*", "window": []},
    {"scope": "*", "window": {"minutes": 0}},
    {"scope": "*", "window": {"minutes": -1}},
    {"scope": "*", "window": {"minutes": 44641}},
    {"scope": "*", "window": {"minutes": "two"}},
    {"scope": "*", "window": {"minutes": True}},
    {"scope": "*", "window": {"zone": 5}},
    {"scope": "*", "window": {"zone": "x" * 65}},
    {"scope": "*", "window": {"minuts": 5}},
    {"scope": "*", "waves": {"percent": 0}},
    {"scope": "*", "waves": {"percent": 101}},
    {"scope": "*", "waves": {"size": 1.5}},
    {"scope": "*", "waves": {"canary_count": -1}},
    {"scope": "*", "waves": {"at_once": 10**30}},
    {"scope": "*", "updates": {"classifications": ["Urgent"]}},
    {"scope": "*", "updates": {"classifications": "Security"}},
    {"scope": "*", "updates": {"include": [""]}},
    {"scope": "*", "updates": {"include": ["x" * 201]}},
    {"scope": "*", "updates": {"exclude": ["x"] * 501}},
    {"scope": "*", "reboot": "Sometimes"},
    {"scope": "*", "reboot_reserve_minutes": 241},
    {"scope": "*", "max_reboots": 11},
    {"scope": "*", "max_reboots": "two"},
    {"scope": "*", "dry_run": "perhaps"},
    {"scope": "*", "report_formats": ["pdf"]},
]

PLANS: list[Mapping[str, Any]] = [
    {},
    {"scope": ""},
    {"scope": "*", "minutes": 0},
    {"scope": "*", "minutes": 44641},
    {"scope": "*", "minutes": "two"},
    {"scope": "*", "zone": ""},
    {"scope": "*", "zone": "Europe Berlin"},
    {"scope": "*", "classifications": ["Urgent"]},
    {"scope": "*", "include": [""]},
    {"scope": "*", "window": {"minutes": 5}},
]
"""Of the short form of a plan."""

FLOWS: list[tuple[Mapping[str, Any], type[FleetpatchError], str]] = [
    ({"inventory": "/nowhere/fleet.yaml"}, InventoryError, "no such file"),
    ({"inventory": "~nobody-at-all/x"}, InventoryError, "home"),
    ({"scope": "nobody"}, InventoryError, "no machine is in the scope"),
    ({"scope": "nam=web"}, InventoryError, "nam"),
    ({"report_directory": "/proc/nowhere"}, ReportError, "can't be written"),
    ({"report_directory": "/dev/null"}, ReportError, "can't be written"),
    ({"window": {"zone": "Europe/Berlim"}}, RequestError, "no time zone"),
    ({"window": {"start": "2027-03-28T02:30", "zone": "Europe/Berlin"}}, RequestError, "does not exist"),
    ({"window": {"start": "9999-12-31T23:00Z"}}, RequestError, "too far in the future"),
]


@pytest.fixture(scope="module")
def deployments(prefect_server: None) -> Mapping[str, Any]:
    return put_forms("bad-forms")


@pytest.mark.parametrize(
    ("flow", "form"),
    [*(("patch-fleet", form) for form in FORMS), *(("plan-fleet", form) for form in PLANS)],
    ids=lambda each: str(each)[:60],
)
def test_the_server_refuses_it(deployments: Mapping[str, Any], flow: str, form: Mapping[str, Any]) -> None:
    with get_client(sync_client=True) as client, pytest.raises(PrefectHTTPStatusError) as caught:
        client.create_flow_run_from_deployment(deployments[flow], parameters={"request": form})
    assert caught.value.response.status_code in {409, 422}
    assert "Traceback" not in caught.value.response.text


@pytest.mark.parametrize(("changes", "kind", "told"), FLOWS, ids=lambda each: str(each)[:40])
def test_the_flow_refuses_it_before_any_machine_is_asked(
    prefect_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: Mapping[str, Any],
    kind: type[FleetpatchError],
    told: str,
) -> None:
    def reach(*_: object, **__: object) -> None:
        raise AssertionError("a machine was asked")

    monkeypatch.setattr("tasks.machines.transport.session_factory.build_session", reach)
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path / 'records.db'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "fleet.yaml").write_text("machines: [{name: web, address: 192.0.2.1}]\n")
    request = PatchRequest.model_validate({"scope": "*", "inventory": tmp_path / "fleet.yaml", **changes})
    with pytest.raises(kind, match=told) as caught:
        patch_fleet(request)
    assert caught.value.hint
