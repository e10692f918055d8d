"""What a worker makes in Prefect while `deploy` is at work."""

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

from deployments.server.settings import CLOSED_JOB_TEMPLATE
from deployments.sync.actual_state import find_assessment_queue
from deployments.sync.change_applier import apply_changes
from deployments.sync.model import Change, ChangeAction, DeploymentSet, WorkPool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def test_a_pool_that_a_worker_made_meanwhile_gets_our_settings(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="raced", type="process"))
    creation = Change(ChangeAction.CREATE, "work pool", "raced")

    apply_changes(client, (creation,), DeploymentSet(pools=(WorkPool("raced"),)), DeploymentSet(), lambda change: None)

    assert client.read_work_pool("raced").base_job_template == dict(CLOSED_JOB_TEMPLATE)
    assert find_assessment_queue(client, "raced") is not None
