"""The SetSlots protocol: which members of machine sets are out of service, across runs and controllers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


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
