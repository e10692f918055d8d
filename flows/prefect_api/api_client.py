"""A client of Prefect's API without retries and with a short timeout, its results page by page, and its errors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.context import SettingsContext, get_settings_context

from flows.prefect_api.kept_answers import keep_answers

ANSWER_TIMEOUT_SECONDS = 10.0  # a server that needs longer for one answer counts as unavailable
RETRY_SECONDS = 1.0  # how often a waiting caller asks again
NO_ANSWER_ERRORS = (httpx.HTTPError, OSError, ValueError)
"""The errors of Prefect's client if there is no answer, or if another program answers: a proxy's page is no JSON."""

keep_answers()  # here: every process that asks Prefect anything loads this module


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


def connect_once(client: SyncPrefectClient | PrefectClient) -> None:
    """Let a client of Prefect's API try each connection once.

    Prefect 3.8.8 lets it try four times, and has no setting for it. A server whose packets vanish on the way, and which
    refuses nothing, then costs four timeouts.
    """
    transport: Any = client._client._transport_for_url(client.api_url)  # noqa: SLF001
    transport._pool._retries = 0  # noqa: SLF001


@contextmanager
def open_fail_fast_client() -> Iterator[SyncPrefectClient]:
    """Give a client that asks once, with a short timeout (``ANSWER_TIMEOUT_SECONDS``)."""
    with limit_retries(0):
        client = get_client(sync_client=True, httpx_settings={"timeout": ANSWER_TIMEOUT_SECONDS})
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
