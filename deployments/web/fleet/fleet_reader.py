"""Keeps the newest snapshot of the fleet in memory, so that pages wait for no file."""

import threading
from datetime import timedelta
from typing import Final

from deployments.web.fleet.snapshot import FleetSnapshot, build_snapshot
from deployments.web.settings import WebSettings
from tasks.protocols.clock import Clock
from tasks.records.queries.fleet.machine_states import read_machine_states
from tasks.records.storage.database import Database

MAX_AGE: Final = timedelta(seconds=2)


class FleetReader:
    """Reads the fleet at most once in two seconds. All threads may share it."""

    def __init__(self, settings: WebSettings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot: FleetSnapshot | None = None

    def read(self) -> FleetSnapshot:
        """Return the fleet.

        Raises:
            RecordsError: the records can't be read.
        """
        with self._lock:
            now = self._clock.now()
            if self._snapshot is None or not timedelta(0) <= now - self._snapshot.at < MAX_AGE:
                self._snapshot = build_snapshot(self._settings, read_machine_states(self._database), now)
            return self._snapshot
