"""Checks files around an inventory that Ansible may read and fleetpatch does not read.

The files do not show which ansible.cfg or which playbook Ansible uses. So these checks read the nearby files. It is an
error if they would change which machine is reached, or what its owner allows.
"""

import configparser
import logging
from collections.abc import Iterator, Mapping
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
from inventory.formats.ansible.jump_hosts import UnsupportedProxy, parse_ssh_arguments
from inventory.formats.ansible.parsers import read_variable_files

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
        if _has_playbooks(near_folder):
            _check_playbook_variables(near_folder, tree, problems)


def _has_playbooks(folder: Path) -> bool:
    """Return whether a folder looks like a playbook folder with variables beside the playbooks."""
    if not any((folder / name).is_dir() for name in ("group_vars", "host_vars")):
        return False
    return (folder / "ansible.cfg").is_file() or any(folder.glob("*.yml")) or any(folder.glob("*.yaml"))


def _check_playbook_variables(folder: Path, tree: InventoryTree, problems: ProblemCollector) -> None:
    for name, names in (("group_vars", tree.groups), ("host_vars", tree.hosts)):
        noted = ProblemCollector()
        for variables in read_variable_files(folder / name, names, noted).values():
            for variable, value in variables.items():
                if variable not in _LOGIN_VARIABLES:
                    variable_name = variable.partition(":")[0]
                    message = (
                        f"{variable_name} stands beside playbooks, and fleetpatch reads what is beside the inventory"
                    )
                    hint = f"Move {name} to the directory of the inventory, or remove this variable there."
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
    for (section, key), value in _find_relevant_settings(settings):
        instead = _VARIABLES_BY_SETTING[section, key]
        affected = (
            (name, host_variables)
            for name, host_variables in hosts.items()
            if _is_setting_relevant(key, host_variables)
        )
        without = next(
            (
                name
                for name, host_variables in affected
                if not any(line_text in host_variables for line_text in instead)
            ),
            None,
        )
        if without is not None:
            line = next(
                (n for n, line_text in enumerate(text.splitlines(), 1) if line_text.strip().startswith(key)), None
            )
            hint = f"Write it as {instead[0]} under group_vars/all." if instead else _REMOVE_HINT
            message = f"Ansible obeys {key}={value[:80]}; fleetpatch does not, and no variable of {without!r} says it"
            problems.add(SourceLocation(path, line, f"{section}.{key}"), message, hint)


def _is_setting_relevant(key: str, own: Variables) -> bool:
    """Return whether a setting affects a host, given the host's connection type."""
    connection = own.get("fleetpatch_transport") or own.get("ansible_connection")
    way = CONNECTION_TYPES.get(str(connection.data).rpartition(".")[2], "ssh") if connection is not None else "ssh"
    transport = TRANSPORT_BY_CONNECTION[way]
    return transport != "local" if key == "remote_user" else transport == "ssh" or key not in _SSH_ONLY_SETTINGS


def _find_relevant_settings(settings: configparser.ConfigParser) -> Iterator[tuple[tuple[str, str], str]]:
    for section, key in _VARIABLES_BY_SETTING:
        value = settings.get(section, key, fallback="").strip()
        harmless = value.rpartition(".")[2] in _HARMLESS_VALUES.get(key, ())
        if value and not harmless and (not key.startswith("ssh_") or _may_change_destination(value)):
            yield (section, key), value


def _may_change_destination(arguments: str) -> bool:
    """Return whether ssh arguments may lead to another host."""
    try:
        parsed = parse_ssh_arguments(arguments)
    except UnsupportedProxy:
        return True
    return bool(parsed.jump_routes or parsed.destination_overrides)
