"""Groups the rows of a report: machines by error, updates by name, and updates that are not installed by reason."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import TypeVar

from inventory.data_class import dataclass
from tasks.domain.model import READ_ONLY_RUN_KINDS
from tasks.domain.states import (
    PRESENT_UPDATE_STATES,
    SUCCESSFUL_UPDATE_STATES,
    URGENT_CLASSIFICATIONS,
    Classification,
    OperationState,
    UpdateState,
)
from tasks.reports.data.rows import MachinePart, MachineReportRow, Tables, UpdateReportRow

_R = TypeVar("_R", bound=MachinePart)
_NUMBER_PATTERN = re.compile(r"\d+(?:[.,:]\d+)*")
_STATES_WORST_FIRST: Sequence[str] = (
    OperationState.FAILED,
    OperationState.UNKNOWN,
    OperationState.IN_PROGRESS,
    OperationState.CANCELLED,
    OperationState.COMPLETED_WITH_WARNINGS,
    OperationState.NOT_STARTED,
    OperationState.SUCCEEDED,
)
_CLASSIFICATIONS_BY_URGENCY = tuple(Classification)  # the enum is defined from Critical to Unclassified


@dataclass(slots=True)
class ErrorGroup:
    """Machines that did not succeed, or not without warnings, for the same reason."""

    state: str
    reason: str
    hint: str
    error_kind: str
    machines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class UpdateGroup:
    """One update on all machines where it was pending."""

    name: str
    kb: str
    classification: str
    is_urgent: bool
    rows: list[UpdateReportRow] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    versions: dict[str, None] = field(default_factory=dict)
    cves: dict[str, None] = field(default_factory=dict)
    chosen_count: int = 0
    has_cve_data: bool = False

    @property
    def title(self) -> str:
        """The publisher's title, if the name is not one."""
        return self.rows[0].title if self.rows else ""

    @property
    def cve_count(self) -> int | None:
        """Number of CVEs that the update fixes; None if no machine reports them."""
        return len(self.cves) if self.has_cve_data else None

    @property
    def not_installed_count(self) -> int:
        """Number of machines on which the update is not installed."""
        return len(self.rows) - sum(self.states[state] for state in PRESENT_UPDATE_STATES)


@dataclass(slots=True)
class ReasonGroup:
    """Updates that were not installed, with the same state and the same reason.

    ``has_varying_figures``: the reasons are equal except for numbers.
    """

    state: str
    reason: str
    update_count: int = 0
    has_varying_figures: bool = False
    machines: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)


def normalize_reason(reason: str, machine: str = "") -> str:
    """Return the reason with placeholders for numbers and for the machine's name, so that similar reasons are equal."""
    return _NUMBER_PATTERN.sub("#", reason.replace(machine, "*") if machine else reason)


def sort_worst_first(rows: Iterable[MachineReportRow]) -> list[MachineReportRow]:
    """Return machines sorted by state (worst first), wave and name."""
    return sorted(
        rows,
        key=lambda row: (_STATES_WORST_FIRST.index(row.state), 10**9 if row.wave is None else row.wave, row.machine),
    )


def group_by_error(rows: Iterable[MachineReportRow], kind: str) -> list[ErrorGroup]:
    """Return the groups of machines with the same error, worst state first, then the largest group first.

    NotStarted is no error in a dry run or an assessment run.
    """
    begins = kind not in READ_ONLY_RUN_KINDS
    groups: dict[tuple[str, str, str], ErrorGroup] = {}
    for row in sort_worst_first(rows):
        reason = row.reason or row.error_message
        if row.state == OperationState.SUCCEEDED or (
            row.state == OperationState.NOT_STARTED and not (reason and begins)
        ):
            continue
        key = (row.state, row.error_kind, normalize_reason(reason, row.machine))
        trouble = groups.setdefault(key, ErrorGroup(row.state, reason, row.error_hint, row.error_kind))
        trouble.machines.append(row.machine)
        if len(trouble.machines) == 2 and len(row.machine) > 2:
            trouble.reason = reason.replace(row.machine, "(machine)")
    return sorted(
        groups.values(), key=lambda trouble: (_STATES_WORST_FIRST.index(trouble.state), -len(trouble.machines))
    )


