"""Builds the picture of a rollout: one row for each location, grouped by phase, and one bar of its machines.

This module computes numbers and texts; templates/phases.html.j2 draws them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

from inventory.data_class import dataclass
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.automatic.model import RolloutState
from tasks.rules.automatic.progress import MachineStage, PhaseProgress, PhaseStage, RolloutMachine, RolloutProgress

_FULL_WIDTH: Final = 100.0
_MIN_BAR_SHARE: Final = 0.03
"""The shortest bar, as a share of the longest, so that a location with one machine can be seen."""

_CSS_CLASSES: Final[Mapping[MachineStage, str]] = {
    MachineStage.DONE: "good",
    MachineStage.RUNNING: "busy",
    MachineStage.FAILED: "bad",
    MachineStage.WAITING: "none",
    MachineStage.LEFT_OUT: "warn",
}
_STAGE_CLASSES: Final[Mapping[PhaseStage, str]] = {
    PhaseStage.DONE: "good",
    PhaseStage.RUNNING: "busy",
    PhaseStage.SOAKING: "busy",
    PhaseStage.WAITING: "soft",
    PhaseStage.STOPPED: "bad",
}
STATE_CLASSES: Final[Mapping[RolloutState, str]] = {
    RolloutState.ROLLING_FORWARD: "busy",
    RolloutState.COMPLETED: "good",
    RolloutState.FAULTED: "bad",
    RolloutState.CANCELLED: "warn",
}


@dataclass(frozen=True, slots=True)
class BarPart:
    """The machines of a location that are at the same stage."""

    x: float
    width: float
    css_class: str


@dataclass(frozen=True, slots=True)
class LocationRow:
    """The row of a location."""

    label: str
    counts: str
    tooltip: str
    parts: tuple[BarPart, ...]


@dataclass(frozen=True, slots=True)
class PhaseGroup:
    """A phase with its locations."""

    title: str
    state: str
    css_class: str
    times: str
    rows: tuple[LocationRow, ...]


@dataclass(frozen=True, slots=True)
class PhasesPicture:
    """All shapes and texts of the drawing."""

    rollout_id: str
    state: str
    css_class: str
    message: str
    updates: int
    phases: tuple[PhaseGroup, ...]
    legend: tuple[tuple[str, str, int], ...]
    left_out: int


def build_phases_picture(progress: RolloutProgress, zone: ZoneInfo, *, limit: int) -> PhasesPicture:
    """Return the picture.

    Args:
        progress: how far the rollout is.
        zone: the time zone of the times.
        limit: maximum number of locations.
    """
    longest = max((count for phase in progress.phases for _, count in _count_by_location(phase)), default=1) or 1
    groups: list[PhaseGroup] = []
    room, left_out = limit, 0
    for phase_progress in progress.phases:
        shown = phase_progress.phase.locations[: max(0, room)]
        room -= len(shown)
        left_out += len(phase_progress.phase.locations) - len(shown)
        members = {
            location: [machine for machine in phase_progress.machines if machine.location == location]
            for location in shown
        }
        rows = tuple(
            _build_row(location, location_members, phase_progress.stage, longest)
            for location, location_members in members.items()
        )
        groups.append(_build_group(phase_progress, rows, zone))
    machines = [machine for phase_progress in progress.phases for machine in phase_progress.machines]
    return PhasesPicture(
        rollout_id=progress.rollout.id,
        state=progress.rollout.state.value,
        css_class=STATE_CLASSES[progress.rollout.state],
        message=progress.rollout.message,
        updates=len(progress.rollout.updates),
        phases=tuple(groups),
        legend=tuple(_count_stages(machines)),
        left_out=left_out,
    )


def _count_by_location(phase: PhaseProgress) -> Iterator[tuple[str, int]]:
    for location in phase.phase.locations:
        yield location, sum(machine.location == location for machine in phase.machines)


def _build_group(progress: PhaseProgress, rows: tuple[LocationRow, ...], zone: ZoneInfo) -> PhaseGroup:
    phase = progress.phase
    times = [
        f"{word} {moment.astimezone(zone):%a %d %b %H:%M}"
        for word, moment in (("from", phase.started_at), ("to", phase.ended_at), ("soaks until", progress.soaks_until))
        if moment is not None
    ]
    return PhaseGroup(
        title=f"Phase {phase.number}",
        state=progress.stage.value,
        css_class=_STAGE_CLASSES[progress.stage],
        times=", ".join(times).replace(", to", " to"),
        rows=rows,
    )


def _build_row(location: str, members: Sequence[RolloutMachine], stage: PhaseStage, longest: int) -> LocationRow:
    length = _FULL_WIDTH * max(_MIN_BAR_SHARE, len(members) / longest) if members else 0.0
    parts: list[BarPart] = []
    x = 0.0
    for _, css_class, count in _count_stages(members):
        width = length * count / len(members)
        parts.append(BarPart(round(x, 1), round(width, 1), css_class))
        x += width
    done = sum(member.stage is MachineStage.DONE for member in members)
    failed = sum(member.stage is MachineStage.FAILED for member in members)
    is_ahead = stage in (PhaseStage.WAITING, PhaseStage.RUNNING)
    counts = f"{done} of {len(members)} done" if members else "no machine yet" if is_ahead else "no machine"
    name = sanitize_to_one_line(location, 60) or "(no location)"
    counts_text = ", ".join(f"{count} {word}" for word, _, count in _count_stages(members))
    return LocationRow(
        label=sanitize_to_one_line(location, 40) or "(no location)",
        counts=f"{counts}, {failed} failed" if failed else counts,
        tooltip=f"{name}: {counts_text or counts}",
        parts=tuple(parts),
    )


def _count_stages(members: Sequence[RolloutMachine]) -> Iterator[tuple[str, str, int]]:
    return (
        (stage.value, _CSS_CLASSES[stage], count)
        for stage in MachineStage
        if (count := sum(member.stage is stage for member in members))
    )
