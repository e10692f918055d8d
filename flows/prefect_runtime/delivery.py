"""Whether Prefect's API answers in a run, and which task runs it does not have. Machines never wait for its server."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId, TaskRunFilterState, TaskRunFilterStateType
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.exceptions import ObjectNotFound

from flows.prefect_api.api_client import (
    ANSWER_TIMEOUT_SECONDS,
    NO_ANSWER_ERRORS,
    PAGE_SIZE,
    RETRY_SECONDS,
    end_retries,
    open_fail_fast_client,
)
from flows.prefect_api.prefect_insides import drop_unsent, shorten_answers
from inventory.data_class import dataclass
from inventory.name_lists import format_count

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0  # how often the API is polled while machines are patched


class ApiMonitor:
    """Monitors Prefect's API: on request, and in a separate thread between ``start`` and ``stop``."""

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run_id = flow_run_id
        self._stop_event = threading.Event()
        self._gave_up = threading.Event()
        self._unreachable_since: float | None = None
        self._earlier_unreachable_seconds = 0.0

    def start(self) -> None:
        """Poll the API in a separate thread until ``stop``."""
        self._stop_event = stop_event = threading.Event()

        def poll_until_stopped() -> None:
            with open_fail_fast_client() as client:
                while not stop_event.wait(POLL_SECONDS):
                    self._check_api(client)

        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(poll_until_stopped,), name="Prefect monitor", daemon=True).start()

    def stop(self) -> None:
        """End the thread without waiting for it: a call to Prefect may be in progress."""
        self._stop_event.set()

    @property
    def is_unreachable(self) -> bool:
        """Whether Prefect was unavailable at the last check."""
        return self._unreachable_since is not None

    @property
    def unreachable_since(self) -> datetime | None:
        """When Prefect was found to be unavailable; None if it answered at the last check."""
        since = self._unreachable_since
        return None if since is None else datetime.now(UTC) - timedelta(seconds=time.monotonic() - since)

    @property
    def unreachable_seconds(self) -> float:
        """How long Prefect was unavailable, in total."""
        since = self._unreachable_since
        return self._earlier_unreachable_seconds + (time.monotonic() - since if since is not None else 0.0)

    def wait_until_reachable(self, until: float) -> bool:
        """Wait until Prefect answers, ``give_up``, or this ``time.monotonic()``. Return whether Prefect answers."""
        with open_fail_fast_client() as client:
            while not self._check_api(client):
                if time.monotonic() + RETRY_SECONDS > until or self._gave_up.wait(RETRY_SECONDS):
                    return False
        return True

    def give_up(self) -> None:
        """Stop every wait for Prefect: of callers here, of the end of the flow run, and of its process.

        Prefect retries each of a flow run's last states and log lines for a minute, and each event of a task run for
        eight seconds. With hundreds of machines that takes hours. So this process sends each request once from now on,
        with a short timeout, and unsent items are dropped.
        """
        self._gave_up.set()
        end_retries()
        shorten_answers(get_client(sync_client=True), ANSWER_TIMEOUT_SECONDS)
        drop_unsent(ANSWER_TIMEOUT_SECONDS)

    def _check_api(self, client: SyncPrefectClient) -> bool:
        asked_at = time.monotonic()
        answered = _is_api_reachable(client, self._flow_run_id)
        since = self._unreachable_since
        if not answered and since is None:
            self._unreachable_since = time.monotonic()
            logger.warning("the Prefect server does not answer; the run continues without it")
        elif answered and since is not None:
            if asked_at < since:  # an answer from before the server went away
                return False
            away = time.monotonic() - since
            self._earlier_unreachable_seconds, self._unreachable_since = self.unreachable_seconds, None
            logger.warning("the Prefect server answers again after %.0f s; it gets what it missed", away)
        return answered


_CLOSED_CONNECTION: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""The errors of a request on an idle connection that the server closes at that moment."""


def _is_api_reachable(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Return whether the API can read the flow run. A health check is not enough: it succeeds without a database."""
    try:
        try:
            client.read_flow_run(flow_run_id)
        except _CLOSED_CONNECTION:  # a server that is away refuses the next one
            client.read_flow_run(flow_run_id)
    except ObjectNotFound:  # the flow run was deleted, but the API answers
        return True
    except NO_ANSWER_ERRORS:
        return False
    return True


