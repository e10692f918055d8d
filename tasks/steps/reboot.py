"""Reboot: whether, and when the window can hold it; done is a new boot id and a login that works."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tasks.errors import FleetpatchError, TransportError
from tasks.model import RebootNeed, RebootResult
from tasks.rules.reboot import decide
from tasks.rules.window import fit
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script
from tasks.states import Answer, RebootState, Step, UpdateState
from tasks.steps import journal
from tasks.steps.context import MachineRun, Work
from tasks.steps.facts import read_facts

ORDER_SECONDS = 60.0  # giving the order, reconnecting included
KNOCK_SECONDS = 20.0  # one try to log in
PAUSE_SECONDS = 1.0


def reboot(work: Work) -> MachineRun:
    """Reboot the machine if policy, need and window say so, and wait until it is back."""
    run = work.run
    packages = run.packages_after or work.packages
    early = run.install is None
    installed = 0 if run.install is None else sum(r.state is UpdateState.INSTALLED for r in run.install.results)
    taken = sum(result.count for result in run.reboots)
    check = fit(
        work.context.clock.now(), work.reboot_reserve, work.context.window.end, "the reboot", "the end of the window"
    )
    decision = decide(
        work.context.options.reboot,
        packages.reboot,
        installed=installed,
        facts_can_reboot=work.facts.can_reboot,
        reboots_so_far=taken,
        max_reboots=work.max_reboots,
        fits=check,
        reboots_since_install=0,
    )
    if work.context.control.stopping and decision.reboot:
        state = RebootState.REQUIRED if packages.reboot.answer is Answer.YES else RebootState.NOT_NEEDED
        result = RebootResult(state, f"the run was asked to stop: {work.context.control.reason}")
    elif not decision.reboot:
        result = RebootResult(decision.state_if_not, decision.reason)
    else:
        result = _carry_out(work, decision.reason)
    if not early:
        return replace(run, reboot=result)
    if result.state is RebootState.COMPLETED:
        run = _afresh(work)
    return replace(run, early_reboot=result)


def _afresh(work: Work) -> MachineRun:
    """After a reboot that was taken first, nothing is pending any more: let the run see the machine as it is now."""
    facts = read_facts(work.transport, work.context.clock, work.reading())
    packages = replace(work.packages, reboot=RebootNeed(Answer.NO, ("just rebooted",)))
    assessment = work.run.assessment
    return replace(
        work.run,
        baseline=facts,
        assessment=replace(assessment, packages=packages) if assessment else None,
    )


def _carry_out(work: Work, reason: str) -> RebootResult:
    clock, options = work.context.clock, work.context.options
    before = read_facts(work.transport, clock, work.reading()).boot_id
    journal.about_to(work, Step.REBOOT, "reboot", before, {"reason": reason})
    ordered_at = clock.now()
    _say(work, "ordering the reboot")
    _order(work, before)
    result = RebootResult(RebootState.STARTED, reason, boot_id_before=before, count=1)
    down_at = _until(work, options.going_down_seconds, lambda boot: boot != before, "going down")
    if down_at is None:
        result = replace(
            result,
            state=RebootState.FAILED,
            reason=f"{reason}; it did not go down in {options.going_down_seconds:.0f} s",
        )
    else:
        result = replace(result, down_seconds=(down_at - ordered_at).total_seconds())
        result = _come_back(work, result, down_at)
    journal.done(
        work, Step.REBOOT, "reboot", before, {"state": result.state.value, "boot_id_after": result.boot_id_after}
    )
    return result


def _order(work: Work, boot_id: str) -> None:
    """Give the order. The machine refuses it when its boot id is no longer that one: asked twice is done once.

    A line that is cut here tells nothing: the order may have been carried out, so the machine is watched either way.
    """
    script = Script("reboot", {"expected_boot_id": boot_id}, read_only=False)
    try:
        work.transport.run(script, deadline=Deadline.after(work.context.clock, ORDER_SECONDS))
    except TransportError as error:
        if not error.transient:
            raise
    finally:
        work.transport.close()


def _come_back(work: Work, result: RebootResult, down_at: datetime) -> RebootResult:
    limit = work.run.machine.limits.reboot_timeout_minutes
    seconds = work.context.options.coming_up_seconds if limit is None else limit * 60
    seen: list[str] = []

    def back(boot_id: str | None) -> bool:
        if boot_id is None or boot_id == result.boot_id_before:
            return False
        seen.append(boot_id)
        return True

    up_at = _until(work, seconds, back, "coming up")
    if up_at is None:
        return replace(
            result, state=RebootState.FAILED, reason=f"{result.reason}; it did not come back in {seconds:.0f} s"
        )
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
            return None
        raise


def _still_booting(error: FleetpatchError) -> bool:
    """Whether it can be taken for a machine on its way down or up.

    Logins are refused for a moment at both ends (pam_nologin), and scripts are cut off in the middle.
    """
    return error.transient or type(error).__name__ in {
        "AuthenticationFailed",
        "DeadlineExceeded",
        "PrivilegeError",
        "ProtocolViolation",
        "ScriptFailed",
    }


def _say(work: Work, message: str) -> None:
    work.context.watch.progress(work.name, Step.REBOOT, None, message)
