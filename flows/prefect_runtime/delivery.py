"""Whether Prefect's API answers during a run, and which steps it does not have. Machines never wait for its server."""

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.logging.handlers import APILogWorker

from flows.prefect_api.api_client import ANSWER_TIMEOUT_SECONDS, NO_ANSWER_ERRORS, RETRY_SECONDS, open_fail_fast_client
from flows.prefect_api.pagination import PAGE_SIZE
from inventory.name_lists import format_count

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0  # how often the API is polled while machines are patched
MAX_WAIT_SECONDS = 86_400.0


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
        self._stop_event = threading.Event()
        run = contextvars.copy_context().run
        threading.Thread(
            target=run, args=(self._poll_until_stopped, self._stop_event), name="Prefect monitor", daemon=True
        ).start()

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

    def wait_until_reachable(self, until: float | None = None) -> bool:
        """Wait until Prefect answers, or until ``give_up``. Return whether it answers.

        Args:
            until: the latest ``time.monotonic()``; None: as long as any run may take.
        """
        until = time.monotonic() + MAX_WAIT_SECONDS if until is None else until
        with open_fail_fast_client() as client:
            while not self._check_api(client):
                if time.monotonic() + RETRY_SECONDS > until or self._gave_up.wait(RETRY_SECONDS):
                    return False
        return True

    def give_up(self) -> None:
        """Stop every wait for Prefect: of callers here, of the end of the flow run, and of its process.

        Prefect retries each of a flow run's last states and log lines for a minute, and each event of a task run for
        eight seconds. With hundreds of machines that takes hours. Prefect has no setting for it, so this method changes
        private attributes. A client that never had an answer tries only once. Unsent items are dropped.
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


def _is_api_reachable(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Return whether the API can read the flow run. A health check is not enough: it succeeds without a database."""
    try:
        client.read_flow_run(flow_run_id)
    except ObjectNotFound:  # the flow run was deleted, but the API answers
        return True
    except NO_ANSWER_ERRORS:
        return False
    return True


MAX_NAMED_STEPS = 10
MANY_STEPS = 1_000
"""From so many steps on, Prefect is always asked for their ends.

Its server drops states without a word while 10,000 events wait in its memory, and a step has about three. With fewer
steps Prefect is asked only after a sign of trouble: the answer comes seconds later, and every run would wait for it.
"""


class StepDelivery:
    """The steps of one run, and which of them Prefect has."""

    def __init__(self) -> None:
        self._shown: dict[UUID, str] = {}  # names of steps by task run id
        self._unshown: list[str] = []  # steps without a task run, or with a wrong end in Prefect

    @property
    def shown_count(self) -> int:
        """How many steps have a task run whose end was sent to Prefect."""
        return len(self._shown)

    def add_shown(self, task_run_id: UUID, name: str) -> None:
        """Note a step whose end was sent to Prefect."""
        self._shown[task_run_id] = name

    def add_unshown(self, name: str) -> None:
        """Note a step that Prefect's client could not show."""
        self._unshown.append(name)

    def describe_missing(self, until: float, *, is_doubtful: bool) -> str:
        """Return how many steps Prefect does not have, with the first names; "" if none is known to be missing.

        Args:
            until: how long to wait for ends that arrive later, as ``time.monotonic()``.
            is_doubtful: whether something else did not reach Prefect.
        """
        if not (is_doubtful or self._unshown or len(self._shown) >= MANY_STEPS):
            return ""
        unreported, is_answered = find_unreported_tasks(self._shown, until)
        names = [*self._unshown, *(self._shown[task_run_id] for task_run_id in unreported)]
        if not names:
            return ""
        more = ", …" if len(names) > MAX_NAMED_STEPS else ""
        limit_text = "" if is_answered else "up to "
        return f"{limit_text}{format_count(len(names), 'step')} ({', '.join(names[:MAX_NAMED_STEPS])}{more})"


def find_unreported_tasks(task_runs: Iterable[UUID], until: float) -> tuple[Sequence[UUID], bool]:
    """Return the task runs whose end Prefect does not have, and whether it answered for all of them.

    Their states reach Prefect as events, later and in any order. So the function waits for them.
    """
    unreported = dict.fromkeys(task_runs)
    with open_fail_fast_client() as client:
        while True:
            ended, is_answered = _find_ended_task_runs(client, list(unreported))
            for task_run_id in ended:
                unreported.pop(task_run_id, None)
            if not unreported or time.monotonic() + RETRY_SECONDS > until:
                return list(unreported), is_answered
            time.sleep(RETRY_SECONDS)


def _find_ended_task_runs(client: SyncPrefectClient, ids: Sequence[UUID]) -> tuple[list[UUID], bool]:
    """Return those of these task runs that have ended, and whether Prefect answered each question."""
    ended: list[UUID] = []
    for begin in range(0, len(ids), PAGE_SIZE):
        some = TaskRunFilter(id=TaskRunFilterId(any_=list(ids[begin : begin + PAGE_SIZE])))
        try:
            task_runs = client.read_task_runs(task_run_filter=some, limit=PAGE_SIZE)
        except NO_ANSWER_ERRORS:
            return ended, False
        ended += [task_run.id for task_run in task_runs if task_run.state is not None and task_run.state.is_final()]
    return ended, True
