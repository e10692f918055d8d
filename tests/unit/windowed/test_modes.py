"""Orchestration modes in a run: who is left alone, and with which words."""

import pytest

from inventory.machine import PatchOwner
from tasks.domain.states import OperationState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


@pytest.mark.parametrize("configuration", ["", "web"])
def test_a_managed_machine_is_patched_by_no_configuration(configuration: str) -> None:
    fleet = SimFleet()
    managed = fleet.add("managed", [FakePackage("a")], owner=PatchOwner.MANAGED)
    fleet.add("ours", [FakePackage("a")])
    fleet.add("theirs", [FakePackage("a")], owner=PatchOwner.OS)

    report = fleet.patch(configuration=configuration)

    outcome = outcome_of(report, "managed")
    assert outcome_of(report, "ours").state is OperationState.SUCCEEDED
    assert outcome_of(report, "theirs").state is OperationState.NOT_STARTED
    if configuration:
        assert outcome.state is OperationState.NOT_STARTED
        assert outcome.reason.startswith("prerequisites not met: it is managed")
        assert managed.calls == []
        assert managed.world.whole() == {"a": "1.0"}
    else:
        assert outcome.state is OperationState.SUCCEEDED
