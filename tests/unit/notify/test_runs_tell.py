"""A whole run tells people, in order, and goes its way whatever the services do."""

from dataclasses import replace
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.notify.messages import Message
from flows.notify.notifier import AppriseNotifier
from flows.request.request_parts import NotifyRequest
from inventory.credentials import resolve_credential
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

EVERYTHING: list[Any] = ["planned", "waiting", "started", "finished", "failed", "missed", "cancelled"]


def told_of(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch, *, works: bool = True) -> tuple[list[str], RunReport]:
    monkeypatch.setenv("OPS_URL", "json://somewhere")
    heard: list[str] = []

    def send(url: str, told: Message) -> bool:
        heard.append(told.title.rsplit(": ", 1)[-1])
        if not works:
            raise ConnectionError(url)
        return True

    notifier = AppriseNotifier(
        [NotifyRequest(to="env:OPS_URL", on=EVERYTHING)], resolve_credential, fleet.watch.on_message, send
    )
    ports = replace(fleet.ports(), notify=notifier)
    report = FleetRun(fleet.request(), ports, LocalRunner(), run_id="20260310-010000-aaaaaa").execute()
    notifier.close()
    return heard, report


@pytest.mark.parametrize("works", [True, False])
def test_a_run_that_goes_well(monkeypatch: pytest.MonkeyPatch, *, works: bool) -> None:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("a")])

    heard, report = told_of(fleet, monkeypatch, works=works)

    assert heard == ["planned", "started", "finished"]
    assert report.run.state is OperationState.SUCCEEDED


def test_a_run_with_a_machine_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("a", fails="no")])

    heard, report = told_of(fleet, monkeypatch)

    assert heard == ["planned", "started", "failed"]
    assert report.run.state is OperationState.FAILED
