"""Variables of one Ansible host → the keys of one machine."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from inventory.ansible.host_values import HostValues
from inventory.ansible.jumps import Jumps
from inventory.ansible.options import (
    BECOME_PASSWORDS,
    COLLECTIONS,
    CONNECTIONS,
    OPTIONS,
    TRANSPORTS,
    is_read,
    leads_elsewhere,
)
from inventory.ansible.tree import Variables
from inventory.ansible.values import structure
from inventory.ansible.vars_files import VAULTED_FILE
from inventory.places import Located, Place, Problems, did_you_mean
from inventory.schema import Settings

logger = logging.getLogger(__name__)

PREFIX = "fleetpatch_"
TAG_PREFIX = "fleetpatch_tag_"
KEYS = (*Settings.model_fields, "address")

_NESTED = frozenset({"limits", "pre_checks", "probes"})
_VAULT_HINT = (
    "Encrypt single values (ansible-vault encrypt_string) so that the names can be read; or, when nothing in it says "
    f"who is patched or how machines are reached, set {VAULTED_FILE}=ignore for these hosts."
)


class Mapper:
    """Maps hosts, with an eye on all of them: jump hosts are named by address, and warnings are given once."""

    def __init__(self, hosts: Mapping[str, Variables], problems: Problems) -> None:
        self._hosts = hosts
        self._problems = problems
        self._warned: set[tuple[str, Place]] = set()
        self._jumps = Jumps(hosts, problems)

    def machine(self, name: str, place: Place, groups: list[str]) -> Located:
        """Return the keys of the machine that a host is."""
        one = HostValues(name, place, self._hosts[name], self._problems)
        one.set("name", name, place)
        one.set("groups", list(groups), replace(place, key="groups"))
        connection = self._connection(one)
        for key in ("address", "port", "user"):
            one.take_last(OPTIONS[connection][key], key, str)
        self._login(one, connection)
        unused = self._jumps.apply(one, connection)
        for variable, what in unused:
            self._warn(variable, one.variables[variable].at(), what)
        for variable, value in one.variables.items():
            if variable.startswith(PREFIX):
                self._own(one, variable, value)
            elif leads_elsewhere(variable):
                hint = f"Write what it comes to as {PREFIX}address, {PREFIX}port or {PREFIX}jump, and remove it."
                self._problems.add(value.at(), f"{variable} may lead to another machine, and is not read", hint)
            elif not is_read(variable, connection):
                self._warn(variable, value.at(), "is not used by fleetpatch")
        return Located(one.data, one.places)

    def _connection(self, one: HostValues) -> str:
        """Return the way to connect, and set what it says of the machine."""
        given = one.text("ansible_connection")
        kind = "ssh"
        if given is not None:
            collection, _, short = given.rpartition(".")
            found = CONNECTIONS.get(short) if collection in COLLECTIONS else None
            hint = "fleetpatch knows ssh, paramiko, local, winrm and psrp. Set fleetpatch_transport."
            one.choose("ansible_connection", "transport", TRANSPORTS.get(found or ""), given, hint)
            kind = found or kind
            if TRANSPORTS[kind] == "winrm":
                one.set("os", "windows", one.variables["ansible_connection"].at())
        if one.text("ansible_shell_type") in {"powershell", "cmd"}:
            one.set("os", "windows", one.variables["ansible_shell_type"].at())
        return kind

    def _login(self, one: HostValues, connection: str) -> None:
        options = OPTIONS[connection]
        one.take_secret(options["password"], "credential", f"{PREFIX}credential")
        twice = "credential" in one.data
        if (key_file := one.last(options["key"])) is not None:
            if twice:
                self._warn(key_file, one.variables[key_file].at(), "is used, and the password is not")
            one.take_last((key_file,), "credential", lambda path: f"key:{path}")
        one.take_secret(BECOME_PASSWORDS, "privilege_password", f"{PREFIX}privilege_password")
        method = one.text("ansible_become_method")
        if method is not None:
            short = method.rpartition(".")[2]
            if short == "runas":  # Windows: an administrator's login is one already
                return
            hint = "fleetpatch knows sudo and doas. Set fleetpatch_privilege=auto, and let the login use one of them."
            one.choose("ansible_become_method", "privilege", {"sudo": "sudo", "doas": "doas"}.get(short), method, hint)

    def _own(self, one: HostValues, variable: str, value: Located) -> None:
        key = variable.removeprefix(PREFIX)
        if variable.startswith(VAULTED_FILE):
            self._vaulted(one, value)
        elif variable.startswith(TAG_PREFIX):
            one.tag(variable.removeprefix(TAG_PREFIX), variable, value.at())
        elif key == "tags":
            one.take_last((variable,), "tags", lambda data: _with_tags(one.data.get("tags"), structure(data, variable)))
        elif key in KEYS:
            one.take_last((variable,), key, _as_is if key not in _NESTED else lambda data: structure(data, variable))
        else:
            known = [f"{PREFIX}{name}" for name in (*KEYS, "tag_NAME")]
            hint = f"{did_you_mean(variable, known)}Known are {', '.join(known)}."
            self._problems.add(value.at(), f"unknown variable {variable[:80]!r}", hint)

    def _vaulted(self, one: HostValues, value: Located) -> None:
        says = one.text(VAULTED_FILE)
        if says not in {None, "ignore"}:
            place = one.variables[VAULTED_FILE].at()
            self._problems.add(place, f"{VAULTED_FILE} is not 'ignore'", "Write ignore, or remove it.")
        elif says is None:
            message = "this file is vaulted as a whole, so nobody knows what it says of its machines"
            self._problems.add(value.at(), message, _VAULT_HINT)

    def _warn(self, variable: str, place: Place, what: str) -> None:
        if (variable, place) not in self._warned:
            self._warned.add((variable, place))
            logger.warning("%s%s: %s %s", place.file, f":{place.line}" if place.line else "", variable, what)


def _as_is(data: object) -> object:
    return data


def _with_tags(single: object, tags: object) -> object:
    """Join fleetpatch_tags with single tags, which are the stronger ones."""
    return {**tags, **single} if isinstance(tags, dict) and isinstance(single, dict) else tags
