"""What Ansible reads from around an inventory, depending on how it is called, and fleetpatch does not.

Nobody can tell from the files with which ansible.cfg, or for which playbook, Ansible is run. So what lies near is
looked at, and it is a fault where it would change which machine is reached, or what its owner says of it.
"""

import configparser
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from inventory.ansible.options import BECOME_PASSWORDS, CONNECTIONS, NO_MATTER, OPTIONS, TRANSPORTS
from inventory.ansible.ssh_args import UnknownProxy, parse_ssh_args
from inventory.ansible.tree import Tree, Variables
from inventory.ansible.vars_files import read_vars
from inventory.places import Place, Problems, read_text

logger = logging.getLogger(__name__)


def _every(what: str) -> tuple[str, ...]:
    """Return the variables that say it, for any way to connect."""
    return tuple(dict.fromkeys(name for options in OPTIONS.values() for name in options[what]))


_SAID_OTHERWISE: dict[tuple[str, str], tuple[str, ...]] = {
    ("defaults", "remote_port"): (*_every("port"), "fleetpatch_port"),
    ("defaults", "remote_user"): (*_every("user"), "fleetpatch_user"),
    ("defaults", "private_key_file"): (*_every("key"), *_every("password"), "fleetpatch_credential"),
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
"""What in ansible.cfg decides who is reached and as whom, and variables which say it instead."""
_REMOVE_HINT = "Remove it, or let Ansible write it down: ansible-inventory -i FILE --list --yaml > hosts.yml"
_HARMLESS = {
    "hash_behaviour": {"replace"},
    "transport": {"smart", "ssh"},
    "remote_port": {"22"},
    "become_method": {"sudo"},
}
_ONLY_SSH = frozenset(
    {"remote_port", "private_key_file", "become_method", *(key for _, key in _SAID_OTHERWISE if "ssh" in key)}
)
_LOGIN_ONLY = frozenset({*BECOME_PASSWORDS, *NO_MATTER, *_every("key"), *_every("password"), *_every("user")})


def check_beside(tree: Tree, hosts: Mapping[str, Variables], folder: Path, problems: Problems) -> None:
    """Note what lies near an inventory and would make Ansible read it otherwise.

    Args:
        tree: the inventory.
        hosts: the variables of its hosts.
        folder: where it lies.
        problems: takes what is found.
    """
    near = [folder.absolute(), *folder.absolute().parents][:3]
    for place in near:
        if (place / "ansible.cfg").is_file():
            _check_settings(place / "ansible.cfg", hosts, problems)
            break
    for place in near[1:]:
        if _has_playbooks(place):
            _check_vars(place, tree, problems)


def _has_playbooks(folder: Path) -> bool:
    """Return whether a folder looks like one of playbooks, with variables beside them."""
    if not any((folder / name).is_dir() for name in ("group_vars", "host_vars")):
        return False
    return (folder / "ansible.cfg").is_file() or any(folder.glob("*.yml")) or any(folder.glob("*.yaml"))


def _check_vars(folder: Path, tree: Tree, problems: Problems) -> None:
    for name, names in (("group_vars", tree.groups), ("host_vars", tree.hosts)):
        noted = Problems()
        for variables in read_vars(folder / name, names, noted).values():
            for variable, value in variables.items():
                if variable not in _LOGIN_ONLY:
                    what = variable.partition(":")[0]
                    message = f"{what} stands beside playbooks, and fleetpatch reads what is beside the inventory"
                    hint = f"Move {name} to the directory of the inventory, or remove this variable there."
                    problems.add(value.at(), message, hint)


def _check_settings(path: Path, hosts: Mapping[str, Variables], problems: Problems) -> None:
    text = read_text(path, problems, regular=True)
    if text is None:
        return
    # Ansible, too, takes what comes after a semicolon for a comment.
    settings = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    try:
        settings.read_string(text)
    except configparser.Error:
        logger.warning("%s makes no sense, and is not read", path)
        return
    for (section, key), value in _deciding(settings):
        instead = _SAID_OTHERWISE[section, key]
        asked = ((name, own) for name, own in hosts.items() if _is_for(key, own))
        without = next((name for name, own in asked if not any(each in own for each in instead)), None)
        if without is not None:
            line = next((n for n, each in enumerate(text.splitlines(), 1) if each.strip().startswith(key)), None)
            hint = f"Write it as {instead[0]} under group_vars/all." if instead else _REMOVE_HINT
            what = f"Ansible obeys {key}={value[:80]}; fleetpatch does not, and no variable of {without!r} says it"
            problems.add(Place(path, line, f"{section}.{key}"), what, hint)


def _is_for(key: str, own: Variables) -> bool:
    """Return whether a setting says anything of a host, by its way to connect."""
    said = own.get("fleetpatch_transport") or own.get("ansible_connection")
    way = CONNECTIONS.get(str(said.data).rpartition(".")[2], "ssh") if said is not None else "ssh"
    transport = TRANSPORTS[way]
    return transport != "local" if key == "remote_user" else transport == "ssh" or key not in _ONLY_SSH


def _deciding(settings: configparser.ConfigParser) -> Iterator[tuple[tuple[str, str], str]]:
    for section, key in _SAID_OTHERWISE:
        value = settings.get(section, key, fallback="").strip()
        harmless = value.rpartition(".")[2] in _HARMLESS.get(key, ())
        if value and not harmless and (not key.startswith("ssh_") or _leads(value)):
            yield (section, key), value


def _leads(arguments: str) -> bool:
    """Return whether arguments for ssh lead to another place."""
    try:
        parsed = parse_ssh_args(arguments)
    except UnknownProxy:
        return True
    return bool(parsed.ways or parsed.moves)
