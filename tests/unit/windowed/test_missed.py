"""Windows that no run had: when that is certain, and what is said of it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Window
from tasks.domain.states import WindowStatus
from tasks.rules.timing.admission import (
    MISSED_WINDOW_GRACE_PERIOD,
    FlowRunState,
    MissedWindow,
    ScheduledRun,
    WindowClaim,
    find_missed_window,
)

START = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
NIGHT = Window(START, START + timedelta(hours=2), "Europe/Berlin")
LAST = START + timedelta(minutes=105)
OVER = LAST + MISSED_WINDOW_GRACE_PERIOD
SAID = "no run used the window 2026-11-21 01:00 to 03:00 CET (2 h): "


def run(state: FlowRunState, message: str = "") -> ScheduledRun:
    return ScheduledRun("id-1", "brave-fox", state, message)


def known(what: WindowStatus) -> WindowClaim:
    return WindowClaim("web", START, what, "run-1", "", START)


def at(now: datetime, *runs: ScheduledRun, standing: WindowClaim | None = None, recorded: bool = True) -> str:
    found = find_missed_window(NIGHT, LAST, now, runs, standing, is_recorded=recorded)
    return found.reason.removeprefix(SAID) if found is not None else ""


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (FlowRunState.WAITING, "flow run brave-fox was never started (is a worker online?)"),
        (FlowRunState.PENDING, "flow run brave-fox is stuck as Pending"),
        (FlowRunState.CANCELLED, "flow run brave-fox was cancelled in Prefect before it began: by anne"),
        (FlowRunState.FAILED, "flow run brave-fox failed before it used the window: by anne"),
        (
            FlowRunState.CANCELLED_BY_LIMIT,
            "Prefect cancelled flow run brave-fox while an earlier run of its deployment counted as running",
        ),
    ],
)
def test_what_became_of_the_run_is_said(state: FlowRunState, words: str) -> None:
    assert at(OVER, run(state, "by anne")) == words


def test_without_a_run_it_is_prefect_that_made_none() -> None:
    assert at(OVER).startswith("Prefect made none (")
    assert at(OVER - timedelta(seconds=1)) == ""


def test_one_that_prefect_s_limit_cancelled_is_told_at_once() -> None:
    assert find_missed_window(
        NIGHT, LAST, START - timedelta(hours=8), [run(FlowRunState.CANCELLED_BY_LIMIT)], None
    ) == MissedWindow(
        f"{SAID}Prefect cancelled flow run brave-fox while an earlier run of its deployment counted as running", "id-1"
    )
    assert (
        at(START, run(FlowRunState.CANCELLED_BY_LIMIT), run(FlowRunState.WAITING)) == ""
    )  # another one may still come


def test_a_claim_that_came_to_nothing_is_no_run() -> None:
    gone = run(FlowRunState.FAILED, "no inventory")
    assert at(OVER, gone, standing=known(WindowStatus.CLAIMED), recorded=False) != ""
    assert at(OVER, gone, standing=known(WindowStatus.CLAIMED)) == ""
    assert at(LAST, gone, standing=known(WindowStatus.CLAIMED), recorded=False) == ""


RUNS = st.lists(st.sampled_from(FlowRunState).map(run), max_size=3)


@given(RUNS, st.sampled_from([None, *WindowStatus]), st.booleans(), st.integers(-600, 600))
def test_what_is_known_is_never_told_again_and_what_runs_is_never_missed(
    runs: list[ScheduledRun], what: WindowStatus | None, recorded: bool, minutes: int
) -> None:
    standing = known(what) if what is not None else None
    now = LAST + timedelta(minutes=minutes)
    found = find_missed_window(NIGHT, LAST, now, runs, standing, is_recorded=recorded)
    if found is None:
        return
    assert standing is None or (standing.status is WindowStatus.CLAIMED and not recorded)
    assert not any(each.state is FlowRunState.STARTED for each in runs)
    assert now >= OVER or {each.state for each in runs} == {FlowRunState.CANCELLED_BY_LIMIT}
    assert find_missed_window(NIGHT, LAST, max(now, OVER), runs, standing, is_recorded=recorded) is not None


@given(RUNS)
def test_a_window_that_is_over_and_unknown_is_missed_unless_a_run_began(runs: list[ScheduledRun]) -> None:
    began = any(each.state is FlowRunState.STARTED for each in runs)
    assert (at(OVER, *runs) == "") == began
