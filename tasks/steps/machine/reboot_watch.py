"""Sends the reboot order to a machine, watches it go down and come back, and waits until its boot has ended."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from inventory.data_class import dataclass
from tasks.domain.errors import (
    LOGIN_REFUSALS,
    AuthenticationFailed,
    DeadlineExceeded,
    FleetpatchError,
    ProtocolViolation,
    ScriptFailed,
    TransportError,
)
from tasks.domain.model import Facts, RebootResult
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import RebootState, Step
from tasks.steps.context.machine_context import MAX_GOING_DOWN_FACTOR, MachineContext
from tasks.steps.machine.facts import read_facts, read_facts_again
from tasks.steps.machine.reboot_obstacles import SCRIPT_TIMEOUT_SECONDS, RebootReadiness, read_reboot_readiness
from tasks.steps.machine.retry import is_transient, pause_between_polls, pause_until_reachable
from tasks.steps.start_checks import explain_no_start

ORDER_TIMEOUT_SECONDS = 60.0  # sending the order, including a reconnection

LOGIN_TIMEOUT_SECONDS = 20.0  # one login attempt

_WORK_SECONDS = 300.0
"""So long after a machine was last seen at work, the end of its work still counts as near: work has pauses."""

_BOOTING_ERRORS = (*LOGIN_REFUSALS, DeadlineExceeded, ProtocolViolation, ScriptFailed)

# after a refused login: a booting machine refuses all logins, and accounts could be locked
LOGIN_REFUSED_PAUSE_SECONDS = 10.0

_Answer = TypeVar("_Answer")


def send_reboot_order(context: MachineContext, order: Script) -> ScriptRecord | None:
    """Send the order once. Return the machine's refusal, or None. A refused reboot was not ordered.

    The machine refuses if another run or a later attempt has its lock, if it has no lock, and if its boot id is not the
    expected one. The last case is no refusal here: the reboot of an earlier order is done. A broken connection or a
    late answer proves nothing: the machine may execute the order, so the caller watches it.
    """
    boot_id = order.params["expected_boot_id"]
    try:
        answer = context.transport.run_script(order, deadline=Deadline.after(context.clock, ORDER_TIMEOUT_SECONDS))
    except TransportError as error:
        if not is_transient(error):
            raise
        return None
    finally:
        context.transport.close()
    refusals = [record for record in answer.find_records("refused") if record.get("boot_id") in (boot_id, "")]
    return refusals[0] if refusals else None


@dataclass(slots=True)
class _RebootWatch:
    """What a machine has answered since its order.

    Attributes:
        silent_since: since when it does not answer; None while it answers.
        was_silent: it has answered in the old boot after a silence.
        work: what it was at work on when it last was, in words.
    """

    context: MachineContext
    ordered_at: datetime
    silent_since: datetime | None = None
    was_silent: bool = False
    work: str = ""
    worked_at: datetime | None = None

    def read_readiness(self) -> RebootReadiness | None:
        """Ask which boot it is in, and what it does: a small question. Return None if it does not answer."""
        seconds = SCRIPT_TIMEOUT_SECONDS if self.silent_since is None else LOGIN_TIMEOUT_SECONDS
        return _ask_while_booting(self.context, lambda: read_reboot_readiness(self.context, seconds))

    def note_silence(self, asked_at: datetime) -> None:
        """Note that it did not answer a question: it may be down."""
        self.silent_since = self.silent_since or asked_at

    def note_old_boot(self, readiness: RebootReadiness) -> None:
        """Note that it answers in the boot in which the order came: a silence before was none of a reboot."""
        self.was_silent = self.was_silent or self.silent_since is not None
        self.silent_since = None
        if readiness.obstacle_kind == "lock":
            self.work, self.worked_at = readiness.obstacle, self.context.clock.now()

    @property
    def waited_seconds(self) -> float:
        """How long the machine has taken so far to go down, or to come back since then."""
        return (self.context.clock.now() - (self.silent_since or self.ordered_at)).total_seconds()

    @property
    def allowed_seconds(self) -> float:
        """How long it may take. One that is at work, and that has not abandoned the order, has longer to go down."""
        if self.silent_since is not None:
            return self.context.coming_up_seconds
        now = self.context.clock.now()
        works = self.worked_at is not None and (now - self.worked_at).total_seconds() <= _WORK_SECONDS
        return self.context.going_down_seconds * (MAX_GOING_DOWN_FACTOR if works else 1)

    @property
    def failure(self) -> str:
        """Why it is not waited for any longer."""
        seconds = max(self.allowed_seconds, self.waited_seconds // 60 * 60)
        if self.silent_since is not None:
            return f"it did not come back after {seconds:.0f} s"
        if self.was_silent:
            return f"it answers, and is still in the boot that it was in after {seconds:.0f} s"
        return f"it did not go down in {seconds:.0f} s{f'; {self.work}' if self.work else ''}"

    def report(self) -> None:
        """Report the progress."""
        doing = "going down" if self.silent_since is None else "coming up"
        work = f"; {self.work}" if self.work and self.silent_since is None else ""
        left = max(0.0, self.allowed_seconds - self.waited_seconds)
        self.context.report_progress(Step.REBOOT, f"{doing}: {left:.0f} s left{work}")


def watch_reboot(
    context: MachineContext, result: RebootResult, ordered_at: datetime
) -> tuple[RebootResult, ScriptRecord | None]:
    """Watch the machine go down and come back. Return the result, and why it abandoned the order, if it did.

    Raises:
        LOGIN_REFUSALS: it answers, and refuses the login until the time is over.
    """
    clock, watch, is_reachable = context.clock, _RebootWatch(context, ordered_at), True
    while True:
        asked_at = clock.now()
        readiness = watch.read_readiness() if is_reachable else None
        if readiness is not None and readiness.boot_id == result.boot_id_before:
            if given_up := _find_given_up_order(readiness):
                return result, given_up
            watch.note_old_boot(readiness)
        elif readiness is not None and (boot_id := read_boot_id(context)) not in {None, result.boot_id_before}:
            watch.note_silence(asked_at)  # it was never seen silent: it was down and back between two questions
            back = replace(_note_down(result, watch), boot_id_after=str(boot_id), up_seconds=watch.waited_seconds)
            return replace(back, state=RebootState.COMPLETED), None
        else:
            watch.note_silence(asked_at)
        if watch.waited_seconds >= watch.allowed_seconds:
            require_login(context)
            reason = f"{result.reason}; {watch.failure}"
            return replace(_note_down(result, watch), state=RebootState.FAILED, reason=reason), None
        watch.report()
        is_reachable = pause_until_reachable(
            context,
            watch.waited_seconds,
            watch.allowed_seconds,
            is_silent=watch.silent_since is not None,
            was_asked=is_reachable,
        )


def _note_down(result: RebootResult, watch: _RebootWatch) -> RebootResult:
    """Return the result with how long the machine took to go down: until the question that it did not answer."""
    if watch.silent_since is None:
        return result
    return replace(result, down_seconds=(watch.silent_since - watch.ordered_at).total_seconds())


def _find_given_up_order(readiness: RebootReadiness) -> ScriptRecord | None:
    """Return why a machine that is still up abandoned its order, or None if it may be going down."""
    if not readiness.given_up_reason:
        return None
    return {"why": readiness.given_up_reason, "about": readiness.given_up_kind}


def wait_for_boot_id(context: MachineContext, condition: Callable[[str | None], bool]) -> bool:
    """Ask for the boot id (None: no answer) until the condition is true. Return False if that takes too long."""
    clock = context.clock
    began, allowed = clock.now(), context.coming_up_seconds
    while not condition(read_boot_id(context)):
        waited = (clock.now() - began).total_seconds()
        if waited >= allowed:
            return False
        context.report_progress(Step.REBOOT, f"coming up: {allowed - waited:.0f} s left")
        pause_between_polls(context, waited, allowed)
    return True


def read_boot_id(context: MachineContext) -> str | None:
    """Return the boot id, or None if no login works.

    A wrong host key, or another machine that answers, is raised: it does not prove a boot.
    """
    clock = context.clock

    def read() -> str:
        deadline = Deadline.after(clock, LOGIN_TIMEOUT_SECONDS)
        return read_facts(context.transport, clock, deadline, context.known_facts).boot_id

    return _ask_while_booting(context, read)


def require_login(context: MachineContext) -> None:
    """Raise how a machine that answers refuses the login, one of LOGIN_REFUSALS."""
    try:
        read_facts(context.transport, context.clock, Deadline.after(context.clock, LOGIN_TIMEOUT_SECONDS))
    except LOGIN_REFUSALS:
        raise
    except FleetpatchError:
        return
    finally:
        context.transport.close()


def _ask_while_booting(context: MachineContext, ask: Callable[[], _Answer]) -> _Answer | None:
    """Return the answer of a machine, or None for an error that may come from its shutdown or its boot."""
    try:
        return ask()
    except FleetpatchError as error:
        context.transport.close()
        if is_still_booting(error):
            if isinstance(error, AuthenticationFailed):
                context.clock.sleep(LOGIN_REFUSED_PAUSE_SECONDS)
            return None
        raise


def is_still_booting(error: FleetpatchError) -> bool:
    """Return whether an error may come from a machine that goes down or boots.

    Logins are refused for a short time in both cases, and scripts break off.
    """
    return error.transient or isinstance(error, _BOOTING_ERRORS)


POLL_SECONDS: Final = 5.0


def wait_for_boot(context: MachineContext, step: Step) -> tuple[Facts, str]:
    """Read the facts of a machine until its boot has ended, as long as a change may still begin on it.

    Returns:
        Its latest facts, and why the wait ended before the boot did, or "".

    Raises:
        FleetpatchError: the machine can't be asked.
    """
    while True:
        facts = read_facts_again(context)
        if not facts.boot_work:
            return facts, ""
        if reason := explain_no_start(context):
            return facts, f"{facts.boot_work}; {reason}"
        context.report_progress(step, f"waiting: {facts.boot_work}")
        context.clock.sleep(POLL_SECONDS)
