"""The reboot step: decides whether and when to reboot, orders the reboot, and stores the result.

A reboot is done when the machine has a new boot id and a login works.
"""

import math
from dataclasses import replace
from datetime import timedelta

from tasks.domain.errors import (
    LOGIN_REFUSALS,
    FleetpatchError,
    HostKeyMismatch,
    ProtocolViolation,
    ScriptFailed,
    TransportError,
)
from tasks.domain.model import Finding, RebootNeed, RebootResult
from tasks.domain.protocols.records import JournalMark
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.states import PRESENT_UPDATE_STATES, FindingLevel, RebootPolicy, RebootState, Step, YesNoUnknown
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.precheck import check_mounts_writable
from tasks.rules.machine_checks.services import count_reboot_only_services
from tasks.rules.runs.reboot_decision import RebootDecision, add_updates_need, decide_reboot, is_boot
from tasks.rules.undo import LEFT_REBOOT, leaves_pending_reboot
from tasks.rules.updates.transaction_errors import find_boot_danger
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.machine.guests import bring_guests_back, put_guests_away
from tasks.steps.machine.machine_lock import announce_attempt, with_lock_token
from tasks.steps.machine.next_boot import explain_no_boot
from tasks.steps.machine.reboot_obstacles import OBSTACLE_KINDS, RebootWait
from tasks.steps.machine.reboot_watch import (
    is_still_booting,
    read_boot_id,
    require_login,
    send_reboot_order,
    wait_for_boot,
    wait_for_boot_id,
    watch_reboot,
)
from tasks.steps.scheduled_events import (
    await_event,
    begin_event,
    build_reboot_interruption,
    close_events,
    compute_notice_seconds,
    describe_end,
)
from tasks.steps.service_restarts import restart_services, resume_service_restarts
from tasks.steps.snapshots import prepare_first_change
from tasks.steps.start_checks import check_window_fit, find_machine_cut_off


def reboot(context: MachineContext) -> MachineState:
    """Reboot the machine if policy, need and window allow it, and wait until a login works again.

    The result of the reboot is in ``context.state`` even if something raises later.
    """
    early = context.state.install is None
    act = build_reboot_interruption(context, early=early).act
    ordered_boot_id = find_ordered_reboot(context, early=early)
    if ordered_boot_id and _finish_earlier_reboot(context, ordered_boot_id, early):
        _end_interruption(context, act)
        return context.state
    if not early:
        resume_service_restarts(context)  # of an earlier process, which decided against a reboot
    decision = _decide_reboot(context)
    obstacle = (_find_reboot_obstacle(context) or explain_no_boot(context)) if decision.reboot else ""
    if obstacle:
        refusal = f"not rebooted although {decision.reason}: {obstacle}"
        _store_result(context, RebootResult(decision.state_without_reboot, refusal), early)
    elif not decision.reboot:
        result = RebootResult(decision.state_without_reboot, decision.reason, mitigated_by=decision.mitigated_by)
        _store_result(context, result, early)
    else:
        _reboot_as_announced(context, decision, early=early)
    _end_interruption(context, act)
    if not early:
        _finish_without_reboot(context)
    return context.state


def _reboot_as_announced(context: MachineContext, decision: RebootDecision, *, early: bool) -> None:
    """Reboot a machine when its event may begin, after the hooks before it."""
    why_not, approvals = await_event(context, build_reboot_interruption(context, early=early), Step.REBOOT)
    if not why_not and not prepare_first_change(context):
        why_not = context.state.halted
    if why_not:
        refusal = f"not rebooted although {decision.reason}: {why_not}"
        _store_result(context, RebootResult(decision.state_without_reboot, refusal), early)
        return
    reason = f"{decision.reason}; {approvals}" if approvals else decision.reason
    result = _wait_and_reboot(context, reason, early=early)
    if early and result.state is RebootState.COMPLETED:
        context.state = _refresh_state(context)


