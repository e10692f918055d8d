"""What Prefect logs about a server that is away: dumps are dropped, and everything else stays."""

import logging
from collections.abc import Iterator

import httpx
import pytest
from prefect._internal.concurrency import logger as service_logger  # whose name log_filters knows
from prefect.logging import get_logger

from flows.prefect_api.log_filters import silence_delivery


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    silence_delivery()
    kept: list[str] = []
    asked = [service_logger, logging.getLogger("EventsWorker"), logging.getLogger("asyncio"), get_logger("engine")]
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(f"{record.getMessage()}|{record.exc_info is not None}")  # type: ignore[method-assign]
    for each in asked:
        each.addHandler(handler)
        monkeypatch.setattr(each, "disabled", False)
    yield kept
    for each in asked:
        each.removeHandler(handler)


def fail(log: logging.Logger, message: str, error: Exception) -> None:
    try:
        raise error
    except Exception:
        log.exception(message)


def test_dumps_are_dropped_and_other_messages_stay(lines: list[str]) -> None:
    service_logger.error("Service %r failed to process item %r", "EventsWorker", "an event", exc_info=False)
    logging.getLogger("EventsWorker").warning("Still processing items: 9 items remaining...")
    fail(logging.getLogger("asyncio"), "Exception in callback FlowRunSuspendingObserver._handle", OSError("away"))
    assert lines == []
    fail(get_logger("engine"), "Execution ended", httpx.ConnectError("refused"))
    fail(get_logger("engine"), "Execution ended", ValueError("a fault of ours"))
    fail(logging.getLogger("asyncio"), "Exception in callback ours", OSError("ours"))
    service_logger.error("Service %r failed", "OtherService")
    assert lines == [
        "Execution ended: the Prefect server does not answer: refused|False",
        "Execution ended|True",
        "Exception in callback ours|True",
        "Service 'OtherService' failed|False",
    ]
