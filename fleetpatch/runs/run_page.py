"""Builds what the page of a run shows: a part of its machines with their updates, and what belongs to all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from fleetpatch.runs.run_state import MachineLine, RunState
from tasks.domain.model import HookResult, MachinePlan, Outcome, RunInfo, RunReport, StepRecord, UpdateResult, Wave
from tasks.domain.states import SUCCESSFUL_UPDATE_STATES, OperationState, Step, UpdateState
from tasks.records.queries.run_machines import RecordedMachine
from tasks.reports.formatting import load_zone_or_utc
from tasks.reports.html.timeline import Timeline, build_timelines
from tasks.rules.runs.figures import compute_work_seconds

UPDATES_ON_PAGE: Final = 1500
"""Updates of all machines on one page, so that no page is larger than 1 MB. Each machine's own page has all of its."""
MAX_UPDATES: Final = 60
MAX_GROUPS: Final = 12
MAX_NAMES: Final = 12
CHOSEN: Final = "Chosen"
_UPDATE_RANKS: Final = {
    UpdateState.FAILED: 0,
    UpdateState.SETUP_FAILED: 1,
    UpdateState.BLOCKED: 2,
    UpdateState.NOT_ATTEMPTED: 3,
    UpdateState.PENDING: 4,
    CHOSEN: 5,
    UpdateState.INSTALLED: 6,
    UpdateState.REPAIRED: 6,
    UpdateState.EXCLUDED: 7,
    UpdateState.NOT_SELECTED: 8,
}


@dataclass(frozen=True, slots=True)
class UpdateLine:
    """An update of a machine in a run. ``state`` is "Chosen" for one that is going to be installed."""

    name: str
    title: str
    classification: str
    state: str
    reason: str
    installed: str
    available: str


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
    updates: tuple[UpdateLine, ...] = ()
    left_out: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    predicted_seconds: float | None = None
    worked_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Machines that have the same problem."""

    state: str
    reason: str
    count: int
    names: tuple[str, ...]


def sort_lines(state: RunState, order: str, wanted_state: str) -> list[MachineLine]:
    """Return the machines of a list. Pure.

    Args:
        state: the run.
        order: "wave" for the order of the run, "state" for problems first.
        wanted_state: only machines with this state; "" for all.
    """
    lines = [machine for machine in state.machines if not wanted_state or machine.state == wanted_state]
    if order == "state":
        return sorted(lines, key=lambda each: (each.rank, each.position))
    return sorted(lines, key=lambda each: (10**9 if each.wave is None else each.wave, each.position))


def build_rows(
    lines: Sequence[MachineLine],
    details: dict[str, RecordedMachine],
    hooks: Sequence[HookResult],
    kind: str,
) -> list[RunPageMachine]:
    """Return machines with their updates. Pure."""
    room = max(3, min(MAX_UPDATES, UPDATES_ON_PAGE // max(1, len(lines))))
    hooks_by_machine: dict[str, list[HookResult]] = {}
    for hook in hooks:
        hooks_by_machine.setdefault(hook.subject, []).append(hook)
    return [_build_row(line, details.get(line.name), hooks_by_machine.get(line.name, ()), kind, room) for line in lines]


def _build_row(
    line: MachineLine, details: RecordedMachine | None, hooks: Sequence[HookResult], kind: str, room: int
) -> RunPageMachine:
    if details is None:
        return RunPageMachine(line, hooks=tuple(hooks))
    updates = list_updates(details.outcome, details.plan, kind)
    counts: dict[str, int] = {}
    for update in updates:
        counts[update.state] = counts.get(update.state, 0) + 1
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


def list_updates(outcome: Outcome | None, plan: MachinePlan | None, kind: str) -> list[UpdateLine]:
    """Return the updates of a machine: the results, or the plan as long as there are none. Failed ones first. Pure."""
    if plan is not None and (outcome is None or kind == "plan" or not outcome.updates):
        chosen_updates = [_build_update(UpdateResult(update, UpdateState.PENDING), CHOSEN) for update in plan.chosen]
        chosen_updates += [_build_update(update) for update in plan.skipped]
    else:
        chosen_updates = [_build_update(update) for update in outcome.updates] if outcome is not None else []
    return sorted(chosen_updates, key=lambda update: (_UPDATE_RANKS.get(update.state, 4), update.reason, update.name))


def _build_update(result: UpdateResult, state: str = "") -> UpdateLine:
    update = result.update
    is_done = result.state in SUCCESSFUL_UPDATE_STATES
    available = result.version_after if is_done and result.version_after else update.available
    return UpdateLine(
        update.name,
        update.title or update.kb,
        update.classification.value,
        state or result.state.value,
        result.reason,
        update.installed or "",
        available,
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
    outcomes = tuple(_iterate_outcomes(run, lines, details, now))
    shown = tuple(replace(wave, machines=tuple(name for name in wave.machines if name in names)) for wave in waves)
    plans = tuple(
        detail.plan for name in names if (detail := details.get(name)) is not None and detail.plan is not None
    )
    report = RunReport(run, outcomes, tuple(wave for wave in shown if wave.machines), plans)
    if run.kind != "plan" and not any(outcome.steps for outcome in outcomes):
        return {}
    return build_timelines(report, load_zone_or_utc(zone), now=now, limit=len(names))


def _iterate_outcomes(
    run: RunInfo, lines: Sequence[MachineLine], details: dict[str, RecordedMachine], now: datetime
) -> Iterator[Outcome]:
    for line in lines:
        detail = details.get(line.name)
        if detail is not None and detail.outcome is not None:
            yield detail.outcome
        elif line.is_working or line.state == OperationState.UNKNOWN:
            state = OperationState(line.state)
            steps = detail.steps if detail is not None else ()
            if line.since is not None and line.step:
                end = now if line.is_working else line.news_at or now
                steps = (*steps, StepRecord(Step(line.step), line.since, max(end, line.since), state))
            yield Outcome(run.id, line.name, state, line.message, wave=line.wave, steps=steps)


def group_problems(state: RunState) -> list[ProblemGroup]:
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
    return [ProblemGroup(word, reason, len(names), tuple(names[:MAX_NAMES])) for (_, word, reason), names in groups]
