"""What updates the system by itself rests while a run installs on it, when that was asked for, and then goes on.

The machine remembers what was made to rest by which run. A reboot brings all of it back, and so does a timer of the
machine's own when the lock ends: no machine whose run never ended stays without its own updates for longer than that.
"""

import logging
from dataclasses import replace

from tasks.errors import FleetpatchError, RecordsError, ScriptFailed, UnsupportedSystem
from tasks.model import ErrorInfo, Finding
from tasks.protocols.clock import Deadline
from tasks.protocols.transport import ScriptResult
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK
from tasks.states import FindingLevel, Step
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.machine_lock import with_lock_token
from tasks.steps.machine.retry import retry_transient

logger = logging.getLogger(__name__)

PAUSE_ACT = "pause_updaters"
"""The act of journal entries about the pause; whoever finds one undoes it at the end of the machine's turn."""
RESTORE_ACT = "restore_updaters"
"""The act of journal entries about its end. Asked twice is done once, so none stands before it."""
JOURNAL_KEY = "updaters"

SCRIPT_TIMEOUT_SECONDS = 90.0  # one answer, reconnecting included; the machine may wait 20 seconds for its own lock
RETRY_SECONDS = 120.0  # how long a machine that is out of touch is asked again
_STILL_PAUSED_REMEDY = (
    "They are back when the run's claim on the machine ends, or with its next reboot; on the machine, fleetpatch's "
    "file of updaters names them."
)


def is_pause_wanted(context: MachineContext) -> bool:
    """Whether this run pauses what updates a system by itself."""
    return context.run_context.options.native_updaters == "pause"


def pause_updaters(context: MachineContext) -> None:
    """Have what would update the system by itself rest, just before the first package transaction.

    What is at work is not touched: it holds the package manager's lock, and is waited for. What can't be paused is a
    warning and no more, for that lock is what really keeps two apart.

    Raises:
        RecordsError: it can't be journalled, or the run is somebody else's: nothing was asked of the machine.
        ScriptFailed: the machine has this run no longer, or can't remember what it would pause.
        TransportError: it could not be asked. It may have heard all the same, so it is told to undo it in the end.
    """
    if not is_pause_wanted(context):
        return
    if context.manager.updaters_script is None:
        _add_finding(
            context, FindingLevel.GOOD, f"nothing is known of {context.manager.name} that updates a system by itself"
        )
        return
    journal.record_start(context, Step.INSTALL, PAUSE_ACT, JOURNAL_KEY)
    context.state = replace(context.state, may_have_paused_updaters=True)
    try:
        answer = _run_updaters_script(context, "pause")
    except ScriptFailed as error:  # the machine answered, and would not
        journal.record_end(context, Step.INSTALL, PAUSE_ACT, JOURNAL_KEY, {"error": error.message})
        raise
    paused, failed = _list_units(answer, "paused"), answer.find_records("failed")
    for record in failed:
        why = f"{record.get('unit')} could not be paused: {record.get('why')}"
        _add_finding(
            context, FindingLevel.WARN, why, "Look at it on the machine. Package transactions wait for each other."
        )
    for record in answer.find_records("left"):
        _add_finding(context, FindingLevel.GOOD, f"{record.get('unit')} is left as it is: {record.get('why')}")
    for unit in _list_units(answer, "running"):
        _add_finding(context, FindingLevel.GOOD, f"{unit} is at work and is left to its end; installing waits for it")
    for record in answer.find_records("untimed"):
        why = f"the machine can't bring them back by itself when its claim ends: {record.get('why')}"
        _add_finding(
            context, FindingLevel.WARN, why, "They are back at the end of this run, or with the machine's next reboot."
        )
    for record in answer.find_records("nothing"):
        _add_finding(context, FindingLevel.GOOD, f"nothing to pause: {record.get('why')}")
    journal.record_end(
        context,
        Step.INSTALL,
        PAUSE_ACT,
        JOURNAL_KEY,
        {"paused": paused, "failed": [str(each.get("unit")) for each in failed]},
    )


def restore_updaters(context: MachineContext) -> None:
    """Bring back what this run has paused, however the machine's turn went. Raises nothing.

    A run that somebody else has taken over leaves it to that one.
    """
    stop_token = context.run_context.stop_token
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
            _add_finding(context, FindingLevel.WARN, f"not brought back: {'; '.join(failed)}", _STILL_PAUSED_REMEDY)
        journal.record_end(
            context, Step.REPORT, RESTORE_ACT, JOURNAL_KEY, {"back": back, "left": left, "failed": failed}
        )
    except RecordsError as error:
        stop_token.request_stop(f"the records failed: {error.message}")
        info = ErrorInfo.from_error(error)
        context.state = replace(context.state, error=context.state.error or info)
    except (FleetpatchError, ValueError) as error:  # ValueError: nothing is known of the machine, not even its manager
        logger.info("%s: its own updaters could not be brought back: %s", context.name, error)
        _add_finding(
            context,
            FindingLevel.WARN,
            f"what was paused may be so still: {getattr(error, 'message', error)}",
            _STILL_PAUSED_REMEDY,
        )


def _run_updaters_script(context: MachineContext, action: str) -> ScriptResult:
    """Ask for it, and again while the machine is out of touch: asked twice is done once.

    Raises:
        RecordsError: somebody else has taken the run over.
        ScriptFailed: the machine refused.
        TransportError: it stayed out of touch.
        UnsupportedSystem: its package manager knows no such script.
    """
    clock = context.run_context.clock
    updaters_script = context.manager.updaters_script
    if updaters_script is None:
        raise UnsupportedSystem(f"nothing is known of {context.manager.name} that updates a system by itself")
    script = with_lock_token(context, replace(updaters_script, params={"work": action}))

    def run_script() -> ScriptResult:
        if (
            not context.run_context.stop_token.still_holds_lease()
        ):  # this process may have been held up since it asked the last time
            raise RecordsError("somebody else has taken this run over, so nothing more is done from here")
        return context.transport.run_script(script, deadline=Deadline.after(clock, SCRIPT_TIMEOUT_SECONDS))

    answer = retry_transient(context, run_script, Deadline.after(clock, RETRY_SECONDS))
    refused = answer.find_records("refused")
    if refused or answer.exit_code:
        why = (
            str(refused[0].get("why")) if refused else f"exit code {answer.exit_code}: {answer.unframed_output[-300:]}"
        )
        raise ScriptFailed(
            f"the machine would not {action} its own updaters: {why}", exit_code=answer.exit_code, machine=context.name
        )
    return answer


def _list_units(answer: ScriptResult, kind: str) -> list[str]:
    return [str(record.get("unit")) for record in answer.find_records(kind)]


def _add_finding(context: MachineContext, level: FindingLevel, message: str, remedy: str = "") -> None:
    """Keep a finding, once."""
    finding = Finding(AUTO_UPDATER_CHECK, level, message, remedy)
    if finding not in context.state.findings:
        context.state = replace(context.state, findings=(*context.state.findings, finding))