def _end_interruption(context: MachineContext, act: str) -> None:
    """Bring guests back, unless the host did not come back: the end of its turn asks again. Then its event is over."""
    reboots = context.state.reboots
    if not reboots or reboots[-1].state is not RebootState.FAILED:
        bring_guests_back(context)
    close_events(context, describe_end(context), act)


def _finish_without_reboot(context: MachineContext) -> None:
    """Restart services on a machine that was not rebooted. Warn if the policy is Always and no reboot is required."""
    result = context.state.reboot
    if result is None or result.count:
        return
    if context.options.reboot is RebootPolicy.ALWAYS and result.state is not RebootState.REQUIRED:
        # a required reboot has its own finding
        context.add_finding(Finding("reboot", FindingLevel.WARN, result.reason, "Reboot it in another window."))
    if result.state is not RebootState.FAILED and not context.state.halted:
        restart_services(context)


def _finish_earlier_reboot(context: MachineContext, before: str, early: bool) -> bool:
    """Return whether a reboot that an earlier process ordered is done or has failed. Store its result if so.

    A machine that still has the old boot id may or may not have received the order. So this waits as after an order. If
    the machine stays up, the order is given again, and the machine recognizes it by the boot id. The attempt is
    announced before the boot id is read: a delayed order of an earlier attempt must not take effect after that.
    """

    def is_answer_current(boot: str | None) -> bool:
        return boot is not None and (not is_boot(before, boot) or _try_announce_attempt(context))

    after = read_boot_id(context) if wait_for_boot_id(context, is_answer_current) else None
    if after is None:
        reason = f"ordered before this run was resumed; it did not come back in {context.coming_up_seconds:.0f} s"
        _store_result(context, RebootResult(RebootState.FAILED, reason, boot_id_before=before, count=1), early)
        require_login(context)
        return True
    if is_boot(before, after):
        return False
    reason = "ordered before this run was resumed"
    result = RebootResult(RebootState.COMPLETED, reason, boot_id_before=before, boot_id_after=after, count=1)
    _store_result(context, result, early)
    if early:
        context.state = _refresh_state(context)
    return True


def _try_announce_attempt(context: MachineContext) -> bool:
    """Announce this attempt to the machine. Return whether it answered: it may be going down."""
    try:
        announce_attempt(context)
    except (TransportError, ProtocolViolation, ScriptFailed) as error:
        context.transport.close()
        if is_still_booting(error):
            return False
        raise
    return True


def _store_result(context: MachineContext, result: RebootResult, early: bool) -> RebootResult:
    context.state = replace(context.state, early_reboot=result) if early else replace(context.state, reboot=result)
    return result


def _decide_reboot(context: MachineContext) -> RebootDecision:
    machine_state, options, need = context.state, context.options, context.latest_packages.reboot
    plan, installed = context.plan, machine_state.install.results if machine_state.install is not None else ()
    is_undo = options.undo_order is not None and not plan.snapshot
    if is_undo and leaves_pending_reboot(context.packages.reboot, options.reboot, plan.chosen):
        reasons = f" ({need.explanation})" if need.explanation else ""
        return RebootDecision(reboot=False, state_without_reboot=RebootState.REQUIRED, reason=f"{LEFT_REBOOT}{reasons}")
    if machine_state.reboot is None or not machine_state.reboot.count:
        chosen_ids = {update.id for update in plan.chosen}
        need = add_updates_need(need, (result for result in installed if result.update.id in chosen_ids))
    interruption = build_reboot_interruption(context, early=machine_state.install is None)
    notice = compute_notice_seconds(context, interruption)
    work = f"the reboot, {format_duration(notice)} announced," if notice else "the reboot"
    if options.reboot is not RebootPolicy.NEVER:
        earlier = context.packages.services_to_restart if is_undo else ()  # an undo does not reboot for others
        services = tuple(n for n in context.latest_packages.services_to_restart if n not in earlier)
        packages = replace(context.latest_packages, reboot=need, services_to_restart=services)
        need = count_reboot_only_services(packages, options.restart_services_exclude)
    return decide_reboot(
        options.reboot,
        need,
        installed=sum(result.state in PRESENT_UPDATE_STATES for result in installed),
        can_reboot=context.facts.can_reboot,
        reboots_so_far=sum(result.count for result in machine_state.reboots),
        max_reboots=context.max_reboots,
        time_fit=check_window_fit(context, notice + context.reboot_seconds, work),
        reboots_since_install=0,
        live_patch_policy=options.live_patch_policy,
    )


