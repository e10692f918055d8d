"""Counts the steps of a run that Prefect does not have, whoever lost them: its client, the network or its server."""

import time
from collections.abc import Iterable, Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId

from flows.prefect_api.api_client import NO_ANSWER_ERRORS, RETRY_SECONDS, open_fail_fast_client
from flows.prefect_api.pagination import PAGE_SIZE
from inventory.name_lists import format_count

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

    Args:
        task_runs: the ids of the task runs.
        until: the latest ``time.monotonic()``.
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
