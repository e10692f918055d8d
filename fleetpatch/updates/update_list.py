"""Filters and sorts the updates that machines lack, by update or by CVE."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from fleetpatch.machines.machine_list import select_names
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.updates.pending_index import IndexedUpdate, MachineBits, PendingIndex
from inventory.data_class import dataclass
from tasks.domain.rows import copy_row
from tasks.domain.rows.updates import CveMachinesRow, CveRow, UpdateRow
from tasks.domain.states import Classification, Severity

_CLASSIFICATION_ORDER: Final = {
    classification.value: number
    for number, classification in enumerate(
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
_SEVERITY_ORDER: Final = {severity.value: number for number, severity in enumerate(Severity)}
_LATER = datetime.max.replace(tzinfo=UTC)
_EARLIER = datetime.min.replace(tzinfo=UTC)


def rank_classification(value: str) -> int:
    """Return the place of a classification, the most urgent first."""
    return _CLASSIFICATION_ORDER.get(value, len(_CLASSIFICATION_ORDER))


def rank_severity(value: str) -> int:
    """Return the place of a severity, the worst first."""
    return _SEVERITY_ORDER.get(value, len(_SEVERITY_ORDER))


SortKey = Callable[[Any], Any]
UPDATE_SORTS: dict[str, SortKey] = {
    "urgency": lambda row: (rank_classification(row.classification), rank_severity(row.severity), -row.machines),
    "name": lambda row: row.name.casefold(),
    "severity": lambda row: (rank_severity(row.severity), rank_classification(row.classification)),
    "machines": lambda row: -row.machines,
    "since": lambda row: row.since or _LATER,
    "published": lambda row: -((row.published or _EARLIER).timestamp() if row.published else 0),
    "withheld": lambda row: -row.withheld,
    "cves": lambda row: -(row.cves or 0),
}
CVE_SORTS: dict[str, SortKey] = {
    "severity": lambda row: (rank_severity(row.severity), -row.machines),
    "cve": lambda row: [-int(part) for part in re.findall(r"\d+", row.cve)[:2]],
    "machines": lambda row: -row.machines,
    "since": lambda row: row.since or _LATER,
    "published": UPDATE_SORTS["published"],
    "withheld": lambda row: -row.withheld,
}


@dataclass(frozen=True, slots=True)
class UpdateFilter:
    """What the URL asks for. "" selects everything."""

    q: str = ""
    classification: str = ""
    severity: str = ""
    os: str = ""
    scope: str = ""


def select_scope(index: PendingIndex, fleet: FleetSnapshot, wanted: UpdateFilter) -> MachineBits:
    """Return the machines of the inventory that the scope and the system select.

    Raises:
        InventoryError: the scope is not valid, or selects no machine.
    """
    if not wanted.scope and not wanted.os and fleet.inventory is None:
        return (1 << len(index.numbers)) - 1
    names: Iterable[str] = select_names(fleet, wanted.scope) if wanted.scope else fleet.rows
    if wanted.os:
        rows = fleet.rows
        names = [name for name in names if (state := rows[name].state) is not None and state.os_id == wanted.os]
    return index.select_machines(names)


def list_systems(fleet: FleetSnapshot) -> list[str]:
    """Return the systems of the fleet, for the filter."""
    return sorted({row.state.os_id for row in fleet.rows.values() if row.state is not None and row.state.os_id})


def list_updates(index: PendingIndex, machines: MachineBits, wanted: UpdateFilter) -> list[UpdateRow]:
    """Return the updates that some of these machines lack."""
    return [
        _build_row(index, update, bits) for update, bits in _iterate_selected(index, machines, wanted, of_text=True)
    ]


def list_cves(index: PendingIndex, machines: MachineBits, wanted: UpdateFilter) -> list[CveRow]:
    """Return the CVEs for which some of these machines lack a fix."""
    selected = {update.name: bits for update, bits in _iterate_selected(index, machines, wanted, of_text=False)}
    text = wanted.q.strip().casefold()
    rows = []
    for cve, fixes in index.cves.items():
        row = _build_cve_row(index, cve, fixes, selected)
        if row is not None and (not text or text in cve.casefold() or any(text in n.casefold() for n in row.updates)):
            rows.append(row)
    return rows


def find_cve(index: PendingIndex, machines: MachineBits, cve: str) -> CveMachinesRow:
    """Return a CVE with those of these machines that lack a fix, as far as fixes of it are known."""
    selected = {name: update.machines & machines for name, update in index.updates.items()}
    fixes = index.cves.get(cve, [])
    row = _build_cve_row(index, cve, fixes, selected)
    if row is None:
        return CveMachinesRow(
            cve=cve, updates=(), severity="", machines=0, since=None, published=None, withheld=0, names=()
        )
    lacking: MachineBits = 0
    for name, version in fixes:
        if name in index.updates:
            lacking |= selected[name] & index.updates[name].versions.get(version, 0)
    return copy_row(CveMachinesRow, row, names=tuple(sorted(index.list_machines(lacking))))


def _iterate_selected(
    index: PendingIndex, machines: MachineBits, wanted: UpdateFilter, *, of_text: bool
) -> Iterator[tuple[IndexedUpdate, MachineBits]]:
    """Yield each update with the machines that lack it in the selected classification and severity."""
    text = wanted.q.strip().casefold() if of_text else ""
    for update in index.updates.values():
        bits = update.machines & machines
        if wanted.classification:
            bits &= update.classifications.get(wanted.classification, 0)
        if wanted.severity:
            bits &= update.severities.get(wanted.severity, 0)
        if bits and (not text or _matches(index, update, bits, text)):
            yield update, bits


def _matches(index: PendingIndex, update: IndexedUpdate, bits: MachineBits, text: str) -> bool:
    if text in update.name.casefold() or text in update.title.casefold() or text in update.kb.casefold():
        return True
    if text.startswith("kb") and text[2:] and text[2:] in update.kb.casefold():
        return True
    return text.startswith("cve") and any(text in cve.casefold() for cve in index.find_cves(update, bits))


def _build_row(index: PendingIndex, update: IndexedUpdate, bits: MachineBits) -> UpdateRow:
    version, others = update.find_version(bits)
    return UpdateRow(
        name=update.name,
        title=update.title,
        kb=update.kb,
        classification=_find_first(update.classifications, bits, rank_classification),
        severity=_find_first(update.severities, bits, rank_severity),
        version=version,
        other_versions=others,
        machines=bits.bit_count(),
        since=update.find_oldest(bits),
        published=update.published.get(version),
        cves=len(index.find_cves(update, bits)) if update.name in index.cves_by_update else None,
        withheld=(update.withheld & bits).bit_count(),
    )


def _build_cve_row(
    index: PendingIndex, cve: str, fixes: list[tuple[str, str]], selected: dict[str, MachineBits]
) -> CveRow | None:
    """Return the line of a CVE; None if no selected machine lacks a fix of it."""
    lacking: MachineBits = 0
    withheld: MachineBits = 0
    names: dict[str, MachineBits] = {}
    published: list[datetime] = []
    for name, version in fixes:
        allowed = selected.get(name)
        if allowed is None:
            continue
        update = index.updates[name]
        bits = allowed & update.versions.get(version, 0)
        if bits:
            lacking |= bits
            withheld |= bits & update.withheld
            names[name] = names.get(name, 0) | bits
            published += [update.published[version]] if version in update.published else []
    if not lacking:
        return None
    since = [moment for name, bits in names.items() if (moment := index.updates[name].find_oldest(bits))]
    ranks = [_find_first(index.updates[name].severities, bits, rank_severity) for name, bits in names.items()]
    return CveRow(
        cve=cve,
        updates=tuple(sorted(names)),
        severity=min(ranks, key=rank_severity),
        machines=lacking.bit_count(),
        since=min(since, default=None),
        published=min(published, default=None),
        withheld=withheld.bit_count(),
    )


def _find_first(bits_by_key: dict[str, MachineBits], bits: MachineBits, rank: Callable[[str], int]) -> str:
    return min((key for key, machines in bits_by_key.items() if machines & bits), key=rank, default="")
