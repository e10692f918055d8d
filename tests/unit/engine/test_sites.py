"""A run contacts only machines of its own site, and says so of the others."""

from typing import Any

import pytest

from flows.request.read_requests import AssessRequest
from inventory.sites import SITE_VARIABLE, use_site
from tasks.domain.states import OperationState, RebootState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> SimFleet:
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    made = SimFleet()
    made.add("here", [FakePackage("a")])
    made.add("there", [FakePackage("a")], site="hamburg")
    return made


@pytest.mark.parametrize("act", ["patch", "assess"])
def test_a_machine_of_another_site_is_not_contacted_and_has_an_outcome(fleet: SimFleet, act: str) -> None:
    report = getattr(fleet, act)()

    there = outcome_of(report, "there")
    assert fleet.machines["there"].calls == []
    assert there.state is OperationState.NOT_STARTED
    assert "reached from the site hamburg only, and this process belongs to the site default" in there.reason
    assert outcome_of(report, "here").state is OperationState.SUCCEEDED
    assert report.run.site == "default"
    assert report.run.state is not OperationState.SUCCEEDED


def test_at_its_site_the_same_machine_is_patched_and_the_others_are_not(fleet: SimFleet) -> None:
    with use_site("hamburg"):
        report = fleet.patch()

    assert fleet.machines["here"].calls == []
    assert outcome_of(report, "here").state is OperationState.NOT_STARTED
    assert outcome_of(report, "there").state is OperationState.SUCCEEDED
    assert outcome_of(report, "there").reboot is RebootState.NOT_NEEDED
    assert report.run.site == "hamburg"


@pytest.mark.parametrize("kind", ["plan", "assess"])
def test_a_run_without_a_machine_of_its_site_says_so_of_each(fleet: SimFleet, kind: str) -> None:
    request: Any = AssessRequest(scope="there") if kind == "assess" else fleet.request(scope="there", dry_run=True)

    report = fleet.campaign(request).execute()

    assert [(outcome.machine, outcome.state) for outcome in report.outcomes] == [("there", OperationState.NOT_STARTED)]
    assert fleet.machines["there"].calls == []
