"""An attack on the policy through Prefect's own API, on a real server."""

from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.contract.policy_doors import Stage, build_stage
from tests.flows.served import Served

POLICY = """
policy:
  rules:
    - {name: berlin, scope: env=prod, ask: the platform team, freezes: [{start: 2020-01-01, end: 2099-12-31}],
       forbid: [allow_removals, accept_licences], failure_budget_percent: 20}
"""


@pytest.fixture
def stage(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = build_stage(tmp_path, monkeypatch)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return made


def test_a_deployment_with_parameters_that_were_edited_in_prefect(
    stage: Stage, served: Served, client: SyncPrefectClient
) -> None:
    """Attacker: anybody with Prefect's password. Way: a run of the deployment with `*`, removals, licences, a failure
    budget of 100 % and a configuration of one's own. Must hold: the run ends as cancelled with the rule, it is in the
    records, and no machine was touched.
    """
    edited = stage.build_request(
        {"waves.failure_budget_percent": 100},
        allow_removals=True,
        accept_licences=True,
        configuration="nobody's",
        outside_window=True,
    )
    run = served.started(edited)
    assert run.state is not None
    assert run.state.is_cancelled(), run.state
    message = run.state.message or ""
    for words in (
        "allow_removals",
        "accept_licences",
        "100 percent",
        "frozen",
        "policy rule berlin",
        "Ask the platform",
    ):
        assert words in message
    (recorded,) = stage.read_runs()
    assert recorded.message == message
    assert "unknown user of Prefect" in recorded.started_by
    assert stage.begun == []
