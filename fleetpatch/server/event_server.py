"""Serves the endpoint of scheduled events, in a process and on a port of its own."""

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import uvicorn

from fleetpatch.access.machine_identity import MachineDirectory
from fleetpatch.server.event_documents import DocumentReader
from fleetpatch.server.event_endpoint import EventEndpoint
from fleetpatch.server.listening import describe_address, open_listener
from fleetpatch.server.web_server import SHUTDOWN_SECONDS, TimedConnection
from fleetpatch.settings import WebSettings
from inventory.data_class import dataclass
from inventory.files.paths import find_user_directory
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Inventory
from inventory.name_lists import format_count
from inventory.sites import find_site
from tasks.domain.errors import CannotRun
from tasks.records.event_tokens import SqlEventTokens
from tasks.records.fleets import build_slug
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords

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
