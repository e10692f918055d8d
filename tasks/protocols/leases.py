"""The Leases protocol: which process holds a run now. Others can find, stop and resume the run when that one died."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """One process' attempt at a run.

    Attributes:
        id: a random token, new for every attempt; it alone decides whether two holders are the same.
        host: where the process runs, for people.
        pid: of the process, for people.
        user: who started it, for people.
    """

    id: str
    host: str
    pid: int
    user: str

    def __str__(self) -> str:
        return f"{self.user} on {self.host} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody wants a run to begin nothing more.

    Attributes:
        who: a person, for records and reports.
        reason: why, in their words.
        at: when it was asked.
    """

    who: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LeaseRenewal:
    """What a holder learns when it renews.

    Attributes:
        is_kept: False when the lease is no longer its own: somebody took the run over, or it was given back. Such a
            holder begins nothing more and writes nothing more about the run.
        stop: the request to stop, when there is one.
    """

    is_kept: bool
    stop: StopRequest | None = None


@dataclass(frozen=True, slots=True)
class LeaselessRun:
    """A run that is in progress by its records, while nobody carries it out.

    Attributes:
        holder: who did last; None when its lease was never taken.
        since: when the lease was over or given back; the start of a run whose lease was never taken.
    """

    run_id: str
    holder: LeaseHolder | None
    since: datetime


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """A look at a run's lease.

    Attributes:
        holder: who has it, or had it last; None when it was never taken.
        is_held: whether it is held now: neither over nor given back.
        until: when it is over, or was; None when it was never taken.
        stop: the request to stop, when there is one.
    """

    run_id: str
    holder: LeaseHolder | None
    is_held: bool
    until: datetime | None
    stop: StopRequest | None = None


class Leases(Protocol):
    """Who carries out which run. Every method raises RecordsError when the store can't be reached.

    Times are judged by one clock, the store's own where it has one: the clocks of controllers may differ. All of
    them may be asked again when an answer was lost.
    """

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> None:
        """Take a run's lease for that long: when nobody has it, its time is over, or it is the holder's already.

        Of several who ask at once exactly one gets it.

        Raises:
            LeaseHeld: somebody else has it; the error says who and until when.
        """
        ...

    def renew(self, run_id: str, holder: LeaseHolder, seconds: float) -> LeaseRenewal:
        """Make the lease last that long from now, and hear whether somebody asked the run to stop.

        A lease whose time is over is renewed as well, as long as nobody took it meanwhile.
        """
        ...

    def release(self, run_id: str, holder: LeaseHolder) -> None:
        """End the lease now. Nothing happens when it isn't the holder's (any more)."""
        ...

    def find_leaseless_runs(self) -> tuple[LeaselessRun, ...]:
        """Return the runs without an end (in progress, or left) that nobody holds, oldest first."""
        ...
