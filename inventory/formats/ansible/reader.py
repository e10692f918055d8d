"""Reads the files of an Ansible inventory and builds machine drafts."""

from collections.abc import Sequence
from pathlib import Path

from inventory.builder import InventoryFragment, build_machine_draft
from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.formats.ansible.inventory_tree import UNGROUPED_GROUP, InventoryTree
from inventory.formats.ansible.mapping.ignored_configuration import check_ignored_configuration
from inventory.formats.ansible.mapping.machine_mapper import MachineMapper
from inventory.formats.ansible.parsing.ini_inventory import parse_ini_inventory
from inventory.formats.ansible.parsing.variable_files import read_variable_files
from inventory.formats.ansible.parsing.yaml_inventory import parse_yaml_inventory
from inventory.formats.ansible.variable_precedence import GroupsTooComplex, VariablePrecedence
from inventory.formats.detection import AnsibleFile
from inventory.name_ranges import MAX_MACHINES
from inventory.schema.entries import MachineEntry
from inventory.schema.validation import validate_mapping


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
            parse_ini_inventory(source.path, source.content, tree, noted)
        else:
            parse_yaml_inventory(source.content, tree, noted)
    if tree.host_name_count > MAX_MACHINES:
        problems.extend(noted)
        return InventoryFragment()
    tree.check_groups(noted)
    group_files = read_variable_files(folder / "group_vars", tree.groups, noted)
    host_files = read_variable_files(folder / "host_vars", tree.hosts, noted)
    problems.extend(noted)
    try:
        precedence = VariablePrecedence(tree, group_files, host_files)
    except GroupsTooComplex as error:
        problems.add(SourceLocation(folder), str(error), "Make the groups fewer, or flatter.")
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
    return InventoryFragment(tuple(drafts))
