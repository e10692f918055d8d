"""The Leases protocol: which process holds a run now.

When that process dies, another process can find, stop or resume the run.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


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
    """A request that a run begins nothing more.

    Attributes:
        who: the person who asks, for records and reports.
    """

    who: str
    reason: str
    at: datetime


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
    """A run that is in progress in the records, but that no process executes.

    Attributes:
        holder: the last holder; None when the lease was never acquired.
        since: when the lease expired or was released; when the run started, if the lease was never acquired.
    """

    run_id: str
    holder: LeaseHolder | None
    since: datetime


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

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> None:
        """Acquire a run's lease for that many seconds.

        It succeeds when the lease is free or expired, or when this holder has it already. When several processes ask
        at once, exactly one gets the lease.

        Raises:
            LeaseHeld: another process has the lease. The error names the process and the expiry.
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
