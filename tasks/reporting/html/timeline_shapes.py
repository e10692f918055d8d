"""The shapes of the timeline, which templates/timeline.svg.j2 draws, and the size of the drawing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

TIMELINE_WIDTH: Final = 1240.0


LABEL_WIDTH: Final = 168.0


RIGHT_MARGIN: Final = 24.0


TOP_MARGIN: Final = 54.0


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """One step of one machine, or one predicted phase."""

    start: datetime
    end: datetime
    css_class: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class SpanRectangle:
    """A time span with its place on the drawing."""

    x: float
    width: float
    css_class: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A machine's row. ``label`` is "" where there is no room for one."""

    y: float
    height: float
    machine: str
    label: str
    css_class: str
    tooltip: str
    rectangles: tuple[SpanRectangle, ...]


@dataclass(frozen=True, slots=True)
class WaveHeading:
    """A wave's heading, above its rows."""

    y: float
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class TimeMark:
    """A moment, as a line from top to bottom."""

    x: float
    css_class: str
    text: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything that is drawn. ``window_extent`` is the window as (x, width)."""

    height: float
    ticks: tuple[TimeMark, ...]
    marks: tuple[TimeMark, ...]
    headings: tuple[WaveHeading, ...]
    rows: tuple[TimelineRow, ...]
    css_classes: tuple[str, ...]
    window_extent: tuple[float, float] | None
    left_out: int
    notes: tuple[str, ...] = ()
    width: float = TIMELINE_WIDTH
    left: float = LABEL_WIDTH
    right: float = TIMELINE_WIDTH - RIGHT_MARGIN
    top: float = TOP_MARGIN
