"""A claim is given back when nothing was begun, and ends soon when the machine can't be reached for that."""

from datetime import timedelta

import pytest

from tasks.errors import ConnectionLost, DeadlineExceeded, FleetpatchError
from tasks.states import OperationState
from tasks.steps.claim import SOON
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of


@pytest.mark.parametrize("error", [ConnectionLost("cut"), DeadlineExceeded("too slow")])
def test_a_line_that_is_cut_in_the_pre_check_leaves_no_claim(fleet: SimFleet, error: FleetpatchError) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.fail(error, on="claim", after_the_act=True)

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.claimed_by is None


def test_a_machine_that_is_gone_in_the_pre_check_is_free_again_soon(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    web.answer("claim", web._claim, seconds=0.5)
    web.fail(ConnectionLost("cut"), on="claim", after_the_act=True)
    web.fail(ConnectionLost("cut"), on="claim")

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.FAILED
    assert web.claimed_by is not None
    assert web.claimed_by[2] <= (fleet.clock.now() + SOON).timestamp()


def test_a_job_that_may_still_run_keeps_the_claim_beyond_the_window(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=60)])
    web.on_start("stage", 0.0, lambda: web.cut(1e6))

    report = fleet.patch(minutes=60)

    assert report.run.window is not None
    assert web.claimed_by is not None
    assert web.claimed_by[2] >= (report.run.window.start + timedelta(minutes=60)).timestamp()
