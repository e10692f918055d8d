"""Keeps the index of pending updates up to date: it reads again only the machines that were assessed since."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from fleetpatch.updates.pending_index import PendingIndex
from tasks.domain.errors import RecordsError
from tasks.domain.protocols.clock import Clock
from tasks.records.queries.fleet.updates import (
    PendingUpdateRow,
    count_cve_rows,
    read_pending_assessments,
    read_pending_updates,
    read_update_cves,
)
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)

MAX_AGE: Final = timedelta(seconds=2)
_WHOLE: Final = 0.3
"""With more than this share of machines to read again, the whole table is read at once."""


class PendingIndexReader:
    """The index of pending updates. All threads may share it; one uses the index at a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._index = PendingIndex()
        self._present: dict[int, int] = {}
        self._machines: dict[int, str] = {}
        self._cve_rows = -1
        self._read_at: datetime | None = None

    @contextmanager
    def open(self) -> Iterator[PendingIndex]:
        """Yield the index. It does not change before the end of the block.

        Raises:
            RecordsError: the records can't be read.
        """
        with self._lock:
            now = self._clock.now()
            if self._read_at is None or not timedelta(0) <= now - self._read_at < MAX_AGE:
                self._refresh()
                self._read_at = now
            yield self._index

    def warm_up(self) -> None:
        """Read the index in a thread of its own, so that the first page does not wait for it (3 s for 250,000 rows)."""
        threading.Thread(target=self._open_once, name="pending updates", daemon=True).start()

    def _open_once(self) -> None:
        try:
            with self.open():
                pass
        except RecordsError as error:  # a page will say it
            logger.warning("the pending updates can't be read: %s", error.message)

    def _refresh(self) -> None:
        present = read_pending_assessments(self._database)
        changed = {number for number, count in present.items() if self._present.get(number) != count}
        ended = self._present.keys() - present.keys()
        gone = {self._machines.get(number, "") for number in ended}
        if changed:
            rows: dict[str, list[PendingUpdateRow]] = {}
            machine_names = None if len(changed) > _WHOLE * len(present) else changed
            for row in read_pending_updates(self._database, machine_names):
                rows.setdefault(row.machine, []).append(row)
                self._machines[row.assessment] = row.machine
            for name, machine_rows in rows.items():
                self._index.replace_machine(name, machine_rows)
            gone -= rows.keys()
        for name in gone - {""}:
            self._index.replace_machine(name, ())
        for number in ended:  # not before: if the records fail, the next page must find these machines again
            self._machines.pop(number, None)
        # A machine may be assessed between the two queries: the number of that assessment makes the next page read it.
        self._present = present
        cve_rows = count_cve_rows(self._database)
        if cve_rows != self._cve_rows:
            self._index.replace_cves(read_update_cves(self._database))
            self._cve_rows = cve_rows
