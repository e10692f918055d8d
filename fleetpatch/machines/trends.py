"""Keeps the fleet's past days in memory: they do not change any more."""

import threading
from collections.abc import Iterator
from datetime import date, timedelta

from fleetpatch.machines.throttled_value import ThrottledValue
from tasks.records.queries.trends import DayTotals, read_days
from tasks.records.storage.database import Database

DAY = timedelta(days=1)
RECENT_DAYS = 2
"""Today and yesterday (UTC): a run may still store assessments of them."""
_CHUNK_DAYS = 30


class TrendsReader:
    """Reads each past day once. All threads may share it.

    An assessment that is stored more than a day late counts after the process has been started again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._past_lock = threading.Lock()
        self._recent_lock = threading.Lock()
        self._past: dict[date, DayTotals] = {}
        self._recent: ThrottledValue[dict[date, DayTotals]] = ThrottledValue()

    def read(self, today: date, days: int, state: int) -> dict[date, DayTotals]:
        """Return the fleet on each of the last days, oldest first.

        Args:
            today: the last day.
            days: how many, today included.
            state: recent days are read again if it changes.

        Raises:
            RecordsError: the records can't be read.
        """
        first = today - DAY * (days - 1)
        begins_recent = today - DAY * (RECENT_DAYS - 1)
        # A year takes seconds. Who needs only days that are known does not wait until it is read.
        for begin, end in self._list_gaps(first, begins_recent - DAY):
            with self._past_lock:
                if not {begin, end} <= self._past.keys():
                    self._past = self._past | read_days(self._database, begin, end)
        with self._recent_lock:
            recent = self._recent.read((today, state), lambda: read_days(self._database, begins_recent, today))
        every = self._past | recent
        return {day: every[day] for day in (first + DAY * number for number in range(days)) if day in every}

    def _list_gaps(self, first: date, last: date) -> Iterator[tuple[date, date]]:
        """Yield spans that hold all days which are not known, newest first."""
        end = last
        while end >= first:
            if end in self._past:
                end -= DAY
                continue
            begin = max(first, end - DAY * (_CHUNK_DAYS - 1))
            yield begin, end
            end = begin - DAY
