"""What updates the system by itself rests while a run installs on it, when that was asked for, and then goes on.

The machine remembers what was made to rest by which run. A reboot brings all of it back, and so does a timer of the
machine's own when the claim ends: no machine whose run never ended stays without its own updates for longer than that.
"""

import logging
from dataclasses import replace

from tasks.errors import FleetpatchError, RecordsError, ScriptFailed
from tasks.model import ErrorInfo, Finding
from tasks.rules.checks import UPDATERS
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script, ScriptResult
from tasks.states import FindingLevel, Step
from tasks.steps import journal
from tasks.steps.claim import in_the_name_of
from tasks.steps.context import Work
from tasks.steps.follow import patiently

logger = logging.getLogger(__name__)

ACT = "pause_updaters"
"""The act of journal entries about the pause; whoever finds one undoes it at the end of the machine's turn."""
RESTORED = "restore_updaters"
"""The act of journal entries about its end. Asked twice is done once, so none stands before it."""
KEY = "updaters"

ASK_SECONDS = 90.0  # one answer, reconnecting included; the machine may wait 20 seconds for its own lock
PATIENCE_SECONDS = 120.0  # how long a machine that is out of touch is asked again
_STILL = (
    "They are back when the run's claim on the machine ends, or with its next reboot; on the machine, fleetpatch's "
    "file of updaters names them."
)


def wanted(work: Work) -> bool:
    """Whether this run pauses what updates a system by itself."""
    return work.context.options.native_updaters == "pause"


def pause(work: Work) -> None:
    """Have what would update the system by itself rest, just before the first package transaction.

    What is at work is not touched: it holds the package manager's lock, and is waited for. What can't be paused is a
    warning and no more, for that lock is what really keeps two apart.

    Raises:
        RecordsError: it can't be journalled, or the run is somebody else's: nothing was asked of the machine.
        ScriptFailed: the machine has this run no longer, or can't remember what it would pause.
        TransportError: it could not be asked. It may have heard all the same, so it is told to undo it in the end.
    """
    if not wanted(work):
        return
    if not work.manager.updaters:
        _note(work, FindingLevel.GOOD, f"nothing is known of {work.manager.name} that updates a system by itself")
        return
    journal.about_to(work, Step.INSTALL, ACT, KEY)
    work.run = replace(work.run, paused=True)
    try:
        answer = _ask(work, "pause")
    except ScriptFailed as error:  # the machine answered, and would not
        journal.done(work, Step.INSTALL, ACT, KEY, {"error": error.message})
        raise
    paused, failed = _units(answer, "paused"), answer.of_kind("failed")
    for record in failed:
        why = f"{record.get('unit')} could not be paused: {record.get('why')}"
        _note(work, FindingLevel.WARN, why, "Look at it on the machine. Package transactions wait for each other.")
    for record in answer.of_kind("left"):
        _note(work, FindingLevel.GOOD, f"{record.get('unit')} is left as it is: {record.get('why')}")
    for unit in _units(answer, "running"):
        _note(work, FindingLevel.GOOD, f"{unit} is at work and is left to its end; installing waits for it")
    for record in answer.of_kind("untimed"):
        why = f"the machine can't bring them back by itself when its claim ends: {record.get('why')}"
        _note(work, FindingLevel.WARN, why, "They are back at the end of this run, or with the machine's next reboot.")
    for record in answer.of_kind("nothing"):
        _note(work, FindingLevel.GOOD, f"nothing to pause: {record.get('why')}")
    journal.done(work, Step.INSTALL, ACT, KEY, {"paused": paused, "failed": [str(each.get("unit")) for each in failed]})


def restore(work: Work) -> None:
    """Bring back what this run has paused, however the machine's turn went. Raises nothing.

    A run that somebody else has taken over leaves it to that one.
    """
    control = work.context.control
    if not work.run.paused or control.taken_over:
        return
    try:
        answer = _ask(work, "restore")
        back = [f"{record.get('unit')} ({record.get('how')})" for record in answer.of_kind("back")]
        failed = [f"{record.get('unit')}: {record.get('why')}" for record in answer.of_kind("failed")]
        left = [f"{record.get('unit')} ({record.get('why')})" for record in answer.of_kind("left")]
        if back or left:
            _note(work, FindingLevel.GOOD, f"paused while this run installed: {', '.join([*back, *left])}")
        if failed:
            _note(work, FindingLevel.WARN, f"not brought back: {'; '.join(failed)}", _STILL)
        journal.done(work, Step.REPORT, RESTORED, KEY, {"back": back, "left": left, "failed": failed})
    except RecordsError as error:
        control.stop(f"the records failed: {error.message}")
        info = ErrorInfo.of(error)
        work.run = replace(work.run, error=work.run.error or info)
    except (FleetpatchError, ValueError) as error:  # ValueError: nothing is known of the machine, not even its manager
        logger.info("%s: its own updaters could not be brought back: %s", work.name, error)
        _note(work, FindingLevel.WARN, f"what was paused may be so still: {getattr(error, 'message', error)}", _STILL)


def _ask(work: Work, what: str) -> ScriptResult:
    """Ask for it, and again while the machine is out of touch: asked twice is done once.

    Raises:
        RecordsError: somebody else has taken the run over.
        ScriptFailed: the machine refused.
        TransportError: it stayed out of touch.
    """
    clock = work.context.clock
    script = in_the_name_of(work, Script(work.manager.updaters, {"work": what}, read_only=False))

    def ask() -> ScriptResult:
        if not work.context.control.ours():  # this process may have been held up since it asked the last time
            raise RecordsError("somebody else has taken this run over, so nothing more is done from here")
        return work.transport.run(script, deadline=Deadline.after(clock, ASK_SECONDS))

    answer = patiently(work, ask, Deadline.after(clock, PATIENCE_SECONDS))
    refused = answer.of_kind("refused")
    if refused or answer.exit_code:
        why = str(refused[0].get("why")) if refused else f"exit code {answer.exit_code}: {answer.noise[-300:]}"
        raise ScriptFailed(
            f"the machine would not {what} its own updaters: {why}", exit_code=answer.exit_code, machine=work.name
        )
    return answer


def _units(answer: ScriptResult, kind: str) -> list[str]:
    return [str(record.get("unit")) for record in answer.of_kind(kind)]


def _note(work: Work, level: FindingLevel, message: str, remedy: str = "") -> None:
    """Keep a finding, once."""
    finding = Finding(UPDATERS, level, message, remedy)
    if finding not in work.run.findings:
        work.run = replace(work.run, findings=(*work.run.findings, finding))
