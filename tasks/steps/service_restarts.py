"""Restart services that run replaced files, if the request says so: in one detached job, journalled, once in a run."""

import math
from dataclasses import replace
from datetime import timedelta

from tasks.domain.errors import ManagerBusy, ScriptFailed
from tasks.domain.model import Finding, RestartResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.records import JournalMark
from tasks.domain.protocols.transport import Job, JobPhase, Script, ScriptParameter
from tasks.domain.states import FindingLevel, Step
from tasks.rules.machine_checks.services import (
    SERVICE_RESTART_CHECK,
    build_protected_unit_masks,
    find_restartable_services,
    join_first_services,
)
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.hooks import run_before_hooks
from tasks.steps.jobs.job_result import EndedJob, parse_job_record_time
from tasks.steps.jobs.package_job import is_job_unknown_to_machine, submit_job
from tasks.steps.jobs.watch import watch_job
from tasks.steps.machine.machine_lock import with_lock_token
from tasks.steps.scheduled_events import (
    Interruption,
    await_event,
    begin_event,
    build_restart_interruption,
    close_events,
    compute_notice_seconds,
)
from tasks.steps.start_checks import check_window_fit, explain_stop_request

RESTART_ACT = "restart"
"""The act of journal entries about service restarts; their key is the job's id."""
RESTART_SECONDS_PER_SERVICE = 30.0
"""The part of the window that one service needs."""
_SKIP_REASONS = {
    "window": "no time was left",
    "stop": "the run was asked to stop",
    "inactive": "it does not run",
    "oneshot": "it is no service that keeps running",
    "keep": "that would also restart",
    "lock": "packages are being changed by",
    "packages": "packages are half done:",
    "manager": "the service manager does not answer",
    "sessions": "a restart would end sessions:",
    "guests": "a restart would end the container or virtual machine of",
    "login": "somebody is logged in there:",
    "configuration": "it would not start again:",
}


def is_restart_wanted(context: MachineContext) -> bool:
    """Return whether this run restarts services."""
    return context.options.restart_services == "IfRequired"


def restart_services(context: MachineContext) -> None:
    """Restart the services that run replaced files, within the window. Findings report the results.

    As with a reboot, the hooks before the machine run first, the journal entry comes before the start, and the machine
    compares the order with its machine lock. A process that resumes the run attaches to the same job.

    Raises:
        RecordsError: the journal entry can't be written, or another process has the run: nothing began from here.
        ConnectionLost, DeadlineExceeded, JobLost: the end of the job was not seen.
    """
    if not is_restart_wanted(context) or context.state.restarts is not None:
        return
    submitted_units = find_submitted_restarts(context, RESTART_ACT)
    exclude = context.options.restart_services_exclude
    units = submitted_units or find_restartable_services(context.latest_packages, exclude)
    if not units:
        return
    seconds = context.options.max_unreachable_seconds + len(units) * RESTART_SECONDS_PER_SERVICE
    interruption = build_restart_interruption(context, len(units), RESTART_SECONDS_PER_SERVICE)
    obstacle = "" if submitted_units else _find_restart_obstacle(context, interruption)
    if not obstacle and not submitted_units:
        obstacle, _ = await_event(context, interruption, Step.REBOOT)
    if not obstacle and not submitted_units and not run_before_hooks(context):
        obstacle = context.state.halted
    if not obstacle:
        withdrawn = begin_event(context, interruption)
        obstacle = "" if submitted_units else withdrawn
    if obstacle:
        _add_finding(context, FindingLevel.WARN, f"not restarted: {join_first_services(units)}: {obstacle}")
        return
    job_id = journal.build_job_id(context.run.id, context.name, RESTART_ACT, 0)
    journal.record_start(context, Step.REBOOT, RESTART_ACT, job_id, {"units": list(units)})
    context.report_progress(Step.REBOOT, f"restarting {join_first_services(units)}")
    try:
        started = submit_job(context, Job(job_id, with_lock_token(context, _build_restart_script(context, units))))
    except (ManagerBusy, ScriptFailed) as error:  # the machine answered, and refused
        journal.record_end(context, Step.REBOOT, RESTART_ACT, job_id, {"error": error.message})
        _add_finding(context, FindingLevel.WARN, f"not restarted: {join_first_services(units)}: {error.message}")
        return
    # it may end late, and the machine may be unreachable for a while
    deadline = Deadline(max(context.clock.now(), context.window.end) + timedelta(seconds=seconds))
    _record_results(context, job_id, watch_job(context, started, lambda _: None, deadline), units)
    close_events(context, "they were restarted", interruption.act)


def resume_service_restarts(context: MachineContext) -> None:
    """Watch restarts that an earlier process of the run has begun, before a reboot can interrupt them."""
    if is_restart_wanted(context) and find_submitted_restarts(context, RESTART_ACT):
        restart_services(context)


