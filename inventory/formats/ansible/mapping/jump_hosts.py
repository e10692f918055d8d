"""Finds the machines of the inventory that Ansible's ssh arguments use as jump hosts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inventory.addresses import canonicalize_address
from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.formats.ansible.inventory_tree import Variables
from inventory.formats.ansible.mapping.connection_variables import (
    CONNECTION_TYPES,
    CONNECTION_VARIABLES,
    SSH_ARGUMENT_VARIABLES,
)
from inventory.formats.ansible.mapping.machine_entry_builder import MachineEntryBuilder
from inventory.formats.ansible.mapping.ssh_arguments import JumpHostSpec, UnsupportedProxy, parse_ssh_arguments

_JUMP_HOST_HINT = "Use -J HOST or -o ProxyJump=HOST, or set fleetpatch_jump to names of machines."


@dataclass(frozen=True, slots=True)
class _SshEndpoint:
    """The address, port and user that ssh uses for a machine."""

    address: str
    port: str
    user: str | None


class JumpHostResolver:
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
            place = builder.variables[variable].locate() if variable in builder.variables else builder.locations[()]
            if text is None:
                continue
            try:
                parsed = parse_ssh_arguments(text)
            except UnsupportedProxy as error:
                self._problems.add(place, f"{variable}: {error}", _JUMP_HOST_HINT)
                continue
            routes.update((way, variable) for way in parsed.jump_routes)
            for override in parsed.destination_overrides:
                hint = "Give address, port and user as ansible_host, ansible_port and ansible_user."
                self._problems.add(place, f"{variable}: {override} leads to another place than the variables", hint)
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
        for name, reach in self._endpoints.items():
            names_by_address.setdefault(reach.address, []).append(name)
        return names_by_address

    def _find_machine_name(self, spec: JumpHostSpec, place: SourceLocation) -> str:
        """Return the machine name of a jump host. Check that its connection settings are the same."""
        there = self._names_by_address.get(canonicalize_address(spec.host), [])
        there = sorted(there, key=lambda name: (self._matches_spec(name, spec), name == spec.host), reverse=True)
        if there:
            name = there[0]
            self._check_user_and_port(name, spec, place)
            return name
        if spec.host in self._endpoints:
            address = self._endpoints[spec.host].address
            message = f"ssh goes to {spec.host!r} by that name, but the machine of that name is at {address!r}"
            self._problems.add(place, message, f"Write {address} there, or set fleetpatch_jump={spec.host}.")
        return spec.host

    def _matches_spec(self, name: str, spec: JumpHostSpec) -> bool:
        reach = self._endpoints[name]
        return reach.port == str(spec.port or 22) and spec.user in {None, reach.user}

    def _check_user_and_port(self, name: str, spec: JumpHostSpec, place: SourceLocation) -> None:
        reach = self._endpoints[name]
        port = str(spec.port or 22)
        if spec.user not in {None, reach.user}:
            hint = f"Give the host {name!r} ansible_user={spec.user}, or remove it here."
            self._problems.add(place, f"the jump host's user {spec.user!r} is not that of {name!r}", hint)
        if port != reach.port:
            hint = f"Give {name!r} ansible_port={port}, or write {spec.host}:{reach.port}, or set fleetpatch_jump."
            self._problems.add(place, f"the jump host's port {port!r} is not that of {name!r}", hint)


def _build_endpoint(name: str, variables: Variables) -> _SshEndpoint:
    builder = MachineEntryBuilder(name, SourceLocation(Path()), variables, ProblemCollector())
    connection = (builder.read_text("ansible_connection") or "ssh").rpartition(".")[2]
    options = CONNECTION_VARIABLES[CONNECTION_TYPES.get(connection, "ssh")]
    endpoint: dict[str, str | None] = {}
    for key in ("address", "port", "user"):
        last = builder.find_last_variable((*options[key], f"fleetpatch_{key}"))
        endpoint[key] = str(builder.read_value(last)) if last else None
    return _SshEndpoint(canonicalize_address(endpoint["address"] or name), endpoint["port"] or "22", endpoint["user"])
