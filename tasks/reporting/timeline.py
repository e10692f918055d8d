"""The geometry of the time line: a row a machine, grouped by wave, a coloured piece a step.

Only numbers and texts are made here; templates/timeline.svg.j2 draws them. A dry run has no steps yet: its pieces are
the predicted phases, wave after wave from the window's start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from tasks.model import RunReport, Window
from tasks.reporting.flatten import Subject, subjects
from tasks.reporting.text import clock_time, duration, moment, one_line, plural
from tasks.states import OperationState

WIDTH: Final = 1240.0
LEFT: Final = 168.0
RIGHT: Final = 24.0
TOP: Final = 54.0

_TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
_BAD: Final = frozenset({OperationState.FAILED, OperationState.UNKNOWN})
_ROOMY: Final = 60
"""Up to so many machines, every row is tall enough for its name; beyond, only rows that need a look are."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One step of one machine, or one predicted phase."""

    start: datetime
    end: datetime
    look: str
    note: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece, where it is drawn."""

    x: float
    width: float
    look: str
    note: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A machine's row. ``label`` is "" where there is no room for one."""

    y: float
    height: float
    machine: str
    label: str
    look: str
    note: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A wave's heading, above its rows."""

    y: float
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, as a line from top to bottom."""

    x: float
    look: str
    text: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn. ``inside`` is the window's stretch as (x, width)."""

    height: float
    ticks: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    headings: tuple[Heading, ...]
    bars: tuple[Bar, ...]
    looks: tuple[str, ...]
    inside: tuple[float, float] | None
    left_out: int
    notes: tuple[str, ...] = ()
    width: float = WIDTH
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP


@dataclass(slots=True)
class _Scale:
    start: datetime
    end: datetime
    zone: ZoneInfo

    @property
    def span(self) -> float:
        return max(1.0, (self.end - self.start).total_seconds())

    def x(self, at: datetime) -> float:
        share = (at - self.start).total_seconds() / self.span
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share)), 1)

    def shows(self, at: datetime) -> bool:
        return self.start <= at <= self.end

    def ticks(self) -> Iterator[Mark]:
        """Yield round times of day in the zone, at most twelve of them."""
        step = next((length for length in _TICKS if self.span / length <= 12), _TICKS[-1])
        offset = (self.start.astimezone(self.zone).utcoffset() or timedelta()).total_seconds()
        at = (self.start.timestamp() + offset) // step * step - offset
        for number in range(1, 14):
            tick = datetime.fromtimestamp(at + number * step, UTC)
            if tick > self.end:
                return
            yield Mark(self.x(tick), "tick", clock_time(tick, self.zone, seconds=step < 60))


@dataclass(slots=True)
class _Drawing:
    y: float = TOP + 6
    headings: list[Heading] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)


def picture(report: RunReport, zone: ZoneInfo, *, now: datetime, limit: int) -> Picture | None:
    """Lay the time line out.

    Args:
        report: the run.
        zone: that times of day are shown in.
        now: the moment of the report, drawn as a line while the run goes on.
        limit: rows at most; machines that went well are left out first.

    Returns:
        The picture, or None when nothing has a time to show.
    """
    about = subjects(report)
    planned = report.run.kind == "plan"
    pieces = _predicted(report, about) if planned else {s.machine: _done(s, zone) for s in about}
    scale, notes = _scale(report, [piece for found in pieces.values() for piece in found], zone, now)
    if scale is None or not about:
        return None
    shown = _chosen(about, limit)
    drawing = _draw(shown, pieces, scale)
    looks = dict.fromkeys(segment.look for bar in drawing.bars for segment in bar.segments)
    window = report.run.window
    inside = (scale.x(window.start), round(scale.x(window.end) - scale.x(window.start), 1)) if window else None
    marks = tuple(_marks(report, scale, now))
    return Picture(
        height=drawing.y + 8,
        ticks=tuple(_without_text_under(tick, marks) for tick in scale.ticks()),
        marks=marks,
        headings=tuple(drawing.headings),
        bars=tuple(drawing.bars),
        looks=tuple(looks),
        inside=inside,
        left_out=len(about) - len(shown),
        notes=notes,
    )


def cut_off(report: RunReport) -> datetime | None:
    """Return when the time that is kept for a reboot begins, if the request says how much that is."""
    window, reserve = report.run.window, report.run.request.get("reboot_reserve_minutes")
    if window is None or isinstance(reserve, bool) or not isinstance(reserve, int | float) or reserve <= 0:
        return None
    at = window.end - timedelta(minutes=float(reserve))
    return at if at > window.start else None


def _done(subject: Subject, zone: ZoneInfo) -> tuple[Piece, ...]:
    steps = subject.outcome.steps if subject.outcome else ()
    return tuple(
        Piece(
            start=step.started_at,
            end=step.ended_at,
            look="failed" if step.state is OperationState.FAILED else step.step.value,
            note=f"{step.step.value} {clock_time(step.started_at, zone)}, "
            f"{duration((step.ended_at - step.started_at).total_seconds())}, {step.state.value}",
        )
        for step in steps
    )


def _predicted(report: RunReport, about: Sequence[Subject]) -> dict[str, tuple[Piece, ...]]:
    at = report.run.window.start if report.run.window else report.run.started_at
    found: dict[str, tuple[Piece, ...]] = {}
    ordered = sorted((s for s in about if s.plan), key=_wave_order)
    for _, members in groupby(ordered, key=_wave_order):
        last = at
        for subject in members:
            found[subject.machine] = tuple(_phases(subject, at))
            last = max([last, *(piece.end for piece in found[subject.machine])])
        at = last
    return found