def _find_reboot_obstacle(context: MachineContext) -> str:
    """Return why a reboot that was decided is not ordered, or ""."""
    if context.stop_token.is_stopping:
        return f"the run was asked to stop: {context.stop_token.reason}"
    problems = context.latest_packages.problems
    if problems:  # a half configured kernel or boot loader may not boot
        return f"its packages are in a broken state: {'; '.join(problems)}"
    install = context.state.install
    broken_before = [package.name for package in context.packages.unfinished]
    return find_boot_danger(install.results, install.transactions, broken_before) if install else ""


def _refresh_state(context: MachineContext) -> MachineState:
    """Return the state after an early reboot: new facts, and no pending reboot.

    The services from before it stay the ones that must run at the end. A machine whose boot does not end is halted, and
    one with a file system that is now read-only: packages could only be half installed there.
    """
    facts, boots_on = wait_for_boot(context, Step.REBOOT)
    context.run_context.instances.meet(facts, context.name)
    before = context.state.baseline
    worse = () if before is None else check_mounts_writable(before.disks, facts.disks)
    packages = replace(context.packages, reboot=RebootNeed(YesNoUnknown.NO, ("just rebooted",)))
    return replace(
        context.state.with_packages(packages),
        baseline=facts
        if before is None
        else replace(facts, services=before.services, default_routes=before.default_routes),
        findings=(*context.state.findings, *worse),
        halted=describe_blocking_findings(worse) or boots_on,
    )


def _wait_and_reboot(context: MachineContext, reason: str, *, early: bool) -> RebootResult:
    """Order the reboot when no other process changes packages on the machine, and watch it."""
    wait = _build_wait(context, early)
    while True:
        readiness, why_not = wait.wait_for_others()
        if readiness.boot_id != wait.boot_id:
            cause = f"it was rebooted, and not by this run, while the reboot waited: {wait.summary}"
            return _store_result(
                context, RebootResult(RebootState.COMPLETED, cause, wait.boot_id, readiness.boot_id), early
            )
        if why_not := why_not or explain_no_boot(context) or put_guests_away(context):  # the wait may have been long
            refusal = f"not rebooted although {reason}: {why_not}"
            return _store_result(context, RebootResult(_decide_reboot(context).state_without_reboot, refusal), early)
        because = f"{reason}; ordered after {wait.summary}" if wait.summary else reason
        result = _order_and_watch(context, readiness.boot_id, because, wait, early=early)
        if result is not None:
            return result


def _build_wait(context: MachineContext, early: bool) -> RebootWait:
    """Return the wait for others. Before the installation, it leaves the time that the installation needs."""
    last = context.window.end - timedelta(seconds=context.reboot_seconds)
    if not early:
        return RebootWait(context, last)
    ahead = context.plan.prediction
    left = find_machine_cut_off(context) - timedelta(seconds=context.reboot_seconds + ahead.stage + ahead.install)
    return RebootWait(context, min(last, left), "to wait longer would leave no time for the installation")


