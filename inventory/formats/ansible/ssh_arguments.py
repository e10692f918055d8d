"""Jump hosts in Ansible's ssh arguments, and the machines of the inventory that they name.

Read are `-J`, `-o ProxyJump=`, and the simple forms of ProxyCommand.
"""

import re
import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from inventory.addresses import canonicalize_address
from inventory.data_class import dataclass
from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.formats.ansible.connection_variables import (
    CONNECTION_TYPES,
    CONNECTION_VARIABLES,
    SSH_ARGUMENT_VARIABLES,
    MachineEntryBuilder,
)
from inventory.formats.ansible.inventory_tree import Variables

_JUMP_HOST_PATTERN = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^:@\s\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
_PORT_PATTERN = re.compile(r"[0-9]{1,5}")
_FORWARD_TARGETS = frozenset({"%h:%p", "[%h]:%p"})
_HARMLESS_FLAGS = frozenset("aACkKqTvx46")
_FLAGS_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_DESTINATION_FLAGS = frozenset("FlpW")
_DESTINATION_OPTIONS = frozenset({"hostname", "port", "user", "canonicalizehostname", "canonicaldomains", "include"})
"""Options that change the destination. ssh uses the first value, and Ansible's own options come later."""


class UnsupportedProxy(ValueError):
    """A proxy option that is not one of the supported simple forms."""


@dataclass(frozen=True, slots=True)
class JumpHostSpec:
    """A jump host in ssh's syntax: ``user@host:port``."""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class SshArguments:
    """Parsed ssh arguments.

    Attributes:
        jump_routes: lists of jump hosts, nearest to the controller first; an empty list means "none".
        destination_overrides: arguments that change the destination from the given address, port and user.
        unused: arguments that fleetpatch does not use.
    """

    jump_routes: tuple[tuple[JumpHostSpec, ...], ...]
    destination_overrides: tuple[str, ...]
    unused: tuple[str, ...]


def parse_ssh_arguments(text: str) -> SshArguments:
    """Parse ssh arguments.

    Raises:
        UnsupportedProxy: the arguments can't be split, or a proxy has an unsupported form.
    """
    jump_routes: list[tuple[JumpHostSpec, ...]] = []
    destination_overrides: list[str] = []
    unused: list[str] = []
    for flag, value in _parse_flags(_split_words(text)):
        name, option_value = _parse_option(value) if flag == "o" else ("", value)
        if flag == "J" or name == "proxyjump":
            jump_routes.append(_parse_jump_list(option_value))
        elif name == "proxycommand":
            jump_routes.append(_parse_proxy_command(option_value))
        elif name in _DESTINATION_OPTIONS:
            destination_overrides.append(f"-o {name}")
        elif flag in _DESTINATION_FLAGS or not flag:
            destination_overrides.append(f"-{flag}" if flag else "a word that is no option")
        else:
            unused.append(f"-o {value.partition('=')[0]}" if name else f"-{flag}")
    return SshArguments(tuple(jump_routes), tuple(destination_overrides), tuple(unused))


def _parse_option(text: str) -> tuple[str, str]:
    """Return the lower-case name and the value of an ``-o`` option."""
    name, _, option_value = re.sub(r"^\s*(\w+)(\s*=\s*|\s+)", r"\1=", text).partition("=")
    return name.lower(), option_value


def _split_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UnsupportedProxy(f"they can't be split: {error}") from error


def _parse_flags(words: list[str]) -> list[tuple[str, str]]:
    """Pair options with their values. A word that is not an option has the flag ""."""
    flags: list[tuple[str, str]] = []
    ahead = list(reversed(words))
    while ahead:
        word = ahead.pop()
        if not word.startswith("-") or len(word) < 2:
            flags.append(("", word))
            continue
        for position, flag in enumerate(word[1:], start=2):
            if flag in _FLAGS_WITH_VALUE:
                flags.append((flag, word[position:] or (ahead.pop() if ahead else "")))
                break
            flags.append((flag, ""))
    return flags


