"""The program of every Prefect server that fleetpatch starts: Prefect's application behind a check of the Host header.

``python -P -m flows.prefect_api.application DESCRIPTOR [ends-with-input]`` does what ``prefect server start`` does
(Prefect 3.8.8, prefect/cli/_server_utils.py), on a socket that listens already. Prefect has no setting for the Host
header. Without the check, a web page could reach the server through the browser of its reader: the owner of a name lets
the name point to 127.0.0.1, and then page and server are of one origin (DNS rebinding).
"""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Thread, Timer
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from flows.long_process import set_signals
from flows.prefect_api.encryption_key import KEY_VARIABLE, find_encryption_key
from flows.prefect_api.idle_queue import calm_docket, replace_docket
from flows.prefect_api.port_listeners import ENDS_WITH_INPUT, HOSTS_VARIABLE
from flows.prefect_api.server_database import DatabaseState, make_tables, read_database_state
from flows.prefect_api.server_settings import names_all_origins

# To judge the schema of a patch request takes thirty times as long as to judge a request by it. Prefect 3.8.8 keeps no
# judgement.

_MOST_KNOWN: Final = 1000


def remember_valid_schemas(validation: Any) -> None:  # noqa: ANN401 - a module of Prefect
    """Let a server remember which schemas are valid. It judges invalid ones anew.

    Args:
        validation: ``prefect.utilities.schema_tools.validation``.
    """
    validator = validation._VALIDATOR  # noqa: SLF001 - Prefect has no setting for it
    check_schema = validator.check_schema
    known: set[Hashable] = set()

    def check_schema_once(schema: Any, **options: Any) -> None:  # noqa: ANN401 - jsonschema's
        try:
            key = (json.dumps(schema), *sorted(options))
        except (TypeError, ValueError):  # not from JSON
            check_schema(schema, **options)
            return
        if key not in known:
            check_schema(schema, **options)
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known.add(key)

    validator.check_schema = staticmethod(check_schema_once)


if TYPE_CHECKING:
    from prefect.settings.models.server.root import ServerSettings

FOREIGN_PAGES: Final = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})
"""Pages of FastAPI with scripts of another server, which could read the password that the UI keeps in the browser."""
USED_ROUTES: Final = frozenset(
    {"/csrf-token", "/flows", "/flow_runs", "/task_runs", "/logs", "/artifacts", "/events", "/admin"}
)
"""What a run asks for. FastAPI prepares the routes before these when it first looks for one, and others when needed."""
_STARTUP_FAILED = 3  # as uvicorn's own program
_UNENDED: Final = 1
_INTERRUPTED: Final = 130  # as everywhere: 128 and the number of SIGINT
_END_SECONDS: Final = 30.0
"""So long the server may take to end. Prefect's database is made for a power cut, too."""
_TICK_SECONDS: Final = 1.0
_EVENT_SECONDS: Final = 20.0
"""So long it waits at most, until its services have dealt with the events in its memory."""


class _Server(uvicorn.Server):
    """A server that ends within a time, whatever its requests and its services do."""

    follows_signals = True
    """Whether a signal ends it. The end of ENDS_WITH_INPUT does so in any case."""
    _loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and look for garbage from then on. All that is loaded stays, and looking through it costs time."""
        self._is_over, self._loop = asyncio.Event(), asyncio.get_running_loop()
        await super().startup(sockets)
        gc.freeze()
        gc.enable()

    async def main_loop(self) -> None:
        """Wait until the server ends. uvicorn would look for that ten times a second."""
        while not await self.on_tick(0):  # it writes the date of answers
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), _TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End when the services have taken the events that wait for them. Else Prefect would drop these."""
        await _wait_for_services()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End because of a signal. One that is sent to all processes of a run is for the run alone."""
        if self.follows_signals:
            self._limit_end(128 + sig)
            super().handle_exit(sig, frame)
            self._wake()

    def end(self) -> None:
        """End in order. For any thread."""
        self._limit_end(_UNENDED)
        self.should_exit = True
        self._wake()

    def _limit_end(self, code: int) -> None:
        """End with this exit code after ``_END_SECONDS``."""
        if not self.should_exit:
            timer = Timer(_END_SECONDS, os._exit, [code])
            timer.daemon = True
            timer.start()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._is_over.set)


_Handler = Callable[[Any], Awaitable[None]]


class _EventsInHand:
    """How many events Prefect's services have taken and not dealt with yet. A batch being written is in no queue."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, consumer: Any) -> None:  # noqa: ANN401 - Prefect's class, which takes seconds to load
        """Count the events of all consumers of this class."""
        consume: Callable[[Any, _Handler], Awaitable[None]] = consumer._consume_loop  # noqa: SLF001

        async def consume_counted(consumer: Any, handler: _Handler) -> None:  # noqa: ANN401
            async def handle(message: Any) -> None:  # noqa: ANN401
                self.count += 1
                try:
                    await handler(message)
                finally:
                    self.count -= 1

            await consume(consumer, handle)

        consumer._consume_loop = consume_counted  # noqa: SLF001


