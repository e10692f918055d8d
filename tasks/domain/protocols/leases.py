"""Which process holds a run now (leases), and which members of machine sets are out of service (slots).

When a process dies, another one can find, stop or resume its run. Slots count across runs and controllers.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from inventory.data_class import dataclass


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """One process that executes a run (an attempt).

    Attributes:
        id: a random token, new for every attempt. Two holders with the same id are the same holder.
        host: the host on which the process runs, for display.
        pid: the process id, for display.
        user: the user who started the process, for display.
    """

    id: str
    host: str
    pid: int
    user: str

    def __str__(self) -> str:
        return f"{self.user} on {self.host} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request that a run begins nothing more."""

    who: str  # the person who asks, for records and reports; "" if it is not known
    reason: str
    at: datetime

    @property
    def asker(self) -> str:
        """Who asks, for a sentence."""
        return self.who.strip() or "somebody unknown"


@dataclass(frozen=True, slots=True)
class LeaseRenewal:
    """The result of a lease renewal.

    Attributes:
        is_kept: False when the holder no longer has the lease: another process took it, or it was released. The
            holder then begins nothing more and writes nothing more about the run.
    """

    is_kept: bool
    stop: StopRequest | None = None


@dataclass(frozen=True, slots=True)
class LeaselessRun:
    """A run that is in progress in the records, but that no process executes."""

    run_id: str
    holder: LeaseHolder | None  # the last holder; None when the lease was never acquired
    since: datetime  # when the lease expired or was released; when the run started, if the lease was never acquired


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """The current state of a run lease.

    Attributes:
        holder: the current or last holder; None when the lease was never acquired.
        is_held: whether the lease is held now: it is neither expired nor released.
        until: when the lease expires, or expired; None when it was never acquired.
    """

    run_id: str
    holder: LeaseHolder | None
    is_held: bool
    until: datetime | None
    stop: StopRequest | None = None


class Leases(Protocol):
    """The run leases. Every method raises RecordsError when the store can't be reached.

    One clock decides whether a lease has expired: the store's own clock, where it has one. The clocks of controllers
    may differ. Every method is safe to repeat when its answer was lost.
    """

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> datetime:
        """Acquire a run's lease for that many seconds, and return when that was, by the clock of the store.

        The time orders the processes of a run: whoever takes the lease later has a later one.

        It succeeds when the lease is free or expired, or when this holder has it already. When several processes ask
        at once, exactly one gets the lease.

        Raises:
            LeaseHeld: another process has the lease. The error names the process and the expiry.
        """

    def require_known_stops(self) -> None:
        """Require that it can be said which runs were asked to stop.

        Raises:
            SealBroken: the decisions in the records are not whole. A run that begins would begin nothing.
        """

    def renew(self, run_id: str, holder: LeaseHolder, seconds: float) -> LeaseRenewal:
        """Extend the lease to that many seconds from now, and return whether a stop was requested.

        An expired lease is renewed too, unless another process has taken it.
        """

    def release(self, run_id: str, holder: LeaseHolder) -> None:
        """End the lease now. Do nothing when this holder does not have it."""

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        """Return the lease of a run with its stop request; None if there never was either."""

    def find_leaseless_runs(self) -> tuple[LeaselessRun, ...]:
        """Return the unfinished runs (in progress or unknown) that no process holds, oldest first."""


@dataclass(frozen=True, slots=True)
class SetSlot:
    """A member of a set that a run has taken, or may have taken, out of service.

    A slot counts while its run is unfinished, whether a process holds the run's lease or not: a machine whose
    controller died may be in the middle of a reboot. When the run is finished or reconciled, its slots end. A slot of a
    drained member outlives its run: its own checks may pass while nobody sends it requests. It ends when a later run
    has brought the member back, or when people say that they have.

    Attributes:
        domain: the member's update domain; "": none.
        reason: why the slot is still held after the member's turn, e.g. its health check fails; "" during its turn.
        drained: the set's drain action has begun, and no undrain has succeeded since.
        is_left: its run is over. Set by the store when it is read; only a drained member is left.
    """

    set_name: str
    machine: str
    run_id: str
    since: datetime
    domain: str = ""
    reason: str = ""
    drained: bool = False
    is_left: bool = False


SlotRule = Callable[[Sequence[SetSlot]], str]
"""Gets the present slots of all sets, and returns why another member of one set can't have a slot now, or ""."""


class SetSlots(Protocol):
    """The slots of machine sets. Every method raises RecordsError when the store can't be reached."""

    def take(self, slots: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        """Take all these slots of one machine, or none. One write transaction reads, decides and stores.

        A slot that this run has already is kept: the call may be repeated after a lost answer. Slots that runs which
        are over have left for this machine, of whatever set, are taken over: the new slots are drained then, and they
        keep the reason and the beginning.

        Args:
            slots: one slot for each set of the machine.
            may_take: returns the rule of a set by the set's name.

        Returns:
            Why no slot was taken, or "".
        """

    def mark_drained(self, run_id: str, machine: str, set_names: Collection[str]) -> None:
        """Record that a machine is drained, or may be, of these of its sets. Call it before the actions begin."""

    def release(self, run_id: str, machine: str) -> None:
        """End the slots of a machine in a run. Do nothing when there are none."""

    def keep(self, run_id: str, machine: str, reason: str, drained: Collection[str]) -> None:
        """Record why the slots of a machine stay after its turn, and of which sets it is still drained."""

    def find(self, set_names: Sequence[str] | None = None) -> tuple[SetSlot, ...]:
        """Return the slots that count, oldest first; of all sets if no names are given."""
