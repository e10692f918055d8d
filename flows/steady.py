"""Records that a run relies on: it waits for a database that is away, and is silent once the run is somebody else's."""

import functools
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from tasks.errors import RecordsUnavailable
from tasks.model import Assessment, JobOutput, Outcome, RunInfo, RunReport
from tasks.rules.reboot import MEASURE as REBOOT
from tasks.seams.clock import Clock
from tasks.seams.leases import Holder
from tasks.seams.records import JournalEntry, Records, taken_over
from tasks.steps.context import Watcher

T = TypeVar("T")

PAUSE_SECONDS = 2.0
AT_LEAST = timedelta(seconds=60)
"""How long a database may be away when the window is over: outcomes are still worth a minute's wait."""


class SteadyRecords:
    """Records behind a run: what is about to be done waits until it can be stored, for as long as the window lasts.

    Args:
        inner: where runs are remembered.
        clock: of the run.
        until: the end of the run's window.
        watch: told when the run holds, and when it goes on.
        ours: says whether the run is still this process' to carry out.
    """

    def __init__(
        self,
        inner: Records,
        clock: Clock,
        until: datetime | None,
        watch: Watcher,
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._until = until
        self._watch = watch
        self._ours = ours
        self._learned: dict[tuple[str, str], float | None] = {}

    def append(self, entry: JournalEntry) -> None:
        """See Records."""

        def act() -> None:
            self._must_be_ours()
            self._inner.append(entry)
            self._must_be_ours()  # the act comes next, and storing may have taken longer than the lease lasts

        self._steadily(act)

    def entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """See Records."""
        return self._steadily(lambda: self._inner.entries(run_id, machine))

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        """See Records."""

        def act() -> None:
            self._must_be_ours()
            self._inner.save(item)

        self._steadily(act)

    def learned(self, machine: str, measure: str) -> float | None:
        """See Records. Asked once a run: it must not change in its midst.

        How long the machine's reboots take is waited for: a window that is to hold one depends on it. Other measures
        have defaults that do no harm.
        """
        key = machine, measure
        if key in self._learned:
            return self._learned[key]
        ask = functools.partial(self._inner.learned, machine, measure)
        if measure == REBOOT:
            self._learned[key] = self._steadily(ask)
        else:
            with suppress(RecordsUnavailable):
                self._learned[key] = ask()
        return self._learned.get(key)

    def held(self, run_id: str, holder: Holder) -> "SteadyRecords":
        """See Records."""
        inner = self._inner.held(run_id, holder)
        return SteadyRecords(inner, self._clock, self._until, self._watch, self._ours)

    def _must_be_ours(self) -> None:
        """Asked before each try: while the records were away the lease may have ended, and somebody have taken it."""
        if not self._ours():
            raise taken_over()

    def _steadily(self, call: Callable[[], T]) -> T:
        deadline = self._clock.now() + AT_LEAST
        if self._until is not None:
            deadline = max(deadline, self._until)
        held = False
        while True:
            try:
                result = call()
            except RecordsUnavailable as error:
                if self._clock.now() >= deadline:
                    raise
                if not held:
                    self._watch.said(f"holding: the records are away ({error.message})")
                held = True
                self._clock.sleep(PAUSE_SECONDS)
                continue
            if held:
                self._watch.said("the records are back: going on")
            return result
