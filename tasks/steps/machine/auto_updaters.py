"""Pauses the system's own updaters while a run installs, or leaves a machine that others patch to them, as asked for.

The machine stores which run paused what. A reboot restores all of it. So does a timer of the machine when the machine
lock expires: if a run never ends, the machine is without its own updates at most until then.
"""

import logging
from dataclasses import replace

from tasks.domain.errors import FleetpatchError, RecordsError, ScriptFailed, UnsupportedSystem
from tasks.domain.model import Finding, PackageState
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK, check_auto_updaters, describe_left_out
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.machine.machine_lock import with_lock_token
from tasks.steps.machine.package_state import read_package_state_with_retry
from tasks.steps.machine.retry import retry_transient
from tasks.steps.start_checks import is_visit_needed

logger = logging.getLogger(__name__)

PAUSE_ACT = "pause_updaters"
"""The act of journal entries about the pause. A resumed run that finds one restores the updaters at the end."""
RESTORE_ACT = "restore_updaters"
"""The act of journal entries about the end of the pause. It may be repeated, so it has no entry before it."""
JOURNAL_KEY = "updaters"

SCRIPT_TIMEOUT_SECONDS = 120.0  # one call with a reconnection; the machine may wait 20 s for its lock, 60 s for a task
RETRY_SECONDS = 120.0  # how long an unreachable machine is asked again
_STILL_PAUSED_REMEDY = (
    "They start again when the run's lock on the machine ends, or on Linux with its next reboot; on the machine, "
    "fleetpatch's file of updaters names them. If they don't, the next assessment says so."
)
_PAUSE_FINDINGS = (
    (
        "failed",
        FindingLevel.WARN,
        "{unit} could not be paused: {why}",
        "Look at it on the machine. Package transactions wait for each other.",
    ),
    ("left", FindingLevel.GOOD, "{unit} is left as it is: {why}", ""),
    ("running", FindingLevel.GOOD, "{unit} is running and is not stopped; the installation waits for it", ""),
    (
        "untimed",
        FindingLevel.WARN,
        "the machine can't start them again by itself when the lock ends: {why}",
        "They start again at the end of this run, or with the machine's next reboot.",
    ),
    ("nothing", FindingLevel.GOOD, "nothing to pause: {why}", ""),
)
"""What a machine says about its updaters when they are paused: kind of record, level, message and remedy."""


def is_pause_wanted(context: MachineContext) -> bool:
    """Return whether this run pauses the system's own updaters."""
    options = context.options
    return options.pauses_updaters and not options.download_only


def list_paused_units(context: MachineContext) -> tuple[str, ...]:
    """Return the units that this run may have stopped and masked until its end."""
    script = context.manager.updaters_script
    if script is None or not context.state.may_have_paused_updaters:
        return ()
    return tuple(str(unit) for key in ("units", "activated") for unit in script.params.get(key, ()))


def pause_updaters(context: MachineContext) -> None:
    """Pause the system's own updaters, just before the first package transaction.

    An updater that is running is not touched: it has the package manager's lock, and the run waits for it. An updater
    that can't be paused gives only a warning, because that lock is what separates two transactions.

    Raises:
        RecordsError: the journal entry can't be written, or another process has the run: the machine was not asked.
        ScriptFailed: this run no longer has the machine lock, or the machine can't store what it would pause.
        TransportError: it could not be asked. It may have received the order, so the run restores at the end.
    """
    if not is_pause_wanted(context):
        return
    if context.manager.updaters_script is None:
        _add_finding(context, FindingLevel.GOOD, f"no automatic updater of {context.manager.name} is known")
        return
    journal.record_start(context, Step.INSTALL, PAUSE_ACT, JOURNAL_KEY)
    context.state = replace(context.state, may_have_paused_updaters=True)
    try:
        answer = _run_updaters_script(context, "pause")
    except ScriptFailed as error:  # the machine answered, and refused
        journal.record_end(context, Step.INSTALL, PAUSE_ACT, JOURNAL_KEY, {"error": error.message})
        raise
    for kind, level, message, remedy in _PAUSE_FINDINGS:
        for record in answer.find_records(kind):
            _add_finding(context, level, message.format(unit=record.get("unit"), why=record.get("why")), remedy)
    paused_units, failed_units = (
        [str(record.get("unit")) for record in answer.find_records(kind)] for kind in ("paused", "failed")
    )
    detail: dict[str, object] = {"paused": paused_units, "failed": failed_units}
    journal.record_end(context, Step.INSTALL, PAUSE_ACT, JOURNAL_KEY, detail)


