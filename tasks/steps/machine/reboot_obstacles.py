"""Finds what prevents a reboot that was decided: another process changes the machine's packages.

The machine itself refuses the reboot then. It is asked again while the window still has time for the reboot. The
question changes nothing.
"""

import logging
from datetime import datetime
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, ManagerBusy, ProtocolViolation, RecordsError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.states import Step
from tasks.rules.calendar.local_time import format_duration, format_time_with_zone
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.machine_lock import LOCK_RENEWAL_INTERVAL, renew_lock
from tasks.steps.machine.retry import close_before_pause, retry_transient, sleep_unless_stopped
from tasks.steps.start_checks import check_window_fit, explain_stop_request

logger = logging.getLogger(__name__)

OBSTACLE_KINDS: Final = frozenset({"starting", "lock", "inhibitor", "packages"})
"""The kinds of refusal for which a reboot waits, because another process is the reason."""
SCRIPT_TIMEOUT_SECONDS = 60.0  # one call, including a reconnection
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 30.0
MAX_TRANSACTION_SECONDS = 600.0
"""How long a snapshot or a new disk waits for a package transaction of others."""
TRANSACTION_POLL_SECONDS = 5.0
MAX_UNFINISHED_SECONDS = 120.0
"""How long packages may be half changed without a running process: a second command often finishes a first one."""


@dataclass(frozen=True, slots=True)
class RebootReadiness:
    """The answer of a machine: its boot id, what prevents a reboot, and whether it abandoned its last order.

    Attributes:
        boot_id: of the current boot.
        obstacle_kind: starting, lock, inhibitor, packages, or "" if nothing prevents it.
        obstacle: what prevents it, in words, or "".
        given_up_reason: why the machine abandoned a reboot order that it had accepted, or "".
    """

    boot_id: str
    obstacle_kind: str = ""
    obstacle: str = ""
    given_up_reason: str = ""
    given_up_kind: str = ""


def read_reboot_readiness(context: MachineContext, seconds: float = SCRIPT_TIMEOUT_SECONDS) -> RebootReadiness:
    """Ask a machine what prevents a reboot now. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid.
    """
    script = context.build_shared_script("reboot_obstacles", {"locks": context.manager.lock_files})
    answer = context.transport.run_script(script, deadline=Deadline.after(context.clock, seconds))
    boots = answer.find_records("boot")
    if answer.exit_code or len(boots) != 1:
        raise ProtocolViolation(
            f"reboot_obstacles gave no answer (exit code {answer.exit_code}): {answer.unframed_output[-300:]}"
        )
    obstacle, given_up = (next(iter(answer.find_records(kind)), {}) for kind in ("obstacle", "given_up"))
    return RebootReadiness(
        str(boots[0].get("boot_id")),
        str(obstacle.get("about", "")),
        str(obstacle.get("why", "")),
        str(given_up.get("why", "")),
        str(given_up.get("about", "")),
    )


def find_transaction(context: MachineContext) -> str:
    """Return who changes packages of the machine now, or "". What nobody changes any more, and is half done, stays so.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid.
    """
    readiness = read_reboot_readiness(context)
    return readiness.obstacle if readiness.obstacle_kind in {"starting", "lock"} else ""


def wait_for_transactions(context: MachineContext, purpose: str) -> None:
    """Wait until nobody changes packages: half a transaction on a disk is nothing to go back to.

    Args:
        context: of the machine.
        purpose: what waits, for people.

    Raises:
        ManagerBusy: they take too long, or the run is to stop.
        FleetpatchError: the machine does not answer.
    """
    began, deadline = context.clock.now(), Deadline.after(context.clock, MAX_TRANSACTION_SECONDS)
    while transaction := find_transaction(context):
        if deadline.has_passed(context.clock) or explain_stop_request(context):
            raise ManagerBusy(f"others change its packages, and {purpose} waits for them: {transaction}")
        context.report_wait(f"{purpose} waits: {transaction}", began, deadline.expires_at)
        close_before_pause(context, TRANSACTION_POLL_SECONDS)
        sleep_unless_stopped(context, TRANSACTION_POLL_SECONDS)


def require_machine_alone(context: MachineContext, purpose: str) -> None:
    """Before an order that takes the disk of a machine away: wait for others' transactions, and renew the machine lock.

    No machine can refuse such an order, as it refuses jobs of a run that has lost the lock. The run
    does not wait for a machine that does not answer, or has not answered yet.

    Raises:
        ManagerBusy: others take too long, another run has the machine, or the run is to stop.
        RecordsError: the attempt's number could not be read.
    """
    if context.known_facts is None:  # its package manager is not known
        return
    try:
        wait_for_transactions(context, purpose)
        holder = renew_lock(context)
    except (ManagerBusy, RecordsError):
        raise
    except FleetpatchError as error:
        logger.info("%s: it is not known who changes it: %s", context.name, error.message)
        return
    if holder:
        raise ManagerBusy(f"{purpose} is not ordered: the machine is {holder}")


