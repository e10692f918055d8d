"""Prefect's messages about what its server did not receive are one line of this project, not dumps of events.

While the server is away, Prefect prints each event and each log line that it could not send, with all their data, to
stderr. What a run says about it (``ApiMonitor``, the report) is enough.
"""

import logging
from typing import Any, Final

import httpx
from prefect._internal.concurrency import logger as service_logger
from prefect.logging import get_logger
from prefect.logging.handlers import APILogWorker

logger = logging.getLogger(__name__)

_SERVICES: Final = ("APILogWorker", "EventsWorker")
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


async def _send_log_lines(self: Any, items: list[dict[str, Any]]) -> None:  # noqa: ANN401 - Prefect's own worker
    """Send lines of the log, in the place of Prefect's method, which prints each failure to stderr."""
    try:
        await self._client.create_logs(items)
    except Exception as error:  # noqa: BLE001 - whatever it is, a lost line of the log ends nothing
        logger.info("Prefect did not receive %d log lines: %s: %s", len(items), type(error).__name__, error)


def silence_delivery() -> None:
    """Silence Prefect in this process."""
    loggers = [service_logger, *map(get_logger, ("engine", "flow_runs", *_OBSERVERS))]
    loggers += map(logging.getLogger, ("asyncio", *_SERVICES))
    for library_logger in loggers:
        library_logger.addFilter(_FILTER)
    setattr(APILogWorker, "_handle_batch", _send_log_lines)  # noqa: B010 - Prefect has no setting for it


_FILTER: Final = DeliveryFilter()