def restore_updaters(context: MachineContext) -> None:
    """Restore what this run has paused, whatever the result of the machine is. Raises nothing.

    If another process has taken the run over, that process restores it.
    """
    stop_token = context.stop_token
    if not context.state.may_have_paused_updaters or stop_token.is_lease_lost:
        return
    try:
        answer = _run_updaters_script(context, "restore")
        back = [f"{record.get('unit')} ({record.get('how')})" for record in answer.find_records("back")]
        failed = [f"{record.get('unit')}: {record.get('why')}" for record in answer.find_records("failed")]
        left = [f"{record.get('unit')} ({record.get('why')})" for record in answer.find_records("left")]
        if back or left:
            _add_finding(context, FindingLevel.GOOD, f"paused while this run installed: {', '.join([*back, *left])}")
        if failed:
            _add_finding(context, FindingLevel.WARN, f"not started again: {'; '.join(failed)}", _STILL_PAUSED_REMEDY)
        journal.record_end(
            context, Step.REPORT, RESTORE_ACT, JOURNAL_KEY, {"back": back, "left": left, "failed": failed}
        )
    except RecordsError as error:
        context.record_failed_records(error)
    except (FleetpatchError, ValueError) as error:  # ValueError: no facts, so no package manager is known
        logger.info("%s: its own updaters could not be started again: %s", context.name, error)
        _add_finding(
            context,
            FindingLevel.WARN,
            f"what was paused may still be paused: {getattr(error, 'message', error)}",
            _STILL_PAUSED_REMEDY,
        )


def _run_updaters_script(context: MachineContext, action: str) -> ScriptResult:
    """Run the updaters script, and retry while the machine is unreachable. A second execution has no further effect.

    Raises RecordsError (another process has taken the run over), ScriptFailed (the machine refused), TransportError or
    UnsupportedSystem (its package manager has no such script).
    """
    clock = context.clock
    updaters_script = context.manager.updaters_script
    if updaters_script is None:
        raise UnsupportedSystem(f"no automatic updater of {context.manager.name} is known")
    script = with_lock_token(context, replace(updaters_script, params={**updaters_script.params, "work": action}))

    def run_script() -> ScriptResult:
        # this process may have been suspended since the last check
        if not context.stop_token.still_holds_lease():
            raise RecordsError("another process executes this run now, so this process does nothing more")
        return context.transport.run_script(script, deadline=Deadline.after(clock, SCRIPT_TIMEOUT_SECONDS))

    answer = retry_transient(context, run_script, Deadline.after(clock, RETRY_SECONDS))
    refused = answer.find_records("refused")
    if refused or answer.exit_code:
        reason = (
            str(refused[0].get("why")) if refused else f"exit code {answer.exit_code}: {answer.unframed_output[-300:]}"
        )
        raise ScriptFailed(
            f"the machine refused to {action} its own updaters: {reason}",
            exit_code=answer.exit_code,
            machine=context.name,
        )
    return answer


def _add_finding(context: MachineContext, level: FindingLevel, message: str, remedy: str = "") -> None:
    """Add a finding, once."""
    context.add_finding(Finding(AUTO_UPDATER_CHECK, level, message, remedy))


def explain_left_out(context: MachineContext) -> str:
    """Return why a planned machine is left out, by its assessment, or "". Without anything to do, none is."""
    if not is_visit_needed(context.state, context.options):
        return ""
    return _describe(context, context.packages)


def leave_out(context: MachineContext, packages: PackageState, why: str) -> MachineState:
    """Return the state of a machine that is left out: NotStarted, with what was found."""
    for auto_updater in check_auto_updaters(packages, paused=context.options.pauses_updaters):
        context.add_finding(auto_updater)
    return replace(context.state, halted=why, halted_as=OperationState.NOT_STARTED)


def halt_if_others_patch(context: MachineContext) -> bool:
    """Look again just before the first change, if the request asks for it. Return whether the machine is halted.

    The pre-check goes by the assessment, which may be hours old: the run waited for its approval or its window, or was
    resumed.

    Raises:
        FleetpatchError: the packages can't be read. Nothing was changed.
    """
    policy = context.options.patched_by_others
    if policy == "patch":
        return False
    packages = read_package_state_with_retry(context)
    if reason := _describe(context, packages):
        context.state = leave_out(context, packages, reason)
        return True
    findings = tuple(check_auto_updaters(packages, policy, paused=context.options.pauses_updaters))
    for finding in findings:
        if finding.level is FindingLevel.BLOCK:
            context.add_finding(finding)
    halted = describe_blocking_findings(findings)
    context.state = replace(context.state, halted=halted, halted_as=OperationState.FAILED)
    return bool(halted)


def _describe(context: MachineContext, packages: PackageState) -> str:
    options = context.options
    return describe_left_out(packages, options.patched_by_others, paused=options.pauses_updaters)
