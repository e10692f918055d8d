"""The pending updates of the fleet in memory, so that a page with 250,000 of them takes milliseconds.

A set of machines is an integer with one bit for each machine: unions, intersections and sizes of such sets are fast,
and 5,000 machines take 625 bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from tasks.domain.states import URGENT_CLASSIFICATIONS, Classification, Severity
from tasks.records.queries.fleet.updates import PendingUpdateRow

MachineBits = int
_CLASSIFICATION_ORDER = {
    each.value: number
    for number, each in enumerate(
        (
            Classification.CRITICAL,
            Classification.SECURITY,
            Classification.SECURITY_ESM,
            Classification.UPDATE_ROLLUP,
            Classification.SERVICE_PACK,
            Classification.FEATURE_PACK,
            Classification.UPDATES,
            Classification.DEFINITION,
            Classification.TOOLS,
            Classification.OTHER,
            Classification.UNCLASSIFIED,
        )
    )
}
_SEVERITY_ORDER = {each.value: number for number, each in enumerate(Severity)}
_URGENT = frozenset(each.value for each in URGENT_CLASSIFICATIONS)


def rank_classification(value: str) -> int:
    """Return the place of a classification, the most urgent first."""
    return _CLASSIFICATION_ORDER.get(value, len(_CLASSIFICATION_ORDER))


def rank_severity(value: str) -> int:
    """Return the place of a severity, the worst first."""
    return _SEVERITY_ORDER.get(value, len(_SEVERITY_ORDER))


@lru_cache(maxsize=1024)
def rate_severity(text: str) -> str:
    """Return the severity that a publisher's word means."""
    return Severity.rate(text).value


def is_urgent(classification: str) -> bool:
    """Return whether updates of this classification decide compliance."""
    return classification in _URGENT


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
        severity = rate_severity(row.severity)
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
    """All pending updates. One thread changes it at a time.

    Attributes:
        updates: by name.
        numbers: the number of each machine; a machine keeps its number.
        cves: the names and versions of the updates that fix each CVE.
    """

    updates: dict[str, IndexedUpdate] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
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
