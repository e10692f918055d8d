"""The shapes of the timeline, as numbers and texts that templates/drawing.html.j2 draws."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

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