_events_in_hand = _EventsInHand()


async def _wait_for_services() -> None:
    """Wait until no event waits in the server's memory, at most ``_EVENT_SECONDS``."""
    from prefect.server.utilities.messaging.memory import Topic  # noqa: PLC0415 - it takes seconds to load

    until = time.monotonic() + _EVENT_SECONDS
    subscriptions = [queue for topic in Topic._topics.values() for queue in topic._subscriptions]  # noqa: SLF001
    while _events_in_hand.count or any(queue._queue.qsize() for queue in subscriptions):  # noqa: SLF001
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.01)


def build_application() -> TrustedHostMiddleware:
    """Return Prefect's application behind the check of the Host header, without pages of other servers' scripts.

    Raises:
        RuntimeError: the server has no password or no names, or other web pages could use it.
    """
    hosts = [host for host in os.environ.get(HOSTS_VARIABLE, "").split(",") if host]
    from prefect.settings import Settings, get_current_settings  # noqa: PLC0415 - it takes seconds to load

    api = get_current_settings().server.api
    if not hosts or api.auth_string is None:
        raise RuntimeError(f"a Prefect server needs a password, and its names in {HOSTS_VARIABLE}")
    if not api.csrf_protection_enabled or names_all_origins(api.cors_allowed_origins):
        raise RuntimeError("a Prefect server needs protection against forged requests, and origins without *")
    from prefect.server.api import background_workers, collections, server  # noqa: PLC0415 - it takes seconds to load
    from prefect.server.utilities.messaging import memory  # noqa: PLC0415 - it takes seconds to load
    from prefect.utilities.schema_tools import validation  # noqa: PLC0415 - it takes seconds to load

    from flows.prefect_api.kept_answers import keep_answers  # noqa: PLC0415 - it loads Prefect's client

    _events_in_hand.watch(memory.Consumer)
    calm_docket(background_workers)
    remember_valid_schemas(validation)
    keep_answers()
    gc.freeze()  # Prefect looks for garbage once more
    collections.KNOWN_VIEWS.update(dict.fromkeys(collections.KNOWN_VIEWS, ""))  # its own copies, not those on GitHub
    routers = sorted(server.API_ROUTERS, key=lambda router: router.prefix not in USED_ROUTES)
    setattr(server, "API_ROUTERS", tuple(routers))  # noqa: B010 - Prefect has no setting for it
    # one application needs no key among others: Prefect would write all settings out for each
    setattr(Settings, "hash_key", lambda _: "")  # noqa: B010 - Prefect has no setting for it
    application = server.create_app(final=True)
    remove_foreign_pages(application)
    return TrustedHostMiddleware(application, allowed_hosts=hosts, www_redirect=False)


def remove_foreign_pages(application: Starlette) -> None:
    """Remove FOREIGN_PAGES from an application and from those that are mounted in it."""
    routes = application.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", "") not in FOREIGN_PAGES]
    for route in routes:
        if isinstance(route, Mount) and isinstance(route.app, Starlette):
            remove_foreign_pages(route.app)