def _parse_jump_list(text: str) -> tuple[JumpHostSpec, ...]:
    text = text.strip().strip("\"'")
    return () if text.lower() == "none" else tuple(_parse_jump_host(part.strip()) for part in text.split(","))


def _parse_jump_host(text: str) -> JumpHostSpec:
    match = _JUMP_HOST_PATTERN.fullmatch(text)
    if match is None:
        raise UnsupportedProxy(f"{text[:80]!r} is no jump host")
    return JumpHostSpec(match["host"].strip("[]"), match["user"], int(match["port"]) if match["port"] else None)


def _parse_proxy_command(text: str) -> tuple[JumpHostSpec, ...]:
    """Parse ``ssh -W %h:%p [-q] [-p PORT] [-l USER] [-J ...] [user@]host``, in any order."""
    parts = _split_words(text)
    if text.strip().lower() == "none":
        return ()
    if not parts or parts[0].rpartition("/")[2] != "ssh":
        raise UnsupportedProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    options = _parse_flags(parts[1:])
    hosts = [value for flag, value in options if not flag]
    values_by_flag = {flag: value for flag, value in options if flag in {"W", "p", "l", "J"}}
    for flag, value in options:
        name = _parse_option(value)[0] if flag == "o" else ""
        is_destination = name in _DESTINATION_OPTIONS or name.startswith("proxy")
        if is_destination or (flag and flag not in {*values_by_flag, "o", *_HARMLESS_FLAGS}):
            option_text = f"-o {name}" if is_destination else f"-{flag}"
            raise UnsupportedProxy(f"this ProxyCommand uses {option_text}, which a jump host can't be told here")
    port_text = values_by_flag.get("p")
    is_port = port_text is None or _PORT_PATTERN.fullmatch(port_text)
    if values_by_flag.get("W") not in _FORWARD_TARGETS or len(hosts) != 1 or not is_port:
        raise UnsupportedProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    before = _parse_jump_list(values_by_flag["J"]) if "J" in values_by_flag else ()
    last = _parse_jump_host(hosts[0])
    users = {last.user, values_by_flag.get("l")} - {None}
    ports = {str(last.port) if last.port else None, port_text} - {None}
    if len(users) > 1 or len(ports) > 1:
        raise UnsupportedProxy("this ProxyCommand names two users, or two ports")
    port = last.port or (int(port_text) if port_text else None)
    return (*before, JumpHostSpec(last.host, last.user or values_by_flag.get("l"), port))


_JUMP_HOST_HINT = "Use -J HOST or -o ProxyJump=HOST, or set fleetpatch_jump to names of machines."


@dataclass(frozen=True, slots=True)
class _SshEndpoint:
    """The address, port and user that ssh uses for a machine."""

    address: str
    port: str
    user: str | None