def group_by_update(rows: Iterable[UpdateReportRow]) -> list[UpdateGroup]:
    """Return updates by name.

    Critical and security updates that are not installed everywhere come first, then failed updates. After that,
    updates are sorted by classification and number of machines.
    """
    groups: dict[tuple[str, str], UpdateGroup] = {}
    urgent = {classification.value for classification in URGENT_CLASSIFICATIONS}
    for row in rows:
        group = groups.get((row.name, row.kb))
        if group is None:
            group = groups[row.name, row.kb] = UpdateGroup(
                row.name, row.kb, row.classification, row.classification in urgent
            )
        group.rows.append(row)
        group.states[row.state] += 1
        group.versions[row.version_available] = None
        group.chosen_count += row.planned
        group.has_cve_data = group.has_cve_data or row.cves is not None
        group.cves.update(dict.fromkeys((row.cves or "").split()))
        if _rank_classification(row.classification) < _rank_classification(group.classification):
            group.classification, group.is_urgent = row.classification, row.classification in urgent
    return sorted(groups.values(), key=_rank_update_group)


def group_by_reason(rows: Iterable[UpdateReportRow]) -> list[ReasonGroup]:
    """Return the reasons why updates were not installed, most frequent first. Planned updates are not included."""
    groups: dict[tuple[str, str], ReasonGroup] = {}
    for row in rows:
        if row.state in SUCCESSFUL_UPDATE_STATES or row.planned or not row.reason:
            continue
        key = (row.state, normalize_reason(row.reason, row.machine))
        group = groups.setdefault(key, ReasonGroup(row.state, row.reason))
        group.update_count += 1
        group.has_varying_figures = group.has_varying_figures or group.reason != row.reason
        group.machines[row.machine] = None
        group.names[row.name] = None
    return sorted(groups.values(), key=lambda group: (-group.update_count, group.reason))


def group_rows(rows: Iterable[_R]) -> dict[str, list[_R]]:
    """Return the rows of each machine that has any, in their order."""
    rows_by_machine: dict[str, list[_R]] = {}
    for row in rows:
        rows_by_machine.setdefault(row.machine, []).append(row)
    return rows_by_machine


def group_by_machine(tables: Tables) -> dict[str, list[UpdateReportRow]]:
    """Return each machine's updates, sorted by state (not installed first), classification and name."""
    return {row.machine: [] for row in tables.machines} | group_rows(sort_updates(tables.updates))


def sort_updates(rows: Iterable[UpdateReportRow]) -> list[UpdateReportRow]:
    """Return updates sorted by state (not installed first), classification and name."""
    order = (
        UpdateState.FAILED,
        UpdateState.SETUP_FAILED,
        UpdateState.BLOCKED,
        UpdateState.NOT_ATTEMPTED,
        UpdateState.PENDING,
        UpdateState.EXCLUDED,
        UpdateState.NOT_SELECTED,
        UpdateState.REPAIRED,
        UpdateState.INSTALLED,
    )
    return sorted(
        rows, key=lambda row: (order.index(UpdateState(row.state)), _rank_classification(row.classification), row.name)
    )


def _rank_classification(classification: str) -> int:
    return _CLASSIFICATIONS_BY_URGENCY.index(Classification(classification))


def _rank_update_group(group: UpdateGroup) -> tuple[int, int, int, int, str]:
    urgent_left = group.not_installed_count if group.is_urgent else 0
    return (
        -urgent_left,
        -group.states[UpdateState.FAILED] - group.states[UpdateState.SETUP_FAILED],
        _rank_classification(group.classification),
        -len(group.rows),
        group.name,
    )


def split_at_limit(names: Sequence[str], limit: int) -> tuple[list[str], int]:
    """Return the first ``limit`` names, and the number of the others."""
    return list(names[:limit]), max(0, len(names) - limit)
