"""Finds the listeners that are services, and checks services after patching: they must listen again. Pure.

Clients have sockets too, and any user may open sockets. So these listeners are not services:

- ports in the kernel's ephemeral range, except ports that the administrator reserved;
- programs of users: in user.slice; in the cgroup of a login or cron unit (if PAM makes no session scope); or, without a
  unit, with the uid of a user.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Finding, Listener, PackageState, Services
from tasks.rules.machine_checks.units import (
    ServiceStatus,
    UnitStatus,
    check_service_starts,
    check_units,
    find_failed_service_units,
    has_ended_by_itself,
)

_DEFAULT_EPHEMERAL_PORTS = (32768, 60999)
"""The default of Linux, for records without a range."""
_RPC_PORTS = range(512, 1024)
"""RPC services take any free port of this range (bindresvport), a different port at each start."""
_USER_UIDS = range(1000, 65534)
"""Uids of users: from UID_MIN of login.defs to the uid below the account "nobody"."""
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
    """A listening socket and a program that has it open.

    Attributes:
        name: "protocol/port".
        uid: uid that opened the socket; None when unknown.
        program: program name from the kernel; "" when no process was found (a kernel socket, or no permission).
        cgroup: path below the cgroup of the service manager; "" when unknown.
    """

    name: str
    uid: int | None = None
    program: str = ""
    cgroup: str = ""


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
        Listener(s.name, s.program, parse_unit(s.cgroup)) for s in sockets if is_fixed(s.name) and _is_service(s)
    }

    def rank(listener: Listener) -> tuple[int, str, str, str]:
        return parse_port(listener.name), listener.name, listener.unit, listener.program

    return tuple(sorted(listeners, key=rank))


def parse_unit(cgroup: str) -> str:
    """Return the systemd unit that a cgroup belongs to, or "".

    ``cgroup`` is the path below the cgroup of the service manager.
    """
    parts = [part for part in cgroup.split("/") if part and not part.endswith(".slice")]
    return parts[0] if parts and parts[0].endswith((".service", ".scope")) and parts[0] != "init.scope" else ""


def find_service_unit(uid: int | None, program: str, cgroup: str) -> str:
    """Return the unit of a service process; "" for a user's process or a process without a unit."""
    return parse_unit(cgroup) if _is_service(ListeningSocket("", uid, program, cgroup)) else ""


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
    unit = parse_unit(socket.cgroup)
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


def check_services(
    before: Services,
    after: Services,
    *,
    rebooted: bool = False,
    units: Sequence[UnitStatus] = (),
    services: Sequence[ServiceStatus] = (),
) -> tuple[Finding, ...]:
    """Return findings about services after patching. A newly failed unit or a missing listener blocks.

    Units that had failed before do not count. New services do not count either. Where the machine says what ran before,
    only that counts. Without a reboot, a service that ended without an error was stopped by somebody, such as an
    installer. After a reboot, it has ended by itself: some do so at each boot. ``units`` and ``services`` tell what
    systemd and Windows say of those that find_missing_units and find_missing_services name.
    """
    unread = (before.active_units and not after.active_units) or (before.running and not after.running)
    if not before.known or not after.known or unread:
        remedy = "Give this machine probes of its own, so that its health can be checked."
        return (Finding.warn("services", "the machine can't show which services run", remedy),)
    findings: list[Finding] = list(check_units(units, before, after, rebooted=rebooted))
    findings += check_service_starts(services, rebooted=rebooted)
    unit_names = {unit.name for unit in units} | set(after.late)
    new = set(after.failed) - set(before.failed)
    failed = find_failed_service_units(sorted((new & set(before.running) if before.running else new) - unit_names))
    if failed:
        remedy = "Read their logs on the machine, repair them and start them."
        findings.append(Finding.block("services", f"failed since patching: {join_first_names(failed)}", remedy))
    ended = sorted(set(before.running) & set(after.ended))
    if ended and not rebooted:
        message = f"stopped since patching, and not started again: {join_first_names(ended)}"
        findings.append(Finding.block("services", message, "Find out who stopped them, and start them."))
    late = find_late_services(before, after)
    if late:
        message = f"not started yet since the boot, because the system starts them late: {join_first_names(late)}"
        findings.append(Finding.warn("services", message, "Look on the machine whether they run now."))
    ports = find_vanished_listeners(before, after)
    if ports:
        remedy = "Read the logs of the service that listened there, and start it."
        findings.append(Finding.block("ports", f"nothing listens any more on {join_first_names(ports)}", remedy))
    over = [*ended, *(unit.name for unit in units if has_ended_by_itself(unit, rebooted=rebooted))]
    over += [service.name for service in services if not service.runs]
    return tuple(findings) or (_build_all_good(before, over),)


