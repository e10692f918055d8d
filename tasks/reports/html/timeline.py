"""Builds the timeline: one row for each machine, grouped by wave, and one coloured rectangle for each step.

This module computes numbers and texts; templates/drawing.html.j2 draws them. A dry run has no steps: its rectangles are
the predicted phases, one wave after the other from the start of the window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from inventory.data_class import dataclass
from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tasks.reports.data.machine_reports import MachineReport, build_machine_reports
from tasks.reports.formatting import format_count, format_known_duration, format_moment, format_time_of_day
from tasks.reports.sanitizing import sanitize_to_one_line

TOP_MARGIN: Final = 68.0


@dataclass(frozen=True, slots=True)
class TimelineShape:
    """How wide the drawing is. ``left`` is the room beside the bars: for names, unless they stand above their bars."""

    width: float
    left: float
    right_margin: float
    max_ticks: int
    has_names_above: bool = False

    @property
    def right(self) -> float:
        """Where the bars end."""
        return self.width - self.right_margin


WIDE: Final = TimelineShape(1240.0, 208.0, 24.0, 12)
NARROW: Final = TimelineShape(342.0, 18.0, 18.0, 4, has_names_above=True)
"""For a phone: nothing of it is outside of the screen."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """One step or one predicted phase of a machine."""

    start: datetime
    end: datetime
    css_class: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class SpanRectangle:
    """A time span as a rectangle of the drawing."""

    x: float
    width: float
    css_class: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """The row of a machine. ``label`` is "" if the row is too low for text."""

    y: float
    height: float
    machine: str
    label: str
    css_class: str
    tooltip: str
    rectangles: tuple[SpanRectangle, ...]


@dataclass(frozen=True, slots=True)
class WaveHeading:
    """The heading of a wave, above its rows."""

    y: float
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class TimeMark:
    """A point in time as a vertical line. Its text begins, ends or has its middle at ``text_x``."""

    x: float
    css_class: str
    text: str
    anchor: str = "middle"
    text_x: float = 0.0
    text_y: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """All shapes of the drawing. ``window_extent`` is the window as (x, width)."""

    height: float
    ticks: tuple[TimeMark, ...]
    marks: tuple[TimeMark, ...]
    headings: tuple[WaveHeading, ...]
    rows: tuple[TimelineRow, ...]
    css_classes: tuple[str, ...]
    window_extent: tuple[float, float] | None
    left_out: int
    notes: tuple[str, ...] = ()
    shape: TimelineShape = WIDE
    top: float = TOP_MARGIN


_TICK_SECONDS: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800,
)  # fmt: skip
_BAD_STATES: Final = frozenset({OperationState.FAILED, OperationState.UNKNOWN})
_MARK_LEVELS: Final = {"edge": 22.0, "cut": 37.0, "end": 52.0}
"""How far above the drawing the text of a mark stands: each kind has its own line, so that none covers another."""
_HALF_TEXT: Final = 44.0
"""The most that half of the text of a mark needs."""
_NAME_HEIGHT: Final = 15.0
_MAX_IDLE_ROWS: Final = 12
"""More machines of a wave that did not begin are one row with their number."""
_MAX_TALL_ROWS: Final = 60
"""With more machines than this, only rows of machines with problems are tall enough for a name."""


@dataclass(slots=True)
class _TimeScale:
    start: datetime
    end: datetime
    zone: ZoneInfo
    shape: TimelineShape

    @property
    def total_seconds(self) -> float:
        return max(1.0, (self.end - self.start).total_seconds())

    def to_x(self, at: datetime) -> float:
        share = (at - self.start).total_seconds() / self.total_seconds
        return round(self.shape.left + (self.shape.right - self.shape.left) * min(1.0, max(0.0, share)), 1)

    def is_visible(self, at: datetime) -> bool:
        return self.start <= at <= self.end

    def build_ticks(self) -> Iterator[TimeMark]:
        """Yield marks at round times of day in the zone, about ``max_ticks`` or fewer."""
        most = self.shape.max_ticks
        step = next((length for length in _TICK_SECONDS if self.total_seconds / length <= most), _TICK_SECONDS[-1])
        offset = (self.start.astimezone(self.zone).utcoffset() or timedelta()).total_seconds()
        at = (self.start.timestamp() + offset) // step * step - offset
        for number in range(1, 14):
            tick = datetime.fromtimestamp(at + number * step, UTC)
            if tick > self.end:
                return
            yield TimeMark(self.to_x(tick), "tick", format_time_of_day(tick, self.zone, seconds=step < 60))


@dataclass(slots=True)
class _TimelineLayout:
    y: float = TOP_MARGIN + 6
    headings: list[WaveHeading] = field(default_factory=list)
    rows: list[TimelineRow] = field(default_factory=list)


def build_timelines(report: RunReport, zone: ZoneInfo, *, now: datetime, limit: int) -> dict[str, Timeline]:
    """Return the timeline in its shapes, "wide" and "narrow": see ``build_timeline``; none without a time."""
    drawn = {
        name: build_timeline(report, zone, now=now, limit=limit, shape=shape)
        for name, shape in (("wide", WIDE), ("narrow", NARROW))
    }
    return {name: timeline for name, timeline in drawn.items() if timeline is not None}


def build_timeline(
    report: RunReport, zone: ZoneInfo, *, now: datetime, limit: int, shape: TimelineShape = WIDE
) -> Timeline | None:
    """Return the timeline.

    Args:
        report: the report.
        zone: the time zone of the times of day.
        now: the time of the report. It is drawn as a line if the run is not over.
        limit: maximum number of rows. Machines that succeeded or did not begin are left out first.
        shape: how wide it is.

    Returns:
        The timeline, or None if there is no time to show.
    """
    reports = build_machine_reports(report)
    planned = report.run.kind == "plan"
    spans = (
        _build_predicted_spans(report, reports) if planned else {s.machine: _build_step_spans(s, zone) for s in reports}
    )
    scale, notes = _build_scale(
        report, [piece for machine_spans in spans.values() for piece in machine_spans], zone, now, shape
    )
    if scale is None or not reports:
        return None
    shown = _select_machines(reports, limit)
    drawing = _build_layout(shown, spans, scale)
    css_classes = dict.fromkeys(segment.css_class for bar in drawing.rows for segment in bar.rectangles)
    window = report.run.window
    window_extent = (
        (scale.to_x(window.start), round(scale.to_x(window.end) - scale.to_x(window.start), 1)) if window else None
    )
    marks = tuple(_build_marks(report, scale, now))
    return Timeline(
        height=drawing.y + 8,
        # A tick near a mark has no text: the mark's line would cross it, and the mark has a time.
        ticks=tuple(
            replace(tick, text="") if any(abs(mark.x - tick.x) < 18 for mark in marks) else tick
            for tick in scale.build_ticks()
        ),
        marks=marks,
        headings=tuple(drawing.headings),
        rows=tuple(drawing.rows),
        css_classes=tuple(css_classes),
        window_extent=window_extent,
        left_out=len(reports) - len(shown),
        notes=notes,
        shape=shape,
    )


def find_reserve_start(report: RunReport) -> datetime | None:
    """Return the cut-off: the window's end minus the request's reboot reserve. None if there is no such time."""
    window, reserve = report.run.window, report.run.request.get("reboot_reserve_minutes")
    if window is None or isinstance(reserve, bool) or not isinstance(reserve, int | float) or reserve <= 0:
        return None
    at = window.end - timedelta(minutes=float(reserve))
    return at if at > window.start else None


def _build_step_spans(subject: MachineReport, zone: ZoneInfo) -> tuple[TimeSpan, ...]:
    steps = subject.outcome.steps if subject.outcome else ()
    return tuple(
        TimeSpan(
            start=step.started_at,
            end=step.ended_at,
            css_class="failed" if step.state is OperationState.FAILED else step.step.value,
            tooltip=f"{step.step.value} {format_time_of_day(step.started_at, zone)}, "
            f"{format_known_duration((step.ended_at - step.started_at).total_seconds())}, {step.state.value}",
        )
        for step in steps
    )


def _build_predicted_spans(report: RunReport, reports: Sequence[MachineReport]) -> dict[str, tuple[TimeSpan, ...]]:
    at = report.run.window.start if report.run.window else report.run.started_at
    spans_by_machine: dict[str, tuple[TimeSpan, ...]] = {}
    ordered = sorted((s for s in reports if s.plan), key=_rank_wave)
    for _, members in groupby(ordered, key=_rank_wave):
        last = at
        for subject in members:
            spans_by_machine[subject.machine] = tuple(_build_phase_spans(subject, at))
            last = max([last, *(piece.end for piece in spans_by_machine[subject.machine])])
        at = last
    return spans_by_machine


def _build_phase_spans(subject: MachineReport, at: datetime) -> Iterator[TimeSpan]:
    if subject.plan is None or not subject.plan.chosen:
        return
    prediction = subject.plan.prediction
    for look in ("stage", "install", "reboot", "validate"):
        seconds = getattr(prediction, look)
        if seconds > 0:
            end = at + timedelta(seconds=seconds)
            yield TimeSpan(at, end, look, f"{look} {format_known_duration(seconds)} (predicted)")
            at = end


def _rank_wave(subject: MachineReport) -> int:
    number = subject.wave_number
    return 10**9 if number is None else number


def _build_scale(
    report: RunReport, spans: Sequence[TimeSpan], zone: ZoneInfo, now: datetime, shape: TimelineShape
) -> tuple[_TimeScale | None, tuple[str, ...]]:
    """Return the time scale and its notes. A window that is more than six times as long as the steps is cut.

    In such a window the steps would be too small to see.
    """
    run, window = report.run, report.run.window
    starts = [piece.start for piece in spans]
    ends = [piece.end for piece in spans]
    if run.kind != "plan" and spans:
        ends.append(run.ended_at or now)
    if not starts and window is None:
        return None, ()
    if window is None or (starts and (window.end - window.start) > 6 * (max(ends) - min(starts))):
        margin = max(timedelta(seconds=5), (max(ends) - min(starts)) * 0.03)
        note = (
            f"The window, {format_moment(window.start, zone)} to {format_moment(window.end, zone)}, "
            "is much longer than this picture."
            if window
            else ""
        )
        return _TimeScale(min(starts) - margin, max(ends) + margin, zone, shape), (note,) if note else ()
    start, end = min([window.start, *starts]), max([window.end, *ends])
    margin = (end - start) * 0.015
    return _TimeScale(start - margin, end + margin, zone, shape), ()


def _build_marks(report: RunReport, scale: _TimeScale, now: datetime) -> Iterator[TimeMark]:
    run, window, cut = report.run, report.run.window, find_reserve_start(report)
    markers: list[tuple[datetime | None, str, str, str]] = []
    if window is not None:
        markers += [(window.start, "edge", "window opens", "start"), (window.end, "edge", "window closes", "end")]
        markers += [(cut, "cut", "reboot reserve", "end")]
    if run.kind != "plan":
        markers += [(run.ended_at, "end", "ended", "middle") if run.ended_at else (now, "end", "now", "middle")]
    for at, look, text, wanted_anchor in markers:
        if at is not None and scale.is_visible(at):
            x, anchor = scale.to_x(at), wanted_anchor
            room = {"start": 2 * _HALF_TEXT + 30, "middle": _HALF_TEXT}.get(anchor, 0)
            if x > scale.shape.width - room:
                anchor = "end"  # the edge of the drawing would cut it off
            elif anchor != "start" and x < (_HALF_TEXT if anchor == "middle" else 2 * _HALF_TEXT + 30):
                anchor = "start"
            gap = {"start": 4.0, "middle": 0.0, "end": -4.0}[anchor]
            label = text.removeprefix("window ") if scale.shape.has_names_above else text
            label += f" {format_time_of_day(at, scale.zone, seconds=False)}"
            yield TimeMark(x, look, label, anchor, round(x + gap, 1), TOP_MARGIN - _MARK_LEVELS[look])


def _select_machines(reports: Sequence[MachineReport], limit: int) -> list[MachineReport]:
    ranked = sorted(reports, key=lambda s: s.state in (OperationState.SUCCEEDED, OperationState.NOT_STARTED))
    return sorted(ranked[:limit], key=lambda s: (_rank_wave(s), s.machine))


def _build_layout(
    shown: Sequence[MachineReport], spans: dict[str, tuple[TimeSpan, ...]], scale: _TimeScale
) -> _TimelineLayout:
    idle = {
        outcome.machine
        for outcome in shown
        if outcome.state is OperationState.NOT_STARTED and not spans.get(outcome.machine)
    }
    drawing, is_roomy = _TimelineLayout(), len(shown) - len(idle) <= _MAX_TALL_ROWS
    pitch = 19.0 if len(shown) <= 24 else 16.0
    for number, members in groupby(shown, key=_rank_wave):
        rows = list(members)
        _add_heading(drawing, number, rows)
        waiting = [outcome for outcome in rows if outcome.machine in idle]
        if len(waiting) > _MAX_IDLE_ROWS:
            rows = [outcome for outcome in rows if outcome.machine not in idle]
        for subject in rows:
            tall = is_roomy or subject.state not in (OperationState.SUCCEEDED, OperationState.NOT_STARTED)
            step = pitch if is_roomy else 13.0 if tall else 5.0
            drawing.y += _NAME_HEIGHT if tall and scale.shape.has_names_above else 0
            drawing.rows.append(_build_row(subject, spans.get(subject.machine, ()), scale, drawing.y, step, tall=tall))
            drawing.y += step
        if len(waiting) > _MAX_IDLE_ROWS:
            label = format_count(len(waiting), "other machine" if rows else "machine")
            drawing.y += _NAME_HEIGHT if scale.shape.has_names_above else 0
            row = TimelineRow(round(drawing.y, 1), pitch - 3.0, "", label, "NotStarted", label, ())
            drawing.rows.append(row)
            drawing.y += pitch
        drawing.y += 8
    return drawing


def _add_heading(drawing: _TimelineLayout, number: int, rows: Sequence[MachineReport]) -> None:
    wave = rows[0].wave
    canary = ", canary" if wave is not None and wave.canary else ""
    title = f"Wave {number}{canary}" if number < 10**9 else "No wave"
    if len(drawing.headings) or number < 10**9:
        drawing.headings.append(WaveHeading(round(drawing.y + 12, 1), title, format_count(len(rows), "machine")))
        drawing.y += 20


def _build_row(
    subject: MachineReport, spans: Sequence[TimeSpan], scale: _TimeScale, y: float, pitch: float, *, tall: bool
) -> TimelineRow:
    segments = tuple(
        SpanRectangle(
            x=scale.to_x(piece.start),
            width=round(max(1.0, scale.to_x(piece.end) - scale.to_x(piece.start)), 1),
            css_class=piece.css_class,
            tooltip=piece.tooltip,
        )
        for piece in spans
    )
    gap = 1.0 if pitch < 8 else 3.0
    name = sanitize_to_one_line(subject.machine, 60)
    return TimelineRow(
        y=round(y, 1),
        height=round(pitch - gap, 1),
        machine=name,
        label=sanitize_to_one_line(subject.machine, 40 if scale.shape.has_names_above else 26) if tall else "",
        css_class="bad" if subject.state in _BAD_STATES else subject.state.value,
        tooltip="; ".join([f"{name}: {subject.state.value}", *(segment.tooltip for segment in segments)]),
        rectangles=segments,
    )