class SshArgumentReader:
    """Reads ssh arguments and finds the machines that they name as jump hosts."""

    def __init__(self, hosts: Mapping[str, Variables], problems: ProblemCollector) -> None:
        self._hosts = hosts
        self._problems = problems

    def set_jump_hosts(self, builder: MachineEntryBuilder, connection: str) -> list[tuple[str, str]]:
        """Set the jump hosts of a machine.

        Returns:
            The variables with arguments that are not used, each with a text for a warning.
        """
        if connection not in {"ssh", "paramiko"}:
            return []
        routes: dict[tuple[JumpHostSpec, ...], str] = {}
        unused: list[tuple[str, str]] = []
        for variable in SSH_ARGUMENT_VARIABLES:
            text = builder.read_text(variable)
            location = builder.variables[variable].locate() if variable in builder.variables else builder.locations[()]
            if text is None:
                continue
            try:
                parsed = parse_ssh_arguments(text)
            except UnsupportedProxy as error:
                self._problems.add(location, f"{variable}: {error}", _JUMP_HOST_HINT)
                continue
            routes.update((way, variable) for way in parsed.jump_routes)
            for override in parsed.destination_overrides:
                hint = "Give address, port and user as ansible_host, ansible_port and ansible_user."
                self._problems.add(location, f"{variable}: {override} leads to another place than the variables", hint)
            if parsed.unused:
                override = ", ".join(parsed.unused)
                unused.append((variable, f"has arguments that fleetpatch does not use: {override[:200]}"))
        if builder.read_value("fleetpatch_jump") is None:
            self._set_jump(builder, routes, connection)
        return unused

    def _set_jump(
        self, builder: MachineEntryBuilder, routes: dict[tuple[JumpHostSpec, ...], str], connection: str
    ) -> None:
        if not routes:
            return
        route, variable = next(iter(routes.items()))
        location = builder.variables[variable].locate()
        if len(routes) > 1:
            message = f"{variable}: there are several ways through jump hosts"
            self._problems.add(location, message, "Leave one of them, or set fleetpatch_jump to names of machines.")
        elif route and connection == "paramiko":
            message = f"{variable}: Ansible's paramiko takes no jump hosts from it"
            self._problems.add(location, message, "Use ansible_connection=ssh, or set fleetpatch_jump.")
        elif route:
            builder.set_key("jump", [self._find_machine_name(spec, location) for spec in route], location)

    @cached_property
    def _endpoints(self) -> dict[str, _SshEndpoint]:
        return {name: _build_endpoint(name, variables) for name, variables in self._hosts.items()}

    @cached_property
    def _names_by_address(self) -> dict[str, list[str]]:
        names_by_address: dict[str, list[str]] = {}
        for name, endpoint in self._endpoints.items():
            names_by_address.setdefault(endpoint.address, []).append(name)
        return names_by_address

    def _find_machine_name(self, spec: JumpHostSpec, place: SourceLocation) -> str:
        """Return the machine name of a jump host. Check that its connection settings are the same."""
        port = str(spec.port or 22)

        def rank(name: str) -> tuple[bool, bool]:
            endpoint = self._endpoints[name]
            return endpoint.port == port and spec.user in {None, endpoint.user}, name == spec.host

        if candidates := self._names_by_address.get(canonicalize_address(spec.host)):
            name = max(candidates, key=rank)
            endpoint = self._endpoints[name]
            if spec.user not in {None, endpoint.user}:
                hint = f"Give the host {name!r} ansible_user={spec.user}, or remove it here."
                self._problems.add(place, f"the jump host's user {spec.user!r} is not that of {name!r}", hint)
            if port != endpoint.port:
                ways = f"Give {name!r} ansible_port={port}, or write {spec.host}:{endpoint.port}"
                message = f"the jump host's port {port!r} is not that of {name!r}"
                self._problems.add(place, message, f"{ways}, or set fleetpatch_jump.")
            return name
        if spec.host in self._endpoints:
            address = self._endpoints[spec.host].address
            message = f"ssh goes to {spec.host!r} by that name, but the machine of that name is at {address!r}"
            self._problems.add(place, message, f"Write {address} there, or set fleetpatch_jump={spec.host}.")
        return spec.host


def _build_endpoint(name: str, variables: Variables) -> _SshEndpoint:
    builder = MachineEntryBuilder(name, SourceLocation(Path()), variables, ProblemCollector())
    connection = (builder.read_text("ansible_connection") or "ssh").rpartition(".")[2]
    options = CONNECTION_VARIABLES[CONNECTION_TYPES.get(connection, "ssh")]
    endpoint: dict[str, str | None] = {}
    for key in ("address", "port", "user"):
        last = builder.find_last_variable((*options[key], f"fleetpatch_{key}"))
        endpoint[key] = str(builder.read_value(last)) if last else None
    return _SshEndpoint(canonicalize_address(endpoint["address"] or name), endpoint["port"] or "22", endpoint["user"])
