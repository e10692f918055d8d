"""The password of the Prefect server that `fleetpatch server` starts, and which server it is sent to.

The first start makes it: a private file of the user. Every program of the same user reads it there. Services get it
from systemd or from their container, see ``inventory.files.own_keys``.
"""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from flows.prefect_api.port_listeners import IpAddress, describe_other_user, read_listeners
from inventory.files.own_keys import create_secret, ensure_key, find_key_folder, find_key_path, read_key

KEY_NAME: Final = "prefect-login"
AUTH_VARIABLE: Final = "PREFECT_API_AUTH_STRING"
LOGIN_HINT: Final = (
    "Where the server runs, programs of its user read the password by themselves. Others set "
    "PREFECT_API_AUTH_STRING=user:password to what the server has; `fleetpatch server --show` there names the file."
)
_USER: Final = b"fleet:"  # Prefect has no users. HTTP's basic authentication and its clients want a name.


def ensure_login() -> str:
    """Return the password of the server as ``user:password``. The first call makes it.

    Raises:
        KeyFileError: it can't be read or made, or others than its owner can read it.
    """
    return ensure_key(KEY_NAME, lambda: _USER + create_secret()).decode()


def find_login_path() -> Path:
    """Return the file of the password. It may not exist yet."""
    return find_key_path(KEY_NAME)


def find_login(url: str) -> str | None:
    """Return the password for a server, or None if it is not ours.

    A credential of systemd or of a container was put beside PREFECT_API_URL by an administrator, so it belongs to that
    URL. The file of the user belongs to a server on the loopback that runs as the same user, or as root. Another user
    could listen on the port while the server is down.

    Args:
        url: of the server's API.

    Raises:
        KeyFileError: the file can't be read, or others than its owner can read it.
    """
    login = read_key(KEY_NAME)
    if login is None or (find_login_path().parent == find_key_folder() and not _is_own_server(url)):
        return None
    return login.decode()


def describe_refused_login(url: str) -> str:
    """Return the message of a server that refuses our password. It names another user of this machine who runs it."""
    try:
        parts = urlsplit(url)
        is_here = bool(_find_loopback_addresses(parts.hostname or ""))
        user = describe_other_user(parts.port) if is_here and parts.port else ""
    except (OSError, ValueError):  # no URL of a server
        user = ""
    refused = f"the Prefect server at {url} needs a password, and ours is missing or wrong"
    return f"{refused}: it is run by {user}" if user else refused


def _is_own_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        addresses = _find_loopback_addresses(parts.hostname or "")
    except (KeyError, OSError, ValueError):  # no URL of a server
        return False
    owners = {owner for address, owner in read_listeners(port) if _is_reached_by(address, addresses)}
    return bool(addresses and owners) and owners <= {0, os.geteuid()}


def _find_loopback_addresses(host: str) -> set[IpAddress]:
    """Return the addresses of a host on the loopback; none for others. A name but localhost may be anybody's."""
    if host == "localhost":
        addresses = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    else:
        addresses = {ipaddress.ip_address(host)}
    return addresses if all(address.is_loopback for address in addresses) else set()


def _is_reached_by(listening: IpAddress, addresses: set[IpAddress]) -> bool:
    """Return whether a connection to one of the addresses may reach a socket. One on [::] accepts IPv4 as well."""
    plain_address = getattr(listening, "ipv4_mapped", None) or listening
    return plain_address in addresses or plain_address.is_unspecified
