"""Reboot: whether, and when the window can hold it; done is a new boot id and a login that works."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from tasks.errors import (
    AuthenticationFailed,
    DeadlineExceeded,
    FleetpatchError,
    PrivilegeError,
    ProtocolViolation,
    ScriptFailed,
    TransportError,
)
from tasks.model import Finding, PackageState, RebootNeed, RebootResult
from tasks.rules.checks import mount_findings
from tasks.rules.reboot import RebootDecision, decide
from tasks.rules.window import fit
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script, ScriptRecord
from tasks.states import Answer, FindingLevel, RebootPolicy, RebootState, Step, UpdateState
from tasks.steps import journal
from tasks.steps.claim import in_the_name_of, outrank
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import read_facts, timed_facts
from tasks.steps.follow import passing
from tasks.steps.handed import reboot_ordered
from tasks.steps.hooks import before_machine
from tasks.steps.reboot_obstacles import BUSY, Waiting, ask
from tasks.steps.restarts import restart_begun, restart_services
from tasks.steps.turn import over_at

ORDER_SECONDS = 60.0  # giving the order, reconnecting included
KNOCK_SECONDS = 20.0  # one try to log in
PAUSE_SECONDS = 1.0
_BOOTING = (AuthenticationFailed, DeadlineExceeded, PrivilegeError, ProtocolViolation, ScriptFailed)
REFUSED_PAUSE_SECONDS = 10.0  # after a login was refused: a machine that boots refuses all, and accounts get locked


def reboot(work: Work) -> MachineRun:
    """Reboot the machine if policy, need and window say so, and wait until it is back.

    What became of the reboot is in the work's run even when something raises later.
    """
    early = work.run.install is None
    ordered = reboot_ordered(work, early=early)
    if ordered and _came_back(work, ordered, early):
        return work.run
    if not early:
        restart_begun(work)  # by an earlier process, which had decided against a reboot
    decision = _decision(work)
    obstacle = _obstacle(work) if decision.reboot else ""
    if obstacle:
        _keep(work, RebootResult(decision.state_if_not, f"not rebooted although {decision.reason}: {obstacle}"), early)
    elif not decision.reboot:
        _keep(work, RebootResult(decision.state_if_not, decision.reason), early)
    elif not before_machine(work):
        why_not = f"not rebooted although {decision.reason}: {work.run.halted}"
        _keep(work, RebootResult(decision.state_if_not, why_not), early)
    else:
        result = _carry_out(work, decision.reason, early=early)
        if early and result.state is RebootState.COMPLETED:
            work.run = _afresh(work)
    if not early:
        _say_unmet(work)
        if _stays_up(work):
            restart_services(work)
    return work.run


def _stays_up(work: Work) -> bool:
    """Whether the machine was neither rebooted nor found unfit for it: its services may be restarted instead."""
    result = work.run.reboot
    return result is not None and not result.count and result.state is not RebootState.FAILED and not work.run.halted


def _say_unmet(work: Work) -> None:
    """Say so when the policy is to reboot always and that was not done, though the machine itself asks for none."""
    result = work.run.reboot
    if work.context.options.reboot is not RebootPolicy.ALWAYS or result is None or result.count:
        return
    if result.state is not RebootState.REQUIRED:  # which is told by itself
        unmet = Finding("reboot", FindingLevel.WARN, result.reason, "Reboot it in another window.")
        work.run = replace(work.run, findings=(*work.run.findings, unmet))


def _came_back(work: Work, before: str, early: bool) -> bool:
    """Whether a reboot that an earlier process ordered has been carried out; if so it is kept as this run's.

    A machine that is still in the boot in which the order was given may have heard it or not, so it is waited for
    just as after an order; when it stays up the order is given again, and the machine knows it by its boot id. It hears
    of this attempt first: an order that an earlier one still has on its way must not come after the look.
    """

    def told(boot: str | None) -> bool:
        return boot is not None and (boot != before or _hears_of_us(work))

    facts_now = _until(work, work.context.options.coming_up_seconds, told, "coming up")
    after = _boot_id(work) if facts_now is not None else None
    if after is None:
        waited = work.context.options.coming_up_seconds
        reason = f"ordered before this run was taken up again; it did not come back in {waited:.0f} s"
        _keep(work, RebootResult(RebootState.FAILED, reason, boot_id_before=before, count=1), early)
        return True
    if after == before:
        return False
    reason = "ordered before this run was taken up again"
    result = RebootResult(RebootState.COMPLETED, reason, boot_id_before=before, boot_id_after=after, count=1)
    _keep(work, result, early)
    if early:
        work.run = _afresh(work)
    return True


def _hears_of_us(work: Work) -> bool:
    """Let the machine hear of this attempt; return whether it could be asked: it may be on its way down."""
    try:
        outrank(work)
    except (TransportError, ProtocolViolation, ScriptFailed) as error:
        work.transport.close()
        if _still_booting(error):
            return False
        raise
    return True


def _keep(work: Work, result: RebootResult, early: bool) -> RebootResult:
    work.run = replace(work.run, early_reboot=result) if early else replace(work.run, reboot=result)
    return result


def _decision(work: Work) -> RebootDecision:
    run, options, window = work.run, work.context.options, work.context.window
    return decide(
        options.reboot,
        _packages(work).reboot,
        installed=0 if run.install is None else sum(r.state is UpdateState.INSTALLED for r in run.install.results),
        facts_can_reboot=work.facts.can_reboot,
        reboots_so_far=sum(result.count for result in run.reboots),
        max_reboots=work.max_reboots,
        fits=fit(
            work.context.clock.now(),
            work.reboot_seconds,
            window.end,
            "the reboot",
            "the end of the window",
            zone=window.zone,
        ),
        reboots_since_install=0,
    )


def _obstacle(work: Work) -> str:
    """Return why a reboot that was decided upon is not ordered all the same, or ""."""
    if work.context.control.stopping:
        return f"the run was asked to stop: {work.context.control.reason}"
    problems = _packages(work).problems
    if problems:  # a kernel or a boot loader that is only half set up may not start again
        return f"its packages are in a broken state: {'; '.join(problems)}"
    return ""


def _packages(work: Work) -> PackageState:
    return work.run.packages_after or work.packages


def _afresh(work: Work) -> MachineRun:
    """After a reboot that was taken first, nothing is pending any more: let the run see the machine as it is now.

    A machine that has come back with a file system read-only goes no further: nothing could be installed whole there.
    """
    facts = timed_facts(work.transport, work.context.clock, work.reading())
    worse = () if work.run.baseline is None else mount_findings(work.run.baseline.disks, facts.disks)
    packages = replace(work.packages, reboot=RebootNeed(Answer.NO, ("just rebooted",)))
    assessment = work.run.assessment
    return replace(
        work.run,
        baseline=facts,
        findings=(*work.run.findings, *worse),
        halted="; ".join(f"{finding.check}: {finding.message}" for finding in worse),
        assessment=replace(assessment, packages=packages) if assessment else None,
    )


def _carry_out(work: Work, reason: str, *, early: bool) -> RebootResult:
    """Order the reboot once nobody else changes the machine's packages, and watch it."""
    waiting = _waiting(work, early)
    while True:
        standing, why_not = waiting.for_others()
        if standing.boot_id != waiting.boot_id:
            why = f"somebody else rebooted it while the reboot waited: {waiting.told}"
            return _keep(work, RebootResult(RebootState.COMPLETED, why, waiting.boot_id, standing.boot_id), early)
        if why_not:
            why = f"not rebooted although {reason}: {why_not}"
            return _keep(work, RebootResult(_decision(work).state_if_not, why), early)
        because = f"{reason}; ordered after {waiting.told}" if waiting.told else reason
        result = _order_and_watch(work, standing.boot_id, because, waiting, early=early)
        if result is not None:
            return result


