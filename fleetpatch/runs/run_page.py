"""Builds what the page of a run shows: a part of its machines with their updates, and what belongs to all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from fleetpatch.runs.run_state import MachineLine, RunState
from tasks.domain.model import HookResult, Outcome, RunInfo, RunReport, StepRecord, Wave
from tasks.domain.states import OperationState, Step
from tasks.records.queries.run_machines import RecordedMachine
from tasks.reports.data.groups import ErrorGroup, sort_updates
from tasks.reports.data.machine_reports import MachineReport
from tasks.reports.data.rows import UpdateReportRow
from tasks.reports.data.tables import build_update_rows
from tasks.reports.formatting import load_zone_or_utc
from tasks.reports.html.page import DetailLimits
from tasks.reports.html.timeline import Timeline, build_timelines
from tasks.rules.runs.figures import compute_work_seconds

UPDATES_ON_PAGE: Final = 1500
"""Updates of all machines on one page, so that no page is larger than 1 MB. Each machine's own page has all of its."""
MAX_UPDATES: Final = 60
MAX_GROUPS: Final = 12
MAX_NAMES: Final = 12
RUN_DETAIL: Final = DetailLimits(0, 0, MAX_UPDATES, 100, MAX_NAMES, 0, 300, 0)
"""What the page of a run shows of each machine, group and hook."""
MACHINE_DETAIL: Final = DetailLimits(1, 1, 1000, 100, MAX_NAMES, 0, 600, 0)
"""What the page of one machine in a run shows."""


@dataclass(frozen=True, slots=True)
class RunPageMachine:
    """A machine on the page of its run.

    Attributes:
        updates: the first updates, failed ones first; ``left_out`` others are on the machine's own page.
        counts: how many updates have each state.
        hooks: the hooks for this machine.
        predicted_seconds: of the plan; None: not planned.
        worked_seconds: the time of its steps, without waiting between them; None: no step is recorded.
    """

    line: MachineLine
    updates: tuple[UpdateReportRow, ...] = ()
    left_out: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    predicted_seconds: float | None = None
    worked_seconds: float | None = None


def sort_lines(state: RunState, order: str, wanted_state: str) -> list[MachineLine]:
    """Return the machines of a list. Pure.

    Args:
        state: the run.
        order: "wave" for the order of the run, "state" for problems first.
        wanted_state: only machines with this state; "" for all.
    """
    lines = [machine for machine in state.machines if not wanted_state or machine.state == wanted_state]
    if order == "state":
        return sorted(lines, key=lambda line: (line.rank, line.position))
    return sorted(lines, key=lambda line: (10**9 if line.wave is None else line.wave, line.position))


def build_rows(
    lines: Sequence[MachineLine],
    details: dict[str, RecordedMachine],
    hooks: Sequence[HookResult],
    run_id: str,
) -> list[RunPageMachine]:
    """Return machines with their updates. Pure."""
    room = max(3, min(MAX_UPDATES, UPDATES_ON_PAGE // max(1, len(lines))))
    hooks_by_machine: dict[str, list[HookResult]] = {}
    for hook in hooks:
        hooks_by_machine.setdefault(hook.subject, []).append(hook)
    return [
        _build_row(line, details.get(line.name), hooks_by_machine.get(line.name, ()), run_id, room) for line in lines
    ]


def _build_row(
    line: MachineLine, details: RecordedMachine | None, hooks: Sequence[HookResult], run_id: str, room: int
) -> RunPageMachine:
    if details is None:
        return RunPageMachine(line, hooks=tuple(hooks))
    machine_report = MachineReport(run_id, line.name, None, details.outcome, details.plan, None)
    updates = sort_updates(build_update_rows(machine_report))
    counts: dict[str, int] = {}
    for update in updates:
        counts[update.shown_state] = counts.get(update.shown_state, 0) + 1
    plan = details.plan
    return RunPageMachine(
        line,
        tuple(updates[:room]),
        max(0, len(updates) - room),
        tuple(counts.items()),
        plan.notes if plan is not None else (),
        tuple(hooks),
        plan.prediction.total_seconds if plan is not None and plan.chosen else None,
        compute_work_seconds(details.outcome) if details.outcome is not None else None,
    )


def build_run_timeline(
    run: RunInfo,
    lines: Sequence[MachineLine],
    details: dict[str, RecordedMachine],
    waves: Sequence[Wave],
    zone: str,
    now: datetime,
) -> dict[str, Timeline]:
    """Return the timelines of some machines, in a zone: "wide" and "narrow"; none if nothing has begun.

    A machine in progress has its steps so far. Pure.
    """
    names = {line.name for line in lines}
    outcomes = tuple(filter(None, (build_outcome_so_far(run, line, details.get(line.name), now) for line in lines)))
    shown = tuple(replace(wave, machines=tuple(name for name in wave.machines if name in names)) for wave in waves)
    plans = tuple(
        detail.plan for name in names if (detail := details.get(name)) is not None and detail.plan is not None
    )
    report = RunReport(run, outcomes, tuple(wave for wave in shown if wave.machines), plans)
    if run.kind != "plan" and not any(outcome.steps for outcome in outcomes):
        return {}
    return build_timelines(report, load_zone_or_utc(zone), now=now, limit=len(names))


def build_outcome_so_far(
    run: RunInfo, line: MachineLine, detail: RecordedMachine | None, now: datetime
) -> Outcome | None:
    """Return the result of a machine; of one in progress its steps so far; None: nothing was begun. Pure."""
    if detail is not None and detail.outcome is not None:
        return detail.outcome
    if not line.is_working and line.state != OperationState.UNKNOWN:
        return None
    state = OperationState(line.state)
    steps = detail.steps if detail is not None else ()
    if line.since is not None and line.step:
        end = now if line.is_working else line.news_at or now
        steps = (*steps, StepRecord(Step(line.step), line.since, max(end, line.since), state))
    return Outcome(run.id, line.name, state, line.message, wave=line.wave, steps=steps)


def group_problems(state: RunState) -> list[ErrorGroup]:
    """Return the reasons why machines failed or were not begun, the worst and most frequent first. Pure."""
    if state.line.kind == "plan":
        return []
    states = {OperationState.FAILED, OperationState.UNKNOWN, OperationState.COMPLETED_WITH_WARNINGS}
    names_by_reason: dict[tuple[int, str, str], list[str]] = {}
    for line in state.machines:
        if line.state in states or (line.state == OperationState.NOT_STARTED and line.is_done):
            names_by_reason.setdefault((line.rank, line.state, line.message.removeprefix(f"{line.name} ")), []).append(
                line.name
            )
    groups = sorted(names_by_reason.items(), key=lambda item: (item[0][0], -len(item[1])))
    return [ErrorGroup(group_state, reason, "", "", names) for (_, group_state, reason), names in groups]
