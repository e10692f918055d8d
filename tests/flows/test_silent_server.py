"""Prefect's server behind a line on which packets vanish: each request costs one timeout, and not four or forty."""

import asyncio
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.server import client as server_client
from deployments.server.client import ServerUnavailable, open_server_client
from flows.prefect_api import api_client
from flows.prefect_api.api_client import end_retries, open_fail_fast_client
from flows.prefect_api.prefect_insides import shorten_answers
from tests.support.silent_server import silent_server

TIMEOUT = 0.4
ONE_TIMEOUT = 3 * TIMEOUT  # a busy machine is late; four tries with Prefect's pauses take seven timeouts


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, name in (
        (api_client, "ANSWER_TIMEOUT_SECONDS"),
        (server_client, "REQUEST_TIMEOUT_SECONDS"),
    ):
        monkeypatch.setattr(module, name, TIMEOUT)
    with silent_server() as port, temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        yield


def measure(call: Callable[[], object], error: type[Exception]) -> float:
    """Return how long a call takes to fail, in seconds."""
    began_at = time.monotonic()
    with pytest.raises(error):
        call()
    return time.monotonic() - began_at


def test_a_run_asks_once() -> None:
    def ask() -> None:
        with open_fail_fast_client() as client:
            client.read_flow_run(uuid4())

    assert measure(ask, httpx.ConnectTimeout) < ONE_TIMEOUT


def test_a_command_and_the_pages_ask_once() -> None:
    def ask() -> None:
        with open_server_client():
            pytest.fail("it has no server")

    assert measure(ask, ServerUnavailable) < ONE_TIMEOUT


def test_a_run_that_has_given_up_asks_once() -> None:
    client = get_client(sync_client=True)
    end_retries()
    shorten_answers(client, TIMEOUT)
    assert measure(lambda: client.read_flow_run(uuid4()), httpx.ConnectTimeout) < ONE_TIMEOUT


def test_the_log_of_a_run_that_has_given_up_is_sent_once() -> None:
    client = get_client()
    end_retries()
    shorten_answers(client, TIMEOUT)

    async def ask() -> None:
        await client.create_logs([])

    assert measure(lambda: asyncio.run(ask()), httpx.ConnectTimeout) < ONE_TIMEOUT
