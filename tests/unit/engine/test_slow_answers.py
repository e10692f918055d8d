"""The machine's clock, when its answers are slow: nothing on it may begin later than the window allows."""

import itertools

import pytest

from tasks.seams.transport import Script
from tasks.states import UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fake_transport import Answer
from tests.support.fleet import SimFleet, outcome_of, result_of


def slow_facts(fleet: SimFleet, seconds: float, times: int) -> None:
    """Let the line hang after the pre-check's question was answered, so many times."""
    web = fleet.machines["web"]
    answer, asked = web._handlers["facts"][0], itertools.count(1)

    def late(script: Script) -> Answer:
        records = answer(script)
        if 2 <= next(asked) < 2 + times:  # the first one is the assessment's
            fleet.clock.advance(seconds)
        return records

    web.answer("facts", late)


@pytest.mark.parametrize("times", [1, 2])
def test_a_line_that_hangs_gives_the_machine_no_more_time(fleet: SimFleet, times: int) -> None:
    web = fleet.add("web", [FakePackage("a")])
    fleet.teach(transaction_seconds=5, install_seconds_per_update=5)
    slow_facts(fleet, 100, times)

    report = fleet.patch(minutes=30, reboot="Never", stage=False)

    assert result_of(outcome_of(report, "web"), "a").state is UpdateState.INSTALLED
    assert report.run.window is not None
    (job,) = web.installs()
    assert float(str(job.script.params["tx_0_latest_start"])) <= report.run.window.end.timestamp() - 10 + 0.1
