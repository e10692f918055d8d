"""The way back of a component: from a version that breaks the machine's answers, and after the window."""

import pytest

from flows.request.patch_request import WindowRequest
from tasks.domain.errors import FleetpatchError, ProtocolViolation, ReportTooLarge, ScriptFailed
from tasks.domain.protocols.transport import Script
from tasks.domain.states import OperationState, UpdateState
from tests.support.component_fleet import UPDATE, ComponentFleet
from tests.support.fake_transport import Answer
from tests.support.fleet import outcome_of, result_of


@pytest.fixture
def fleet() -> ComponentFleet:
    return ComponentFleet()


DISK_FULL = ScriptFailed("prelude ended with 121: no space left", exit_code=121)


@pytest.mark.parametrize("asked", ["component_versions", "probe", "facts"])
@pytest.mark.parametrize("error", [DISK_FULL, ProtocolViolation("no answer"), ReportTooLarge("too long")], ids=str)
def test_a_version_that_breaks_the_answers_of_the_machine_is_taken_back(
    fleet: ComponentFleet, asked: str, error: FleetpatchError
) -> None:
    machine, canary = fleet.fleet.machines["m5"], fleet.on["m5"]
    usual = machine._handlers[asked][0]

    def answer(script: Script) -> Answer:
        if canary.versions["exporter"] == "1.1.0":
            raise error
        return usual(script)

    machine.answer(asked, answer)
    report = fleet.upgrade()
    assert fleet.versions["m5"] == "1.0.0"
    assert [work for work, _, _ in canary.jobs] == ["stage", "install", "roll-back"]
    outcome = outcome_of(report, "m5")
    assert (outcome.state, result_of(outcome, UPDATE).state) == (OperationState.FAILED, UpdateState.FAILED)
    assert error.message in result_of(outcome, UPDATE).reason
    assert "version 1.0.0 is back" in result_of(outcome, UPDATE).reason
    assert not any(fleet.on[name].jobs for name in ("m1", "m2", "m3", "m4", "m6"))


def test_the_end_of_the_window_does_not_keep_the_way_back_away(fleet: ComponentFleet) -> None:
    canary = fleet.on["m5"]
    canary.unhealthy.add(("exporter", "1.1.0"))
    canary.seconds = 1800
    report = fleet.upgrade(window=WindowRequest(minutes=30))
    assert report.run.window is not None
    assert fleet.fleet.clock.now() > report.run.window.end
    assert fleet.versions["m5"] == "1.0.0"
    assert "version 1.0.0 is back" in result_of(outcome_of(report, "m5"), UPDATE).reason


def test_what_the_last_look_at_its_health_may_take_is_part_of_the_window(fleet: ComponentFleet) -> None:
    fleet.upgrade(window=WindowRequest(minutes=20), come_back_seconds=900)
    assert not any(work == "install" for components in fleet.on.values() for work, _, _ in components.jobs)
