"""The slots of machine sets as one run sees and writes them."""

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from flows.engine.retrying_records import retry_while_unavailable
from flows.ports.ports import Ports
from tasks.domain.errors import RecordsError
from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.steps.context.run_context import RunContext

logger = logging.getLogger(__name__)

T = TypeVar("T")

SLOTS_FRESH: Final = timedelta(seconds=1)
"""How long the slots that were read last are used for a first look: thousands of members may wait at the same time."""
LEASES_FRESH: Final = timedelta(seconds=10)


class RunSlots:
    """The slots for one run. Safe for use by many threads.

    Args:
        is_to_come: whether this run has still to finish a machine.
    """

    def __init__(self, ports: Ports, run_context: RunContext, is_to_come: Callable[[str], bool]) -> None:
        self._slots, self._leases = ports.set_slots, ports.leases
        self._clock, self._listener = ports.clock, ports.listener
        self._run_context = run_context
        self._run_id = run_context.run.id
        self._is_to_come = is_to_come
        self._lock = threading.Lock()
        self._seen: tuple[datetime, Sequence[SetSlot]] | None = None
        self._version = 0
        self._abandoned: tuple[datetime, Collection[str]] | None = None
        self._not_written: dict[str, str] = {}

    def read(self) -> Sequence[SetSlot]:
        """Return the slots of all sets, at most a second old. The one decision that counts is that of ``take``."""
        now = self._clock.now()
        with self._lock:
            seen, version = self._seen, self._version
        if seen is not None and seen[0] <= now < seen[0] + SLOTS_FRESH:
            return seen[1]
        slots = self._slots.find()
        with self._lock:
            if version == self._version:  # else they have changed since
                self._seen = (now, slots)
        return slots

    def forget(self) -> None:
        """Read the slots again when they are needed next."""
        with self._lock:
            self._seen = None
            self._version += 1

    def find_left(self, name: str) -> SetSlot | None:
        """Return the slot of a member that was drained before this run touched it; None if there is none.

        It has no reason while this run has it drained itself.
        """
        for slot in self.read():
            if (
                slot.machine == name
                and slot.drained
                and (slot.is_left or (slot.run_id == self._run_id and slot.reason))
            ):
                return slot
        return None

    def judge(self, slots: Sequence[SetSlot]) -> tuple[SetSlot, ...]:
        """Return slots with what this process knows of its own ones.

        One with a reason stays until the end of the run, unless its machine has still to have its turn. One whose end
        the records did not take stays, too.
        """

        def find_reason(slot: SetSlot) -> str:
            if slot.run_id != self._run_id:
                return slot.reason
            return self._not_written.get(slot.machine, "" if self._is_to_come(slot.machine) else slot.reason)

        return tuple(replace(slot, reason=find_reason(slot)) for slot in slots)

    def find_abandoned(self) -> Collection[str]:
        """Return the unfinished runs that no process executes, some seconds old. None if the records can't say."""
        now = self._clock.now()
        with self._lock:
            seen = self._abandoned
        if seen is not None and seen[0] <= now < seen[0] + LEASES_FRESH:
            return seen[1]
        try:
            abandoned_ids = {
                leaseless_run.run_id
                for leaseless_run in self._leases.find_leaseless_runs()
                if leaseless_run.run_id != self._run_id
            }
        except RecordsError:
            return ()
        with self._lock:
            self._abandoned = (now, abandoned_ids)
        return abandoned_ids

    def take(self, wanted: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        """Take the slots of a machine. Return why not, or ""."""
        refusal = self._slots.take(wanted, may_take)
        self._not_written.pop(wanted[0].machine, None)
        self.forget()
        return refusal

    def mark_drained(self, name: str, set_names: Collection[str]) -> None:
        """Record that a machine is about to be drained.

        Raises:
            RecordsError: it could not be recorded, so it must not be drained.
        """
        if set_names:
            self.retry(lambda: self._slots.mark_drained(self._run_id, name, set_names))
            self.forget()

    def release(self, name: str) -> None:
        """End the slots of a machine."""
        self._write(name, lambda: self._slots.release(self._run_id, name))

    def keep(self, name: str, reason: str, drained: Collection[str]) -> None:
        """Let the slots of a machine stay, with the reason."""
        self._write(name, lambda: self._slots.keep(self._run_id, name, reason, drained))

    def release_untouched(self, is_untouched: Callable[[str], bool]) -> None:
        """End the slots that an earlier process of this run took for machines that it did not touch."""
        try:
            own = [slot for slot in self.retry(self._slots.find) if slot.run_id == self._run_id and not slot.reason]
        except RecordsError as error:
            logger.warning("the slots of an earlier process of this run can't be read: %s", error.message)
            return
        for name in {slot.machine for slot in own if is_untouched(slot.machine)}:
            self.release(name)

    def _write(self, name: str, call: Callable[[], None]) -> None:
        """Store the end of a turn. If the records never take it, its slots end with the run, which is safe."""
        try:
            self.retry(call)
        except RecordsError as error:
            reason = f"its turn ended, but the records did not take it: {error.message}"
            self._not_written[name] = reason
            logger.warning("%s: %s", name, reason)
            self._listener.on_message(f"{name}: {reason}")
        self.forget()

    def retry(self, call: Callable[[], T]) -> T:
        """Repeat a call while the records are unavailable, as the run's other calls to them do."""
        return retry_while_unavailable(call, self._clock, self._run_context.window.end)
