"""Reads documents of scheduled events, and remembers outside of the database how far their incarnations are.

Whoever restores an older database takes the counters of incarnations back, and programs that compare incarnations would
miss events. This process has told machines more than the database knows then: the file says how much.
"""

import logging
import math
import os
import threading
import time
from pathlib import Path
from typing import Final

from tasks.domain.errors import RecordsError
from tasks.domain.scheduled_events import EventDocument
from tasks.records.scheduled_events import SqlScheduledEvents

logger = logging.getLogger(__name__)

MAX_DIGITS: Final = 19


class DocumentReader:
    """The documents of machines. All threads may use it.

    ``count_file``: keeps the number of changes that machines may have been told.
    ``max_age_seconds``: documents are read together, and are not older than this: machines ask once a second.
    """

    def __init__(self, events: SqlScheduledEvents, count_file: Path, max_age_seconds: float = 0.0) -> None:
        self._events, self._count_file, self._max_age_seconds = events, count_file, max_age_seconds
        self._documents: dict[str, EventDocument] = {}
        self._read_at = -math.inf
        self._told: dict[str, int] = {}
        self._known = _read_count(count_file)
        self._lock, self._reading = threading.Lock(), threading.Lock()

    def read(self, machine: str) -> EventDocument:
        """Return what a machine is told now. What it is told is in the file before it is returned.

        Raises:
            RecordsError: the records can't be read, or the file can't be written.
        """
        document = self._find_document(machine)
        if document is not None and self._told.get(machine) == document.incarnation:
            return document  # one from before the last that it was told is never taken
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

    def _find_document(self, machine: str) -> EventDocument | None:
        """Return a machine's document as it was read together with all others; None: it was not up to date then."""
        with self._reading:
            if time.monotonic() - self._read_at >= self._max_age_seconds:
                read_at = time.monotonic()
                self._documents, self._read_at = self._events.read_documents(), read_at
            return self._documents.get(machine)


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
