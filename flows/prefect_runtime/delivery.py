"""Calls to Prefect in background threads, and the task runs whose end Prefect does not have yet.

Prefect's client retries for a minute before it fails, and longer if connections hang. So a run makes its calls here,
and reads their results when the machines are done.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId

from flows.prefect_api.api_client import NO_ANSWER_ERRORS, RETRY_SECONDS, open_fail_fast_client

logger = logging.getLogger(__name__)


_PAGE_SIZE = 200  # the page size of Prefect's API


class BackgroundCall:
    """A call to Prefect in a separate thread, in the context of the present flow run.

    Args:
        description: a few words for messages.
        call: the call; it may take long, and it may raise.
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
            logger.warning("Prefect did not receive %s: %s: %s", self.description, type(error).__name__, error)
        finally:
            self._finished.set()

    def wait_until_delivered(self, until: float) -> bool:
        """Wait for the call until this ``time.monotonic()``. Return whether it succeeded."""
        return self._finished.wait(max(0.0, until - time.monotonic())) and self._error is None


def find_unreported_tasks(task_runs: Mapping[UUID, str], until: float) -> Sequence[str]:
    """Return the names of the task runs whose end Prefect does not have.

    Their states reach Prefect as events, later and in any order. So the function waits for them.

    Args:
        task_runs: the names of the task runs, by id.
        until: the latest ``time.monotonic()``.
    """
    unreported = dict(task_runs)
    with open_fail_fast_client() as client:
        while True:
            for ended in _find_ended_task_runs(client, list(unreported)):
                unreported.pop(ended, None)
            if not unreported or time.monotonic() + RETRY_SECONDS > until:
                return list(unreported.values())
            time.sleep(RETRY_SECONDS)


def _find_ended_task_runs(client: SyncPrefectClient, ids: Sequence[UUID]) -> Iterator[UUID]:
    for begin in range(0, len(ids), _PAGE_SIZE):
        some = TaskRunFilter(id=TaskRunFilterId(any_=list(ids[begin : begin + _PAGE_SIZE])))
        try:
            found = client.read_task_runs(task_run_filter=some, limit=_PAGE_SIZE)
        except NO_ANSWER_ERRORS:
            return
        yield from (each.id for each in found if each.state is not None and each.state.is_final())
