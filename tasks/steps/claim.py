"""A machine is worked on by one run at a time, and it is the machine that says by which."""

import logging
from datetime import UTC, datetime, timedelta

from tasks.errors import FleetpatchError
from tasks.model import Finding
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script, ScriptRecord
from tasks.states import FindingLevel, UpdateState
from tasks.steps.context import Work

logger = logging.getLogger(__name__)

ASK_SECONDS = 60.0
_IN_DOUBT = frozenset({"DeadlineExceeded", "InternalError", "JobLost"})  # with these a download may be running still
BEYOND_WINDOW = timedelta(hours=1)
"""How long after the window's end a claim holds that nobody gave back: a last reboot and its validation fit into it."""


def claim(work: Work) -> Finding:
    """Claim the machine for this run, unless another run has it. Asked twice, it is still ours."""
    run, window = work.context.run, work.context.window
    until = (window.end + BEYOND_WINDOW).timestamp() + work.facts.clock_skew_seconds
    answer = _ask(work, {"run": run.id, "by": run.started_by or "unknown", "until": f"{until:.0f}"})
    kind = answer.get("kind")
    if kind == "claimed":
        return Finding("claim", FindingLevel.GOOD, "no other run has this machine")
    if kind == "taken":
        whose = f"run {answer.get('run')} of {answer.get('by')} has this machine until {_moment(answer)}"
        return Finding("claim", FindingLevel.BLOCK, whose, "Wait for that run, or resume it and let it end.")
    why = str(answer.get("why") or "the machine gave no answer")
    return Finding("claim", FindingLevel.BLOCK, f"the machine can't be claimed: {why}", "Mend that on the machine.")


def release(work: Work) -> None:
    """Give the claim back, unless a job of ours may still be at work, or the run is somebody else's by now.

    What isn't given back ends by itself.
    """
    if not work.run.claimed or work.context.control.taken_over or _may_be_at_work(work):
        return
    try:
        _ask(work, {"run": work.context.run.id, "release": "yes"})
    except FleetpatchError as error:
        logger.info("%s: its claim could not be given back: %s", work.name, error.message)


def _may_be_at_work(work: Work) -> bool:
    """Whether an installation was begun whose end was not seen: only such updates are still Pending afterwards."""
    install = work.run.install
    if install is None:
        return work.run.error is not None and (work.run.error.transient or work.run.error.kind in _IN_DOUBT)
    return any(result.state is UpdateState.PENDING for result in install.results)


def _ask(work: Work, parameters: dict[str, str]) -> ScriptRecord:
    records = work.transport.run(
        Script("claim", parameters), deadline=Deadline.after(work.context.clock, ASK_SECONDS)
    ).records
    return records[-1] if records else {}


def _moment(answer: ScriptRecord) -> str:
    until = answer.get("until")
    if isinstance(until, int | float) and 0 < until < 1e11:
        return f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC by its own clock"
    return "an unknown moment"
