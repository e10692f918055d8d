"""Records what each machine of a run does now, so that pages can show it while the run goes on.

One thread writes all changes of a second at once. It never delays the run: the run's threads only note what has
changed. If the records don't answer, changes are dropped or written later.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import ProgressRow, ProgressStore
from tasks.domain.states import OperationState, Step
from tasks.steps.context.run_control import ProgressListener

logger = logging.getLogger(__name__)

WRITE_SECONDS: Final = 1.0
"""How often changes are written, at most."""
FIRST_WRITE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 5.0
"""How long the records are left alone after an error."""
HEARTBEAT_SECONDS: Final = 10.0
"""How often a run without any change writes that its process lives."""
END_SECONDS: Final = 2.0
"""How long the end of a run waits for its rows to be deleted, at most."""
MAX_MESSAGE: Final = 400


class ProgressRecorder:
    """A ProgressListener that passes everything on, and records it inside ``record_run``."""

    def __init__(
        self, inner: ProgressListener, store: ProgressStore, clock: Clock, *, write_seconds: float = WRITE_SECONDS
    ) -> None:
        self._inner, self._store, self._clock, self._write_seconds = inner, store, clock, write_seconds
        self._lock = threading.Lock()
        self._rows: dict[str, ProgressRow] = {}
        self._changed: set[str] = set()
        self._is_recording = False

    @contextmanager
    def record_run(self, run_id: str, holder: LeaseHolder | None) -> Iterator[None]:
        """Record this run inside the block. At its end the rows are deleted: the results are recorded elsewhere."""
        now = self._clock.now()
        with self._lock:
            self._rows = {"": ProgressRow("", Step.ASSESS, OperationState.IN_PROGRESS, None, "", now, now)}
            self._changed = {""}
            self._is_recording = True
        over = threading.Event()
        writer = threading.Thread(
            target=self._write_until, args=(over, run_id, holder), name="run progress", daemon=True
        )
        try:
            writer.start()
            yield
        finally:
            with self._lock:
                self._is_recording = False
            over.set()
            with contextlib.suppress(RuntimeError):  # the thread could not be started
                writer.join(END_SECONDS)

    def expect_machines(self, waves: Mapping[str, int | None]) -> None:
        """Record all machines of the run as not started, in their order."""
        now = self._clock.now()
        with self._lock:
            for position, (name, wave) in enumerate(waves.items()):
                new = ProgressRow(name, "", OperationState.NOT_STARTED, None, "", now, now)
                self._put(replace(self._rows.get(name, new), wave=wave, position=position))

    def note_waiting(self, names: Sequence[str], reason: str) -> None:
        """Record why these machines do not begin yet."""
        now = self._clock.now()
        with self._lock:
            for name in names:
                if (row := self._rows.get(name)) is not None:
                    self._put(replace(row, message=f"waits: {reason}"[:MAX_MESSAGE], at=now))

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Note it, and pass it on."""
        with self._lock:
            before, now = self._rows.get(machine), self._clock.now()
            is_same = before is not None and (before.step, before.state) == (step, OperationState.IN_PROGRESS)
            message = message[:MAX_MESSAGE] or (before.message if before is not None and is_same else "")
            since = before.since if before is not None and is_same else now
            row = ProgressRow(machine, step, OperationState.IN_PROGRESS, fraction, message, since, now)
            self._put(row, before)
        self._inner.on_progress(machine, step, fraction, message)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Note it, and pass it on."""
        with self._lock:
            now = self._clock.now()
            self._put(ProgressRow(machine, step, state, 1.0, message[:MAX_MESSAGE], now, now), self._rows.get(machine))
        self._inner.on_step_finished(machine, step, state, message)

    def on_message(self, message: str) -> None:
        """Note it, and pass it on."""
        with self._lock:
            now, run = self._clock.now(), self._rows.get("")
            if run is not None:
                self._put(replace(run, message=message[:MAX_MESSAGE], since=now, at=now))
        self._inner.on_message(message)

    def _put(self, row: ProgressRow, before: ProgressRow | None = None) -> None:
        if before is not None:
            row = replace(row, wave=before.wave, position=before.position)
        if self._is_recording:
            self._rows[row.machine] = row
            self._changed.add(row.machine)

    def _write_until(self, over: threading.Event, run_id: str, holder: LeaseHolder | None) -> None:
        """Write until the run is over. The first write replaces what a process that died has left."""
        is_first, wait, quiet_seconds = True, FIRST_WRITE_SECONDS, 0.0
        try:
            while not over.wait(wait):
                quiet_seconds += wait
                wait = self._write_seconds
                is_due = quiet_seconds >= HEARTBEAT_SECONDS
                now = self._clock.now()
                with self._lock:
                    if (self._changed or is_due) and "" in self._rows:
                        self._rows[""] = replace(self._rows[""], at=now)
                        self._changed.add("")
                    rows = [self._rows[name] for name in self._changed]
                    self._changed = set()
                if not rows:
                    continue
                try:
                    if is_first and not self._store.delete(run_id, holder):
                        return
                    is_first, quiet_seconds = False, 0.0
                    if not self._store.save(run_id, rows, holder):
                        return  # another process has the run, and records its progress
                except FleetpatchError as error:
                    logger.debug("the progress of run %s is not recorded now: %s", run_id, error)
                    with self._lock:
                        self._changed |= {row.machine for row in rows}
                    wait = max(wait, RETRY_SECONDS)
            self._store.delete(run_id, holder)
        except Exception:  # progress is only shown: nothing may depend on it
            logger.debug("the progress of run %s is not recorded any more", run_id, exc_info=True)
