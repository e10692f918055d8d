"""The progress of a run as people see it in Prefect: true also for resumed, stopped and suspended runs."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from flows.prefect_runtime import run_artifacts
from flows.prefect_runtime.run_artifacts import PROGRESS_KEY, LiveArtifact, RunArtifacts, render_progress
from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import OperationState
from tasks.reports.export.markdown import MAX_CHARACTERS
from tests.support import builders as make

WAVES = tuple(make.make_wave(number=number, machines=(f"m{number}a", f"m{number}b")) for number in (1, 2, 3))
GOING = make.make_run(state=OperationState.IN_PROGRESS, ended_at=None, message="")


def outcomes(*names: str, state: OperationState = OperationState.SUCCEEDED) -> tuple[Outcome, ...]:
    return tuple(make.make_outcome(machine=name, state=state) for name in names)


def report(*found: Outcome, **run: Any) -> RunReport:
    return make.make_report(run=replace(GOING, **run), waves=WAVES, outcomes=found)


def test_machines_that_an_earlier_process_has_done_are_done() -> None:
    text = render_progress(report(*outcomes("m1a", "m1b", "m2a")), {2}, replace(WAVES[1], machines=("m2b",)), "")
    assert "3 of 6 machines done" in text
    assert "**Now: wave 2 of 3**: m2b" in text
    assert "Next: wave 3 of 3: m3a, m3b" in text
    assert "| 1 | 2 | 0 | 2 Succeeded |" in text
    assert "| 2 | 2 | 0 | 1 Succeeded, InProgress |" in text


def test_a_run_that_was_stopped_promises_no_next_wave() -> None:
    skipped = outcomes("m2a", "m2b", "m3a", "m3b", state=OperationState.NOT_STARTED)
    ended = report(
        *outcomes("m1a"),
        *outcomes("m1b", state=OperationState.FAILED),
        *skipped,
        state=OperationState.FAILED,
        ended_at=make.at(60),
        message="cancelled by <anna>",
    )
    text = render_progress(ended, {1}, None, "")
    assert "2 of 6 machines done" in text
    assert "**The run is over: Failed**: cancelled by &lt;anna&gt;" in text
    assert "Next:" not in text
    assert "| 1 | 2 | 1: m1b | 1 Failed, 1 Succeeded |" in text
    assert "| 3 | 2 | 0 | 2 NotStarted |" in text


def test_a_suspended_run_says_so_and_what_is_left() -> None:
    text = render_progress(report(*outcomes("m1a", "m1b"), message="suspended (by anna)"), {1}, None, "")
    assert "suspended \\(by anna\\)" in text
    assert "Next: wave 2 of 3" in text


def test_machines_outside_of_all_waves_are_not_counted() -> None:
    text = render_progress(report(*outcomes("m1a", "of-another-owner")), set(), None, "")
    assert "1 of 6 machines done" in text


def test_the_progress_of_very_many_waves_has_a_limit() -> None:
    waves = tuple(make.make_wave(number=number, machines=(f"m{number}",)) for number in range(1, 6001))
    done = tuple(make.make_outcome(machine=f"m{number}") for number in range(1, 6001))
    text = render_progress(make.make_report(run=GOING, waves=waves, outcomes=done), set(), None, "")
    assert len(text) < MAX_CHARACTERS + 200
    assert text.endswith(f"There are more waves: fleetpatch show {make.RUN_ID}\n")


def test_what_prefect_did_not_receive_is_shown_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, str] = {}
    away = [True]

    def write(self: Any, text: str) -> None:
        if away[0]:
            raise OSError("away")
        shown[self._key] = text

    def start(_: str, call: Callable[[], object]) -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    monkeypatch.setattr(LiveArtifact, "_write", write)
    artifacts = RunArtifacts(uuid4(), start, "")
    artifacts.show_plan(report())
    artifacts.show_wave_begin(WAVES[0])
    artifacts.show_wave_end(outcomes("m1a", "m1b"))
    assert not shown
    away[0] = False
    artifacts.finish(report(*outcomes("m1a", "m1b"), ended_at=make.at(60), state=OperationState.SUCCEEDED))
    assert "## Plan of run" in shown[run_artifacts.PLAN_KEY]
    assert "The run is over: Succeeded" in shown[PROGRESS_KEY]
