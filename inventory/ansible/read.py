"""The readers of Ansible inventories: from a file's text to drafts of machines."""

from pathlib import Path

from inventory.ansible.hosts_ini import parse_ini
from inventory.ansible.hosts_yaml import parse_groups
from inventory.ansible.mapping import Mapper
from inventory.ansible.tree import ALL, UNGROUPED, Precedence, Tree
from inventory.ansible.vars_files import read_vars
from inventory.checking import check
from inventory.drafts import Fragment, draft
from inventory.places import Located, Problems
from inventory.schema import MachineEntry


def read_ansible_ini(path: Path, text: str, problems: Problems) -> Fragment:
    """Read an INI inventory, with group_vars/ and host_vars/ beside it."""
    return _fragment(path, parse_ini(path, text, problems), problems)


def read_ansible_yaml(path: Path, located: Located, problems: Problems) -> Fragment:
    """Read a parsed YAML inventory, with group_vars/ and host_vars/ beside it."""
    return _fragment(path, parse_groups(located, problems), problems)


def _fragment(path: Path, tree: Tree, problems: Problems) -> Fragment:
    group_files = read_vars(path.parent / "group_vars", tree.groups, problems)
    host_files = read_vars(path.parent / "host_vars", tree.hosts, problems)
    precedence = Precedence(tree, group_files, host_files)
    mapper = Mapper({name: precedence.variables_of(name) for name in tree.hosts}, problems)
    drafts = []
    for name, host in tree.hosts.items():
        groups = [group for group in precedence.groups_of(name) if group not in {ALL, UNGROUPED}]
        located = mapper.machine(name, host.place, groups)
        entry = check(MachineEntry, located, problems)
        if entry is not None:
            drafts.append(draft(located, [], entry))
    return Fragment(tuple(drafts))
