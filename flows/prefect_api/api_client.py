"""A client of Prefect's API without retries and with a short timeout, its results page by page, and its errors.

Also which states of its flow run this process has set.
"""

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext, SettingsContext, get_settings_context
from prefect.exceptions import ObjectNotFound

from flows.prefect_api.prefect_insides import connect_once

ANSWER_TIMEOUT_SECONDS = 10.0  # a server that needs longer for one answer counts as unavailable
RETRY_SECONDS = 1.0  # how often a waiting caller asks again
NO_ANSWER_ERRORS = (httpx.HTTPError, OSError, ValueError)
"""The errors of Prefect's client if there is no answer, or if another program answers: a proxy's page is no JSON."""
_OWN_STATES: Final = set[UUID]()
"""The states that this process has set itself, beside Prefect's engine."""


@contextmanager
def limit_retries(count: int) -> Iterator[None]:
    """Let Prefect's clients repeat a request at most so many times; all other settings stay.

    The settings are copied: Prefect's ``temporary_settings`` reads all of them again, from the environment and from
    files. That takes 60 ms of processor time, and each wave needs two such clients.
    """
    context = get_settings_context()
    client = context.settings.client.model_copy(update={"max_retries": count})
    settings = context.settings.model_copy(update={"client": client})
    with SettingsContext(profile=context.profile, settings=settings):
        yield


def end_retries() -> None:
    """Let all of Prefect's clients in this process repeat no request from now on."""
    get_settings_context().settings.client.max_retries = 0


@contextmanager
def open_fail_fast_client() -> Iterator[SyncPrefectClient]:
    """Give a client that asks once, with a short timeout (``ANSWER_TIMEOUT_SECONDS``).

    A server without TLS needs no certificate. Prefect would load all that it trusts, for each client.
    """
    settings: dict[str, Any] = {"timeout": ANSWER_TIMEOUT_SECONDS}
    if (get_settings_context().settings.api.url or "").startswith("http:"):
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
    with limit_retries(0):
        client = get_client(sync_client=True, httpx_settings=settings)
        connect_once(client)
        with client:
            yield client


T = TypeVar("T")

PAGE_SIZE = 200  # the server's maximum page size


def read_all_pages(read_page: Callable[[int, int], Sequence[T]]) -> Iterator[T]:
    """Yield all results of a filter, page by page.

    Args:
        read_page: reads a page with this limit and offset, always in the same order.
    """
    offset = 0
    while True:
        page = read_page(PAGE_SIZE, offset)
        yield from page
        if len(page) < PAGE_SIZE:
            return
        offset += len(page)


def set_own_state(client: SyncPrefectClient, flow_run_id: UUID, state: State[Any]) -> None:
    """Give the flow run of this process another state, and remember it.

    Raises:
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    result = client.set_flow_run_state(flow_run_id, state)
    if result.status is SetStateStatus.ACCEPT and result.state is not None:
        _OWN_STATES.add(result.state.id)


def shows_state_of_this_process() -> bool:
    """Return whether Prefect shows a state that this process has given this flow run; False without an answer."""
    context = FlowRunContext.get()
    known = context.flow_run if context is not None else None
    if known is None or known.state is None:
        return False
    try:
        with get_client(sync_client=True) as client:
            shown = client.read_flow_run(known.id).state
    except (ObjectNotFound, *NO_ANSWER_ERRORS):
        return False
    return shown is not None and shown.id in {known.state.id, *_OWN_STATES}