def _waiting(work: Work, early: bool) -> Waiting:
    """Return the wait for others; one before the installation leaves the time that it needs."""
    last = work.context.window.end - timedelta(seconds=work.reboot_seconds)
    if not early:
        return Waiting(work, last)
    ahead = work.plan.prediction
    left = over_at(work) - timedelta(seconds=work.reboot_seconds + ahead.stage + ahead.install)
    return Waiting(work, min(last, left), "to wait longer would leave no time for the installation")


def _order_and_watch(work: Work, before: str, reason: str, waiting: Waiting, *, early: bool) -> RebootResult | None:
    """Order the reboot once; return what came of it, or None when somebody has begun to change packages meanwhile."""
    clock = work.context.clock
    order = Script(
        "reboot",
        {"expected_boot_id": before, "latest": _latest(work), "locks": work.manager.locks},
        read_only=False,
    )
    order = in_the_name_of(work, order)
    journal.about_to(work, Step.REBOOT, "reboot", before, {"reason": reason, "early": early})
    by_now = _decision(work)  # storing that may have taken long: the records were away, or this process was held up
    obstacle = _obstacle(work)
    if obstacle or not by_now.reboot:
        why_not = f"not rebooted although {reason}: {obstacle}" if obstacle else by_now.reason
        why_not += f"; it waited for {waiting.told}" if waiting.told and not obstacle else ""
        journal.done(work, Step.REBOOT, "reboot", before, {"state": by_now.state_if_not.value, "why": why_not})
        return _keep(work, RebootResult(by_now.state_if_not, why_not), early)
    _say(work, "ordering the reboot")
    result = RebootResult(RebootState.STARTED, reason, boot_id_before=before, count=1)
    _keep(work, result, early)  # from here on it may go down, whatever else happens
    refused: ScriptRecord | None = None
    try:
        refused = _order(work, order)
        if refused is None:
            result, refused = _watch(work, result, ordered_at=clock.now())
        if refused is not None:
            result = _not_taken_on(result, refused, by_now.state_if_not)
    except FleetpatchError as error:
        result = replace(result, state=RebootState.FAILED, reason=f"{reason}; {error.message}")
    _keep(work, result, early)
    journal.done(
        work, Step.REBOOT, "reboot", before, {"state": result.state.value, "boot_id_after": result.boot_id_after}
    )
    if refused is not None and refused.get("about") in BUSY:
        waiting.refused(refused)
        return None
    return result


