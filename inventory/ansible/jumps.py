"""Which machines of the inventory are the jump hosts that Ansible would have ssh go through."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inventory.addresses import canonical
from inventory.ansible.host_values import HostValues
from inventory.ansible.options import CONNECTIONS, OPTIONS, SSH_ARGS
from inventory.ansible.ssh_args import JumpSpec, UnknownProxy, parse_ssh_args
from inventory.ansible.tree import Variables
from inventory.places import Place, Problems

_HINT = "Use -J HOST or -o ProxyJump=HOST, or set fleetpatch_jump to names of machines."


@dataclass(frozen=True, slots=True)
class _Reach:
    """How ssh gets to a machine."""

    address: str
    port: str
    user: str | None


class Jumps:
    """Reads the arguments for ssh, and finds the machines that they name."""

    def __init__(self, hosts: Mapping[str, Variables], problems: Problems) -> None:
        self._hosts = hosts
        self._problems = problems

    def apply(self, one: HostValues, connection: str) -> list[tuple[str, str]]:
        """Set the jump hosts of a machine.

        Returns:
            Variables that hold arguments which are not used, each with words for a warning.
        """
        if connection not in {"ssh", "paramiko"}:
            return []
        ways: dict[tuple[JumpSpec, ...], str] = {}
        unused: list[tuple[str, str]] = []
        for variable in SSH_ARGS:
            text = one.text(variable)
            place = one.variables[variable].at() if variable in one.variables else one.places[()]
            if text is None:
                continue
            try:
                parsed = parse_ssh_args(text)
            except UnknownProxy as error:
                self._problems.add(place, f"{variable}: {error}", _HINT)
                continue
            ways.update((way, variable) for way in parsed.ways)
            for words in parsed.moves:
                hint = "Give address, port and user as ansible_host, ansible_port and ansible_user."
                self._problems.add(place, f"{variable}: {words} leads to another place than the variables", hint)
            if parsed.unused:
                words = ", ".join(parsed.unused)
                unused.append((variable, f"has arguments that fleetpatch does not use: {words[:200]}"))
        if one.value("fleetpatch_jump") is None:
            self._take(one, ways, connection)
        return unused

    def _take(self, one: HostValues, ways: dict[tuple[JumpSpec, ...], str], connection: str) -> None:
        if not ways:
            return
        way, variable = next(iter(ways.items()))
        place = one.variables[variable].at()
        if len(ways) > 1:
            message = f"{variable}: there are several ways through jump hosts"
            self._problems.add(place, message, "Leave one of them, or set fleetpatch_jump to names of machines.")
        elif way and connection == "paramiko":
            message = f"{variable}: Ansible's paramiko takes no jump hosts from it"
            self._problems.add(place, message, "Use ansible_connection=ssh, or set fleetpatch_jump.")
        elif way:
            one.set("jump", [self._name(spec, place) for spec in way], place)

    @cached_property
    def _reached(self) -> dict[str, _Reach]:
        return {name: _reach(name, variables) for name, variables in self._hosts.items()}

    @cached_property
    def _by_address(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, reach in self._reached.items():
            found.setdefault(reach.address, []).append(name)
        return found

    def _name(self, spec: JumpSpec, place: Place) -> str:
        """Return the name of the machine that a jump host is, and see that it is reached in the same way."""
        there = self._by_address.get(canonical(spec.host), [])
        there = sorted(there, key=lambda name: (self._fits(name, spec), name == spec.host), reverse=True)
        if there:
            name = there[0]
            self._check(name, spec, place)
            return name
        if spec.host in self._reached:
            address = self._reached[spec.host].address
            message = f"ssh goes to {spec.host!r} by that name, but the machine of that name is at {address!r}"
            self._problems.add(place, message, f"Write {address} there, or set fleetpatch_jump={spec.host}.")
        return spec.host

    def _fits(self, name: str, spec: JumpSpec) -> bool:
        reach = self._reached[name]
        return reach.port == str(spec.port or 22) and spec.user in {None, reach.user}

    def _check(self, name: str, spec: JumpSpec, place: Place) -> None:
        reach = self._reached[name]
        port = str(spec.port or 22)
        if spec.user not in {None, reach.user}:
            hint = f"Give the host {name!r} ansible_user={spec.user}, or remove it here."
            self._problems.add(place, f"the jump host's user {spec.user!r} is not that of {name!r}", hint)
        if port != reach.port:
            hint = f"Give {name!r} ansible_port={port}, or write {spec.host}:{reach.port}, or set fleetpatch_jump."
            self._problems.add(place, f"the jump host's port {port!r} is not that of {name!r}", hint)


def _reach(name: str, variables: Variables) -> _Reach:
    one = HostValues(name, Place(Path()), variables, Problems())
    given = (one.text("ansible_connection") or "ssh").rpartition(".")[2]
    options = OPTIONS[CONNECTIONS.get(given, "ssh")]
    found: dict[str, str | None] = {}
    for key in ("address", "port", "user"):
        last = one.last((*options[key], f"fleetpatch_{key}"))
        found[key] = str(one.value(last)) if last else None
    return _Reach(canonical(found["address"] or name), found["port"] or "22", found["user"])
