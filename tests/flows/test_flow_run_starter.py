"""Flow runs that fleetpatch starts by itself, and cancels, on a Prefect server."""

from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Completed

from flows.assess import assess_fleet
from flows.prefect_api.flow_run_starter import FlowRunStarter
from flows.prefect_api.tags import build_fleet_tag

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def test_a_flow_run_that_waits_is_cancelled_and_one_that_is_over_stays(client: SyncPrefectClient) -> None:
    flow, tags = client.create_flow(assess_fleet), [build_fleet_tag("default")]
    client.create_deployment(flow, "started-and-cancelled", entrypoint="flows.assess.assess_fleet", tags=tags)
    starter = FlowRunStarter()
    waiting, over = (
        starter.start("assess-fleet/started-and-cancelled", key, key, {"request": {"scope": "*"}})
        for key in ("waiting", "over")
    )
    client.set_flow_run_state(UUID(over), Completed(), force=True)

    for flow_run_id in (waiting, over, waiting, str(uuid4())):  # the last one was deleted
        starter.cancel(flow_run_id, "nobody wants it any more")

    assert starter.describe_end(waiting).startswith("its flow run ended Cancelled")
    assert starter.describe_end(over) == "its flow run ended Completed"
