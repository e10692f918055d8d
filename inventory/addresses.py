"""Addresses, URLs, TCP targets, and what an action of a set runs.

Two texts may mean the same endpoint. Targets are parsed at load time, so that errors appear before the window and not
in it.
"""

import ipaddress
import re
import shlex
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from inventory.machine import Machine, SetActionKind, TransportKind, WinrmScheme

DEFAULT_PORTS = {TransportKind.SSH: 22, TransportKind.WINRM: 5986}
WINRM_PORTS = {WinrmScheme.HTTPS: 5986, WinrmScheme.HTTP: 5985}
_LOOPBACK_ADDRESSES = frozenset({"localhost", "127.0.0.1", "::1"})

Endpoint = tuple[TransportKind, str, int | None, tuple[str, ...], str]


@lru_cache(maxsize=20_000)
def parse_ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address of a text; None if it is none. Each address of an inventory is asked for twice."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def canonicalize_address(address: str) -> str:
    """Return the canonical form of an address: lower case, no dot at the end, IP addresses in their shortest form."""
    bare = address.lower().removeprefix("[").removesuffix("]")
    parsed = parse_ip_address(bare)
    if parsed is None:
        return bare.removesuffix(".")
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def build_endpoint(machine: Machine) -> Endpoint:
    """Return how a machine is reached. Two machines with the same endpoint are one machine.

    Sites may use the same private addresses, and each has a controller of its own.
    """
    port = machine.port or DEFAULT_PORTS.get(machine.transport)
    if machine.transport is TransportKind.WINRM and port in WINRM_PORTS.values():
        port = DEFAULT_PORTS[TransportKind.WINRM]  # its two listeners are ways to the same machine
    address = canonicalize_address(machine.address)
    is_plain_ssh = (machine.transport, port, machine.jump) == (TransportKind.SSH, 22, ())
    if machine.transport is TransportKind.LOCAL or (is_plain_ssh and address in _LOOPBACK_ADDRESSES):
        return (TransportKind.LOCAL, "", None, (), machine.site)
    return (machine.transport, address, port, machine.jump, machine.site)


_HOST_PATTERN = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_MAX_HOST_LENGTH = 253


def parse_url(text: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        ValueError: the URL can't be used. The message does not repeat the URL, because it may contain secrets.
    """
    plain = text.isascii() and text.isprintable() and " " not in text
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:  # an invalid or too large port, or an open bracket
        raise ValueError("its host or port makes no sense") from error
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it does not begin with http:// or https://")
    if not host:
        raise ValueError("it names no host")
    if port == 0:
        raise ValueError("its port is 0")
    if not plain and not (parts.path + parts.query + parts.fragment).isascii():
        raise ValueError("its path or query holds a sign that URLs don't have: write it as %C3%A9")
    if not plain and any(sign.isspace() or not sign.isprintable() for sign in text):
        raise ValueError("it holds a blank or a control character")
    require_valid_host(host)
    return parts


def has_url_password(value: str) -> bool:
    """Return whether a value is a URL with a password in it."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return "@" in value
    return bool(parts.password) or "password=" in parts.query


def render_without_login(value: str) -> str:
    """Return a value for a message. If it is a URL, remove its login, which may contain a password."""
    _, at, host = value.rpartition("@")
    return repr(f"***@{host}"[:200] if at else value[:200])


def parse_tcp_target(text: str) -> tuple[str, int]:
    """Return host and port of a TCP target. The host is empty for the machine itself.

    Raises:
        ValueError: the text is not a TCP target. The message says why.
    """
    host, _, port = text.strip().rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("its port is no number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if host:
        require_valid_host(host)
    return host, int(port)


def require_valid_host(host: str) -> None:
    """Check that a text can be a host.

    Args:
        host: a name (Unicode is allowed) or an IP address, without brackets.

    Raises:
        ValueError: the text can't be a host. The message says why.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass  # it is not an IP address: check it as a name
    else:
        return
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError("its host is no name that can be looked up") from error
    if not _HOST_PATTERN.fullmatch(name) or len(name) > _MAX_HOST_LENGTH or re.fullmatch(r"[0-9.]+", name):
        raise ValueError("its host is no name that can be looked up")


_FUNCTION_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def find_action_target_fault(kind: SetActionKind, target: str) -> str:
    """Return what is wrong with a target, or "". The text never contains the URL: it may have a password."""
    if "\x00" in target:
        return "its target contains NUL"
    if not target.strip():
        return "its target is empty"
    fault = ""
    shown_target = "" if "://" in target else f": {target!r}"
    match kind:
        case SetActionKind.CONTROLLER_COMMAND if reason := find_command_fault(target):
            fault = f"its target {reason}"
        case SetActionKind.HTTP:
            try:
                parse_url(target)
            except ValueError as error:
                fault = f"its target is not a usable http or https URL: {error}"
        case SetActionKind.PYTHON if not _FUNCTION_PATTERN.fullmatch(target):
            fault = f"its target is not package.module:function{shown_target}"
        case SetActionKind.DEPLOYMENT if len([part for part in target.split("/") if part.strip()]) != 2:
            fault = f"its target is not flow/deployment{shown_target}"
    return fault


def find_command_fault(target: str) -> str:
    """Return why a command line of the controller can't be run, or "". The text continues "this command ..."."""
    if "\x00" in target:
        return "contains NUL"
    try:
        return "" if shlex.split(target) else "is empty"
    except ValueError as error:  # an open quote
        return f"can't be split into words: {error}"
