"""Builds the rows of a report's waves: counts of machines by state, first start and last end. Pure."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.model import RunReport
from tasks.reporting.data.rows import MachineRow, WaveRow
from tasks.states import OperationState, Step


def build_wave_rows(report: RunReport, machines: tuple[MachineRow, ...]) -> tuple[WaveRow, ...]:
    """Return a row for each wave, sorted by number."""
    members: dict[int, list[MachineRow]] = {wave.number: [] for wave in report.waves}
    for row in machines:
        if row.wave is not None:
            members.setdefault(row.wave, []).append(row)
    canaries: Mapping[int, bool] = {wave.number: wave.canary for wave in report.waves}
    start_times = _find_start_times(report)
    return tuple(
        _build_wave_row(report.run.id, number, rows, start_times, canary=canaries.get(number, False))
        for number, rows in sorted(members.items())
    )


def _find_start_times(report: RunReport) -> dict[str, datetime]:
    """Return when each machine began in its wave: its first step after assess.

    The assess step does not count, because all machines are assessed together before the first wave.
    """
    found: dict[str, datetime] = {}
    for outcome in report.outcomes:
        starts = [step.started_at for step in outcome.steps if step.step is not Step.ASSESS]
        if starts:
            found[outcome.machine] = min(starts).astimezone(UTC)
    return found


def _build_wave_row(
    run_id: str, number: int, rows: list[MachineRow], start_times: Mapping[str, datetime], *, canary: bool
) -> WaveRow:
    states = Counter(row.state for row in rows)
    predicted = [row.predicted_seconds for row in rows if row.predicted_seconds is not None]
    return WaveRow(
        run_id=run_id,
        wave=number,
        canary=canary,
        machines=len(rows),
        succeeded=states[OperationState.SUCCEEDED],
        warnings=states[OperationState.COMPLETED_WITH_WARNINGS],
        failed=states[OperationState.FAILED],
        not_started=states[OperationState.NOT_STARTED],
        started_at=min((start_times[row.machine] for row in rows if row.machine in start_times), default=None),
        ended_at=max((row.ended_at for row in rows if row.ended_at and row.machine in start_times), default=None),
        predicted_seconds=max(predicted, default=None),
    )
