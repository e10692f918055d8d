"""Compares what a provider has written down of our orders with what the records have of it."""

from dataclasses import replace
from typing import Final

from inventory.machine import Machine
from tasks.domain.errors import DisksTakenBack, FleetpatchError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider, NoteKeeper
from tasks.domain.provided_machines import ProvidedMachine, ProviderNotes, ProviderRecord
from tasks.machines.providers.identity import ProviderRecords
from tasks.rules.provided_disks import ProviderLoss, find_loss, is_between

_BETWEEN: Final = "It would start with other disks than it runs with: it can't stay as it is until they are the same."


class NoteWatch:
    """Watches the notes of one machine. Not thread-safe. Every method raises RecordsError."""

    def __init__(self, machine: Machine, provider: MachineProvider, records: ProviderRecords) -> None:
        """``provider`` is that of the machine."""
        self._machine, self._provider, self._records = machine, provider, records

    @property
    def _record(self) -> ProviderRecord:
        """What is kept of the machine."""
        name, provider = self._machine.name, self._machine.provider
        return self._records.find(name, provider) or ProviderRecord(name, provider)

    def has_notes(self) -> bool:
        """See WatchedProvider."""
        record = self._record
        return bool(record.loss) or (record.notes is not None and record.notes.number > 0)

    def recorded_loss(self) -> str:
        """See WatchedProvider."""
        return self._record.loss

    def find_loss(self, provided: ProvidedMachine, deadline: Deadline) -> ProviderLoss | None:
        """Return what is lost of the notes of a machine, and keep nothing. A loss that was seen stays without files."""
        record, provider = self._record, self._provider
        loss = find_loss(record.notes, provided)
        if loss is None or not loss.unnamed or record.loss or not isinstance(provider, NoteKeeper):
            return loss
        return loss if provider.find_there(loss.unnamed, deadline) else None

    def require_nothing_lost(self, provided: ProvidedMachine, deadline: Deadline) -> None:
        """Keep the notes of a machine that was read just now.

        Raise DisksTakenBack if something of them is lost, or if the known ones are unreadable.
        """
        record = self._record
        if record.is_unreadable:
            message, _, hint = record.loss.partition("\n")
            raise DisksTakenBack(message, machine=record.machine, hint=hint)
        if provided.notes is None:
            return
        loss = self.find_loss(provided, deadline)
        error = self._describe(loss, record.notes, deadline) if loss is not None and record.notes is not None else None
        notes = provided.notes if error is None else record.notes
        kept = replace(record, notes=notes, loss="" if error is None else f"{error.message}\n{error.hint}")
        if kept != record and (record.notes or provided.notes.number or provided.notes.ids or provided.notes.newest):
            self._records.save_notes(kept)
        if error is not None:
            raise error

    def _describe(self, loss: ProviderLoss, known: ProviderNotes, deadline: Deadline) -> DisksTakenBack:
        adopt, lines = f"fleetpatch snapshots adopt {self._machine.name}", []
        if (loss.older or loss.other) and isinstance(self._provider, NoteKeeper):
            try:
                lines = [self._provider.explain_way_back(known, deadline=deadline)]
            except FleetpatchError as error:
                lines = [f"The way back can't be told now: {error.message}"]
        as_it_is = _BETWEEN if loss.is_between else f"If it shall stay as it is now: {adopt} --as-it-is"
        lines += [f"When its disks are right: {adopt}", as_it_is]
        return DisksTakenBack(loss.message, machine=self._machine.name, hint="\n".join(lines))

    def adopt(self, provided: ProvidedMachine, deadline: Deadline, *, as_it_is: bool) -> str:
        """See WatchedProvider. The machine was read just now."""
        record, provider = self._record, self._provider
        if record.is_unreadable:
            if not as_it_is:
                self.require_nothing_lost(provided, deadline)
            if is_between(provided):
                hint = "Give its configuration the right disks, at its provider."
                raise DisksTakenBack(_BETWEEN, machine=record.machine, hint=hint)
            self._records.save_notes(replace(record, notes=provided.notes, loss=""), replaces_unreadable=True)
            return "it stays as it is, and its notes begin anew"
        known = record.notes
        loss = self.find_loss(provided, deadline)
        if loss is None or known is None or not isinstance(provider, NoteKeeper):
            return ""
        if loss.is_between if as_it_is else loss.older or loss.other:
            raise self._describe(loss, known, deadline)
        left = provider.renew_notes(known, is_restored=not as_it_is, deadline=deadline)
        restored = f"its provider knows {', '.join(loss.ids)} again"
        return f"it stays as it is; {', '.join(left) or 'no file'} may be left on its host" if as_it_is else restored
