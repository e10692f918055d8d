"""Renders a rollout of automatic patching as Markdown, for an artifact in Prefect's UI. Times are in UTC."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from tasks.reports.formatting import NO_FIGURE, format_count
from tasks.reports.sanitizing import escape_markdown
from tasks.rules.automatic.model import RunPlan, Waiting
from tasks.rules.automatic.progress import MachineStage, PhaseProgress, RolloutProgress

_BAR_SIGNS: Final = 10
_MAX_REASONS: Final = 30
_MAX_RUNS: Final = 30
_MAX_NAMES: Final = 5
_MAX_LOCATIONS: Final = 12


def render_rollout(
    progress: RolloutProgress | None,
    waiting: Sequence[Waiting],
    next_runs: Sequence[RunPlan],
    now: datetime,
    machine_count: int,
) -> str:
    """Return the phases of a rollout, the runs that start next, and who waits for what.

    Args:
        progress: of the rollout that is under way, or of the last one; None: there was none yet.
        waiting: why machines wait.
        next_runs: the earliest first.
        now: the time that the text describes.
        machine_count: how many machines are patched automatically.
    """
    lines = [f"{format_count(machine_count, 'machine')}, as of {_format_moment(now)}.", ""]
    lines += _render_phases(progress) if progress is not None else ["No rollout yet.", ""]
    lines += _render_runs(next_runs)
    lines += _render_waiting(waiting)
    return "\n".join(lines)


def _render_phases(progress: RolloutProgress) -> list[str]:
    rollout = progress.rollout
    text = f"**{escape_markdown(rollout.id)}: {rollout.state}**, {format_count(len(rollout.updates), 'update')}"
    lines = [f"{text}, since {_format_moment(rollout.created_at)}", ""]
    if rollout.message:
        lines += [escape_markdown(rollout.message, 400), ""]
    stages = [stage.value for stage in MachineStage]
    lines += [
        _render_row(["phase", "locations", "state", "progress", *stages, "begun", "ended", "soaks until"]),
        _render_row(["---:", "---", "---", "---", *["---:"] * len(stages), "---", "---", "---"]),
    ]
    for phase_progress in progress.phases:
        locations = [escape_markdown(location or "(no location)", 60) for location in phase_progress.phase.locations]
        lines.append(
            _render_row(
                [
                    str(phase_progress.phase.number),
                    _join_limited(locations, _MAX_LOCATIONS),
                    phase_progress.stage.value,
                    _render_bar(phase_progress),
                    *(str(phase_progress.count(stage)) for stage in MachineStage),
                    *(
                        _format_moment(moment) if moment else NO_FIGURE
                        for moment in (
                            phase_progress.phase.started_at,
                            phase_progress.phase.ended_at,
                            phase_progress.soaks_until,
                        )
                    ),
                ]
            )
        )
    return [*lines, ""]


def _render_bar(progress: PhaseProgress) -> str:
    total = len(progress.machines)
    done = progress.count(MachineStage.DONE)
    filled = round(_BAR_SIGNS * done / total) if total else 0
    return "█" * filled + "░" * (_BAR_SIGNS - filled)


def _render_runs(runs: Sequence[RunPlan]) -> list[str]:
    if not runs:
        return []
    lines = [
        "### Next runs",
        "",
        _render_row(["window", "location", "phase", "machines"]),
        "| --- | --- | ---: | ---: |",
    ]
    for run in runs[:_MAX_RUNS]:
        location = f"{run.location} {run.availability_zone}".strip() or NO_FIGURE
        cells = [_format_moment(run.window_start), escape_markdown(location), str(run.phase), str(len(run.machines))]
        lines.append(_render_row(cells))
    return [*lines, *_render_rest(len(runs) - _MAX_RUNS, "run"), ""]


def _render_waiting(waiting: Sequence[Waiting]) -> list[str]:
    if not waiting:
        return ["No machine waits."]
    groups: dict[str, list[str]] = {}
    for waiting_machine in waiting:
        groups.setdefault(waiting_machine.reason, []).append(waiting_machine.machine)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = [
        f"### {format_count(len(waiting), 'machine')} wait",
        "",
        "| machines | wait for | names |",
        "| ---: | --- | --- |",
    ]
    for reason, names in ranked[:_MAX_REASONS]:
        listed_names = _join_limited([escape_markdown(name, 60) for name in sorted(names)], _MAX_NAMES)
        lines.append(_render_row([str(len(names)), escape_markdown(reason), listed_names]))
    return [*lines, *_render_rest(len(ranked) - _MAX_REASONS, "reason")]


def _render_rest(count: int, what: str) -> list[str]:
    return ["", f"And {format_count(count, f'more {what}')}: see `fleetpatch automatic`."] if count > 0 else []


def _join_limited(texts: Sequence[str], limit: int) -> str:
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def _render_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format_moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%a %d %b %H:%M} UTC"
