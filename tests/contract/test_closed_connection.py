"""Prefect's server closes an idle connection at the moment when the run sends a request on it."""

from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.prefect_runtime.delivery import ApiMonitor


@pytest.mark.parametrize(
    ("errors", "is_unreachable"),
    [
        ([httpx.ReadError("reset")], False),
        ([httpx.RemoteProtocolError("closed")], False),
        ([httpx.ReadError("reset"), httpx.ConnectError("refused")], True),
        ([httpx.ConnectError("refused")], True),
        ([httpx.ReadTimeout("slow")], True),
    ],
)
def test_a_server_is_away_only_when_it_does_not_answer_on_a_new_connection_either(
    errors: list[Exception], is_unreachable: bool
) -> None:
    def read_flow_run(_: object) -> None:
        if errors:
            raise errors.pop(0)

    monitor = ApiMonitor(uuid4())
    client: Any = SimpleNamespace(read_flow_run=read_flow_run)
    monitor._check_api(cast("SyncPrefectClient", client))
    assert monitor.is_unreachable is is_unreachable
    assert not errors
