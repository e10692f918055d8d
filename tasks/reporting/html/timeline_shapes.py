"""The shapes of the timeline and the size of the drawing. templates/timeline.svg.j2 draws them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

TIMELINE_WIDTH: Final = 1240.0


LABEL_WIDTH: Final = 168.0


RIGHT_MARGIN: Final = 24.0


TOP_MARGIN: Final = 54.0


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
    """A point in time as a vertical line."""

    x: float
    css_class: str
    text: str
    anchor: str = "middle"


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
    width: float = TIMELINE_WIDTH
    left: float = LABEL_WIDTH
    right: float = TIMELINE_WIDTH - RIGHT_MARGIN
    top: float = TOP_MARGIN
