"""What Prefect hears of a run, and what it doesn't. Its server may go away at any time; machines never wait for it.

Prefect's client tries again for a minute before it gives an answer up, and longer when connections hang. So whatever
asks its API during a run does that here, in a thread of its own, and is looked for when the machines are done.
"""

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0  # a server that takes longer for one question counts as away
LOOK_SECONDS = 5.0  # how often it is asked while machines are worked on
AGAIN_SECONDS = 1.0  # how often, when somebody waits for it
LONG_SECONDS = 86_400.0
_AT_A_TIME = 200  # what Prefect's API gives at once

NO_ANSWER = (httpx.HTTPError, OSError, ValueError)
"""How Prefect's client says that it was not answered, or not by Prefect: a proxy's page is no JSON."""


class Telling:
    """Something that is told to Prefect in a thread of its own, as part of the flow run that this is made in.

    Args:
        what: in a few words, for people.
        tell: does it; may take as long as it likes, and raise.
    """

    def __init__(self, what: str, tell: Callable[[], object]) -> None:
        self.what = what
        self._error: BaseException | None = None
        self._over = threading.Event()
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._tell, tell), name=f"telling Prefect: {what}", daemon=True).start()

    def _tell(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except BaseException as error:  # noqa: BLE001 - it is said below; Prefect's own signals are no Exceptions
            self._error = error
            logger.warning("Prefect did not hear of %s: %s: %s", self.what, type(error).__name__, error)
        finally:
            self._over.set()

    def heard(self, until: float) -> bool:
        """Wait for it, until that ``time.monotonic()``, and return whether Prefect has heard it."""
        return self._over.wait(max(0.0, until - time.monotonic())) and self._error is None


class Ear:
    """Whether Prefect hears: asked at will, and in a thread of its own within a ``with`` block.

    Args:
        flow_run_id: of the flow run that this is about; the API has to know it.
    """

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run_id = flow_run_id
        self._over = threading.Event()
        self._given_up = threading.Event()
        self._deaf_since: float | None = None
        self._deaf_before = 0.0

    def __enter__(self) -> Self:
        """Begin to look."""
        self._over = threading.Event()
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._look_on, self._over), name="Prefect's ear", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look no more. Its thread is not waited for: it may just be asking."""
        self._over.set()

    @property
    def deaf(self) -> bool:
        """Whether Prefect was away when last looked at."""
        return self._deaf_since is not None

    @property
    def deaf_seconds(self) -> float:
        """How long Prefect was seen to be away, in all."""
        since = self._deaf_since
        return self._deaf_before + (time.monotonic() - since if since is not None else 0.0)

    def listens(self, until: float | None = None) -> bool:
        """Wait until Prefect answers, or is given up, and return whether it does.

        Args:
            until: the ``time.monotonic()`` to wait until, at most; None: for as long as any run may take.
        """
        until = time.monotonic() + LONG_SECONDS if until is None else until
        with impatient() as client:
            while not self._asked(client):
                if time.monotonic() + AGAIN_SECONDS > until or self._given_up.wait(AGAIN_SECONDS):
                    return False
        return True

    def give_up(self) -> None:
        """Let nothing wait for Prefect any more: not who listens here, and not the end of the flow run or its process.

        Prefect tries again for a minute with each of a flow run's last states and log lines, and for eight seconds with
        each event of a task run: with hundreds of machines that takes hours. It has no setting for that, hence the
        reach into its parts. A client that never had an answer tries but once; what waits to be sent is dropped.
        """
        self._given_up.set()
        logs = APILogWorker.instance()
        clients: Sequence[Any] = (get_client(sync_client=True), getattr(logs, "_client", None))
        for client in clients:
            if client is not None:
                client._client.timeout = ANSWER_SECONDS  # noqa: SLF001
                client._client._has_connected = False  # noqa: SLF001
        for service in (EventsWorker.instance(), logs):
            with suppress(queue.Empty):
                while True:
                    service._queue.get_nowait()  # noqa: SLF001

    def _look_on(self, over: threading.Event) -> None:
        with impatient() as client:
            while not over.wait(LOOK_SECONDS):
                self._asked(client)

    def _asked(self, client: SyncPrefectClient) -> bool:
        answered = _answers(client, self._flow_run_id)
        if not answered and self._deaf_since is None:
            self._deaf_since = time.monotonic()
            logger.warning("the Prefect server does not answer; the run goes on without it, and tells when it is back")
        elif answered and self._deaf_since is not None:
            away = time.monotonic() - self._deaf_since
            self._deaf_before, self._deaf_since = self.deaf_seconds, None
            logger.warning("the Prefect server answers again, after %.0f s; it is told what it did not hear", away)
        return answered


def tasks_unheard(told: Mapping[UUID, str], until: float) -> Sequence[str]:
    """Return the names of the task runs of which Prefect does not know the end.

    Their states reach it as events, a little later and in any order: they are waited for.

    Args:
        told: the task runs, by id.
        until: the ``time.monotonic()`` to wait until, at most.
    """
    left = dict(told)
    with impatient() as client:
        while True:
            for ended in _ended(client, list(left)):
                left.pop(ended, None)
            if not left or time.monotonic() + AGAIN_SECONDS > until:
                return list(left.values())
            time.sleep(AGAIN_SECONDS)


def _ended(client: SyncPrefectClient, ids: Sequence[UUID]) -> Iterator[UUID]:
    for begin in range(0, len(ids), _AT_A_TIME):
        some = TaskRunFilter(id=TaskRunFilterId(any_=list(ids[begin : begin + _AT_A_TIME])))
        try:
            found = client.read_task_runs(task_run_filter=some, limit=_AT_A_TIME)
        except NO_ANSWER:
            return
        yield from (each.id for each in found if each.state is not None and each.state.is_final())


def _answers(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Ask for something that is in its database: a server without that can only say that it is well."""
    try:
        client.read_flow_run(flow_run_id)
    except ObjectNotFound:  # somebody has deleted it
        return True
    except NO_ANSWER:
        return False
    return True


@contextmanager
def impatient() -> Iterator[SyncPrefectClient]:
    """Give a client that asks once, and does not wait long (``ANSWER_SECONDS``)."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS}) as client,
    ):
        yield client
