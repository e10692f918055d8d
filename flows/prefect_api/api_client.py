"""A client of Prefect's API that asks once and does not wait long; and the errors that mean "no answer"."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

ANSWER_TIMEOUT_SECONDS = 10.0  # a server that takes longer for one question counts as away


RETRY_SECONDS = 1.0  # how often, when somebody waits for it


NO_ANSWER_ERRORS = (httpx.HTTPError, OSError, ValueError)
"""How Prefect's client says that it was not answered, or not by Prefect: a proxy's page is no JSON."""


@contextmanager
def open_fail_fast_client() -> Iterator[SyncPrefectClient]:
    """Give a client that asks once, and does not wait long (``ANSWER_TIMEOUT_SECONDS``)."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings={"timeout": ANSWER_TIMEOUT_SECONDS}) as client,
    ):
        yield client
