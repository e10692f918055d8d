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
from tasks.seams.leases import Holder, Leases
from tasks.steps.context import Control

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0  # how long a run counts as carried after its process was last heard of
RENEW_SECONDS = 5.0  # so that a request to stop is heard soon
STOPPING_SECONDS = 15.0
"""How long a lease lasts once its run is stopping: it begins nothing more, so whoever settles it may come sooner."""


def this_process(user: str) -> Holder:
    """Return who this process is, as the holder of one attempt at a run."""
    return Holder(secrets.token_hex(8), socket.gethostname(), os.getpid(), user)


class LeaseKeeper:
    """Holds a run's lease within a ``with`` block, and renews it in a thread of its own.

    A run whose lease was taken over by somebody else begins nothing more. A lease that can't be renewed because the
    records are away is no reason to stop: whoever wanted to take the run over can't reach them either, and the run
    holds by itself before its next act.

    Args:
        leases: where it is kept.
        run_id: of the run.
        control: of the run, told when it should stop.
        holder: who carries the run.
    """

    def __init__(self, leases: Leases, run_id: str, control: Control, holder: Holder) -> None:
        self._leases = leases
        self._run_id = run_id
        self._control = control
        self._holder = holder
        self._over = threading.Event()
        self._lost = threading.Event()
        self._renewed = time.monotonic()
        self._lasts = LEASE_SECONDS
        self._thread = threading.Thread(target=self._renew_on, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease, and hear at once of a request to stop that stands since before.

        Raises:
            LeaseHeld: somebody else carries this run.
            RecordsError: the records can't be reached.
        """
        asked = time.monotonic()
        self._leases.take(self._run_id, self._holder, LEASE_SECONDS)
        self._renewed = asked
        self._control.ours = self.ours
        self._renew()
        self._thread.start()
        return self

    def ours(self) -> bool:
        """Whether the run is still this process' to carry out; asks when it was not heard for as long as a lease lasts.

        A process that was stopped and goes on after its lease was over does not know yet that somebody took the run.
        """
        if not self._lost.is_set() and time.monotonic() - self._renewed > self._lasts:
            self._renew()
        return not self._lost.is_set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back; one that can't be given back ends by itself."""
        self._over.set()
        self._thread.join()
        try:
            self._leases.give_back(self._run_id, self._holder)
        except RecordsError as failed:
            logger.warning("the lease of run %s could not be given back: %s", self._run_id, failed)

    def _renew_on(self) -> None:
        while not self._lost.is_set() and not self._over.wait(RENEW_SECONDS):
            self._renew()

    def _renew(self) -> None:
        lasts = STOPPING_SECONDS if self._control.stopping else LEASE_SECONDS
        asked = time.monotonic()  # not when the answer is read: a process may be stopped in between
        try:
            renewal = self._leases.renew(self._run_id, self._holder, lasts)
        except RecordsError as error:
            logger.warning("the lease of run %s could not be renewed: %s", self._run_id, error)
            return
        self._renewed, self._lasts = asked, lasts
        if renewal.stop is not None:
            self._control.stop(f"{renewal.stop.reason} ({renewal.stop.who})")
        if not renewal.kept:
            self._lost.set()
            self._control.lose()
