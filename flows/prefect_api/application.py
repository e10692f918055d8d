"""The program of every Prefect server that fleetpatch starts: Prefect's application behind a check of the Host header.

``python -P -m flows.prefect_api.application DESCRIPTOR [ends-with-input]`` does what ``prefect server start`` does
(Prefect 3.8.8, prefect/cli/_server_utils.py), on a socket that listens already. Prefect has no setting for the Host
header. Without the check, a web page could reach the server through the browser of its reader: the owner of a name lets
the name point to 127.0.0.1, and then page and server are of one origin (DNS rebinding).
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from threading import Thread, Timer
from types import FrameType
from typing import Final, NoReturn

import uvicorn
from sqlalchemy import make_url
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from flows.long_process import set_signals
from flows.prefect_api.encryption_key import KEY_VARIABLE, find_encryption_key
from flows.prefect_api.port_listeners import ENDS_WITH_INPUT, HOSTS_VARIABLE
from flows.prefect_api.prefect_insides import count_waiting_events, read_own_collections
from flows.prefect_api.server_settings import names_all_origins
from flows.prefect_api.stranger_limits import SilentConnection, StrangerLimits

LEFT_OUT_PAGES: Final = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""Pages of FastAPI: documents with scripts of another server, which could read the password that the UI keeps in the
browser, and their description of the API. Prefect writes it anew for each request, without asking for the password, and
serves nobody else for seconds. Neither the UI nor a client reads it."""
_STARTUP_FAILED = 3  # as uvicorn's own program
_UNENDED: Final = 1
_LOST_TABLES: Final = 1
_INTERRUPTED: Final = 130  # as everywhere: 128 and the number of SIGINT
_END_SECONDS: Final = 30.0
"""So long the server may take to end. Prefect's database is made for a power cut, too."""
_TABLES_HINT: Final = "Restore it from a backup, or start again: the start makes new tables, without flow runs."
_FILE_TICKS: Final = 50  # uvicorn has ten in a second
_EVENT_SECONDS: Final = 20.0
"""So long it waits at most, until its services have dealt with the events in its memory."""


class _Server(uvicorn.Server):
    """A server that ends within a time, whatever its requests and its services do."""

    follows_signals = True
    """Whether a signal ends it. The end of ENDS_WITH_INPUT does so in any case."""

    database_file: Path | None = None
    """The file of SQLite. Where it is deleted, Prefect goes on and writes into nothing that anybody finds again."""

    async def on_tick(self, counter: int) -> bool:
        """Look for the file, too."""
        if not counter % _FILE_TICKS and self.database_file is not None and not self.database_file.exists():
            end_without_tables(f"there is no {self.database_file}")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End when the services have taken the events that wait for them. Else Prefect would drop these."""
        await _wait_for_services()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End because of a signal. One that is sent to all processes of a run is for the run alone."""
        if self.follows_signals:
            self._limit_end(128 + sig)
            super().handle_exit(sig, frame)

    def end(self) -> None:
        """End in order. For any thread."""
        self._limit_end(_UNENDED)
        self.should_exit = True

    def _limit_end(self, code: int) -> None:
        """End with this exit code after ``_END_SECONDS``."""
        if not self.should_exit:
            timer = Timer(_END_SECONDS, os._exit, [code])
            timer.daemon = True
            timer.start()


async def _wait_for_services() -> None:
    """Wait until Prefect's services have dealt with all events in the server's memory, at most ``_EVENT_SECONDS``."""
    until = time.monotonic() + _EVENT_SECONDS
    while count_waiting_events() and time.monotonic() < until:
        await asyncio.sleep(0.01)


def build_application() -> StrangerLimits:
    """Return Prefect's application behind its limits and the check of the Host header, without LEFT_OUT_PAGES.

    Raises:
        RuntimeError: the server has no password or no names, or other web pages could use it.
    """
    hosts = [host for host in os.environ.get(HOSTS_VARIABLE, "").split(",") if host]
    from prefect.settings import get_current_settings  # noqa: PLC0415 - it takes seconds to load

    api = get_current_settings().server.api
    if not hosts or api.auth_string is None:
        raise RuntimeError(f"a Prefect server needs a password, and its names in {HOSTS_VARIABLE}")
    if not api.csrf_protection_enabled or names_all_origins(api.cors_allowed_origins):
        raise RuntimeError("a Prefect server needs protection against forged requests, and origins without *")
    from prefect.server.api import server  # noqa: PLC0415 - it takes seconds to load

    read_own_collections()
    application = server.create_app(final=True)
    leave_out_pages(application)
    checked = TrustedHostMiddleware(application, allowed_hosts=hosts, www_redirect=False)
    return StrangerLimits(checked, api.auth_string.get_secret_value())