def _find_restart_obstacle(context: MachineContext, interruption: Interruption) -> str:
    """Return why nothing may be restarted, or ""."""
    seconds = RESTART_SECONDS_PER_SERVICE + compute_notice_seconds(context, interruption)
    check = check_window_fit(context, seconds, "restarting a service")
    problems = context.latest_packages.problems
    if problems:  # a half configured service may not start again
        return f"its packages are in a broken state: {'; '.join(problems)}"
    return explain_stop_request(context) or ("" if check.fits else check.explanation)


def _build_restart_script(context: MachineContext, units: tuple[str, ...]) -> Script:
    updaters = context.latest_packages.updater_units
    keep = build_protected_unit_masks(updaters, context.options.restart_services_exclude)
    masks = tuple(form for mask in keep for form in (mask, *([] if mask.endswith("*") else [f"{mask}.service"])))
    params: dict[str, ScriptParameter] = {
        "work": RESTART_ACT,
        "units": units,
        "keep": masks,
        "latest": _format_latest_start(context),
        "locks": context.manager.change_lock_files,
    }
    return context.build_shared_script("restart_services", params, read_only=False)


def _format_latest_start(context: MachineContext) -> str:
    """Return the latest time to restart a service, by the machine's own clock."""
    last = context.window.end.timestamp() - RESTART_SECONDS_PER_SERVICE
    return str(math.floor(last + context.facts.clock_skew_seconds))


def _record_results(context: MachineContext, job_id: str, ended_job: EndedJob, units: tuple[str, ...]) -> None:
    """Store the results from the job's own records. A unit without a record counts as not restarted."""
    ends = {str(e.get("unit")): e for e in ended_job.events if e.get("kind") == "restart_ended"}
    left: dict[str, str] = {}
    for event in ended_job.events:
        why = str(event.get("why"))
        if event.get("kind") == "restart_left" and why != "inactive":  # then nothing runs its old files
            left[str(event.get("unit"))] = f"{_SKIP_REASONS.get(why, why)} {event.get('detail') or ''}".strip()
    running = {unit for unit, end in ends.items() if end.get("exit_code") == 0 and end.get("active") == "active"}
    good = tuple(unit for unit in units if unit in running)
    failed: dict[str, str] = {}
    for unit, end in ends.items():
        if unit in units and unit not in good:
            error = str(end.get("error") or "").strip()[-300:]
            failed[unit] = f"it is {end.get('active') or 'in an unknown state'} now{f' ({error})' if error else ''}"
    cut = ended_job.phase is JobPhase.LOST or bool(ended_job.exit_code)
    unseen = [unit for unit in units if unit not in ends and unit not in left]
    moments = [
        at for end in ends.values() if (at := parse_job_record_time(end, context.facts.clock_skew_seconds)) is not None
    ]
    context.state = replace(context.state, restarts=RestartResult(good, max(moments, default=None)))
    if good:
        _add_finding(context, FindingLevel.GOOD, f"restarted: {', '.join(good)}")
    if failed:
        reason = "; ".join(f"{unit}: {message}" for unit, message in failed.items())
        _add_finding(context, FindingLevel.WARN, f"could not be restarted: {reason}", "Read their logs on the machine.")
    if left:
        reason = "; ".join(f"{unit}: {message}" for unit, message in left.items())
        _add_finding(context, FindingLevel.WARN, f"not restarted: {reason}")
    if unseen or cut:
        reason = "the job that restarts services was interrupted" if cut else "the job reported nothing about them"
        message = f"{reason}: {join_first_services(unseen or units)}"
        _add_finding(context, FindingLevel.WARN, message, "Look at these services on the machine.")
    detail: dict[str, object] = {"restarted": list(good), "failed": failed, "left": left, "unseen": unseen}
    journal.record_end(context, Step.REBOOT, RESTART_ACT, job_id, detail)


def _add_finding(context: MachineContext, level: FindingLevel, message: str, remedy: str = "") -> None:
    """Add a finding, once."""
    remedy = remedy or ("" if level is FindingLevel.GOOD else "Restart them by hand, or in another window.")
    context.add_finding(Finding(SERVICE_RESTART_CHECK, level, message, remedy))


def find_submitted_restarts(context: MachineContext, act: str) -> tuple[str, ...]:
    """Return the units of a restart job that this run may have started before, or ().

    Raises:
        RecordsError: the journal entry of that job is not valid.
        TransportError: a stop was requested, and the machine could not be asked.
    """
    if not context.state.was_changed_before_resume:
        return ()
    for entry in context.records.read_entries(context.run.id, context.name):
        if entry.mark is JournalMark.BEFORE and entry.act == act:
            units = entry.detail.get("units")
            if not isinstance(units, list | tuple) or not all(isinstance(unit, str) for unit in units):
                raise journal.build_unreadable_error(entry, f"job {entry.key}", f"{units!r:.200}", context.name)
            return (
                () if context.stop_token.is_stopping and is_job_unknown_to_machine(context, entry.key) else tuple(units)
            )
    return ()