MAX_NAMED_TASK_RUNS = 10
MANY_TASK_RUNS = 200
"""From so many task runs on, Prefect is always asked for their ends.

Its server drops states without a word while 10,000 events wait in its memory, and a task run has about three. With
fewer task runs Prefect is asked only after a sign of trouble: the answer comes seconds later, and every run would wait
for it.
"""
_MAX_IDS = 10_000  # a query of PostgreSQL or SQLite has at most 32,766 parameters
_ENDS = TaskRunFilterState(type=TaskRunFilterStateType(any_=list(TERMINAL_STATES)))


@dataclass(slots=True)
class TaskRunDelivery:
    """The task runs of one run, and which of them Prefect has."""

    shown: dict[UUID, str] = field(default_factory=dict)  # names of task runs whose end was sent to Prefect, by id
    # Names of what has no task run, or one with a wrong end in Prefect.
    unshown: list[str] = field(default_factory=list)

    def describe_missing(self, until: float, *, is_doubtful: bool) -> str:
        """Return how many task runs Prefect does not have, with the first names; "" if none is known to be missing.

        The number is the server's own: of all ends that were sent, those that it does not have in its database. Their
        states reach it as events, later and in any order. So it is asked until this ``time.monotonic()``.
        ``is_doubtful``: something else did not reach Prefect.
        """
        if not (is_doubtful or self.unshown or len(self.shown) >= MANY_TASK_RUNS):
            return ""
        lost_count, is_answered = len(self.shown), True
        names = self.unshown[:MAX_NAMED_TASK_RUNS]
        with open_fail_fast_client() as client:
            while lost_count:
                try:
                    lost_count, is_answered = len(self.shown) - _count_ends(client, list(self.shown)), True
                except NO_ANSWER_ERRORS:
                    is_answered = False  # what it had before, it still has
                if not lost_count or time.monotonic() + RETRY_SECONDS > until:
                    break
                time.sleep(RETRY_SECONDS)
            if lost_count and is_answered:
                with suppress(*NO_ANSWER_ERRORS):
                    names += self._find_unended(client, MAX_NAMED_TASK_RUNS - len(names))
        if not (count := lost_count + len(self.unshown)):
            return ""
        more = ", …" if count > len(names) else ""
        named = f" ({', '.join(names)}{more})" if names else ""
        return f"{'' if is_answered else 'up to '}{format_count(count, 'task run')}{named}"

    def _find_unended(self, client: SyncPrefectClient, limit: int) -> Sequence[str]:
        """Return the names of the first task runs whose end Prefect does not have."""
        ids, names = list(self.shown), list[str]()
        for begin in range(0, len(ids), PAGE_SIZE):
            page = ids[begin : begin + PAGE_SIZE]
            page_filter = TaskRunFilter(id=TaskRunFilterId(any_=page), state=_ENDS)
            ended = {task_run.id for task_run in client.read_task_runs(task_run_filter=page_filter, limit=PAGE_SIZE)}
            names += [self.shown[task_run_id] for task_run_id in page if task_run_id not in ended]
            if len(names) >= limit:
                break
        return names[:limit]


def _count_ends(client: SyncPrefectClient, ids: Sequence[UUID]) -> int:
    """Return how many of these task runs have an end in Prefect's database.

    Raises:
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    count = 0
    for begin in range(0, len(ids), _MAX_IDS):
        chunk = TaskRunFilter(id=TaskRunFilterId(any_=list(ids[begin : begin + _MAX_IDS])), state=_ENDS)
        body = {"task_runs": chunk.model_dump(mode="json", exclude_unset=True)}
        count += int(client.request("POST", "/task_runs/count", json=body).json())
    return count


class BackgroundCall:
    """A call to Prefect in a separate thread, in the context of the present flow run.

    The call may take long, and it may raise.
    """

    def __init__(self, description: str, call: Callable[[], object]) -> None:
        self.description = description
        self._error: BaseException | None = None
        self._finished = threading.Event()
        run = contextvars.copy_context().run
        threading.Thread(
            target=run, args=(self._run, call), name=f"telling Prefect: {description}", daemon=True
        ).start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is said below; Prefect's own signals are no Exceptions
            self._error = error
            logger.info("Prefect did not receive %s: %s: %s", self.description, type(error).__name__, error)
        finally:
            self._finished.set()

    def wait_until_delivered(self, until: float) -> bool:
        """Wait for the call until this ``time.monotonic()``. Return whether it succeeded."""
        return self._finished.wait(max(0.0, until - time.monotonic())) and self._error is None
