"""The lease of a run: one process executes it at a time."""

import logging
import os
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Self

from tasks.domain.errors import RecordsError
from tasks.domain.protocols.leases import LeaseHolder, Leases
from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0  # how long a lease is valid after its last renewal
RENEW_SECONDS = 5.0  # short, so that the run sees a stop request soon
STOPPING_LEASE_SECONDS = 15.0
"""How long a lease is valid while its run stops. The run begins nothing more, so another process may finalize it
sooner.
"""


def build_component_lease(component: str) -> str:
    """Return the name of the lease of a component: one run upgrades it at a time.

    Two runs would count only the health of their own machines, and put twice as many machines at risk.
    """
    return f"upgrade-of-{component}"


def release_component_lease(leases: Leases, run_id: str, component: str) -> None:
    """Release the component lease of the process that executed the run last, if its run lease is over.

    A process renews its two leases at two moments, so the component lease of a dead process may be the last to expire.
    A process that was only paused asks for its run lease before its next change.

    Raises:
        RecordsError: the records can't be reached.
    """
    lease = leases.find_lease(run_id)
    if lease is not None and lease.holder is not None and not lease.is_held:
        leases.release(build_component_lease(component), lease.holder)


def build_holder(user: str) -> LeaseHolder:
    """Return this process as the holder of a lease, for one attempt."""
    return LeaseHolder(secrets.token_hex(8), socket.gethostname(), os.getpid(), user)


def _read_seconds() -> float:
    """Return the seconds of a clock that nobody can set. Where the system has such a clock, it also counts sleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LeaseRenewer:
    """Holds a run lease inside a ``with`` block, and renews it in a separate thread.

    If another process has taken the lease, the run begins nothing more. If the lease can't be renewed because the
    records are unavailable, the run does not stop: no other process can reach the records and take the lease. The run
    waits before its next change anyway.
    """

    def __init__(self, leases: Leases, run_id: str, stop_token: StopToken, holder: LeaseHolder) -> None:
        self._leases, self._run_id, self._stop_token, self._holder = leases, run_id, stop_token, holder
        self._stop_event, self._lost = threading.Event(), threading.Event()
        self._renewed_at = _read_seconds()
        self._lease_seconds = LEASE_SECONDS
        self._is_over = False
        self._answers = True  # whether the records have answered last
        self._thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease, and read an earlier stop request.

        Raises:
            LeaseHeld: another process executes this run.
            RecordsError: the records can't be reached.
        """
        asked = _read_seconds()
        token = self._stop_token
        token.lease_taken_at = self._leases.acquire(self._run_id, self._holder, LEASE_SECONDS)
        self._renewed_at = asked
        token.is_end_recorded = False
        token.still_holds_lease, token.confirm_lease = self.still_holds_lease, self.confirm
        self._renew()
        self._thread.start()
        return self

    def still_holds_lease(self) -> bool:
        """Return whether this process holds the lease. Renew it first if its last renewal is too old.

        A process that was paused past the end of its lease does not know yet whether another process has taken it.
        """
        if not self._is_over and _read_seconds() - self._renewed_at > self._lease_seconds:
            self._renew()
        return not self._lost.is_set()

    def confirm(self) -> bool:
        """Ask the records now, and return whether this process holds the lease. If they don't answer, its time counts.

        A virtual machine that was paused has seen no time pass: before something is shown to people, this is asked.
        """
        if self._is_over:
            return not self._lost.is_set()
        self._renew()
        return not self._lost.is_set() and _read_seconds() - self._renewed_at <= self._lease_seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lease. If that fails, the lease expires."""
        self._is_over = True
        self._stop_event.set()
        self._thread.join()
        try:
            self._leases.release(self._run_id, self._holder)
        except RecordsError as failed:
            logger.warning("the lease of run %s could not be given back: %s", self._run_id, failed)

    def _renew_until_stopped(self) -> None:
        while not self._lost.is_set() and not self._stop_event.wait(RENEW_SECONDS):
            self._renew()

    def _renew(self) -> None:
        lasts = STOPPING_LEASE_SECONDS if self._stop_token.is_stopping else LEASE_SECONDS
        asked = _read_seconds()  # before the call, because the process may be paused before it reads the answer
        try:
            renewal = self._leases.renew(self._run_id, self._holder, lasts)
        except RecordsError as error:
            level = logging.WARNING if self._answers else logging.DEBUG  # once, and not each few seconds
            logger.log(level, "the lease of run %s could not be renewed: %s", self._run_id, error)
            self._answers = False
            return
        self._answers = True
        self._renewed_at, self._lease_seconds = asked, lasts
        if renewal.stop is not None:
            self._stop_token.request_stop(f"{renewal.stop.reason} ({renewal.stop.asker})")
        if not renewal.is_kept:
            self._stop_token.mark_lease_lost()
            self._lost.set()