@dataclass(slots=True)
class RebootWait:
    """The wait of one machine for other processes that change its packages.

    Attributes:
        end_reason: why not longer; "" for the end of the window.
        obstacle: the last obstacle, in words.
        boot_id: of the boot in which the wait began.
    """

    context: MachineContext
    ends_at: datetime
    end_reason: str = ""
    waited_seconds: float = 0.0
    obstacle: str = ""
    boot_id: str = ""
    _unfinished_since: datetime | None = None
    _is_announced: bool = False
    _lock_renewed_at: datetime | None = None

    def wait_for_others(self) -> tuple[RebootReadiness, str]:
        """Wait until nothing prevents a reboot of the machine.

        Returns:
            The machine's last answer, and why the wait ended without success, or "".

        Raises:
            FleetpatchError: the machine could not be asked.
        """
        clock, stop_token = self.context.clock, self.context.stop_token
        began, pause, before = clock.now(), FIRST_PAUSE_SECONDS, self.waited_seconds
        while True:
            readiness = retry_transient(
                self.context, lambda: read_reboot_readiness(self.context), self._build_retry_deadline()
            )
            self.boot_id = self.boot_id or readiness.boot_id
            self.waited_seconds = before + (clock.now() - began).total_seconds()
            if not readiness.obstacle_kind or readiness.boot_id != self.boot_id:
                return readiness, ""
            self.obstacle = readiness.obstacle
            if stop_token.is_stopping:
                return readiness, f"the run was asked to stop: {stop_token.reason}; {self.summary}"
            if reason := self._check_wait_over(readiness) or self._check_lock_lost():
                return readiness, reason
            self._announce()
            seconds = min(pause, max(0.0, (self.ends_at - clock.now()).total_seconds()))
            close_before_pause(self.context, seconds)
            sleep_unless_stopped(self.context, seconds)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 1.3)

    def record_refusal(self, answer: ScriptRecord) -> None:
        """Record that another process began between the question and the order."""
        self.obstacle = str(answer.get("why", "")) or self.obstacle

    @property
    def summary(self) -> str:
        """What the machine waited for, and how long, or ""."""
        if not self.obstacle:
            return ""
        waited = f" (waited {format_duration(self.waited_seconds)})" if self.waited_seconds >= 1 else ""
        return f"{self.obstacle}{waited}"

    def _check_wait_over(self, readiness: RebootReadiness) -> str:
        """Return why the wait is over, or ""."""
        now = self.context.clock.now()
        if readiness.obstacle_kind != "packages":
            self._unfinished_since = None
        elif self._unfinished_since is None:
            self._unfinished_since = now
        elif (now - self._unfinished_since).total_seconds() >= MAX_UNFINISHED_SECONDS:
            return f"its packages are in a broken state, and no process changes them: {self.summary}"
        if now < self.ends_at:
            return ""
        if self.end_reason:
            return f"{self.summary}; {self.end_reason}"
        fit = check_window_fit(self.context, self.context.reboot_seconds, "the reboot")
        return f"{self.summary}; {fit.explanation}"

    def _check_lock_lost(self) -> str:
        """Renew the machine lock if it is due. Return who has it instead, or ""."""
        now = self.context.clock.now()
        if self._lock_renewed_at is not None and now - self._lock_renewed_at < LOCK_RENEWAL_INTERVAL:
            return ""
        taken = retry_transient(self.context, lambda: renew_lock(self.context), self._build_retry_deadline())
        self._lock_renewed_at = now
        return f"{self.summary}; {taken}" if taken else ""

    def _build_retry_deadline(self) -> Deadline:
        clock = self.context.clock
        return Deadline(self.ends_at).limit_to(clock, self.context.options.max_unreachable_seconds)

    def _announce(self) -> None:
        context, until = (
            self.context,
            format_time_with_zone(self.ends_at.replace(microsecond=0), self.context.window.zone),
        )
        message = f"waiting: {self.obstacle}; the reboot can wait until {until}"
        context.report_progress(Step.REBOOT, message)
        if not self._is_announced:
            self._is_announced = True
            context.listener.on_message(f"{context.name}: {message}")