def leave_out_services(settings: "ServerSettings", state: DatabaseState) -> None:
    """Leave out what a server for the time of one run does for nobody.

    Automations that are not there need nobody to look at each event. And without them Prefect's queue of background
    work (docket), which asks itself for work twenty times a second, would have one task: to delete old events. That is
    done here, once, and docket is not loaded.
    """
    if state.has_automations:
        return
    if "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED" not in os.environ:
        settings.services.triggers.enabled = False
    if not settings.services.triggers.enabled:
        replace_docket()
        from prefect.server.api import server  # noqa: PLC0415 - it takes seconds to load

        setattr(server, "background_worker", _delete_old_events)  # noqa: B010 - Prefect has no setting for it


@asynccontextmanager
async def _delete_old_events(_docket: object, **_modes: bool) -> AsyncIterator[None]:
    """Do the work of Prefect's background worker in a server for one run, in its place."""
    from prefect.server.database import provide_database_interface  # noqa: PLC0415 - it takes seconds to load
    from prefect.server.services.db_vacuum import (  # noqa: PLC0415 - the same
        vacuum_events_with_retention_overrides,
        vacuum_old_events,
    )
    from prefect.settings import get_current_settings  # noqa: PLC0415 - the same

    async def delete() -> None:
        with suppress(SQLAlchemyError):  # the next run's server deletes them
            await vacuum_events_with_retention_overrides(db=provide_database_interface())
            await vacuum_old_events(db=provide_database_interface())

    services = get_current_settings().server.services
    if "events" not in services.db_vacuum.enabled_vacuum_types or not services.event_persister.enabled:
        yield
        return
    deletion = asyncio.create_task(delete())
    yield
    deletion.cancel()
    with suppress(asyncio.CancelledError):
        await deletion


def close_database_to_others(url: str) -> None:
    """Take the rights of other users from an SQLite file: it holds Prefect's secrets, encrypted, and all plans.

    Prefect makes the file with the umask of whoever started it first.
    """
    parts = urlsplit(url)
    for suffix in ("", "-wal", "-shm", "-journal") if parts.scheme.startswith("sqlite") else ():
        file = Path(parts.path[1:] + suffix)
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


def prepare_database(url: str) -> DatabaseState:
    """Make the tables of a new database, close it to others, and find its key. Return its state.

    Raises:
        KeyFileError: the file of the key can't be read, or others than its owner can read it.
        CannotRun: there is such a file, and the database can't be read.
    """
    from prefect import __version__  # noqa: PLC0415 - it takes seconds to load

    make_tables(url, __version__)
    close_database_to_others(url)
    if key := find_encryption_key(url, os.environ):
        os.environ[KEY_VARIABLE] = key
    return read_database_state(url, os.environ, __version__)


def serve(descriptor: str, end: str = "") -> int:
    """Serve on a listening socket until a signal, or until the end of ENDS_WITH_INPUT. Return the exit code."""
    loaded: list[_Server] = []
    if end == ENDS_WITH_INPUT:
        Thread(target=stop_at_end_of_input, args=(loaded,), name="starter", daemon=True).start()
    gc.disable()  # until the server has started: to look for garbage is a sixth of what that takes
    os.umask(0o077)  # the database holds reports and encrypted secrets
    set_signals()
    signal.signal(signal.SIGINT, _end_interrupted)
    from prefect.settings import get_current_settings  # noqa: PLC0415 - it takes seconds to load

    settings = get_current_settings().server
    connection_url = settings.database.connection_url
    state = prepare_database(connection_url.get_secret_value()) if connection_url is not None else DatabaseState()
    if state.has_all_tables:
        settings.database.migrate_on_start = False
    if end == ENDS_WITH_INPUT:
        leave_out_services(settings, state)
    server = _Server(
        uvicorn.Config(
            build_application(),
            timeout_keep_alive=settings.api.keepalive_timeout,
            ws_ping_interval=settings.api.websocket_ping_interval,
            ws_ping_timeout=settings.api.websocket_ping_timeout,
            log_level=settings.logging_level.lower(),
        )
    )
    from flows.prefect_api.log_filters import shorten_busy_database  # noqa: PLC0415 - Prefect takes seconds to load

    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        handler.addFilter(shorten_busy_database)
    server.follows_signals = end != ENDS_WITH_INPUT
    loaded.append(server)
    server.run([socket.socket(fileno=int(descriptor))])
    return 0 if server.started else _STARTUP_FAILED


if __name__ == "__main__":
    sys.exit(serve(*sys.argv[1:]))
