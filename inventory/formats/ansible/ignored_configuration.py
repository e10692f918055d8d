"""Checks files around an inventory that Ansible may read and fleetpatch does not read.

The files do not show which ansible.cfg or which playbook Ansible uses. So these checks read the nearby files. It is an
error if they would change which machine is reached, or what its owner allows.
"""

import configparser
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.files.text_files import read_text_file
from inventory.formats.ansible.connection_variables import (
    BECOME_PASSWORD_VARIABLES,
    CONNECTION_TYPES,
    CONNECTION_VARIABLES,
    IRRELEVANT_VARIABLES,
    TRANSPORT_BY_CONNECTION,
)
from inventory.formats.ansible.inventory_tree import InventoryTree, Variables
from inventory.formats.ansible.parsers import parse_variable_files
from inventory.formats.ansible.ssh_arguments import UnsupportedProxy, parse_ssh_arguments

logger = logging.getLogger(__name__)


def _list_option_variables(what: str) -> tuple[str, ...]:
    """Return the variables of an option for all connection types."""
    return tuple(dict.fromkeys(name for options in CONNECTION_VARIABLES.values() for name in options[what]))


_VARIABLES_BY_SETTING: dict[tuple[str, str], tuple[str, ...]] = {
    ("defaults", "remote_port"): (*_list_option_variables("port"), "fleetpatch_port"),
    ("defaults", "remote_user"): (*_list_option_variables("user"), "fleetpatch_user"),
    ("defaults", "private_key_file"): (
        *_list_option_variables("key"),
        *_list_option_variables("password"),
        "fleetpatch_credential",
    ),
    ("privilege_escalation", "become_method"): ("ansible_become_method", "fleetpatch_privilege"),
    ("defaults", "transport"): ("ansible_connection", "fleetpatch_transport"),
    ("ssh_connection", "ssh_args"): ("ansible_ssh_args", "fleetpatch_jump"),
    ("ssh_connection", "ssh_common_args"): ("ansible_ssh_common_args", "fleetpatch_jump"),
    ("ssh_connection", "ssh_extra_args"): ("ansible_ssh_extra_args", "fleetpatch_jump"),
    ("defaults", "hash_behaviour"): (),
    ("defaults", "precedence"): (),
    ("defaults", "inventory_ignore_extensions"): (),
    ("defaults", "inventory_ignore_patterns"): (),
    ("inventory", "ignore_extensions"): (),
    ("inventory", "ignore_patterns"): (),
    ("inventory", "enable_plugins"): (),
}
"""Settings of ansible.cfg that decide the host and the user, and the variables that replace each setting."""
_REMOVE_HINT = "Remove it, or let Ansible write it down: ansible-inventory -i FILE --list --yaml > hosts.yml"
_HARMLESS_VALUES = {
    "hash_behaviour": {"replace"},
    "transport": {"smart", "ssh"},
    "remote_port": {"22"},
    "become_method": {"sudo"},
}
_SSH_ONLY_SETTINGS = frozenset(
    {"remote_port", "private_key_file", "become_method", *(key for _, key in _VARIABLES_BY_SETTING if "ssh" in key)}
)
_LOGIN_VARIABLES = frozenset(
    {
        *BECOME_PASSWORD_VARIABLES,
        *IRRELEVANT_VARIABLES,
        *_list_option_variables("key"),
        *_list_option_variables("password"),
        *_list_option_variables("user"),
    }
)


def check_ignored_configuration(
    tree: InventoryTree, hosts: Mapping[str, Variables], folder: Path, problems: ProblemCollector
) -> None:
    """Report files near an inventory that change how Ansible reads it."""
    near = [folder.absolute(), *folder.absolute().parents][:3]
    for near_folder in near:
        if (near_folder / "ansible.cfg").is_file():
            _check_ansible_cfg(near_folder / "ansible.cfg", hosts, problems)
            break
    for near_folder in near[1:]:
        if (near_folder / "ansible.cfg").is_file() or any(near_folder.glob("*.yml")) or any(near_folder.glob("*.yaml")):
            _check_playbook_variables(near_folder / "group_vars", tree.groups, problems)
            _check_playbook_variables(near_folder / "host_vars", tree.hosts, problems)


def _check_playbook_variables(folder: Path, names: Iterable[str], problems: ProblemCollector) -> None:
    for variables in parse_variable_files(folder, names, ProblemCollector()).values():
        for variable, value in variables.items():
            if variable not in _LOGIN_VARIABLES:
                name = variable.partition(":")[0]
                message = f"{name} stands beside playbooks, and fleetpatch reads what is beside the inventory"
                hint = f"Move {folder.name} to the directory of the inventory, or remove this variable there."
                problems.add(value.locate(), message, hint)


def _check_ansible_cfg(path: Path, hosts: Mapping[str, Variables], problems: ProblemCollector) -> None:
    text = read_text_file(path, problems, must_be_regular=True)
    if text is None:
        return
    # Ansible also reads text after a semicolon as a comment.
    settings = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    try:
        settings.read_string(text)
    except configparser.Error:
        logger.warning("%s makes no sense, and is not read", path)
        return
    for (section, key), replacements in _VARIABLES_BY_SETTING.items():
        value = settings.get(section, key, fallback="").strip()
        if not value or value.rpartition(".")[2] in _HARMLESS_VALUES.get(key, ()):
            continue
        if key.startswith("ssh_") and not _may_change_destination(value):
            continue
        for name, variables in hosts.items():
            if _is_setting_relevant(key, variables) and variables.keys().isdisjoint(replacements):
                lines = enumerate(text.splitlines(), 1)
                number = next((number for number, line in lines if line.strip().startswith(key)), None)
                hint = f"Write it as {replacements[0]} under group_vars/all." if replacements else _REMOVE_HINT
                message = f"Ansible obeys {key}={value[:80]}; fleetpatch does not, and no variable of {name!r} says it"
                problems.add(SourceLocation(path, number, f"{section}.{key}"), message, hint)
                break


def _is_setting_relevant(key: str, variables: Variables) -> bool:
    """Return whether a setting affects a host, given the host's connection type."""
    connection = variables.get("fleetpatch_transport") or variables.get("ansible_connection")
    kind = CONNECTION_TYPES.get(str(connection.data).rpartition(".")[2], "ssh") if connection is not None else "ssh"
    transport = TRANSPORT_BY_CONNECTION[kind]
    return transport != "local" if key == "remote_user" else transport == "ssh" or key not in _SSH_ONLY_SETTINGS


def _may_change_destination(arguments: str) -> bool:
    """Return whether ssh arguments may lead to another host."""
    try:
        parsed = parse_ssh_arguments(arguments)
    except UnsupportedProxy:
        return True
    return bool(parsed.jump_routes or parsed.destination_overrides)
