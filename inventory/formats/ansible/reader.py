"""Reads the files of an Ansible inventory and builds machine drafts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from inventory.builder import InventoryFragment, build_machine_draft
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.formats.ansible.connection_variables import (
    BECOME_PASSWORD_VARIABLES,
    CONNECTION_COLLECTIONS,
    CONNECTION_TYPES,
    CONNECTION_VARIABLES,
    TRANSPORT_BY_CONNECTION,
    MachineEntryBuilder,
    is_variable_read,
    may_change_destination,
    set_winrm,
)
from inventory.formats.ansible.ignored_configuration import check_ignored_configuration
from inventory.formats.ansible.inventory_tree import (
    UNGROUPED_GROUP,
    GroupsTooComplex,
    InventoryTree,
    VariablePrecedence,
    Variables,
)
from inventory.formats.ansible.parsers import (
    VAULTED_FILE_VARIABLE,
    AnsibleFile,
    IniInventoryParser,
    parse_variable_files,
    parse_yaml_inventory,
)
from inventory.formats.ansible.ssh_arguments import SshArgumentReader
from inventory.formats.ansible.variable_values import parse_structure
from inventory.name_ranges import MAX_MACHINES
from inventory.schema.entries import MachineEntry, MachineSettings
from inventory.schema.validation import validate_mapping

logger = logging.getLogger(__name__)

VARIABLE_PREFIX = "fleetpatch_"
TAG_VARIABLE_PREFIX = "fleetpatch_tag_"
MACHINE_KEYS = (*MachineSettings.model_fields, "address")

_NESTED_KEYS = frozenset({"limits", "winrm", "pre_checks", "probes", "wake"})
_VAULT_HINT = (
    "Encrypt single values (ansible-vault encrypt_string) so that the names can be read; or, when nothing in it says "
    f"who is patched or how machines are reached, set {VAULTED_FILE_VARIABLE}=ignore for these hosts."
)


class MachineMapper:
    """Maps hosts to machines. It sees all hosts, to find jump hosts by address and to give each warning once."""

    def __init__(self, hosts: Mapping[str, Variables], problems: ProblemCollector) -> None:
        self._hosts = hosts
        self._problems = problems
        self._warnings_given: set[tuple[str, SourceLocation]] = set()
        self._ssh_argument_reader = SshArgumentReader(hosts, problems)

    def build_machine_entry(self, name: str, place: SourceLocation, groups: list[str]) -> LocatedData:
        """Return the machine entry of a host."""
        builder = MachineEntryBuilder(name, place, self._hosts[name], self._problems)
        builder.set_key("name", name, place)
        builder.set_key("groups", list(groups), replace(place, key="groups"))
        connection = self._set_connection(builder)
        for key in ("address", "port", "user"):
            builder.set_from_last_variable(CONNECTION_VARIABLES[connection][key], key, str)
        self._set_login(builder, connection)
        set_winrm(builder, connection, self._problems)
        unused = self._ssh_argument_reader.set_jump_hosts(builder, connection)
        for variable, meaning in unused:
            self._warn_once(variable, builder.variables[variable].locate(), meaning)
        for variable, value in builder.variables.items():
            if variable.startswith(VARIABLE_PREFIX):
                self._set_from_fleetpatch_variable(builder, variable, value)
            elif may_change_destination(variable):
                keys = f"{VARIABLE_PREFIX}address, {VARIABLE_PREFIX}port or {VARIABLE_PREFIX}jump"
                hint = f"Write what it comes to as {keys}, and remove it."
                self._problems.add(value.locate(), f"{variable} may lead to another machine, and is not read", hint)
            elif not is_variable_read(variable, connection):
                self._warn_once(variable, value.locate(), "is not used by fleetpatch")
        return LocatedData(builder.data, builder.locations)

    def _set_connection(self, builder: MachineEntryBuilder) -> str:
        """Return the connection type, and set the keys that follow from it."""
        text = builder.read_text("ansible_connection")
        kind = "ssh"
        if text is not None:
            collection, _, short = text.rpartition(".")
            connection_type = CONNECTION_TYPES.get(short) if collection in CONNECTION_COLLECTIONS else None
            hint = "fleetpatch knows ssh, paramiko, local, winrm and psrp. Set fleetpatch_transport."
            builder.set_choice(
                "ansible_connection", "transport", TRANSPORT_BY_CONNECTION.get(connection_type or ""), text, hint
            )
            kind = connection_type or kind
            if TRANSPORT_BY_CONNECTION[kind] == "winrm":
                builder.set_key("os", "windows", builder.variables["ansible_connection"].locate())
        if builder.read_text("ansible_shell_type") in {"powershell", "cmd"}:
            builder.set_key("os", "windows", builder.variables["ansible_shell_type"].locate())
        return kind

    def _set_login(self, builder: MachineEntryBuilder, connection: str) -> None:
        options = CONNECTION_VARIABLES[connection]
        builder.set_secret_reference(options["password"], "credential", f"{VARIABLE_PREFIX}credential")
        twice = "credential" in builder.data
        if (key_file := builder.find_last_variable(options["key"])) is not None:
            if twice:
                self._warn_once(key_file, builder.variables[key_file].locate(), "is used, and the password is not")
            builder.set_from_last_variable((key_file,), "credential", lambda path: f"key:{path}")
        builder.set_secret_reference(
            BECOME_PASSWORD_VARIABLES, "privilege_password", f"{VARIABLE_PREFIX}privilege_password"
        )
        method = builder.read_text("ansible_become_method")
        if method is not None:
            short = method.rpartition(".")[2]
            if short == "runas":  # Windows: an administrator login needs no elevation
                return
            hint = "fleetpatch knows sudo and doas. Set fleetpatch_privilege=auto, and let the login use one of them."
            builder.set_choice(
                "ansible_become_method", "privilege", {"sudo": "sudo", "doas": "doas"}.get(short), method, hint
            )

    def _set_from_fleetpatch_variable(self, builder: MachineEntryBuilder, variable: str, value: LocatedData) -> None:
        key = variable.removeprefix(VARIABLE_PREFIX)
        if variable.startswith(VAULTED_FILE_VARIABLE):
            setting = builder.read_text(VAULTED_FILE_VARIABLE)
            if setting not in {None, "ignore"}:
                location = builder.variables[VAULTED_FILE_VARIABLE].locate()
                self._problems.add(location, f"{VAULTED_FILE_VARIABLE} is not 'ignore'", "Write ignore, or remove it.")
            elif setting is None:
                message = "this file is vaulted as a whole, so what it says of its machines is not known"
                self._problems.add(value.locate(), message, _VAULT_HINT)
        elif variable.startswith(TAG_VARIABLE_PREFIX):
            builder.set_tag(variable.removeprefix(TAG_VARIABLE_PREFIX), variable, value.locate())
        elif key == "tags":
            builder.set_from_last_variable(
                (variable,), "tags", lambda data: _merge_tags(builder.data.get("tags"), parse_structure(data, variable))
            )
        elif key == "winrm":
            builder.set_from_last_variable(
                (variable,), key, lambda data: _merge_tags(parse_structure(data, variable), builder.data.get(key, {}))
            )
        elif key in MACHINE_KEYS:
            builder.set_from_last_variable(
                (variable,), key, lambda data: parse_structure(data, variable) if key in _NESTED_KEYS else data
            )
        else:
            variable_names = [f"{VARIABLE_PREFIX}{name}" for name in (*MACHINE_KEYS, "tag_NAME")]
            hint = f"{did_you_mean(variable, variable_names)}Known are {', '.join(variable_names)}."
            self._problems.add(value.locate(), f"unknown variable {variable[:80]!r}", hint)

    def _warn_once(self, variable: str, place: SourceLocation, what: str) -> None:
        if (variable, place) not in self._warnings_given:
            self._warnings_given.add((variable, place))
            logger.warning("%s%s: %s %s", place.file, f":{place.line}" if place.line else "", variable, what)


def _merge_tags(single: object, tags: object) -> object:
    """Merge fleetpatch_tags with single tags. Single tags win."""
    return {**tags, **single} if isinstance(tags, dict) and isinstance(single, dict) else tags


def read_ansible_inventory(
    sources: Sequence[AnsibleFile], folder: Path, problems: ProblemCollector
) -> InventoryFragment:
    """Read several files as one inventory, as Ansible does.

    Args:
        sources: the files, in Ansible's order.
        folder: the folder that may contain group_vars/ and host_vars/: the folder of a single file, or the inventory
            directory.
        problems: collects errors, and everything that can't be converted.
    """
    tree = InventoryTree.build_empty(folder)
    noted = ProblemCollector()
    for source in sources:
        if isinstance(source.content, str):
            IniInventoryParser(source.path, tree, noted).parse(source.content)
        else:
            parse_yaml_inventory(source.content, tree, noted)
    if tree.host_name_count > MAX_MACHINES:
        problems.extend(noted)
        return InventoryFragment()
    tree.check_groups(noted)
    group_files = parse_variable_files(folder / "group_vars", tree.groups, noted)
    host_files = parse_variable_files(folder / "host_vars", tree.hosts, noted)
    problems.extend(noted)
    try:
        precedence = VariablePrecedence(tree, group_files, host_files)
    except GroupsTooComplex as error:
        problems.add(folder, str(error), "Make the groups fewer, or flatter.")
        return InventoryFragment()
    except ValueError:  # a cycle of groups, which is already reported
        return InventoryFragment()
    hosts = {name: precedence.resolve_variables(name) for name in tree.hosts}
    check_ignored_configuration(tree, hosts, folder, problems)
    mapper = MachineMapper(hosts, problems)
    drafts = []
    for name, host in tree.hosts.items():
        groups = [group for group in precedence.find_groups(name) if group != UNGROUPED_GROUP]
        located = mapper.build_machine_entry(name, host.place, groups)
        entry = validate_mapping(MachineEntry, located, problems)
        if entry is not None:
            drafts.append(build_machine_draft(located, [], entry))
    return InventoryFragment(tuple(drafts), ansible_folder=folder)
