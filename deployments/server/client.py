"""A client for the configured Prefect server, and its errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import ValidationError

from flows.prefect_api.api_client import limit_retries
from flows.prefect_api.connection import supply_login
from flows.prefect_api.prefect_insides import connect_once
from flows.prefect_api.server_login import LOGIN_HINT, describe_refused_login
from flows.prefect_api.server_settings import HEALTHY_RESPONSE
from tasks.domain.errors import CannotRun

REQUEST_TIMEOUT_SECONDS: Final = 15.0


class ServerUnavailable(CannotRun):
    """The server can't be used."""


def build_unknown_server() -> ServerUnavailable:
    """Return the error for a command that needs a server, where none is configured."""
    return ServerUnavailable(
        "PREFECT_API_URL is not set: the server is unknown",
        hint="Start one with `fleetpatch server`. It prints the variable to export.",
    )


@contextmanager
def open_server_client(retries: int = 0) -> Iterator[SyncPrefectClient]:
    """Yield a client for the configured server. It never starts Prefect's temporary server.

    Args:
        retries: how often to retry if the server is busy or does not answer.

    Raises:
        ServerUnavailable: no server is configured, it does not answer, it rejects the login, or its answer is invalid.
        KeyFileError: the file of its password can't be read, or others than its owner can read it.
    """
    supply_login()
    settings = get_current_settings()
    if not settings.api.url:
        raise build_unknown_server()
    try:
        url = httpx.URL(str(settings.api.url))
    except httpx.InvalidURL as error:
        raise ServerUnavailable(
            f"PREFECT_API_URL is no URL: {error}", hint="Write it as http://127.0.0.1:4200/api."
        ) from error
    safe_url = str(url.copy_with(userinfo=b"", query=None))
    try:
        with limit_retries(retries):
            client = get_client(httpx_settings={"timeout": REQUEST_TIMEOUT_SECONDS}, sync_client=True)
            connect_once(client)
            with client:
                answer = client.request("GET", "/health")
                if answer.content.strip() != HEALTHY_RESPONSE:  # a proxy's page also has status 200
                    kind = answer.headers.get("content-type", "nothing that has a type").partition(";")[0]
                    raise ServerUnavailable(
                        f"{safe_url} is no Prefect server: its health check answers {kind:.100}",
                        hint="Check PREFECT_API_URL (…/api). A proxy must forward everything below /api.",
                    )
                yield client
    except PrefectHTTPStatusError as error:
        raise _build_status_error(safe_url, error) from error
    except httpx.HTTPError as error:
        raise ServerUnavailable(
            f"the Prefect server at {safe_url} does not answer: {type(error).__name__}",
            hint="Start it (fleetpatch server), or correct PREFECT_API_URL.",
        ) from error
    except ValidationError as error:
        raise ServerUnavailable(
            f"the Prefect server at {safe_url} sends an answer that can't be read: {error.errors()[0]['msg']}",
            hint="Install the same release of Prefect on both.",
        ) from error


def _build_status_error(url: str, error: PrefectHTTPStatusError) -> ServerUnavailable:
    status = error.response.status_code
    if status in {401, 403}:
        return ServerUnavailable(describe_refused_login(url), hint=LOGIN_HINT)
    if status in {409, 422}:
        return ServerUnavailable(
            f"the Prefect server at {url} refuses a request (status {status}): {error.response.text[:500]}",
            hint="Install the same release of Prefect on both.",
        )
    if status >= 500:
        return ServerUnavailable(
            f"the Prefect server at {url} fails (status {status})",
            hint="Read its log. The usual reason is a busy SQLite database: use PostgreSQL (docs/how-to/server.md).",
        )
    return ServerUnavailable(
        f"the Prefect server at {url} answers with status {status}", hint="Check PREFECT_API_URL (…/api)."
    )