def _not_taken_on(result: RebootResult, refused: ScriptRecord, due: RebootState) -> RebootResult:
    """Return the result of an order that the machine refused, or gave up before it went down.

    Args:
        result: of the order, so far.
        refused: what the machine said.
        due: where the machine stands with a reboot that was not ordered.
    """
    about, why = refused.get("about"), refused.get("why", "it gave no reason")
    state = RebootState.REQUIRED if about == "window" else due if about in BUSY else RebootState.FAILED
    return replace(result, state=state, reason=f"{result.reason}; refused: {why}", count=0)


def _latest(work: Work) -> str:
    """Return the last moment for an order, by the machine's own clock: one may be held up on its way."""
    last = work.context.window.end.timestamp() - work.reboot_seconds
    return str(math.ceil(last + work.facts.clock_skew_seconds))


def _order(work: Work, order: Script) -> ScriptRecord | None:
    """Give the order, once; return how the machine refuses it, or None. What is refused was not ordered.

    The machine refuses when its claim is another run's or a later attempt's, or gone; and when its boot id is no longer
    the expected one: asked twice is done once, and that is no refusal here.
    A line that is cut, or an answer that is late, tells nothing: the order may have been carried out, so the machine is
    watched either way.
    """
    boot_id = order.params["expected_boot_id"]
    try:
        answer = work.transport.run(order, deadline=Deadline.after(work.context.clock, ORDER_SECONDS))
    except TransportError as error:
        if not passing(error):
            raise
        return None
    finally:
        work.transport.close()
    refusals = [record for record in answer.of_kind("refused") if record.get("boot_id") in (boot_id, "")]
    return refusals[0] if refusals else None


