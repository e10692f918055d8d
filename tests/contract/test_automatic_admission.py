"""Runs of automatic patching that waited for a worker, while people acted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.admission import AdmittedRun, RefusedRun, admit_run
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.setup import open_records
from tasks.rules.automatic.model import RolloutState
from tests.contract.records_subjects import new_database
from tests.support.automatic_fleet import AutomaticFleet
from tests.support.builders import make_update
from tests.support.fake_clock import FakeClock


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[AutomaticFleet]:
    with new_database("sqlite", tmp_path) as url, open_records(url) as records:
        made = AutomaticFleet(url, records, tmp_path, FakeClock())
        made.assess(make_update(name="curl", available="8"))
        made.begin()
        made.clock.advance(3600)
        yield made


def admit(fleet: AutomaticFleet) -> AdmittedRun | RefusedRun:
    (request,) = fleet.started("patch-fleet/on-demand")
    caller = Caller(listener=fleet.listener, name="worker", records_url=fleet.url)
    return admit_run(request, caller, FlowRunOrigin("flow-1", deployment="on-demand"), fleet.clock)


@pytest.mark.parametrize("state", [RolloutState.CANCELLED, RolloutState.FAULTED])
def test_a_queued_run_of_a_rollout_that_is_over_does_not_begin(fleet: AutomaticFleet, state: RolloutState) -> None:
    rollouts = SqlRollouts(fleet.records.database)
    (rolling,) = rollouts.read_newest()
    rollouts.save(replace(rolling, state=state, message="it broke"))
    refused = admit(fleet)
    assert isinstance(refused, RefusedRun)
    assert refused.refusal.reason == f"{rolling.id} is {state}: it broke"


def test_a_queued_run_begins_without_machines_that_were_paused_meanwhile(fleet: AutomaticFleet) -> None:
    opt_outs = SqlOptOuts(fleet.records.database)
    opt_outs.add(OptOut("ber-2", "bert", "audit", fleet.clock.now()))
    admitted = admit(fleet)
    assert isinstance(admitted, AdmittedRun)
    assert admitted.request.only_machines == ["ber-1"]
    opt_outs.add(OptOut("location=ber", "anne", "", fleet.clock.now()))
    refused = admit(fleet)
    assert isinstance(refused, RefusedRun)
    assert refused.refusal.reason == "all its machines are paused; ber-1: paused by anne"
