"""A version that was good once must stay good, and is asked again; one that is withdrawn ends its rollout."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tasks.domain.components import DEFAULT_CANARY_PAUSE_SECONDS, DEFAULT_SOAK_SECONDS
from tasks.domain.states import OperationState
from tests.support.component_fleet import EXPORTER, RUN, ComponentFleet
from tests.support.fleet import outcome_of

SLOW = replace(EXPORTER, soak_seconds=DEFAULT_SOAK_SECONDS, canary_pause_seconds=DEFAULT_CANARY_PAUSE_SECONDS)


@pytest.fixture
def fleet() -> ComponentFleet:
    return ComponentFleet()


@pytest.mark.parametrize("fault", [0, 5, 25, 200, "loops"])
def test_a_version_that_was_good_once_opens_no_batch(fault: float | str) -> None:
    """It dies, or loops, after its first good answer."""
    fleet = ComponentFleet(10, SLOW)
    for components in fleet.on.values():
        components.unhealthy.add(("exporter", "1.1.0"))
        components.loops = fault == "loops"
        components.dies_after = 0 if isinstance(fault, str) else fault
    began = fleet.fleet.clock.now()
    report = fleet.upgrade()
    assert set(fleet.versions.values()) == {"1.0.0"}
    assert [name for name, components in fleet.on.items() if components.jobs] == ["m9", "m10"]
    assert outcome_of(report, "m9").state is OperationState.FAILED
    assert "version 1.0.0 is back" in outcome_of(report, "m9").reason
    assert fleet.fleet.clock.now() - began < timedelta(minutes=14)


def test_the_machines_of_a_batch_share_their_soak() -> None:
    fleet = ComponentFleet(10, SLOW)
    began = fleet.fleet.clock.now()
    assert fleet.upgrade().run.state is OperationState.SUCCEEDED
    # five batches of two with one worker: 5 minutes each, and 10 after the canaries
    assert timedelta(minutes=35) < fleet.fleet.clock.now() - began < timedelta(minutes=45)


def test_a_machine_that_fails_after_its_batch_ends_the_rollout_and_is_not_reported_good() -> None:
    fleet = ComponentFleet(component=SLOW)
    for components in fleet.on.values():
        components.unhealthy.add(("exporter", "1.1.0"))
        components.dies_after = 700
    report = fleet.upgrade()
    canary = outcome_of(report, "m5")
    assert (canary.state, fleet.versions["m5"]) == (OperationState.FAILED, "1.1.0")
    assert "no longer healthy" in canary.reason
    assert "it was left" in canary.reason
    assert canary.findings[-1].remedy.endswith("fleetpatch components upgrade exporter m5 --to 1.0.0")
    assert outcome_of(report, "m1").state is OperationState.NOT_STARTED
    assert fleet.fleet.records.outcomes[RUN, "m5"] == canary
    assert report.run.state is OperationState.FAILED


def test_a_version_that_is_withdrawn_during_the_rollout_ends_it(fleet: ComponentFleet) -> None:
    withdrawn: list[str] = []
    fleet.find_withdrawal = lambda _name, version: withdrawn[0] if withdrawn and version == "1.1.0" else ""
    fleet.fleet.machines["m6"].on_start("install", 5, lambda: withdrawn.append("was withdrawn: it leaks"))
    report = fleet.upgrade()
    assert fleet.versions == {name: "1.1.0" if name in {"m5", "m6"} else "1.0.0" for name in fleet.on}
    left = outcome_of(report, "m1")
    assert (left.state, left.reason) == (
        OperationState.NOT_STARTED,
        "the upgrade is stopped: exporter 1.1.0 was withdrawn: it leaks",
    )
    (note,) = [note for note in report.notes if "withdrawn" in note]
    assert "m5, m6 have exporter 1.1.0" in note
    assert "fleetpatch components upgrade exporter m5 --to 1.0.0" in note


def test_a_stop_in_the_soak_ends_it_and_says_so(fleet: ComponentFleet) -> None:
    fleet.fleet.machines["m5"].on_start("install", 30, lambda: fleet.fleet.control.request_stop("somebody"))
    canary = outcome_of(fleet.upgrade(), "m5")
    assert (canary.state, fleet.versions["m5"]) == (OperationState.COMPLETED_WITH_WARNINGS, "1.1.0")
    assert "before its soak was over" in canary.reason
