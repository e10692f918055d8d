"""A client of Prefect's API without retries and with a short timeout, and the errors that mean "no answer"."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

ANSWER_TIMEOUT_SECONDS = 10.0  # a server that needs longer for one answer counts as unavailable


RETRY_SECONDS = 1.0  # how often a waiting caller asks again


NO_ANSWER_ERRORS = (httpx.HTTPError, OSError, ValueError)
"""The errors of Prefect's client if there is no answer, or if another program answers: a proxy's page is no JSON."""


@contextmanager
def open_fail_fast_client() -> Iterator[SyncPrefectClient]:
    """Give a client that asks once, with a short timeout (``ANSWER_TIMEOUT_SECONDS``)."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings={"timeout": ANSWER_TIMEOUT_SECONDS}) as client,
    ):
        yield client
