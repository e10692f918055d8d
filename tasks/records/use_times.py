"""Stores when tokens and sessions were last used, in the background: who may look is known, and waits for no writer."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from tasks.domain.errors import RecordsError

logger = logging.getLogger(__name__)

USE_INTERVAL: Final = timedelta(minutes=1)
"""The last use is stored as exactly as this: not each request writes."""


class UseTimes:
    """The last use of each of several things. A use that can't be stored is lost. All threads may share an object.

    Args:
        store: stores the last use of one of them. It may raise RecordsError.
        noun: what they are, in plural, for the log.
    """

    def __init__(self, store: Callable[[str, datetime], None], noun: str) -> None:
        self._store = store
        self._noun = noun
        self._lock = threading.Lock()
        self._noted: dict[str, datetime] = {}
        self._waiting: dict[str, datetime] = {}
        self._writer: threading.Thread | None = None

    def note(self, key: str, stored: datetime | None, now: datetime) -> None:
        """Have a use stored, unless one of the last minute is or will be.

        Args:
            key: which of them.
            stored: its last use that is stored; None: none.
            now: the time of this use.
        """
        with self._lock:
            known_times = [moment for moment in (stored, self._noted.get(key)) if moment is not None]
            if known_times and now - max(known_times) < USE_INTERVAL:
                return
            self._noted[key] = self._waiting[key] = now
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write, name=f"uses of {self._noun}", daemon=True)
                self._writer.start()

    def find_latest(self, key: str, stored: datetime) -> datetime:
        """Return the last use, also one that is not stored yet."""
        with self._lock:
            return max(stored, self._noted.get(key, stored))

    def forget(self, key: str) -> None:
        """Keep nothing about something that is over."""
        with self._lock:
            self._noted.pop(key, None)

    def wait(self, seconds: float) -> None:
        """Wait until all uses are stored or lost, but not longer."""
        writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    return
                key, at = self._waiting.popitem()
            try:
                self._store(key, at)
            except RecordsError as error:
                logger.warning("a last use of %s is not stored: %s", self._noun, error)