def _watch(work: Work, result: RebootResult, ordered_at: datetime) -> tuple[RebootResult, ScriptRecord | None]:
    """Watch it go down and come back; return what came of it, and why the machine gave the order up, if it did."""
    seconds = work.context.options.going_down_seconds
    given_up: list[ScriptRecord] = []

    def gone(boot_id: str | None) -> bool:
        given_up.extend(_given_up(work) if boot_id == result.boot_id_before else ())
        return boot_id != result.boot_id_before or bool(given_up)

    down_at = _until(work, seconds, gone, "going down")
    if given_up:
        return result, given_up[0]
    if down_at is None:
        reason = f"{result.reason}; it did not go down in {seconds:.0f} s"
        return replace(result, state=RebootState.FAILED, reason=reason), None
    return _come_back(work, replace(result, down_seconds=(down_at - ordered_at).total_seconds()), down_at), None


def _given_up(work: Work) -> tuple[ScriptRecord, ...]:
    """Return why a machine that is still up has given up its order, or nothing: it may be on its way down."""
    try:
        standing = ask(work)
    except FleetpatchError as error:
        work.transport.close()
        if _still_booting(error):
            return ()
        raise
    return ({"why": standing.given_up, "about": standing.given_up_about},) if standing.given_up else ()


def _come_back(work: Work, result: RebootResult, down_at: datetime) -> RebootResult:
    limit = work.run.machine.limits.reboot_timeout_minutes
    seconds = work.context.options.coming_up_seconds if limit is None else limit * 60
    seen: list[str] = []

    def back(boot_id: str | None) -> bool:
        seen.extend([boot_id] if boot_id is not None else [])
        return boot_id not in {None, result.boot_id_before}

    up_at = _until(work, seconds, back, "coming up")
    if up_at is None:
        how = "it answers, and is still in the boot that it was in" if seen else "it did not come back"
        return replace(result, state=RebootState.FAILED, reason=f"{result.reason}; {how} after {seconds:.0f} s")
    return replace(
        result,
        state=RebootState.COMPLETED,
        boot_id_after=seen[-1],
        up_seconds=(up_at - down_at).total_seconds(),
    )


def _until(work: Work, seconds: float, condition: Callable[[str | None], bool], doing: str) -> datetime | None:
    """Ask for the boot id (None: no answer) until the condition holds; return when, or None at the deadline."""
    clock = work.context.clock
    deadline = Deadline.after(clock, seconds)
    while True:
        if condition(_boot_id(work)):
            return clock.now()
        if deadline.passed(clock):
            return None
        _say(work, f"{doing}: {max(0.0, deadline.remaining(clock)):.0f} s left")
        clock.sleep(PAUSE_SECONDS)


def _boot_id(work: Work) -> str | None:
    """Return the boot id, or None when no login works. A stranger's host key is not a sign of life: it is raised."""
    clock = work.context.clock
    try:
        return read_facts(work.transport, clock, Deadline.after(clock, KNOCK_SECONDS)).boot_id
    except FleetpatchError as error:
        work.transport.close()
        if _still_booting(error):
            if isinstance(error, AuthenticationFailed):
                clock.sleep(REFUSED_PAUSE_SECONDS)
            return None
        raise


def _still_booting(error: FleetpatchError) -> bool:
    """Whether it can be taken for a machine on its way down or up.

    Logins are refused for a moment at both ends (pam_nologin), and scripts are cut off in the middle.
    """
    return error.transient or isinstance(error, _BOOTING)


def _say(work: Work, message: str) -> None:
    work.context.watch.progress(work.name, Step.REBOOT, None, message)
