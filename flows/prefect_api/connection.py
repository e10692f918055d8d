"""Connects Prefect's client in this process: to the configured server, with its password, or to a server of its own."""

import atexit
import os
import threading
from typing import Final

from flows.prefect_api.ephemeral_server import EphemeralPrefectServer
from flows.prefect_api.server_login import AUTH_VARIABLE, find_login

_SERVERS: Final[list[EphemeralPrefectServer]] = []
_LOCK: Final = threading.Lock()


def connect_prefect() -> None:
    """Make sure that Prefect's client has a server and its password. Without a server, start one and wait for it.

    Raises:
        CannotRun: the ephemeral server does not start.
        KeyFileError: the file of the password can't be read, or others than its owner can read it.
    """
    with _LOCK:
        server = begin_connection()
        if server is not None:
            atexit.register(stop_ephemeral_servers)
            server.wait_until_healthy()


def begin_connection() -> EphemeralPrefectServer | None:
    """Do the same without waiting. Return the server that was started, or None if one is configured.

    The caller ends the server (``stop_ephemeral_servers``). The settings are changed in the environment: processes that
    this one starts talk to the same server.

    Raises:
        CannotRun: no server can be started.
        KeyFileError: the file of the password can't be read, or others than its owner can read it.
    """
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - the command sets it up first

    if supply_login():
        return None
    server = EphemeralPrefectServer()
    _SERVERS.append(server)
    os.environ.update(server.start())
    refresh_global_settings_context()
    return server


def supply_login() -> str:
    """Give Prefect's client the password of the configured server, if it has none and the password is ours.

    Returns:
        The URL of the server's API; "" if none is configured.

    Raises:
        KeyFileError: the file of the password can't be read, or others than its owner can read it.
    """
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - the command sets it up first
    from prefect.settings import get_current_settings  # noqa: PLC0415 - the same

    client = get_current_settings().api
    if client.url and client.auth_string is None and client.key is None:
        login = find_login(client.url)
        if login is not None:
            os.environ[AUTH_VARIABLE] = login
            refresh_global_settings_context()
    return client.url or ""


def stop_ephemeral_servers() -> None:
    """End the servers that this process has started. For a process that ends without its exit handlers."""
    for server in _SERVERS:
        server.stop()
