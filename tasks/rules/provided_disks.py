"""Rules for what others have taken back of our orders to a machine: an older definition, an older file. Pure."""

import json
from collections.abc import Collection, Mapping

from inventory.data_class import dataclass
from tasks.domain.provided_machines import ProvidedMachine, ProviderNotes


@dataclass(frozen=True, slots=True)
class ProviderLoss:
    """What others have taken back."""

    older: Mapping[str, str]  # the file with the newest data, by the id of each disk that starts or runs with an older
    other: Mapping[str, str]  # likewise, of disks that are in a file that the records do not know
    ids: tuple[str, ...]  # of snapshots and kept disks that the provider does not know any more
    unnamed: tuple[str, ...]  # newest files that newer notes do not name: nothing is lost if none of them is there
    is_between: bool  # the machine runs with other disks than it would start with

    @property
    def message(self) -> str:
        """Return what it is, in words."""
        parts = [f"{disk} has an older file than {path}" for disk, path in self.older.items()]
        parts += [f"{disk} is not in {path} any more" for disk, path in self.other.items()]
        parts += [f"its provider has forgotten {', '.join(self.ids)}"] if self.ids else []
        return f"somebody has taken back what fleetpatch has done to its disks: {'; '.join(parts)}"


def find_loss(known: ProviderNotes | None, machine: ProvidedMachine) -> ProviderLoss | None:
    """Return what others have taken back of our orders to a machine; None: nothing.

    Newer notes are those of an order that the records do not have yet, or of another controller. Older notes, those of
    another lineage, and those of a fork (another text with the same number, or newer ones that do not name our file)
    are those of a definition that does not have our last order: only then an id that is not there has been lost, and
    not deleted. A disk in another file is a loss if the definition or the file is of our orders.

    Args:
        known: what the records have of the provider's notes; None: nothing.
        machine: as its provider shows it.
    """
    notes = machine.notes
    if known is None or notes is None:
        return None
    is_another = known.lineage not in ("", notes.lineage)
    used = {disk.source for disk in machine.disks if disk.next_source in ("", disk.source)}
    unnamed: tuple[str, ...] = ()
    if notes.number > known.number and not is_another:
        unnamed = tuple(path for path in known.made.values() if not (path in used or json.dumps(path) in notes.text))
        if not unnamed:
            return None
    files = {disk.id: {disk.source, disk.next_source} for disk in machine.disks}
    older = find_older(known, files)
    is_old_definition = is_another or (notes.number, notes.text) != (known.number, known.text)
    ids = tuple(known_id for known_id in known.ids if known_id not in notes.ids) if is_old_definition else ()
    found = {*older.values(), *used}
    other = {disk: path for disk, path in known.tops.items() if is_old_definition and path not in found}
    is_ours = notes.number > 0 or not known.made.keys().isdisjoint(other)
    loss = ProviderLoss(older, other, ids, unnamed, is_between(machine))
    return loss if older or ids or (other and is_ours) else None


def is_between(machine: ProvidedMachine) -> bool:
    """Return whether a machine runs with other disks than it would start with."""
    return any(disk.next_source not in ("", disk.source) for disk in machine.disks)


def find_older(known: ProviderNotes, files: Mapping[str, Collection[str]]) -> Mapping[str, str]:
    """Return the file with the newest data of each disk that has an older one among its ``files``, by its id."""
    newest = {disk: known.newest[path] for disk, paths in files.items() for path in paths if path in known.newest}
    tops = set(known.tops.values())
    return {disk: path if path in tops else known.tops.get(disk, path) for disk, path in newest.items()}