def _build_all_good(before: Services, over: Sequence[str]) -> Finding:
    """Return the finding without any fault. It says no more than was compared."""
    if not before.running and not before.active_units:
        return Finding.good("services", "no service has failed since, and services listen on every port as before")
    by_themselves = f", or has ended by itself: {join_first_names(over)}" if over else ""
    return Finding.good("services", f"everything that ran before runs now{by_themselves}")


def find_late_services(before: Services, after: Services) -> list[str]:
    """Return the services that ran before, and that the system is still to start after the boot."""
    return sorted(set(before.running) & set(after.late))


SERVICE_RESTART_CHECK = "services-to-restart"
"""The check of services that use replaced files, and of their restarts."""

SYSTEM_MANAGER = "systemd itself"
"""Process 1 in the lists of services that run replaced files. It is no unit."""

NEVER_RESTARTED_UNITS = (
    # they hold logins and the connection of this run
    *("ssh.service", "ssh@*", "sshd.service", "sshd@*"),
    *("dbus*", "systemd-logind.service", "elogind.service", "user@*"),
    *("display-manager.service", "gdm*", "greetd.service", "kdm*", "lightdm*", "lxdm*", "ly.service", "nodm*", "sddm*"),
    *("slim.service", "wdm*", "xdm*", "*getty@*", "console-getty.service"),
    # they provide the network
    *(
        "networking.service",
        "network-manager.service",
        "NetworkManager*",
        "ModemManager*",
        "wpa_supplicant*",
        "iwd.service",
    ),
    *("openvpn*", "*swan*", "wg-quick@*", "bird*", "frr.service", "quagga*", "tinc*"),
    # a restart also stops the programs below them
    *("docker*", "containerd*", "libvirt*", "virtlogd.service", "virtlockd.service", "virtqemud.service", "lxcfs*"),
    *("xendomains.service", "zfs-fuse.service"),
    # they run once
    *("emergency.service", "rescue.service", "rc-local.service", "cron-*"),
    "fleetpatch-*",
)
"""Masks of units that no run restarts (needrestart does not restart them either). A reboot restarts them."""

_UNIT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]*\.service")


def build_protected_unit_masks(updater_units: Iterable[str], exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the masks of all units that a run does not restart: the built-in masks, the updaters, and the owner's."""
    return (*NEVER_RESTARTED_UNITS, *updater_units, *exclude)


def find_restartable_services(packages: PackageState | None, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the services that use replaced files and that a run may restart, in the machine's order."""
    if packages is None:
        return ()
    names, masks = packages.services_to_restart, build_protected_unit_masks(packages.updater_units, exclude)
    return tuple(
        name
        for name in names
        if _UNIT_PATTERN.fullmatch(name)
        and not any(fnmatchcase(form, mask) for form in (name, name.removesuffix(".service")) for mask in masks)
    )


def check_outdated_services(packages: PackageState, exclude: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Return a warning about services that use replaced files, or nothing. After a reboot there are none."""
    names = packages.services_to_restart
    if not names:
        return ()
    restartable = find_restartable_services(packages, exclude)
    skipped = [name for name in names if name not in restartable]
    remedies = (
        [f"Restart {join_first_services(restartable)}, or have a run do so (restart_services: IfRequired)."]
        if restartable
        else []
    )
    remedies += [f"No run restarts {join_first_services(skipped)}: a reboot does, or you by hand."] if skipped else []
    remedies += ["`systemctl daemon-reexec` restarts systemd itself."] if SYSTEM_MANAGER in skipped else []
    counted = format_count(len(names), "service", ("still runs", "still run"))
    message = f"{counted} files that updates have replaced: {join_first_services(names)}"
    return (Finding.warn(SERVICE_RESTART_CHECK, message, " ".join(remedies)),)


def join_first_services(names: Iterable[str]) -> str:
    """Return the first eight names and the number of the others."""
    return join_first_names(tuple(names), 8)
