"""The figures in a machine's row, by kind of run."""

from dataclasses import dataclass
from typing import Final

from tasks.reporting.groups import UpdateGroup
from tasks.reporting.rows import MachineRow
from tasks.reporting.text import NOT_KNOWN, NOTHING, duration
from tasks.reporting.wording import say_span
from tasks.rules.figures import REBOOT_WORDS
from tasks.states import Answer, Compliance, RebootState, UpdateState


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the list of machines; ``look`` is a class of its style."""

    label: str
    look: str = "number"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure in a machine's row; ``value`` is set when it is a whole number."""

    text: str
    look: str = "number"
    value: int | None = None


_COLUMNS: Final = {
    "patch": (
        Column("Wave"),
        Column("Installed"),
        Column("Failed"),
        Column("Not done"),
        Column("Skipped"),
        Column("Crit + sec left"),
        Column("Reboot", "word"),
        Column("To restart"),
        Column("Took"),
    ),
    "plan": (
        Column("Wave"),
        Column("Chosen"),
        Column("No time"),
        Column("Excluded"),
        Column("Not selected"),
        Column("Crit + sec"),
        Column("Reboot", "word"),
        Column("Predicted"),
    ),
    "assess": (
        Column("Pending"),
        Column("Crit + sec"),
        Column("Other"),
        Column("Compliance", "word"),
        Column("Reboot", "word"),
        Column("To restart"),
        Column("Took"),
    ),
}
_UPDATE_COLUMNS: Final = {
    "patch": ("CVEs", "Machines", "Installed", "Failed", "Not done", "Skipped"),
    "plan": ("CVEs", "Machines", "Chosen", "No time", "Excluded", "Not selected"),
    "assess": ("CVEs", "Machines"),
}
_REBOOTS: Final = {
    RebootState.COMPLETED.value: Cell("done", "word"),
    RebootState.NOT_NEEDED.value: Cell("not needed", "word zero"),
    RebootState.REQUIRED.value: Cell("required", "word warn"),
    RebootState.STARTED.value: Cell("started", "word busy"),
    RebootState.FAILED.value: Cell("failed", "word bad"),
    RebootState.UNKNOWN.value: Cell(NOTHING, "word zero"),
}
_EXPECTED: Final = {
    answer.value: Cell(words, "word" if answer is Answer.YES else "word zero") for answer, words in REBOOT_WORDS.items()
}
_COMPLIANCE: Final = {
    Compliance.COMPLIANT.value: Cell("compliant", "word good"),
    Compliance.NON_COMPLIANT.value: Cell("not compliant", "word bad"),
    Compliance.NOT_ASSESSED.value: Cell("not assessed", "word zero"),
}


def columns(kind: str) -> tuple[Column, ...]:
    """Return the columns that follow a machine's name."""
    return _COLUMNS.get(kind, _COLUMNS["patch"])


def update_columns(kind: str) -> tuple[Column, ...]:
    """Return the columns that follow an update's name and class."""
    return tuple(map(Column, _UPDATE_COLUMNS.get(kind, _UPDATE_COLUMNS["patch"])))


def update_cells(group: UpdateGroup, kind: str) -> tuple[Cell, ...]:
    """Return an update's figures over all machines, one a column."""
    cves = group.cve_count
    first = (Cell(NOT_KNOWN, "number soft") if cves is None else _count(cves), _count(len(group.rows)))
    states = group.states
    excluded, not_selected = states[UpdateState.EXCLUDED], states[UpdateState.NOT_SELECTED]
    late = _count(states[UpdateState.NOT_ATTEMPTED], "warn")
    if kind == "assess":
        return first
    if kind == "plan":
        return (*first, _count(group.chosen), late, _count(excluded), _count(not_selected))
    return (
        *first,
        _count(states[UpdateState.INSTALLED]),
        _count(states[UpdateState.FAILED], "bad"),
        _count(states[UpdateState.NOT_ATTEMPTED] + states[UpdateState.PENDING], "warn"),
        _count(excluded + not_selected),
    )


def cells(row: MachineRow, kind: str) -> tuple[Cell, ...]:
    """Return a machine's figures, one a column."""
    if kind == "plan":
        return _plan_cells(row)
    if kind == "assess":
        return (
            _count(row.updates),
            _count(row.urgent_pending, "bad"),
            _count(row.updates - row.urgent_pending),
            _COMPLIANCE[row.compliance],
            _REBOOTS[row.reboot],
            _services(row),
            _took(row),
        )
    return (
        _wave(row),
        _count(row.installed),
        _count(row.failed, "bad"),
        _count(row.not_done, "warn"),
        _count(row.excluded + row.not_selected),
        _count(row.urgent_pending, "bad"),
        _REBOOTS[row.reboot],
        _services(row),
        _took(row),
    )


def _plan_cells(row: MachineRow) -> tuple[Cell, ...]:
    predicted = row.predicted_seconds
    return (
        _wave(row),
        _count(row.planned or 0),
        _count(row.not_attempted, "warn"),
        _count(row.excluded),
        _count(row.not_selected),
        _count(row.urgent_pending),
        _EXPECTED.get(row.reboot_expected, Cell(NOTHING, "word zero")),
        Cell(say_span(row.predicted_least_seconds, predicted))
        if predicted and row.planned
        else Cell(NOTHING, "number zero"),
    )


def _wave(row: MachineRow) -> Cell:
    return Cell(NOTHING, "number zero") if row.wave is None else Cell(f"{row.wave}", value=row.wave)


def _services(row: MachineRow) -> Cell:
    """Count the services that still run replaced files."""
    return _count(len(row.services_to_restart.split(", ")) if row.services_to_restart else 0, "warn")


def _took(row: MachineRow) -> Cell:
    took = row.worked_seconds
    return Cell(duration(took), "number zero" if took is None else "number")


def _count(number: int, look: str = "") -> Cell:
    """A zero says nothing: it stands back, so that the other figures are seen."""
    return Cell(f"{number}", f"number {look}".strip(), number) if number else Cell(NOTHING, "number zero", 0)
