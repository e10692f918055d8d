"""Reasons that people ask for: why something took longer than its window, and who stood in the way."""

from datetime import timedelta
from typing import Any

import pytest

from tasks.domain.protocols.transport import Script
from tasks.domain.states import OperationState, UpdateState
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of


def test_an_update_that_passed_the_windows_end_says_by_how_much_and_why(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a", seconds=2000)])
    fleet.teach(transaction_seconds=10, install_seconds_per_update=10)

    outcome = outcome_of(fleet.patch(minutes=30, reboot="Never", stage=False), "web")

    result = result_of(outcome, "a")
    assert result.state is UpdateState.INSTALLED
    assert "passed the window's end by" in result.reason
    assert (
        "it took 2002 s, about 20 s were expected, and a transaction that has begun is never interrupted"
        in result.reason
    )
    assert "the window was exceeded by" in outcome.reason


def test_an_update_that_was_in_time_says_nothing_of_it(fleet: SimFleet) -> None:
    fleet.add("web", [FakePackage("a")])
    assert result_of(outcome_of(fleet.patch(), "web"), "a").reason == ""


def test_what_waited_for_a_lock_in_vain_was_not_attempted(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])
    now = fleet.clock.now()
    web.world.locks = ((now, now + timedelta(hours=8)),)

    outcome = outcome_of(fleet.patch(minutes=60, reboot="Never", stage=False), "web")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    for name in ("a", "b"):
        result = result_of(outcome, name)
        assert result.state is UpdateState.NOT_ATTEMPTED
        assert result.reason.startswith("no time left: ")
        assert result.reason.endswith("; packages were being changed by dpkg (pid 7)")
    assert web.jobs() == []
    assert web.world.whole() == {"a": "1.0", "b": "1.0"}


def test_what_its_administrator_removed_meanwhile_stays_away_and_says_why(
    fleet: SimFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = fleet.add("web", [FakePackage("a"), FakePackage("b")])
    make = FakeManager.build_job_script

    def job(manager: FakeManager, *words: Any, **named: Any) -> Script:
        web.world["a"].installed = None
        return make(manager, *words, **named)

    monkeypatch.setattr(FakeManager, "build_job_script", job)
    outcome = outcome_of(fleet.patch(), "web")

    gone = result_of(outcome, "a")
    assert gone.state is UpdateState.FAILED
    assert gone.reason.endswith("it would have installed anew what was removed after the assessment: a")
    assert result_of(outcome, "b").state is UpdateState.INSTALLED
    assert web.world.whole() == {"b": "2.0"}


def test_a_machine_that_cannot_take_its_lock_back_is_told(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    take_lock = web._take_lock
    web.answer(
        "machine_lock",
        lambda script: (
            {"kind": "refused", "why": "cannot write"} if script.params.get("release") else take_lock(script)
        ),
    )

    outcome = outcome_of(fleet.patch(), "web")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "machine lock" in outcome.reason
    assert "cannot write" in outcome.reason
