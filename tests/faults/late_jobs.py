"""Jobs of a simulated machine that begin late: it is under load, or what starts them stalls while it has the lock.

As job_start.sh: who waited in vain withdraws the job, which then never begins. While one order has the lock, no other
order or lock gets an answer, except that it is not known what becomes of the first.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from tasks.domain.errors import ConnectionLost, DeadlineExceeded, FleetpatchError, ScriptFailed
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Job, ScriptRecord

PATIENCE, LOCK_WAIT = 40.0, 20.0
NEVER = "it did not begin when it was handed over, so it never begins"
LOCKED = "another process has held the jobs' lock for 20 seconds"


class Host(Protocol):
    """The machine whose jobs they are."""

    name: str
    clock: Clock

    @property
    def boot_id(self) -> str:
        """Of the boot that it runs."""
        ...

    def at(self, seconds: float, then: Callable[[], None]) -> None:
        """So many seconds from now, do this."""
        ...

    def begin_by_itself(self, job: Job, run_id: str, since: datetime) -> None:
        """Begin a job that was ordered before, whether or not anybody is there."""
        ...


class LateJobs:
    """What holds up the start of jobs on one machine.

    Attributes:
        late: seconds between the next order and its job's first line.
        stall: seconds that what starts the next job stalls before that, with the lock.
        refused: ids of jobs of which somebody was told that they were not begun.
        withdrawn: ids of those that never begin.
        held_up: ids of those whose order stalls.
    """

    def __init__(self, host: Host, complain: Callable[[str], None]) -> None:
        self.late = self.stall = 0.0
        self.refused: set[str] = set()
        self.withdrawn: set[str] = set()
        self.held_up: set[str] = set()
        self._host = host
        self._complain = complain
        self._locked: tuple[datetime, str] | None = None

    def mend(self) -> None:
        """Let nothing be held up any more."""
        self.late = self.stall = 0.0
        self._locked = None

    def wait_for_lock(self, deadline: Deadline) -> None:
        """Wait for the lock as a script does.

        Raises:
            DeadlineExceeded: the one who asks does not wait any longer.
            FleetpatchError: an order that has it stalls.
        """
        until = self._host.clock.now() + timedelta(seconds=LOCK_WAIT)
        while self.locked:
            if self._host.clock.now() >= until:
                raise self.locked_out()
            if deadline.remaining_seconds(self._host.clock) <= 1:
                raise DeadlineExceeded("the machine did not answer in the time it was given", machine=self._host.name)
            self._host.clock.sleep(1.0)

    def locked_out(self) -> FleetpatchError:
        """Return what somebody is told who could not have the lock: an earlier order may begin its job yet."""
        return DeadlineExceeded(LOCKED, machine=self._host.name)

    def refusal(self, deadline: Deadline) -> ScriptRecord | None:
        """Return how a script that needs the lock is refused, or None once it has it."""
        if not self.locked:
            return None
        try:
            self.wait_for_lock(deadline)
        except FleetpatchError:
            return {"kind": "refused", "why": LOCKED, "about": "unsure"}
        return None

    @property
    def locked(self) -> bool:
        """Whether an order that is held up has the lock; a reboot takes it away."""
        return self._locked is not None and self._locked[0] > self._host.clock.now() and self._same_boot()

    def hold_up(self, job: Job, deadline: Deadline, run_id: str, since: datetime) -> None:
        """Hold an order up, if it is to be; returns when its job may begin now.

        Raises:
            ScriptFailed: the job was withdrawn.
            DeadlineExceeded: it stalls for longer than anybody waits; it may begin yet.
            ConnectionLost: the machine went down meanwhile.
        """
        if job.id in self.withdrawn:
            raise self._never(job)
        late, stall, self.late, self.stall = self.late, self.stall, 0.0, 0.0
        if stall:
            self._hold_lock(stall)
            self.held_up.add(job.id)
            self._host.at(stall, lambda: self._begins(job, run_id, since))
            self._host.clock.sleep(max(0.0, min(stall - 1, deadline.remaining_seconds(self._host.clock))))
            raise DeadlineExceeded("the machine did not answer in the time it was given", machine=self._host.name)
        if not late:
            return
        boot = self._host.boot_id
        self._hold_lock(min(late, PATIENCE))
        self._host.clock.sleep(min(late, PATIENCE))
        if self._host.boot_id != boot:
            raise ConnectionLost("the machine went down", machine=self._host.name)
        if late > PATIENCE:
            self._host.at(late - PATIENCE, lambda: self._begins(job, run_id, since))
            self.withdraw(job)
            raise self._never(job)

    def withdraw(self, job: Job) -> None:
        """Let a job never begin."""
        self.withdrawn.add(job.id)

    def _never(self, job: Job) -> ScriptFailed:
        self.refused.add(job.id)
        return ScriptFailed(f"the machine could not start the job: {NEVER}", exit_code=0, machine=self._host.name)

    def _hold_lock(self, seconds: float) -> None:
        self._locked = (self._host.clock.now() + timedelta(seconds=seconds), self._host.boot_id)

    def _same_boot(self) -> bool:
        return self._locked is not None and self._locked[1] == self._host.boot_id

    def _begins(self, job: Job, run_id: str, since: datetime) -> None:
        if job.id in self.withdrawn or not self._same_boot():
            return
        self._locked = None
        if job.id in self.refused:
            self._complain(f"{self._host.name} began job {job.id}, although it was reported as refused")
        self._host.begin_by_itself(job, run_id, since)
