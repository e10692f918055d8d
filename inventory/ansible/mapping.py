"""Variables of one Ansible host → the keys of one machine."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from inventory.ansible.ssh_args import JumpSpec, UnknownProxy, parse_ssh_args
from inventory.ansible.tree import Variables
from inventory.ansible.values import Unreadable, plain, secret, structure
from inventory.places import KeyPath, Located, Place, Problems, did_you_mean
from inventory.schema import Settings

logger = logging.getLogger(__name__)

PREFIX = "fleetpatch_"
TAG_PREFIX = "fleetpatch_tag_"

_PLAIN = {
    "ansible_ssh_host": "address",
    "ansible_host": "address",
    "ansible_ssh_port": "port",
    "ansible_port": "port",
    "ansible_ssh_user": "user",
    "ansible_user": "user",
}
_KEY_FILES = ("ansible_private_key_file", "ansible_ssh_private_key_file")
_PASSWORDS = ("ansible_ssh_pass", "ansible_ssh_password", "ansible_password")
_BECOME_PASSWORDS = ("ansible_sudo_pass", "ansible_become_pass", "ansible_become_password")
_SSH_ARGS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_CONNECTIONS = {
    "ssh": "ssh",
    "smart": "ssh",
    "paramiko": "ssh",
    "paramiko_ssh": "ssh",
    "libssh": "ssh",
    "local": "local",
    "winrm": "winrm",
    "psrp": "winrm",
}
_OTHERS_READ = ("ansible_connection", "ansible_become_method", "ansible_shell_type")
# What only matters to Ansible's own modules and their speed.
_NO_MATTER = frozenset(
    {
        "ansible_become",
        "ansible_group_priority",
        "ansible_pipelining",
        "ansible_python_interpreter",
        "ansible_remote_tmp",
        "ansible_shell_executable",
        "ansible_ssh_pipelining",
    }
)
_READ = frozenset({*_PLAIN, *_KEY_FILES, *_PASSWORDS, *_BECOME_PASSWORDS, *_SSH_ARGS, *_OTHERS_READ})
KEYS = (*Settings.model_fields, "address")


class Mapper:
    """Maps hosts, with an eye on all of them: jump hosts are named by address, and warnings are given once."""

    def __init__(self, hosts: Mapping[str, Variables], problems: Problems) -> None:
        self._hosts = hosts
        self._problems = problems
        self._warned: set[tuple[str, Place]] = set()
        self._by_address: dict[str, str] = {}
        for name, variables in hosts.items():
            for variable in ("ansible_ssh_host", "ansible_host"):
                given = variables.get(variable)
                if given and isinstance(given.data, str):
                    self._by_address.setdefault(given.data.lower(), name)

    def machine(self, name: str, place: Place, groups: list[str]) -> Located:
        """Return the keys of the machine that a host is."""
        one = _Host(name, place, self._hosts[name], self._problems)
        one.set("name", name, place)
        one.set("groups", list(groups), replace(place, key="groups"))
        for variable, key in _PLAIN.items():
            one.take(variable, key, str)
        self._login(one)
        self._way(one)
        for variable, value in one.variables.items():
            if variable.startswith(PREFIX):
                self._own(one, variable, value)
            elif variable.startswith("ansible_") and variable not in _READ and variable not in _NO_MATTER:
                self._warn(variable, value.at(), "is not used by fleetpatch")
        return Located(one.data, one.places)

    def _login(self, one: "_Host") -> None:
        for variable in _PASSWORDS:
            one.take_secret(variable, "credential")
        for variable in _KEY_FILES:
            if variable in one.variables:
                if "credential" in one.data:
                    self._warn(variable, one.variables[variable].at(), "is used, and the password is not")
                one.take(variable, "credential", lambda path: f"key:{path}")
        for variable in _BECOME_PASSWORDS:
            one.take_secret(variable, "privilege_password")
        method = one.text("ansible_become_method")
        if method is not None:
            short = method.rpartition(".")[2]
            if short == "runas":  # Windows: an administrator's login is one already
                return
            hint = "fleetpatch knows sudo and doas. Set fleetpatch_privilege=auto, and let the login use one of them."
            one.choose("ansible_become_method", "privilege", {"sudo": "sudo", "doas": "doas"}.get(short), method, hint)

    def _way(self, one: "_Host") -> None:
        connection = one.text("ansible_connection")
        if connection is not None:
            kind = _CONNECTIONS.get(connection.rpartition(".")[2])
            hint = "fleetpatch knows ssh, paramiko, local, winrm and psrp. Set fleetpatch_transport."
            one.choose("ansible_connection", "transport", kind, connection, hint)
            if kind == "winrm":
                one.set("os", "windows", one.variables["ansible_connection"].at())
        if one.text("ansible_shell_type") in {"powershell", "cmd"}:
            one.set("os", "windows", one.variables["ansible_shell_type"].at())
        for variable in _SSH_ARGS:
            arguments = one.text(variable)
            if arguments is not None:
                self._ssh_args(one, variable, arguments)

    def _ssh_args(self, one: "_Host", variable: str, arguments: str) -> None:
        place = one.variables[variable].at()
        try:
            parsed = parse_ssh_args(arguments)
        except UnknownProxy as error:
            hint = "Use -J HOST or -o ProxyJump=HOST, or set fleetpatch_jump to names of machines."
            self._problems.add(place, f"{variable}: {error}", hint)
            return
        if parsed.unused:
            self._warn(variable, place, f"has arguments that fleetpatch does not use: {', '.join(parsed.unused)}")
        if parsed.jumps:
            one.set("jump", [self._jump_name(spec, place) for spec in parsed.jumps], place)

    def _jump_name(self, spec: JumpSpec, place: Place) -> str:
        """Return the name of the machine that a jump host is, and see that it is reached in the same way."""
        name = spec.host if spec.host in self._hosts else self._by_address.get(spec.host.lower(), spec.host)
        variables = self._hosts.get(name, {})
        for given, key in ((spec.user, "user"), (spec.port, "port")):
            has = next(
                (v.data for v in (variables.get(f"ansible_{key}"), variables.get(f"ansible_ssh_{key}")) if v), None
            )
            expected = has if has is not None or key == "user" else "22"
            if name in self._hosts and given is not None and str(given) != str(expected):
                hint = f"Give the host {name!r} ansible_{key}={given}, or remove it here."
                self._problems.add(place, f"the jump host's {key} {str(given)!r} is not that of {name!r}", hint)
        return name

    def _own(self, one: "_Host", variable: str, value: Located) -> None:
        key = variable.removeprefix(PREFIX)
        if variable.startswith(TAG_PREFIX):
            one.tag(variable.removeprefix(TAG_PREFIX), variable, value)
        elif key == "tags":
            one.take(variable, "tags", lambda data: _with_tags(one.data.get("tags"), structure(data, variable)))
        elif key in KEYS:
            one.take(variable, key, lambda data: structure(data, variable) if key in _NESTED else data)
        else:
            known = [f"{PREFIX}{name}" for name in (*KEYS, "tag_NAME")]
            hint = f"{did_you_mean(variable, known)}Known are {', '.join(known)}."
            self._problems.add(value.at(), f"unknown variable {variable!r}", hint)

    def _warn(self, variable: str, place: Place, what: str) -> None:
        if (variable, place) not in self._warned:
            self._warned.add((variable, place))
            logger.warning("%s%s: %s %s", place.file, f":{place.line}" if place.line else "", variable, what)


_NESTED = frozenset({"limits", "pre_checks", "probes"})


def _with_tags(single: object, tags: object) -> object:
    """Join fleetpatch_tags with single tags, which are the stronger ones."""
    return {**tags, **single} if isinstance(tags, dict) and isinstance(single, dict) else tags


class _Host:
    """A machine's keys while they are gathered."""

    def __init__(self, name: str, place: Place, variables: Variables, problems: Problems) -> None:
        self.name = name
        self.variables = variables
        self.data: dict[str, object] = {}
        self.places: dict[KeyPath, Place] = {(): place}
        self._problems = problems

    def set(self, key: str, value: object, place: Place) -> None:
        self.data[key] = value
        self.places[key,] = place

    def text(self, variable: str) -> str | None:
        """Return a variable's text; None when it is not there, or was noted as unreadable."""
        if variable not in self.variables:
            return None
        try:
            value = plain(self.variables[variable], self.name, variable)
        except Unreadable as error:
            self._problems.add(self.variables[variable].at(), str(error), error.hint)
            return None
        return value if isinstance(value, str) else None

    def take(self, variable: str, key: str, convert: "Callable[[object], object]") -> None:
        if variable not in self.variables:
            return
        place = self.variables[variable].at()
        try:
            value = plain(self.variables[variable], self.name, variable)
            if value is not None:
                self.set(key, convert(value), place)
        except Unreadable as error:
            self._problems.add(place, str(error), error.hint)

    def take_secret(self, variable: str, key: str) -> None:
        if variable in self.variables:
            place = self.variables[variable].at()
            try:
                self.set(key, secret(self.variables[variable], variable, f"{PREFIX}{key}"), place)
            except Unreadable as error:
                self._problems.add(place, str(error), error.hint)

    def choose(self, variable: str, key: str, value: str | None, given: str, hint: str) -> None:
        place = self.variables[variable].at()
        if value is None:
            self._problems.add(place, f"{variable} is {given!r}, which fleetpatch does not know", hint)
        else:
            self.set(key, value, place)

    def tag(self, name: str, variable: str, value: Located) -> None:
        text = self.text(variable)
        if text is not None:
            known = self.data.get("tags")
            self.set("tags", {**(known if isinstance(known, dict) else {}), name: text}, value.at())
