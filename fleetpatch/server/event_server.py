"""Serves the endpoint of scheduled events, in a process and on a port of its own."""

import asyncio
import functools
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import uvicorn

from fleetpatch.access.machine_identity import MachineDirectory
from fleetpatch.server.event_endpoint import EventEndpoint
from fleetpatch.server.listening import describe_address, open_listener
from fleetpatch.server.web_server import SHUTDOWN_SECONDS
from fleetpatch.settings import WebSettings
from flows.prefect_api.timed_connection import TimedConnection
from inventory.data_class import dataclass
from inventory.files.paths import find_user_directory
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory
from inventory.name_lists import format_count
from inventory.sites import find_site
from tasks.domain.errors import CannotRun, RecordsError
from tasks.domain.scheduled_events import EventDocument
from tasks.records.event_tokens import SqlEventTokens
from tasks.records.fleets import build_slug
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords

# Whoever restores an older database takes the counters of incarnations back, and programs that compare incarnations
# would miss events. This process has told machines more than the database knows then: the file says how much.

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


logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 1000
MAX_CONNECTIONS_OF_ADDRESS: Final = 50
"""Programs of one machine keep a few open. One that opens more must leave room for the others."""
DEFAULT_PORT: Final = 4281
MAX_AGE_SECONDS: Final = 0.5
"""How old a document may be. Azure's programs ask once a second."""


@dataclass(frozen=True, slots=True)
class EventServerSettings:
    """Where the endpoint listens, and what it reads. What is None is what every command finds."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    inventory: Path | None = None
    records_url: str | None = None
    state_folder: Path | None = None  # keeps how far the incarnations are; None: the user's data folder


def build_endpoint(settings: EventServerSettings, records: SqlRecords) -> tuple[EventEndpoint, MachineDirectory]:
    """Return the endpoint, and the machines that it knows. Its records must stay open while it serves.

    Raises:
        InventoryError: the inventory can't be read.
        CannotRun: there is no folder for its state.
    """
    database = records.database
    load = functools.partial(_load_inventory, settings.inventory)
    directory = MachineDirectory(load, find_site(), SqlEventTokens(database).find_machine)
    directory.refresh()
    events = SqlScheduledEvents(database)
    count_file = _find_count_file(settings.state_folder, database.fleet)
    documents = DocumentReader(events, count_file, MAX_AGE_SECONDS)
    return EventEndpoint(directory, documents, events, database.fleet), directory


def serve_events(settings: EventServerSettings, announce: Callable[[str], None]) -> None:
    """Serve the endpoint until SIGINT or SIGTERM.

    ``announce``: is called with the address, once it listens.

    Raises:
        CannotRun: the port can't be used.
        InventoryError: the inventory can't be read.
        RecordsError: the records can't be opened.
    """
    web = replace(WebSettings(), host=settings.host, port=settings.port)
    with open_records(settings.records_url) as records, open_listener(web) as listener:
        endpoint, directory = build_endpoint(settings, records)
        machines = format_count(len(directory.inventory.machines), "machine")
        announce(f"{describe_address(web, listener)} for {machines} (records: {records.database.display_name})")
        with directory.keep_fresh():
            build_event_server(endpoint).run(sockets=[listener])


class SharedConnection(TimedConnection):
    """A connection of the endpoint. One above the share of its address is closed at once."""

    open_counts: ClassVar[Counter[str]] = Counter()  # the event loop's only thread changes it
    _address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection."""
        super().connection_made(transport)
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        self.open_counts[self._address] += 1
        if self.open_counts[self._address] > MAX_CONNECTIONS_OF_ADDRESS:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self.open_counts[self._address] -= 1
        if not self.open_counts[self._address]:
            del self.open_counts[self._address]
        super().connection_lost(exc)


def build_event_server(endpoint: EventEndpoint) -> uvicorn.Server:
    """Return the server of an endpoint."""
    config = uvicorn.Config(
        endpoint,
        http=SharedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def _load_inventory(path: Path | None) -> Inventory:
    return load_inventory(find_inventory(path))


def _find_count_file(folder: Path | None, fleet: str) -> Path:
    from platformdirs import user_data_path  # noqa: PLC0415 - only this process needs it

    place = folder or find_user_directory(user_data_path, CannotRun, "name a folder by --state")
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(f"{place} can't be made: {error.strerror}", hint="Name a folder by --state.") from error
    return place / f"scheduled-events-{build_slug(fleet)}.count"
