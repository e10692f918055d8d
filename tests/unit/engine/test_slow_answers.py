"""The machine's clock, when its answers are slow: nothing on it may begin later than the window allows."""

import itertools
from dataclasses import replace

import pytest

from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.protocols.transport import Script
from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.support.fake_clock import FakeClock
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
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


@pytest.mark.parametrize(("patience", "state"), [(300.0, OperationState.FAILED), (900.0, OperationState.SUCCEEDED)])
def test_a_package_manager_says_how_long_its_answers_may_take(
    fleet: SimFleet, patience: float, state: OperationState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of Windows takes many minutes."""
    monkeypatch.setattr(FakeManager, "default_rates", replace(FakeManager.default_rates, read_timeout_seconds=patience))
    web = fleet.add("web", [FakePackage("a")])
    web.answer("fake_assess", web._handlers["fake_assess"][0], seconds=600)

    outcome = outcome_of(fleet.patch(minutes=240), "web")

    assert outcome.state is state, outcome.reason


class SlowRecords(FakeRecords):
    """Records that hold the run up before its reboot."""

    clock: FakeClock

    def append_entry(self, entry: JournalEntry) -> None:
        super().append_entry(entry)
        if entry.act == "reboot" and entry.mark is JournalMark.BEFORE:
            self.clock.advance(50 * 60)


def test_a_reboot_is_not_ordered_when_storing_that_took_until_the_window_closed() -> None:
    records = SlowRecords()
    fleet = SimFleet(records=records)
    records.clock = fleet.clock
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])

    outcome = outcome_of(fleet.patch(minutes=60), "web")

    assert web.boots.orders == []
    assert outcome.reboot is RebootState.REQUIRED
    assert "left until" in outcome.reason