def _order_and_watch(
    context: MachineContext, before: str, reason: str, wait: RebootWait, *, early: bool
) -> RebootResult | None:
    """Order the reboot once. Return its result, or None if another process has begun to change packages meanwhile."""
    clock = context.clock
    latest = _format_latest_start(context)
    order = context.build_shared_script(
        "reboot", {"expected_boot_id": before, "latest": latest, "locks": context.manager.lock_files}, read_only=False
    )
    order = with_lock_token(context, order)
    detail = {"reason": reason, "early": early, "round": context.state.follow_up_count}
    journal.record_start(context, Step.REBOOT, "reboot", before, detail)
    # decide again: the journal entry may have taken long, if the records were away or this process was suspended
    by_now = _decide_reboot(context)
    obstacle = _find_reboot_obstacle(context)
    if by_now.reboot and not obstacle:
        obstacle = begin_event(context, build_reboot_interruption(context, early=early))
    if obstacle or not by_now.reboot:
        why_not = f"not rebooted although {reason}: {obstacle}" if obstacle else by_now.reason
        why_not += f"; it waited for {wait.summary}" if wait.summary and not obstacle else ""
        journal.record_end(
            context, Step.REBOOT, "reboot", before, {"state": by_now.state_without_reboot.value, "why": why_not}
        )
        mitigated_by = "" if obstacle else by_now.mitigated_by
        return _store_result(
            context, RebootResult(by_now.state_without_reboot, why_not, mitigated_by=mitigated_by), early
        )
    context.report_progress(Step.REBOOT, "ordering the reboot")
    result = RebootResult(RebootState.STARTED, reason, boot_id_before=before, count=1)
    _store_result(context, result, early)  # from now on the machine may go down at any time
    refused: ScriptRecord | None = None
    broken_login: FleetpatchError | None = None
    try:
        refused = send_reboot_order(context, order)
        if refused is None:
            result, refused = watch_reboot(context, result, ordered_at=clock.now())
        if refused is not None:
            result = _to_refused_result(result, refused, by_now.state_without_reboot)
    except FleetpatchError as error:
        message = error.message
        if isinstance(error, HostKeyMismatch):
            message = f"{error.describe_in_run()}. {error.hint}"
        result = replace(result, state=RebootState.FAILED, reason=f"{reason}; {message}")
        broken_login = error if isinstance(error, LOGIN_REFUSALS) else None
    _store_result(context, result, early)
    journal.record_end(
        context, Step.REBOOT, "reboot", before, {"state": result.state.value, "boot_id_after": result.boot_id_after}
    )
    if broken_login is not None:
        raise broken_login
    if refused is not None and refused.get("about") in OBSTACLE_KINDS:
        wait.record_refusal(refused)
        return None
    return result


def _to_refused_result(result: RebootResult, refused: ScriptRecord, due: RebootState) -> RebootResult:
    """Return the result of an order that the machine refused, or abandoned before it went down.

    ``due`` is the reboot state of the machine if no reboot was ordered.
    """
    about, reason = refused.get("about"), refused.get("why", "it gave no reason")
    state = RebootState.FAILED
    if about == "window":
        state = RebootState.REQUIRED
    elif about == "boot" or about in OBSTACLE_KINDS:
        state = due
    return replace(result, state=state, reason=f"{result.reason}; refused: {reason}", count=0)


def _format_latest_start(context: MachineContext) -> str:
    """Return the latest time for an order, by the machine's own clock: an order may arrive late."""
    last = context.window.end.timestamp() - context.reboot_seconds
    return str(math.ceil(last + context.facts.clock_skew_seconds))


def find_ordered_reboot(context: MachineContext, *, early: bool) -> str:
    """Return the boot id at which this run may have ordered a reboot of this round before, or ""."""
    if not context.state.was_changed_before_resume:
        return ""
    entries = context.records.read_entries(context.run.id, context.name)
    ordered = [
        entry.key
        for entry in entries
        if entry.mark is JournalMark.BEFORE
        and entry.act == "reboot"
        and entry.detail.get("early") is early
        and entry.detail.get("round", 0) == context.state.follow_up_count
    ]
    return ordered[-1] if ordered else ""
