"""Reads documents of scheduled events, and remembers outside of the database how far their incarnations are.

Whoever restores an older database takes the counters of incarnations back, and programs that compare incarnations would
miss events. This process has told machines more than the database knows then: the file says how much.
"""

import logging
import os
import threading
from pathlib import Path
from typing import Final

from tasks.domain.errors import RecordsError
from tasks.domain.scheduled_events import EventDocument
from tasks.records.scheduled_events import SqlScheduledEvents

logger = logging.getLogger(__name__)

MAX_DIGITS: Final = 19


class DocumentReader:
    """The documents of machines. All threads may use it.

    Args:
        events: the scheduled events.
        count_file: keeps the number of changes that machines may have been told.
    """

    def __init__(self, events: SqlScheduledEvents, count_file: Path) -> None:
        self._events, self._count_file = events, count_file
        self._told: dict[str, int] = {}
        self._known = _read_count(count_file)
        self._lock = threading.Lock()

    def read(self, machine: str) -> EventDocument:
        """Return what a machine is told now. What it is told is in the file before it is returned.

        Raises:
            RecordsError: the records can't be read, or the file can't be written.
        """
        document = self._events.read_document(machine)
        if self._told.get(machine) == document.incarnation:
            return document
        with self._lock:
            if self._events.resume_count(self._known):
                logger.warning("an older database was restored: the incarnations of all documents go on after it")
            document = self._events.read_document(machine)
            count = self._events.read_count()
            if count > self._known:
                _write_count(self._count_file, count)
                self._known = count
            self._told[machine] = document.incarnation
        return document


def _read_count(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _write_count(path: Path, count: int) -> None:
    """Replace the file at once: after a power cut it has the old number or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="ascii") as stream:
            stream.write(f"{count}\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise RecordsError(
            f"{path} can't be written: {error.strerror}", hint="Free its disk, or its folder."
        ) from error
