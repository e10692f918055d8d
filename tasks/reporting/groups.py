"""What the rows of a report have in common: machines with the same trouble, updates by name, reasons why not."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tasks.model import KINDS_THAT_LOOK
from tasks.reporting.rows import MachineRow, Tables, UpdateRow
from tasks.states import SETTLED, URGENT, Classification, OperationState, UpdateState

_FIGURES = re.compile(r"\d+(?:[.,:]\d+)*")
_WORST_FIRST = (
    OperationState.FAILED,
    OperationState.UNKNOWN,
    OperationState.IN_PROGRESS,
    OperationState.COMPLETED_WITH_WARNINGS,
    OperationState.NOT_STARTED,
    OperationState.SUCCEEDED,
)
_URGENCY = tuple(Classification)  # its order of definition goes from Critical down to Unclassified


@dataclass(slots=True)
class Trouble:
    """Machines that did not simply succeed, for the same reason."""

    state: str
    reason: str
    hint: str
    kind: str
    machines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class UpdateGroup:
    """One update over all machines where it was pending."""

    name: str
    kb: str
    classification: str
    urgent: bool
    rows: list[UpdateRow] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    versions: dict[str, None] = field(default_factory=dict)
    cves: dict[str, None] = field(default_factory=dict)
    chosen: int = 0
    tells_cves: bool = False

    @property
    def cve_count(self) -> int | None:
        """CVEs that it fixes; None when no machine can tell."""
        return len(self.cves) if self.tells_cves else None

    @property
    def left(self) -> int:
        """Machines on which it is not installed."""
        return len(self.rows) - sum(self.states[state] for state in SETTLED)


@dataclass(slots=True)
class WhyNot:
    """Updates that were not installed, in the same state for the same reason. ``differs``: but for its figures."""

    state: str
    reason: str
    updates: int = 0
    differs: bool = False
    machines: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)


def alike(reason: str, machine: str = "") -> str:
    """Return what reasons have in common that differ only in their figures and in the machine's name."""
    return _FIGURES.sub("#", reason.replace(machine, "*") if machine else reason)


def worst_first(rows: Iterable[MachineRow]) -> list[MachineRow]:
    """Return machines in the order in which a person wants to see them."""
    rank = {state.value: number for number, state in enumerate(_WORST_FIRST)}
    return sorted(rows, key=lambda row: (rank[row.state], row.wave if row.wave is not None else 10**9, row.machine))


def troubles(rows: Iterable[MachineRow], kind: str) -> list[Trouble]:
    """Return what went wrong, worst first, then by how many machines it hit.

    Not begun because nothing was asked for (a dry run, an assessment) is no trouble.
    """
    begins = kind not in KINDS_THAT_LOOK
    found: dict[tuple[str, str, str], Trouble] = {}
    for row in worst_first(rows):
        reason = row.reason or row.error_message
        if row.state == OperationState.SUCCEEDED or (
            row.state == OperationState.NOT_STARTED and not (reason and begins)
        ):
            continue
        key = (row.state, row.error_kind, alike(reason, row.machine))
        trouble = found.setdefault(key, Trouble(row.state, reason, row.error_hint, row.error_kind))
        trouble.machines.append(row.machine)
        if len(trouble.machines) == 2 and len(row.machine) > 2:
            trouble.reason = reason.replace(row.machine, "(machine)")
    order = [state.value for state in _WORST_FIRST]
    return sorted(found.values(), key=lambda trouble: (order.index(trouble.state), -len(trouble.machines)))


def by_update(rows: Iterable[UpdateRow]) -> list[UpdateGroup]:
    """Return updates by name: urgent ones that are not installed everywhere first, then failures, then the widest."""
    found: dict[tuple[str, str], UpdateGroup] = {}
    urgent = {classification.value for classification in URGENT}
    for row in rows:
        group = found.get((row.name, row.kb))
        if group is None:
            group = found[row.name, row.kb] = UpdateGroup(
                row.name, row.kb, row.classification, row.classification in urgent
            )
        group.rows.append(row)
        group.states[row.state] += 1
        group.versions[row.version_available] = None
        group.chosen += row.planned
        group.tells_cves = group.tells_cves or row.cves is not None
        group.cves.update(dict.fromkeys((row.cves or "").split()))
        if _urgency(row.classification) < _urgency(group.classification):
            group.classification, group.urgent = row.classification, row.classification in urgent
    return sorted(found.values(), key=_importance)


def why_not(rows: Iterable[UpdateRow]) -> list[WhyNot]:
    """Return why updates were not installed, most frequent first. A planned update needs no excuse."""
    found: dict[tuple[str, str], WhyNot] = {}
    for row in rows:
        if row.state in SETTLED or row.planned or not row.reason:
            continue
        key = (row.state, alike(row.reason, row.machine))
        group = found.get(key)
        if group is None:
            group = found[key] = WhyNot(row.state, row.reason)
        group.updates += 1
        group.differs = group.differs or group.reason != row.reason
        group.machines[row.machine] = None
        group.names[row.name] = None
    return sorted(found.values(), key=lambda group: (-group.updates, group.reason))


def by_machine(laid_out: Tables) -> dict[str, list[UpdateRow]]:
    """Return each machine's updates, what was not installed first and the urgent before the others."""
    found: dict[str, list[UpdateRow]] = {row.machine: [] for row in laid_out.machines}
    for row in laid_out.updates:
        found[row.machine].append(row)
    for rows in found.values():
        rows.sort(key=_attention)
    return found


def _attention(row: UpdateRow) -> tuple[int, int, str]:
    order = (
        UpdateState.FAILED,
        UpdateState.NOT_ATTEMPTED,
        UpdateState.PENDING,
        UpdateState.EXCLUDED,
        UpdateState.NOT_SELECTED,
        UpdateState.REPAIRED,
        UpdateState.INSTALLED,
    )
    return order.index(UpdateState(row.state)), _urgency(row.classification), row.name


def _urgency(classification: str) -> int:
    return _URGENCY.index(Classification(classification))


def _importance(group: UpdateGroup) -> tuple[int, int, int, int, str]:
    urgent_left = group.left if group.urgent else 0
    return -urgent_left, -group.states[UpdateState.FAILED], _urgency(group.classification), -len(group.rows), group.name


def share(names: Sequence[str], limit: int) -> tuple[list[str], int]:
    """Return the first names and how many more there are."""
    return list(names[:limit]), max(0, len(names) - limit)
