"""Finds the listeners that are services, and those that have vanished. Pure.

Clients have sockets too, and any user may open sockets. So these listeners are not services:

- ports in the kernel's ephemeral range, except ports that the administrator reserved;
- programs of users: in user.slice; in the cgroup of a login or cron unit (if PAM makes no session scope); or, without a
  unit, with the uid of a user.
"""

import re
from collections.abc import Iterable, Iterator

from inventory.data_class import dataclass
from tasks.domain.model import Listener, Services

_DEFAULT_EPHEMERAL_PORTS = (32768, 60999)
"""The default of Linux, for records without a range."""
_RPC_PORTS = range(512, 1024)
"""RPC services take any free port of this range (bindresvport), a different port at each start."""
_USER_UIDS = range(1000, 65534)
"""Uids of users: UID_MIN of login.defs is the first, and the last one is before the account "nobody"."""
_LOGIN_UNIT_PROGRAMS = {
    "ssh": "sshd",
    "sshd": "sshd",
    "cron": "cron",
    "crond": "crond",
    "anacron": "anacron",
    "atd": "atd",
}
"""Units in whose cgroup programs of users may run -> the unit's own program."""


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A listening socket and a program that has it open."""

    name: str  # "protocol/port"
    uid: int | None = None  # uid that opened the socket; None when unknown
    program: str = ""  # program name from the kernel; "" when no process was found (a kernel socket, or no permission)
    cgroup: str = ""  # path below the cgroup of the service manager; "" when unknown


def find_service_listeners(
    sockets: Iterable[ListeningSocket], ephemeral: str = "", reserved: str = ""
) -> tuple[Listener, ...]:
    """Return the listeners that are services, one for each name and program.

    ``ephemeral`` has the first and last port of the ephemeral range, as Linux writes them (ip_local_port_range; "":
    default), ``reserved`` the ports that are excluded from this range, such as "8080,9148-9150".
    """
    first, last = next(
        _parse_port_ranges(re.sub(r"(\d)\s+(\d)", r"\1-\2", ephemeral.strip())), _DEFAULT_EPHEMERAL_PORTS
    )
    fixed = tuple(_parse_port_ranges(reserved))

    def is_fixed(name: str) -> bool:
        port = parse_port(name)
        return not first <= port <= last or any(low <= port <= high for low, high in fixed)

    listeners = {
        Listener(s.name, s.program, find_unit_of_cgroup(s.cgroup))
        for s in sockets
        if is_fixed(s.name) and _is_service(s)
    }

    def rank(listener: Listener) -> tuple[int, str, str, str]:
        return parse_port(listener.name), listener.name, listener.unit, listener.program

    return tuple(sorted(listeners, key=rank))


def find_unit_of_cgroup(cgroup: str) -> str:
    """Return the systemd unit that a cgroup belongs to, or "".

    ``cgroup`` is the path below the cgroup of the service manager.
    """
    parts = [part for part in cgroup.split("/") if part and not part.endswith(".slice")]
    return parts[0] if parts and parts[0].endswith((".service", ".scope")) and parts[0] != "init.scope" else ""


def find_service_unit(uid: int | None, program: str, cgroup: str) -> str:
    """Return the unit of a service process; "" for a user's process or a process without a unit."""
    return find_unit_of_cgroup(cgroup) if _is_service(ListeningSocket("", uid, program, cgroup)) else ""


def parse_port(name: str) -> int:
    """Return the port of "protocol/port", or 0."""
    port = name.partition("/")[2]
    return int(port) if port.isascii() and port.isdigit() else 0


def find_vanished_listeners(before: Services, after: Services) -> tuple[str, ...]:
    """Return the ports on which services listened before and do not listen now, with their programs if known."""
    descriptions = []
    for name in sorted(set(before.listening) - set(after.listening), key=lambda port: (parse_port(port), port)):
        if not _has_moved_port(name, before, after):
            units = {
                listener.program: listener.unit
                for listener in before.listeners
                if listener.name == name and listener.program
            }
            programs = ", ".join(f"{program} of {unit}" if unit else program for program, unit in units.items())
            descriptions.append(f"{name} ({programs})" if programs else name)
    return tuple(descriptions)


def _is_service(socket: ListeningSocket) -> bool:
    if "user.slice" in socket.cgroup.split("/"):
        return False
    unit = find_unit_of_cgroup(socket.cgroup)
    login_program = _LOGIN_UNIT_PROGRAMS.get(unit.removesuffix(".service").partition("@")[0])
    if login_program is not None:
        return socket.uid in {0, None} and socket.program == login_program
    return bool(unit) or socket.uid is None or socket.uid not in _USER_UIDS


def _has_moved_port(name: str, before: Services, after: Services) -> bool:
    """Return whether an RPC service only changed its port. It does so at each start."""
    if parse_port(name) not in _RPC_PORTS:
        return False
    protocol, earlier_names = name.partition("/")[0], set(before.listening)
    owners = {
        (listener.unit, listener.program) for listener in before.listeners if listener.name == name and listener.program
    }
    return any(
        (listener.unit, listener.program) in owners
        and listener.name not in earlier_names
        and listener.name.startswith(f"{protocol}/")
        and parse_port(listener.name) in _RPC_PORTS
        for listener in after.listeners
    )


def _parse_port_ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(","):
        if match := re.fullmatch(r"\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*", part):
            yield int(match[1]), int(match[2] or match[1])
