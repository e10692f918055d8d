"""Restart services that run replaced files, when that was asked for: in one detached job, journalled, once a run."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tasks.errors import ManagerBusy, ScriptFailed
from tasks.model import Finding, PackageState, RestartResult
from tasks.rules.restarts import CHECK, kept, restartable, shown
from tasks.rules.window import fit
from tasks.seams.clock import Deadline
from tasks.seams.transport import Job, JobPhase, ParameterValue, Script, ScriptRecord
from tasks.states import FindingLevel, Step
from tasks.steps import journal
from tasks.steps.claim import in_the_name_of
from tasks.steps.context import Work
from tasks.steps.follow import Followed, follow, hand_over
from tasks.steps.handed import restart_handed_over
from tasks.steps.hooks import before_machine
from tasks.steps.turn import asked_to_stop

ACT = "restart"
"""The act of journal entries about it; their key is the job's id."""
SERVICE_SECONDS = 30.0
"""Part of the window that one service needs."""
_LATEST = 1e11  # seconds since 1970, in the year 5138
_WHY_LEFT = {
    "window": "no time was left",
    "stop": "the run was asked to stop",
    "inactive": "it does not run",
    "oneshot": "it is no service that keeps running",
    "keep": "that would take along",
    "lock": "packages are being changed by",
    "packages": "packages are half done:",
    "manager": "the service manager does not answer",
}


def is_wanted(work: Work) -> bool:
    """Whether this run restarts services."""
    return work.context.options.restart_services == "IfRequired"


def restart_services(work: Work) -> None:
    """Restart what runs replaced files, as far as the window holds it; what became of it is told by findings.

    Like a reboot: the hooks before the machine come first, the journal knows of it before it begins, and the machine
    compares the order with its claim. Whoever takes the run up attaches to the same job.

    Raises:
        RecordsError: it can't be journalled, or the run is somebody else's: nothing was begun from here.
        ConnectionLost, DeadlineExceeded, JobLost: the end of the job was not seen.
    """
    if not is_wanted(work) or work.run.restarts is not None:
        return
    handed = restart_handed_over(work, ACT)
    units = handed or _due(work)
    if not units:
        return
    obstacle = "" if handed else _obstacle(work)
    if not obstacle and not handed and not before_machine(work):
        obstacle = work.run.halted
    if obstacle:
        _note(work, FindingLevel.WARN, f"not restarted: {shown(units)}: {obstacle}")
        return
    job_id = journal.job_id(work.context.run.id, work.name, ACT, 0)
    journal.about_to(work, Step.REBOOT, ACT, job_id, {"units": list(units)})
    work.context.watch.progress(work.name, Step.REBOOT, None, f"restarting {shown(units)}")
    try:
        hand_over(work, Job(job_id, in_the_name_of(work, _script(work, units))))
    except (ManagerBusy, ScriptFailed) as error:  # the machine answered, and would not
        journal.done(work, Step.REBOOT, ACT, job_id, {"error": error.message})
        _note(work, FindingLevel.WARN, f"not restarted: {shown(units)}: {error.message}")
        return
    _told(work, job_id, follow(work, job_id, lambda _: None, _watching(work, len(units))), units)


def restart_begun(work: Work) -> None:
    """Follow what an earlier process of the run has begun to restart, before a reboot could come in between."""
    if is_wanted(work) and restart_handed_over(work, ACT):
        restart_services(work)


def _due(work: Work) -> tuple[str, ...]:
    return restartable(_packages(work), work.context.options.restart_services_exclude)


def _packages(work: Work) -> PackageState:
    return work.run.packages_after or work.packages


def _obstacle(work: Work) -> str:
    """Return why nothing may be restarted, or ""."""
    window = work.context.window
    check = fit(
        work.context.clock.now(),
        SERVICE_SECONDS,
        window.end,
        "restarting a service",
        "the end of the window",
        zone=window.zone,
    )
    problems = _packages(work).problems
    if problems:  # what is half set up may not start again
        return f"its packages are in a broken state: {'; '.join(problems)}"
    return asked_to_stop(work) or ("" if check.fits else check.arithmetic)


