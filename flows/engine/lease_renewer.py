"""Keep a run's lease while the run goes on, and pass a request to stop on to it."""

import logging
import os
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Self

from tasks.errors import RecordsError
from tasks.protocols.leases import LeaseHolder, Leases
from tasks.steps.context.stop_token import StopToken

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0  # how long a run counts as carried after its process was last heard of
RENEW_SECONDS = 5.0  # so that a request to stop is heard soon
STOPPING_LEASE_SECONDS = 15.0
"""How long a lease lasts once its run is stopping: it begins nothing more, so whoever settles it may come sooner."""


def build_holder(user: str) -> LeaseHolder:
    """Return who this process is, as the holder of one attempt at a run."""
    return LeaseHolder(secrets.token_hex(8), socket.gethostname(), os.getpid(), user)


class LeaseRenewer:
    """Holds a run's lease within a ``with`` block, and renews it in a thread of its own.

    A run whose lease was taken over by somebody else begins nothing more. A lease that can't be renewed because the
    records are away is no reason to stop: whoever wanted to take the run over can't reach them either, and the run
    holds by itself before its next act.

    Args:
        leases: where it is kept.
        run_id: of the run.
        stop_token: of the run, told when it should stop.
        holder: who carries the run.
    """

    def __init__(self, leases: Leases, run_id: str, stop_token: StopToken, holder: LeaseHolder) -> None:
        self._leases = leases
        self._run_id = run_id
        self._stop_token = stop_token
        self._holder = holder
        self._stop_event = threading.Event()
        self._lost = threading.Event()
        self._renewed_at = time.monotonic()
        self._lease_seconds = LEASE_SECONDS
        self._thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease, and hear at once of a request to stop that stands since before.

        Raises:
            LeaseHeld: somebody else carries this run.
            RecordsError: the records can't be reached.
        """
        asked = time.monotonic()
        self._leases.acquire(self._run_id, self._holder, LEASE_SECONDS)
        self._renewed_at = asked
        self._stop_token.still_holds_lease = self.still_holds_lease
        self._renew()
        self._thread.start()
        return self

    def still_holds_lease(self) -> bool:
        """Whether the run is still this process' to carry out; asks when it was not heard for as long as a lease lasts.

        A process that was stopped and goes on after its lease was over does not know yet that somebody took the run.
        """
        if not self._lost.is_set() and time.monotonic() - self._renewed_at > self._lease_seconds:
            self._renew()
        return not self._lost.is_set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back; one that can't be given back ends by itself."""
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
        asked = time.monotonic()  # not when the answer is read: a process may be stopped in between
        try:
            renewal = self._leases.renew(self._run_id, self._holder, lasts)
        except RecordsError as error:
            logger.warning("the lease of run %s could not be renewed: %s", self._run_id, error)
            return
        self._renewed_at, self._lease_seconds = asked, lasts
        if renewal.stop is not None:
            self._stop_token.request_stop(f"{renewal.stop.reason} ({renewal.stop.who})")
        if not renewal.is_kept:
            self._lost.set()
            self._stop_token.mark_lease_lost()
