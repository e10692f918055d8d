"""Flows that people call connect Prefect's client first: Prefect never starts a server of its own for them."""

import pytest
from prefect import Flow

from deployments.refresh_schedules import refresh_schedules
from flows.assess import assess_fleet
from flows.automatic.flow import patch_automatically
from flows.compliance.flow import report_compliance
from flows.component_upgrades import upgrade_components
from flows.maintenance import prune_records, report_fleet, stage_fleet
from flows.patch import patch_fleet, resume_fleet
from flows.plan import plan_fleet
from flows.prefect_api.connected_flow import ConnectedFlow
from flows.reconcile import reconcile_fleet
from tasks.domain.errors import CannotRun

FLOWS = (
    assess_fleet, patch_automatically, patch_fleet, plan_fleet, prune_records, reconcile_fleet, refresh_schedules,
    report_compliance, report_fleet, resume_fleet, stage_fleet, upgrade_components,
)  # fmt: skip


@pytest.mark.parametrize("called", FLOWS, ids=lambda called: called.name)
def test_a_call_connects_before_prefect_does_anything(
    called: "Flow[..., object]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise CannotRun("no server")

    monkeypatch.setattr("flows.prefect_api.connected_flow.connect_prefect", refuse)
    assert isinstance(called, ConnectedFlow)
    for each in (called, called.with_options(retries=0)):
        with pytest.raises(CannotRun, match="no server"):
            each()
    assert vars(called.with_options()).keys() == vars(called).keys()
