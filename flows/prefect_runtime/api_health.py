"""Whether Prefect's API answers during a run. Its server may go away at any time; machines never wait for it."""

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.logging.handlers import APILogWorker

from flows.prefect_api.api_client import ANSWER_TIMEOUT_SECONDS, NO_ANSWER_ERRORS, RETRY_SECONDS, open_fail_fast_client

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0  # how often it is asked while machines are worked on
MAX_WAIT_SECONDS = 86_400.0


class ApiMonitor:
    """Whether Prefect answers: asked at will, and in a thread of its own within a ``with`` block.

    Args:
        flow_run_id: of the flow run that this is about; the API has to know it.
    """

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run_id = flow_run_id
        self._stop_event = threading.Event()
        self._gave_up = threading.Event()
        self._unreachable_since: float | None = None
        self._earlier_unreachable_seconds = 0.0

    def __enter__(self) -> Self:
        """Begin to look."""
        self._stop_event = threading.Event()
        run = contextvars.copy_context().run
        threading.Thread(
            target=run, args=(self._poll_until_stopped, self._stop_event), name="Prefect's ear", daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look no more. Its thread is not waited for: it may just be asking."""
        self._stop_event.set()

    @property
    def is_unreachable(self) -> bool:
        """Whether Prefect was away when last looked at."""
        return self._unreachable_since is not None

    @property
    def unreachable_seconds(self) -> float:
        """How long Prefect was seen to be away, in all."""
        since = self._unreachable_since
        return self._earlier_unreachable_seconds + (time.monotonic() - since if since is not None else 0.0)

    def wait_until_reachable(self, until: float | None = None) -> bool:
        """Wait until Prefect answers, or is given up, and return whether it does.

        Args:
            until: the ``time.monotonic()`` to wait until, at most; None: for as long as any run may take.
        """
        until = time.monotonic() + MAX_WAIT_SECONDS if until is None else until
        with open_fail_fast_client() as client:
            while not self._check_api(client):
                if time.monotonic() + RETRY_SECONDS > until or self._gave_up.wait(RETRY_SECONDS):
                    return False
        return True

    def give_up(self) -> None:
        """Let nothing wait for Prefect any more: not who asks here, and not the end of the flow run or its process.

        Prefect tries again for a minute with each of a flow run's last states and log lines, and for eight seconds with
        each event of a task run: with hundreds of machines that takes hours. It has no setting for that, hence the
        reach into its parts. A client that never had an answer tries but once; what waits to be sent is dropped.
        """
        self._gave_up.set()
        logs = APILogWorker.instance()
        clients: Sequence[Any] = (get_client(sync_client=True), getattr(logs, "_client", None))
        for client in clients:
            if client is not None:
                client._client.timeout = ANSWER_TIMEOUT_SECONDS  # noqa: SLF001
                client._client._has_connected = False  # noqa: SLF001
        for service in (EventsWorker.instance(), logs):
            with suppress(queue.Empty):
                while True:
                    service._queue.get_nowait()  # noqa: SLF001

    def _poll_until_stopped(self, stop_event: threading.Event) -> None:
        with open_fail_fast_client() as client:
            while not stop_event.wait(POLL_SECONDS):
                self._check_api(client)

    def _check_api(self, client: SyncPrefectClient) -> bool:
        answered = _is_api_reachable(client, self._flow_run_id)
        if not answered and self._unreachable_since is None:
            self._unreachable_since = time.monotonic()
            logger.warning("the Prefect server does not answer; the run continues without it")
        elif answered and self._unreachable_since is not None:
            away = time.monotonic() - self._unreachable_since
            self._earlier_unreachable_seconds, self._unreachable_since = self.unreachable_seconds, None
            logger.warning("the Prefect server answers again after %.0f s; it gets what it missed", away)
        return answered


def _is_api_reachable(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Ask for something that is in its database: a server without that can only say that it is well."""
    try:
        client.read_flow_run(flow_run_id)
    except ObjectNotFound:  # somebody has deleted it
        return True
    except NO_ANSWER_ERRORS:
        return False
    return True
