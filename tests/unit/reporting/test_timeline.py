"""The timeline of a run: what is drawn where."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

from tasks.domain.states import OperationState
from tasks.reports.html.timeline import NARROW, WIDE, Timeline, build_timeline
from tests.support.builders import make_outcome
from tests.unit.reporting import samples

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)


def test_hundreds_of_machines_that_wait_are_one_row_of_the_timeline() -> None:
    report, _ = samples.forty()
    names = tuple(f"wait-{number}" for number in range(400))
    waves = (*report.waves[:3], replace(report.waves[3], machines=names))
    outcomes = [each for each in report.outcomes if each.steps]
    outcomes += [replace(make_outcome(machine=name), steps=(), state=OperationState.NOT_STARTED) for name in names]
    found = build_timeline(replace(report, waves=waves, outcomes=tuple(outcomes)), ZoneInfo("UTC"), now=NOW, limit=500)
    assert found is not None
    assert "400 machines" in [each.label for each in found.rows]
    assert len(found.rows) == 27
    assert found.height < 700


def test_no_text_of_a_mark_covers_another_or_leaves_the_drawing() -> None:
    report, _ = samples.forty()
    window = report.run.window
    assert window is not None
    late = replace(report.run, ended_at=window.end + timedelta(minutes=1))
    early = replace(report.run, ended_at=None, window=replace(window, start=NOW, end=NOW + timedelta(days=9)))
    for run, shape in product((late, early), (WIDE, NARROW)):  # the early one's window opens at the right edge
        found = build_timeline(replace(report, run=run), ZoneInfo("UTC"), now=NOW, limit=60, shape=shape)
        assert found is not None
        _check_marks(found)


def _check_marks(found: Timeline) -> None:
    places: dict[float, list[tuple[float, float]]] = {}
    for mark in found.marks:
        width = 8.0 * len(mark.text)
        left = mark.text_x - {"start": 0.0, "middle": width / 2, "end": width}[mark.anchor]
        assert 0 <= left <= left + width <= found.shape.width, mark
        assert all(left + width < a or b < left for a, b in places.get(mark.text_y, [])), mark
        places.setdefault(mark.text_y, []).append((left, left + width))
