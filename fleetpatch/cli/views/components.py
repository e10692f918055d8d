"""Prints components on machines and the runs that upgrade them, and builds their JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.component_runs import UpgradeOutcome
from fleetpatch.cli.runtime.output import print_error, print_json, print_to_stderr, print_to_stdout
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_list_json, build_list_table, build_row_table
from flows.components.upgrades import UpgradeResult
from inventory.data_class import dataclass
from tasks.domain.components import ComponentStanding
from tasks.domain.rows.components import ComponentRow
from tasks.domain.states import OperationState
from tasks.reports.export.tabular_formats import build_row_json
from tasks.rules.components.tries import find_try

_COLUMNS: Final = (
    "machine",
    "component",
    "automatic",
    "standing",
    "installed",
    "available",
    Shown("reason", limit=200, wraps=True),
)


def build_rows_json(rows: Sequence[ComponentRow], path: Path | None, subject: str = "components") -> dict[str, object]:
    """Return components on machines as JSON data."""
    return {subject: [build_row_json(row) for row in rows], "file": str(path) if path is not None else None}


def print_rows(rows: Sequence[ComponentRow], path: Path | None, subject: str = "components") -> None:
    """Print components on machines as a table."""
    if path is None:
        print_to_stderr(f"There is no file of {subject}: write {subject}.yaml beside the inventory.")
        return
    shown = [row for row in rows if row.standing is not ComponentStanding.NOT_SUPPORTED]
    print_to_stdout(build_row_table(ComponentRow, shown, _COLUMNS))


@dataclass(frozen=True, slots=True)
class ComponentRun:
    """What became of the run of one component, in numbers. Without a run there is a message and a hint."""

    component: str
    run_id: str | None
    state: OperationState | None
    upgraded: int
    taken_back: int
    message: str
    hint: str = ""

    @classmethod
    def of(cls, result: UpgradeResult) -> "ComponentRun":
        """Return the numbers of a result."""
        report = result.report
        if report is None:
            message = result.error.message if result.error is not None else ""
            hint = result.error.hint if result.error is not None else ""
            return cls(result.component, None, None, 0, 0, message, hint)
        tries = [attempt for outcome in report.outcomes if (attempt := find_try(outcome)) is not None]
        succeeded = sum(attempt.succeeded for attempt in tries)
        reasons = [outcome.reason for outcome in report.outcomes if outcome.state is not OperationState.SUCCEEDED]
        message = report.run.message or next(iter(reasons), "")
        return cls(result.component, report.run.id, report.run.state, succeeded, len(tries) - succeeded, message)


RUN_FACTS: Final[Sequence[Fact[ComponentRun]]] = (
    Fact("componentName", lambda run: run.component, "component"),
    Fact("maintenanceRunId", lambda run: run.run_id, "run"),
    Fact("status", lambda run: run.state, "state"),
    Fact("upgradedMachineCount", lambda run: run.upgraded, "upgraded", is_number=True),
    Fact("failedMachineCount", lambda run: run.taken_back, "failed", is_number=True),
    Fact("message", lambda run: run.message or None, "remarks", wraps=True, limit=300),
)


def print_upgrades(outcome: UpgradeOutcome, *, as_json: bool) -> None:
    """Print what became of runs, as JSON or as a table."""
    runs = [ComponentRun.of(result) for result in outcome.results]
    if as_json:
        print_json({"runs": build_list_json(RUN_FACTS, runs)})
    else:
        _print_runs(runs, outcome.unsettled)


def _print_runs(runs: Sequence[ComponentRun], unsettled: Mapping[ComponentStanding, int]) -> None:
    """Print what became of the runs of components.

    Args:
        runs: of the components that were due.
        unsettled: how many enrolled components are on machines that get nothing, by their standing.
    """
    if not runs:
        counts = ", ".join(f"{count} {standing}" for standing, count in unsettled.items())
        reason = f"not all is known or possible: {counts}, see fleetpatch components list" if counts else ""
        print_to_stdout(f"Nothing is due: {reason or 'no enrolled component has a newer minor version'}.")
        return
    print_to_stdout(build_list_table(RUN_FACTS, runs))
    for run in runs:
        if run.run_id is not None:
            print_to_stderr(Text(f"Details: fleetpatch show {run.run_id}"))
        elif run.message:
            print_error(f"{run.component}: {run.message}", run.hint)
