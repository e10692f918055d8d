"""Filters of Prefect's logs: an expected error is one line of this project, not a traceback or a dump of events.

While the server is away, Prefect prints each event that it could not send, with all its data, to stderr. What a run
says about it (``ApiMonitor``, the report) is enough.
"""

import logging
import re
from collections.abc import Callable
from typing import Final

import httpx
from prefect.exceptions import CancelledRun
from prefect.logging import get_logger

from tasks.domain.errors import FleetpatchError, InternalError
from tasks.domain.run_errors import FleetPatchFailed

_SERVICES: Final = ("APILogWorker", "EventsWorker")
_DELIVERY_LOGGER: Final = "prefect._internal.concurrency"
"""The logger of both."""
_OBSERVERS: Final = ("FlowRunCancellingObserver", "FlowRunSuspendingObserver")
"""What listens for Cancel and Suspend. A run without a server hears of neither."""


class DeliveryFilter(logging.Filter):
    """Drops messages about items that were not sent. An error of the connection is one line without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged."""
        if record.name in _SERVICES or (
            isinstance(record.args, tuple) and record.args[:1] in [(n,) for n in _SERVICES]
        ):
            return False
        is_observer = record.name.endswith(_OBSERVERS) or any(name in str(record.msg) for name in _OBSERVERS)
        if is_observer and record.exc_info:
            return False
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, httpx.HTTPError):
            record.msg, record.args = "%s: the Prefect server does not answer: %s", (record.getMessage(), error)
            record.exc_info = None
        return True


class TracebackFilter(logging.Filter):
    """Removes tracebacks of expected errors from Prefect's log. Only an internal error needs a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the traceback of an expected error, and drop records that repeat one."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is None:
            record.exc_info = None
        if isinstance(error, CancelledRun | FleetPatchFailed):
            return False
        if not isinstance(error, FleetpatchError) or isinstance(error, InternalError):
            return True
        record.exc_info = None
        text = str(record.msg)
        if text.startswith("Encountered exception"):
            record.msg, record.args = "%s%s", (error, f" {error.hint}" if error.hint else "")
        return not text.startswith("Engine execution")


def shorten_busy_database(record: logging.LogRecord) -> bool:
    """Make one line of the hundred that Prefect logs when SQLite is busy: who asked asks again, and nothing is lost.

    With SQLite, a transaction that has read can't write any more after another one has written. No timeout helps.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and "database is locked" in str(getattr(error, "orig", error)):
        record.msg, record.args = f"{record.getMessage()} (SQLite was busy: database is locked)", ()
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


_NO_TABLE: Final = re.compile(r"(<class '[\w.]+'>: )?(?P<words>no such table: \w+|relation \"\w+\" does not exist)")
"""The errors of SQLite and PostgreSQL, at the begin of their text. What follows can be data."""


class LostTablesFilter(logging.Filter):
    """Ends a server whose database has lost its tables, and drops what Prefect logs of it: a traceback each second."""

    def __init__(self, end: Callable[[str], None]) -> None:
        super().__init__()
        self._end = end

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged. Otherwise call ``end`` with the database's own words."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        missing = _NO_TABLE.match(str(getattr(error, "orig", None)))  # the text of SQLAlchemy's error has all data
        if missing is None:
            return True
        self._end(missing["words"])
        return False


def silence_delivery() -> None:
    """Silence Prefect in this process."""
    loggers = [*map(get_logger, ("engine", "flow_runs", *_OBSERVERS))]
    loggers += map(logging.getLogger, ("asyncio", _DELIVERY_LOGGER, *_SERVICES))
    for library_logger in loggers:
        library_logger.addFilter(_FILTER)


_FILTER: Final = DeliveryFilter()