def _script(work: Work, units: tuple[str, ...]) -> Script:
    keep = kept(work.context.options.restart_services_exclude)
    masks = tuple(form for mask in keep for form in (mask, *([] if mask.endswith("*") else [f"{mask}.service"])))
    params: dict[str, ParameterValue] = {"work": ACT, "units": units, "keep": masks, "latest": _latest(work)}
    return Script("restart_services", params, read_only=False)


def _latest(work: Work) -> str:
    """Return the last moment at which a service may be restarted, by the machine's own clock."""
    last = work.context.window.end.timestamp() - SERVICE_SECONDS
    return str(math.floor(last + work.facts.clock_skew_seconds))


def _watching(work: Work, count: int) -> Deadline:
    """Until when the job is watched: it may end late, and the machine may be out of touch for a while."""
    now, window = work.context.clock.now(), work.context.window
    patience = work.context.options.out_of_touch_seconds + count * SERVICE_SECONDS
    return Deadline(max(now, window.end) + timedelta(seconds=patience))


def _told(work: Work, job_id: str, followed: Followed, units: tuple[str, ...]) -> None:
    """Keep what the job did, by its own records; what it does not tell of a unit is not known to be done."""
    ends = {str(e.get("unit")): e for e in followed.events if e.get("kind") == "restart_ended"}
    left = {str(e.get("unit")): _why_left(e) for e in followed.events if e.get("kind") == "restart_left"}
    good = tuple(unit for unit in units if unit in ends and _is_good(ends[unit]))
    failed = {unit: _why_failed(end) for unit, end in ends.items() if unit in units and unit not in good}
    cut = followed.phase is JobPhase.LOST or bool(followed.exit_code)
    unseen = [unit for unit in units if unit not in ends and unit not in left]
    moments = [at for end in ends.values() if (at := _moment(end, work.facts.clock_skew_seconds)) is not None]
    work.run = replace(work.run, restarts=RestartResult(good, max(moments, default=None)))
    if good:
        _note(work, FindingLevel.GOOD, f"restarted: {', '.join(good)}")
    if failed:
        why = "; ".join(f"{unit}: {told}" for unit, told in failed.items())
        _note(work, FindingLevel.WARN, f"could not be restarted: {why}", "Read their logs on the machine.")
    if left:
        why = "; ".join(f"{unit}: {told}" for unit, told in left.items())
        _note(work, FindingLevel.WARN, f"not restarted: {why}")
    if unseen or cut:
        why = "the job that restarts services was cut short" if cut else "the job told nothing of them"
        _note(work, FindingLevel.WARN, f"{why}: {shown(unseen or units)}", "Look at these services on the machine.")
    detail: dict[str, object] = {"restarted": list(good), "failed": failed, "left": left, "unseen": unseen}
    journal.done(work, Step.REBOOT, ACT, job_id, detail)


def _is_good(end: ScriptRecord) -> bool:
    return end.get("exit_code") == 0 and end.get("active") == "active"


def _why_failed(end: ScriptRecord) -> str:
    words = str(end.get("error") or "").strip()[-300:]
    return f"it is {end.get('active') or 'in an unknown state'} now" + (f" ({words})" if words else "")


def _why_left(event: ScriptRecord) -> str:
    why, detail = str(event.get("why")), str(event.get("detail") or "")
    return f"{_WHY_LEFT.get(why, why)} {detail}".strip()


def _moment(event: Mapping[str, object], skew: float) -> datetime | None:
    at = event.get("at")
    usable = isinstance(at, int | float) and not isinstance(at, bool)
    return datetime.fromtimestamp(at - skew, UTC) if usable and 0 < at - skew < _LATEST else None  # type: ignore[operator]  # usable is what says so


def _note(work: Work, level: FindingLevel, message: str, remedy: str = "") -> None:
    """Keep a finding, once."""
    remedy = remedy or ("" if level is FindingLevel.GOOD else "Restart them by hand, or in another window.")
    finding = Finding(CHECK, level, message, remedy)
    if finding not in work.run.findings:
        work.run = replace(work.run, findings=(*work.run.findings, finding))
