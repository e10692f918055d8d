"""Flow runs that fleetpatch starts by itself, and cancels, on a Prefect server."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.states import Completed, Running

from flows.assess import assess_fleet
from flows.prefect_api.flow_run_starter import FlowRunStarter
from flows.prefect_api.tags import build_fleet_tag
from flows.prefect_runtime.flow_run_states import close_stale_steps

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


def test_a_subflow_of_a_flow_run_is_started_once_and_outlives_its_process(client: SyncPrefectClient) -> None:
    flow, tags = client.create_flow(assess_fleet), [build_fleet_tag("default")]
    deployment = client.create_deployment(flow, "parts", entrypoint="flows.assess.assess_fleet", tags=tags)
    first, resume = (client.create_flow_run_from_deployment(deployment).id for _ in range(2))
    key, parameters = str(uuid4()), {"request": {"scope": "*"}}

    made = FlowRunStarter().start("assess-fleet/parts", key, "wave 1", parameters, ["of-the-run"], first)
    again = FlowRunStarter().start("assess-fleet/parts", key, "wave 1", parameters, ["of-the-run"], resume)
    client.set_flow_run_state(UUID(made), Running(), force=True)
    close_stale_steps(first, datetime.now(UTC))  # the process of the first one has died

    assert again == made
    child = client.read_flow_run(UUID(made))
    assert child.state_name == "Running"
    assert "of-the-run" in child.tags
    assert child.parent_task_run_id is not None
    link = client.read_task_run(child.parent_task_run_id)
    assert (link.name, link.flow_run_id, link.state_name) == ("wave 1", first, "Running")
    client.set_flow_run_state(child.id, Completed(name="Done"), force=True)
    assert client.read_task_run(link.id).state_name == "Done"
    under = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[resume]))
    assert client.read_flow_runs(flow_run_filter=under) == []
    client.delete_flow_run(resume)
    alone = FlowRunStarter().start("assess-fleet/parts", str(uuid4()), "wave 2", parameters, parent=resume)
    assert client.read_flow_run(UUID(alone)).parent_task_run_id is None  # it begins all the same
