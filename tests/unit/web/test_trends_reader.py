"""The past days of the fleet are read once, and who needs few of them does not wait for a year."""

import threading
from datetime import date, timedelta
from typing import Any

import pytest

from fleetpatch.machines import fleet_reader
from fleetpatch.machines.fleet_reader import TrendsReader
from tasks.records.queries.trends import DayTotals

TODAY = date(2026, 11, 23)
PATIENCE = 300.0


def test_days_that_are_known_are_there_while_a_year_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    is_reading, may_go_on = threading.Event(), threading.Event()

    def read(_: Any, first: date, last: date) -> dict[date, DayTotals]:
        if last < TODAY - timedelta(days=60):
            is_reading.set()
            assert may_go_on.wait(PATIENCE)
        return {first + timedelta(days=number): DayTotals(1) for number in range((last - first).days + 1)}

    monkeypatch.setattr(fleet_reader, "read_days", read)
    reader: Any = TrendsReader(None)  # type: ignore[arg-type]
    found: dict[str, dict[date, DayTotals]] = {}
    year = threading.Thread(target=lambda: found.update(year=reader.read(TODAY, 365, 1)), daemon=True)
    month = threading.Thread(target=lambda: found.update(month=reader.read(TODAY, 30, 1)), daemon=True)
    year.start()
    assert is_reading.wait(PATIENCE)
    month.start()
    month.join(PATIENCE / 6)
    is_there = "month" in found
    may_go_on.set()
    year.join(PATIENCE)
    assert is_there
    assert (len(found["month"]), len(found["year"])) == (30, 365)
