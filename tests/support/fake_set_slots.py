"""Slots of machine sets in memory, with faults on demand. Held to the same contract as the real ones."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from tasks.domain.errors import RecordsUnavailable
from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.rules.runs.set_capacity import build_stored_slot, check_slot, find_taken_over
from tests.support.fake_clock import FakeClock
from tests.support.fake_records import FakeRecords


@dataclass
class FakeSetSlots:
    """Remembers everything in plain attributes that tests may read and change.

    Attributes:
        away: how many of the next calls raise RecordsUnavailable and do nothing.
        most: the largest number of slots of each set that ever counted at once.
        story: "take web-1", "release web-1" and "keep web-1: why", in order; a refused take is not in it.
    """

    records: FakeRecords = field(default_factory=FakeRecords)
    clock: Clock = field(default_factory=FakeClock)
    away: float = 0
    most: dict[str, int] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    stored: dict[tuple[str, str], SetSlot] = field(default_factory=dict)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def take(self, slots: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        with self._turn:
            self._be_there()
            present = self._present(None)
            for slot in slots:
                if why := check_slot(slot, present, may_take):
                    return why
            for slot in find_taken_over(slots[0].machine, present) if slots else ():
                del self.stored[slot.set_name, slot.machine]
            for slot in slots:
                self.stored[slot.set_name, slot.machine] = build_stored_slot(slot, present)
                self.most[slot.set_name] = max(self.most.get(slot.set_name, 0), len(self._present([slot.set_name])))
            self.story += [f"take {slots[0].machine}"] if slots else []
            return ""

    def release(self, run_id: str, machine: str) -> None:
        with self._turn:
            self._be_there()
            for key, slot in list(self.stored.items()):
                if (slot.run_id, slot.machine) == (run_id, machine):
                    del self.stored[key]
            self.story.append(f"release {machine}")

    def mark_drained(self, run_id: str, machine: str, set_names: Collection[str]) -> None:
        with self._turn:
            self._be_there()
            for key, slot in self.stored.items():
                if (slot.run_id, slot.machine) == (run_id, machine) and slot.set_name in set_names:
                    self.stored[key] = replace(slot, drained=True)

    def keep(self, run_id: str, machine: str, reason: str, drained: Collection[str]) -> None:
        with self._turn:
            self._be_there()
            for key, slot in self.stored.items():
                if (slot.run_id, slot.machine) == (run_id, machine):
                    self.stored[key] = replace(slot, reason=reason, drained=slot.set_name in drained)
            self.story.append(f"keep {machine}: {reason}")

    def find(self, set_names: Sequence[str] | None = None) -> tuple[SetSlot, ...]:
        with self._turn:
            self._be_there()
            return self._present(set_names)

    def _present(self, set_names: Sequence[str] | None) -> tuple[SetSlot, ...]:
        named = [slot for slot in self.stored.values() if set_names is None or slot.set_name in set_names]
        counted = [replace(slot, is_left=not self._is_open(slot)) for slot in named]
        counted = [slot for slot in counted if slot.drained or not slot.is_left]
        return tuple(sorted(counted, key=lambda slot: (slot.since, slot.set_name, slot.machine)))

    def _is_open(self, slot: SetSlot) -> bool:
        run = self.records.runs.get(slot.run_id)
        if run is None:
            return slot.since > self.clock.now() - timedelta(minutes=10)
        return run.state in UNFINISHED_RUN_STATES

    def _be_there(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise RecordsUnavailable("can't look at machine sets: told to be away", hint="A test asked for this.")
