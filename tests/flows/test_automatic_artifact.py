"""The page of a tick in Prefect, on Prefect's own server."""

from uuid import UUID

import pytest
from prefect import flow
from prefect.runtime import flow_run

from flows.automatic import flow as automatic_flow
from flows.automatic.flow import ARTIFACT_KEY, PROGRESS_KEY, publish_decision
from tests.flows.prefect_view import artifacts
from tests.support.rollouts import NOW, make_status

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow
def publish_once() -> str:
    status = make_status()
    publish_decision(status.request, status.view, status.decision, NOW)
    return str(flow_run.get_id())


def test_a_tick_shows_its_phases_and_how_many_machines_are_done() -> None:
    found = artifacts(UUID(publish_once()))
    assert found[ARTIFACT_KEY].type == "markdown"
    assert "| 2 | ams, ber, cph, dub | running | ████░░░░░░ | 12 |" in str(found[ARTIFACT_KEY].data)
    assert found[PROGRESS_KEY].type == "progress"
    assert found[PROGRESS_KEY].data == 13.9


def test_a_page_that_prefect_does_not_take_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no")

    monkeypatch.setattr(automatic_flow, "create_markdown_artifact", refuse)
    assert artifacts(UUID(publish_once())) == {}
    assert "Prefect did not get the page of automatic patching: ConnectionError" in caplog.text