def leave_out_pages(application: Starlette) -> None:
    """Take LEFT_OUT_PAGES out of an application and of those that are mounted in it."""
    routes = application.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", "") not in LEFT_OUT_PAGES]
    for route in routes:
        if isinstance(route, Mount) and isinstance(route.app, Starlette):
            leave_out_pages(route.app)


def end_without_tables(fault: str) -> NoReturn:
    """End at once, with one line: an ordered end would write into the database.

    Prefect would go on: its health check succeeds, while each of its services fails.
    """
    os.write(2, f"fleetpatch server: its database was emptied or replaced ({fault}). {_TABLES_HINT}\n".encode())
    os._exit(_LOST_TABLES)


def find_database_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None for another one, and for one in memory."""
    place = make_url(url)
    name = place.database or ""
    is_file = place.get_backend_name() == "sqlite" and ":memory:" not in name and place.query.get("mode") != "memory"
    return Path(name.removeprefix("file:")) if name and is_file else None


def close_database_to_others(url: str) -> None:
    """Take the rights of other users from an SQLite file: it holds Prefect's secrets, encrypted, and all plans.

    Prefect makes the file with the umask of whoever started it first.
    """
    database = find_database_file(url)
    for suffix in ("", "-wal", "-shm", "-journal") if database is not None else ():
        file = Path(f"{database}{suffix}")
        if file.is_file() and file.stat().st_uid == os.geteuid():
            file.chmod(file.stat().st_mode & 0o700)


def stop_at_end_of_input(loaded: list[_Server]) -> None:
    """End as soon as the pipe of the standard input is closed: the starter has ended, in whichever way.

    Args:
        loaded: has the server once all is loaded. Before that there is nothing to end in order.
    """
    while os.read(0, 1024):
        pass
    for server in loaded:
        server.end()
    if not loaded:
        os._exit(0)


def _end_interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    """End with one line, and not with a traceback: while all is loaded, and after uvicorn has ended in order."""
    os.write(2, b"fleetpatch server: stopped\n")
    sys.exit(_INTERRUPTED)


def serve(descriptor: str, end: str = "") -> int:
    """Serve on a listening socket until a signal, or until the end of ENDS_WITH_INPUT. Return the exit code.

    Raises:
        KeyFileError: the file of the database's key can't be read, or others than its owner can read it.
        CannotRun: there is such a file, and the database can't be read.
    """
    loaded: list[_Server] = []
    if end == ENDS_WITH_INPUT:
        Thread(target=stop_at_end_of_input, args=(loaded,), name="starter", daemon=True).start()
    os.umask(0o077)  # the database holds reports and encrypted secrets
    set_signals()
    signal.signal(signal.SIGINT, _end_interrupted)
    from prefect.settings import get_current_settings  # noqa: PLC0415 - it takes seconds to load

    settings, database_file = get_current_settings().server, None
    if settings.database.connection_url is not None:
        url = settings.database.connection_url.get_secret_value()
        close_database_to_others(url)
        database_file = find_database_file(url)
        if key := find_encryption_key(url, os.environ):
            os.environ[KEY_VARIABLE] = key
    server = _Server(
        uvicorn.Config(
            build_application(),
            http=SilentConnection,
            timeout_keep_alive=settings.api.keepalive_timeout,
            ws_max_size=2 * 1024 * 1024,  # Prefect's largest event has 1.5 MB
            ws_per_message_deflate=False,  # else a stranger's few bytes are many for the event loop
            ws_ping_interval=settings.api.websocket_ping_interval,
            ws_ping_timeout=settings.api.websocket_ping_timeout,
            log_level=settings.logging_level.lower(),
        )
    )
    from flows.prefect_api.log_filters import (  # noqa: PLC0415 - Prefect takes seconds to load
        LostTablesFilter,
        shorten_busy_database,
    )

    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        handler.addFilter(shorten_busy_database)
        handler.addFilter(LostTablesFilter(end_without_tables))
    server.database_file = database_file
    server.follows_signals = end != ENDS_WITH_INPUT
    loaded.append(server)
    server.run([socket.socket(fileno=int(descriptor))])
    return 0 if server.started else _STARTUP_FAILED


if __name__ == "__main__":
    sys.exit(serve(*sys.argv[1:]))
