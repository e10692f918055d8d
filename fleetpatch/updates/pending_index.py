"""The pending updates of the fleet in memory, so that a page with 250,000 of them takes milliseconds.

A set of machines is an integer with one bit for each machine: unions, intersections and sizes of such sets are fast,
and 5,000 machines take 625 bytes. The reader reads again only the machines that were assessed since.
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.domain.protocols.clock import Clock
from tasks.domain.states import Severity
from tasks.records.queries.updates import (
    PendingUpdateRow,
    count_update_cves,
    read_pending_assessments,
    read_pending_updates,
    read_update_cves,
)
from tasks.records.storage.database import Database

MachineBits = int


@dataclass(slots=True)
class IndexedUpdate:
    """One pending update, by its name, on all machines that lack it.

    Attributes:
        versions: the machines by the version that is available to them.
        classifications: the machines by the classification; that of a name may differ between systems.
        severities: the machines by the severity.
        withheld: the machines on which it is held or blocked.
        since: since when each machine lacks it, by the machine's number.
        published: the publication of each version, if it is known.
    """

    name: str
    title: str = ""
    kb: str = ""
    machines: MachineBits = 0
    withheld: MachineBits = 0
    versions: dict[str, MachineBits] = field(default_factory=dict)
    classifications: dict[str, MachineBits] = field(default_factory=dict)
    severities: dict[str, MachineBits] = field(default_factory=dict)
    since: dict[int, datetime] = field(default_factory=dict)
    published: dict[str, datetime] = field(default_factory=dict)

    def add(self, row: PendingUpdateRow, number: int) -> None:
        """Add a machine."""
        bit = 1 << number
        self.machines |= bit
        if row.held or row.blocked:
            self.withheld |= bit
        severity = Severity.rate(row.severity).value
        self.versions[row.available] = self.versions.get(row.available, 0) | bit
        self.classifications[row.classification] = self.classifications.get(row.classification, 0) | bit
        self.severities[severity] = self.severities.get(severity, 0) | bit
        self.title = self.title or row.title or ""
        self.kb = self.kb or row.kb
        if row.since is not None and (number not in self.since or row.since < self.since[number]):
            self.since[number] = row.since
        if row.published is not None:
            self.published[row.available] = row.published

    def remove(self, bit: MachineBits, number: int) -> None:
        """Remove a machine."""
        keep = ~bit
        self.machines &= keep
        self.withheld &= keep
        for bits in (self.versions, self.classifications, self.severities):
            for key in [key for key, machines in bits.items() if machines & bit]:
                bits[key] &= keep
                if not bits[key]:
                    del bits[key]
        self.since.pop(number, None)

    def find_oldest(self, machines: MachineBits) -> datetime | None:
        """Return since when the first of some machines lacks it."""
        if machines == self.machines:
            return min(self.since.values(), default=None)
        return min((since for number, since in self.since.items() if machines >> number & 1), default=None)

    def find_version(self, machines: MachineBits) -> tuple[str, int]:
        """Return the version of which the publication is newest, and how many other versions machines are offered.

        Versions of different systems can't be compared. Without publications: the version that most machines lack.
        """
        bits_by_version = [(version, bits & machines) for version, bits in self.versions.items() if bits & machines]
        if not bits_by_version:
            return "", 0
        dated = {version: self.published[version] for version, _ in bits_by_version if version in self.published}
        if dated:
            return max(dated, key=lambda each: (dated[each], each)), len(bits_by_version) - 1
        return max(bits_by_version, key=lambda each: (each[1].bit_count(), each[0]))[0], len(bits_by_version) - 1


@dataclass(slots=True)
class PendingIndex:
    """All pending updates. One thread changes it at a time."""

    updates: dict[str, IndexedUpdate] = field(default_factory=dict)  # by name
    numbers: dict[str, int] = field(default_factory=dict)  # the number of each machine; a machine keeps its number
    # The names and versions of the updates that fix each CVE.
    cves: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    cves_by_update: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    _names: dict[str, set[str]] = field(default_factory=dict)

    def replace_machine(self, machine: str, rows: Iterable[PendingUpdateRow]) -> None:
        """Replace the pending updates of a machine."""
        number = self.numbers.setdefault(machine, len(self.numbers))
        for name in self._names.pop(machine, ()):
            update = self.updates[name]
            update.remove(1 << number, number)
            if not update.machines:
                del self.updates[name]
        names = set()
        for row in rows:
            names.add(row.name)
            update = self.updates.get(row.name) or self.updates.setdefault(row.name, IndexedUpdate(row.name))
            update.add(row, number)
        self._names[machine] = names

    def replace_cves(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Replace which updates fix which CVEs: name, version, CVE."""
        self.cves = {}
        by_update: dict[str, dict[str, set[str]]] = {}
        for name, version, cve in rows:
            self.cves.setdefault(cve, []).append((name, version))
            by_update.setdefault(name, {}).setdefault(version, set()).add(cve)
        self.cves_by_update = {
            name: {version: frozenset(cves) for version, cves in versions.items()}
            for name, versions in by_update.items()
        }

    def select_machines(self, names: Iterable[str]) -> MachineBits:
        """Return the set of these machines, as far as they have ever had pending updates."""
        flags = bytearray(len(self.numbers) // 8 + 1)
        for name in names:
            number = self.numbers.get(name)
            if number is not None:
                flags[number >> 3] |= 1 << (number & 7)
        return int.from_bytes(flags, "little")

    def find_cves(self, update: IndexedUpdate, machines: MachineBits) -> frozenset[str]:
        """Return the CVEs that an update fixes on some machines."""
        cves_by_version = self.cves_by_update.get(update.name)
        if cves_by_version is None:
            return frozenset()
        cve_sets = [cves for version, cves in cves_by_version.items() if update.versions.get(version, 0) & machines]
        return cve_sets[0] if len(cve_sets) == 1 else frozenset().union(*cve_sets)

    def list_machines(self, machines: MachineBits) -> Iterator[str]:
        """Yield the names of a set of machines."""
        return (name for name, number in self.numbers.items() if machines >> number & 1)

    def select_with_cves(self) -> MachineBits:
        """Return the machines that lack an update of which CVEs are known."""
        machine_bits: MachineBits = 0
        for name, versions in self.cves_by_update.items():
            update = self.updates.get(name)
            if update is not None:
                for version in versions:
                    machine_bits |= update.versions.get(version, 0)
        return machine_bits


logger = logging.getLogger(__name__)

MAX_AGE: Final = timedelta(seconds=2)
_WHOLE: Final = 0.3
"""With more than this share of machines to read again, the whole table is read at once."""


class PendingIndexReader:
    """The index of pending updates. All threads may share it; one uses the index at a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._index = PendingIndex()
        self._present: dict[int, int] = {}
        self._machines: dict[int, str] = {}
        self._cve_rows = -1
        self._read_at: datetime | None = None

    @contextmanager
    def open(self) -> Iterator[PendingIndex]:
        """Yield the index. It does not change before the end of the block.

        Raises:
            RecordsError: the records can't be read.
        """
        with self._lock:
            now = self._clock.now()
            if self._read_at is None or not timedelta(0) <= now - self._read_at < MAX_AGE:
                self._refresh()
                self._read_at = now
            yield self._index

    def warm_up(self) -> None:
        """Read the index in a thread of its own, so that the first page does not wait for it (3 s for 250,000 rows)."""
        threading.Thread(target=self._open_once, name="pending updates", daemon=True).start()

    def _open_once(self) -> None:
        try:
            with self.open():
                pass
        except RecordsError as error:  # a page will say it
            logger.warning("the pending updates can't be read: %s", error.message)

    def _refresh(self) -> None:
        present = read_pending_assessments(self._database)
        changed = {number for number, count in present.items() if self._present.get(number) != count}
        ended = self._present.keys() - present.keys()
        gone = {self._machines.get(number, "") for number in ended}
        if changed:
            rows: dict[str, list[PendingUpdateRow]] = {}
            machine_names = None if len(changed) > _WHOLE * len(present) else changed
            for row in read_pending_updates(self._database, machine_names):
                rows.setdefault(row.machine, []).append(row)
                self._machines[row.assessment] = row.machine
            for name, machine_rows in rows.items():
                self._index.replace_machine(name, machine_rows)
            gone -= rows.keys()
        for name in gone - {""}:
            self._index.replace_machine(name, ())
        for number in ended:  # not before: if the records fail, the next page must find these machines again
            self._machines.pop(number, None)
        # A machine may be assessed between the two queries: the number of that assessment makes the next page read it.
        self._present = present
        cve_rows = count_update_cves(self._database)
        if cve_rows != self._cve_rows:
            self._index.replace_cves(read_update_cves(self._database))
            self._cve_rows = cve_rows
