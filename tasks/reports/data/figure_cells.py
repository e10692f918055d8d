"""The columns of figures in lists of machines and updates, for each kind of run."""

from typing import Final

from inventory.data_class import dataclass
from tasks.domain.states import NOT_DONE_UPDATE_STATES, Compliance, RebootState, UpdateState, YesNoUnknown
from tasks.reports.data.groups import UpdateGroup
from tasks.reports.data.rows import MachineReportRow
from tasks.reports.formatting import NO_FIGURE, NOT_KNOWN, describe_minutes_range, format_known_duration
from tasks.rules.runs.figures import REBOOT_LABELS


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """A column of a list. ``css_class`` is its CSS class."""

    label: str
    css_class: str = "number"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure in a row. ``value`` is set if the figure is an integer."""

    text: str
    css_class: str = "number"
    value: int | None = None


_MACHINE_COLUMNS: Final = {
    "patch": (
        *("Wave", "Installed", "Failed", "Not done", "Skipped", "Crit + sec left"),
        *("Reboot", "To restart", "Took"),
    ),
    "plan": (
        *("Wave", "Chosen", "No time", "Blocked", "Excluded", "Not selected", "Crit + sec"),
        *("Reboot", "Predicted"),
    ),
    "assess": ("Pending", "Crit + sec", "Other", "Compliance", "Reboot", "To restart", "Took"),
}
_WORD_COLUMNS: Final = frozenset({"Compliance", "Reboot"})
_UPDATE_COLUMNS: Final = {
    "patch": ("CVEs", "Machines", "Installed", "Failed", "Not done", "Skipped"),
    "plan": ("CVEs", "Machines", "Chosen", "No time", "Blocked", "Excluded", "Not selected"),
    "assess": ("CVEs", "Machines"),
}
_REBOOT_CELLS: Final = {
    RebootState.COMPLETED.value: Cell("done", "word"),
    RebootState.NOT_NEEDED.value: Cell("not needed", "word zero"),
    RebootState.REQUIRED.value: Cell("required", "word warn"),
    RebootState.STARTED.value: Cell("started", "word busy"),
    RebootState.FAILED.value: Cell("failed", "word bad"),
    RebootState.UNKNOWN.value: Cell(NO_FIGURE, "word zero"),
}
_EXPECTED_REBOOT_CELLS: Final = {
    answer.value: Cell(words, "word" if answer is YesNoUnknown.YES else "word zero")
    for answer, words in REBOOT_LABELS.items()
}
_COMPLIANCE_CELLS: Final = {
    Compliance.COMPLIANT.value: Cell("compliant", "word good"),
    Compliance.NON_COMPLIANT.value: Cell("not compliant", "word bad"),
    Compliance.NOT_ASSESSED.value: Cell("not assessed", "word zero"),
}


def select_machine_columns(kind: str) -> tuple[FigureColumn, ...]:
    """Return the columns after a machine's name."""
    labels = _MACHINE_COLUMNS.get(kind, _MACHINE_COLUMNS["patch"])
    return tuple(FigureColumn(label, "word" if label in _WORD_COLUMNS else "number") for label in labels)


def select_update_columns(kind: str) -> tuple[FigureColumn, ...]:
    """Return the columns after an update's name and class."""
    return tuple(map(FigureColumn, _UPDATE_COLUMNS.get(kind, _UPDATE_COLUMNS["patch"])))


def build_update_cells(group: UpdateGroup, kind: str) -> tuple[Cell, ...]:
    """Return an update's figures over all machines, one for each column."""
    cves = group.cve_count
    first = (
        Cell(NOT_KNOWN, "number soft") if cves is None else _build_count_cell(cves),
        _build_count_cell(len(group.rows)),
    )
    states = group.states
    excluded, not_selected = states[UpdateState.EXCLUDED], states[UpdateState.NOT_SELECTED]
    late = _build_count_cell(states[UpdateState.NOT_ATTEMPTED], "warn")
    if kind == "assess":
        return first
    if kind == "plan":
        return (
            *first,
            _build_count_cell(group.chosen_count),
            late,
            _build_count_cell(states[UpdateState.BLOCKED], "warn"),
            _build_count_cell(excluded),
            _build_count_cell(not_selected),
        )
    return (
        *first,
        _build_count_cell(states[UpdateState.INSTALLED]),
        _build_count_cell(states[UpdateState.FAILED] + states[UpdateState.SETUP_FAILED], "bad"),
        _build_count_cell(sum(states[state] for state in NOT_DONE_UPDATE_STATES), "warn"),
        _build_count_cell(excluded + not_selected),
    )


def build_machine_cells(row: MachineReportRow, kind: str) -> tuple[Cell, ...]:
    """Return a machine's figures, one for each column."""
    if kind == "plan":
        predicted = row.predicted_seconds
        return (
            _build_wave_cell(row),
            _build_count_cell(row.planned or 0),
            _build_count_cell(row.not_attempted, "warn"),
            _build_count_cell(row.blocked, "warn"),
            _build_count_cell(row.excluded),
            _build_count_cell(row.not_selected),
            _build_count_cell(row.urgent_pending),
            _EXPECTED_REBOOT_CELLS.get(row.reboot_expected, Cell(NO_FIGURE, "word zero")),
            Cell(describe_minutes_range(row.predicted_least_seconds, predicted))
            if predicted and row.planned
            else Cell(NO_FIGURE, "number zero"),
        )
    if kind == "assess":
        return (
            _build_count_cell(row.updates),
            _build_count_cell(row.urgent_pending, "bad"),
            _build_count_cell(row.updates - row.urgent_pending),
            _COMPLIANCE_CELLS[row.compliance],
            _REBOOT_CELLS[row.reboot],
            _build_services_cell(row),
            _build_duration_cell(row),
        )
    return (
        _build_wave_cell(row),
        _build_count_cell(row.installed),
        _build_count_cell(row.failed + row.setup_failed, "bad"),
        _build_count_cell(row.not_done, "warn"),
        _build_count_cell(row.excluded + row.not_selected),
        _build_count_cell(row.urgent_pending, "bad"),
        _REBOOT_CELLS[row.reboot],
        _build_services_cell(row),
        _build_duration_cell(row),
    )


def _build_wave_cell(row: MachineReportRow) -> Cell:
    return Cell(NO_FIGURE, "number zero") if row.wave is None else Cell(f"{row.wave}", value=row.wave)


def _build_services_cell(row: MachineReportRow) -> Cell:
    """Return the number of services that still run replaced files."""
    return _build_count_cell(len(row.services_to_restart.split(", ")) if row.services_to_restart else 0, "warn")


def _build_duration_cell(row: MachineReportRow) -> Cell:
    took = row.worked_seconds
    return Cell(format_known_duration(took), "number zero" if took is None else "number")


def _build_count_cell(number: int, css_class: str = "") -> Cell:
    """Return a count. Zero is a pale dash, so that the other figures are easier to see."""
    return Cell(f"{number}", f"number {css_class}".strip(), number) if number else Cell(NO_FIGURE, "number zero", 0)