def _phases(subject: Subject, at: datetime) -> Iterator[Piece]:
    if subject.plan is None or not subject.plan.chosen:
        return
    prediction = subject.plan.prediction
    for look in ("stage", "install", "reboot", "validate"):
        seconds = getattr(prediction, look)
        if seconds > 0:
            end = at + timedelta(seconds=seconds)
            yield Piece(at, end, look, f"{look} {duration(seconds)} (predicted)")
            at = end


def _wave_order(subject: Subject) -> int:
    number = subject.wave_number
    return 10**9 if number is None else number


def _scale(
    report: RunReport, pieces: Sequence[Piece], zone: ZoneInfo, now: datetime
) -> tuple[_Scale | None, tuple[str, ...]]:
    """Return the stretch of time that is shown. A window many times longer than the work would hide the work."""
    run, window = report.run, report.run.window
    starts = [piece.start for piece in pieces]
    ends = [piece.end for piece in pieces]
    if run.kind != "plan" and pieces:
        ends.append(run.ended_at or now)
    if not starts and window is None:
        return None, ()
    if window is None or (starts and (window.end - window.start) > 6 * (max(ends) - min(starts))):
        margin = max(timedelta(seconds=5), (max(ends) - min(starts)) * 0.03)
        return _Scale(min(starts) - margin, max(ends) + margin, zone), _much_longer(window, zone)
    start, end = min([window.start, *starts]), max([window.end, *ends])
    margin = (end - start) * 0.015
    return _Scale(start - margin, end + margin, zone), ()


def _much_longer(window: Window | None, zone: ZoneInfo) -> tuple[str, ...]:
    if window is None:
        return ()
    return (
        f"The window, {moment(window.start, zone)} to {moment(window.end, zone)}, is much longer than this picture.",
    )


def _marks(report: RunReport, scale: _Scale, now: datetime) -> Iterator[Mark]:
    run, window, cut = report.run, report.run.window, cut_off(report)
    wanted: list[tuple[datetime | None, str, str, str]] = []
    if window is not None:
        wanted += [(window.start, "edge", "window opens", "start"), (window.end, "edge", "window closes", "end")]
        wanted += [(cut, "cut", "reboot reserve", "end")]
    if run.kind != "plan":
        wanted += [(run.ended_at, "end", "ended", "middle") if run.ended_at else (now, "end", "now", "middle")]
    for at, look, text, anchor in wanted:
        if at is not None and scale.shows(at):
            yield Mark(scale.x(at), look, f"{text} {clock_time(at, scale.zone, seconds=False)}", anchor)


def _without_text_under(tick: Mark, marks: Sequence[Mark]) -> Mark:
    """A mark's line would run through the tick's text; and the mark says the time itself."""
    return replace(tick, text="") if any(abs(mark.x - tick.x) < 18 for mark in marks) else tick


def _chosen(about: Sequence[Subject], limit: int) -> list[Subject]:
    ranked = sorted(about, key=lambda s: s.state in (OperationState.SUCCEEDED, OperationState.NOT_STARTED))
    return sorted(ranked[:limit], key=lambda s: (_wave_order(s), s.machine))


def _draw(shown: Sequence[Subject], pieces: dict[str, tuple[Piece, ...]], scale: _Scale) -> _Drawing:
    drawing, roomy = _Drawing(), len(shown) <= _ROOMY
    pitch = 19.0 if len(shown) <= 24 else 15.0
    for number, members in groupby(shown, key=_wave_order):
        rows = list(members)
        _head(drawing, number, rows)
        for subject in rows:
            tall = roomy or subject.state not in (OperationState.SUCCEEDED, OperationState.NOT_STARTED)
            step = pitch if roomy else 13.0 if tall else 5.0
            drawing.bars.append(_bar(subject, pieces.get(subject.machine, ()), scale, drawing.y, step, tall=tall))
            drawing.y += step
        drawing.y += 8
    return drawing


def _head(drawing: _Drawing, number: int, rows: Sequence[Subject]) -> None:
    wave = rows[0].wave
    canary = ", canary" if wave is not None and wave.canary else ""
    title = f"Wave {number}{canary}" if number < 10**9 else "No wave"
    if len(drawing.headings) or number < 10**9:
        drawing.headings.append(Heading(round(drawing.y + 12, 1), title, plural(len(rows), "machine")))
        drawing.y += 20


def _bar(subject: Subject, pieces: Sequence[Piece], scale: _Scale, y: float, pitch: float, *, tall: bool) -> Bar:
    segments = tuple(
        Segment(
            x=scale.x(piece.start),
            width=round(max(1.0, scale.x(piece.end) - scale.x(piece.start)), 1),
            look=piece.look,
            note=piece.note,
        )
        for piece in pieces
    )
    gap = 1.0 if pitch < 8 else 3.0
    name = one_line(subject.machine, 60)
    return Bar(
        y=round(y, 1),
        height=round(pitch - gap, 1),
        machine=name,
        label=one_line(subject.machine, 22) if tall else "",
        look="bad" if subject.state in _BAD else subject.state.value,
        note="; ".join([f"{name}: {subject.state.value}", *(segment.note for segment in segments)]),
        segments=segments,
    )
