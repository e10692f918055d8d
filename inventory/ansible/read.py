"""From the files of an Ansible inventory to drafts of machines."""

from collections.abc import Sequence
from pathlib import Path

from inventory.ansible.beside import check_beside
from inventory.ansible.hosts_ini import parse_ini
from inventory.ansible.hosts_yaml import parse_groups
from inventory.ansible.mapping import Mapper
from inventory.ansible.tree import UNGROUPED, Entangled, Precedence, Tree
from inventory.ansible.vars_files import read_vars
from inventory.checking import check
from inventory.drafts import Fragment, draft
from inventory.formats import AnsibleFile
from inventory.places import Place, Problems
from inventory.ranges import MAX_MACHINES
from inventory.schema import MachineEntry


def read_ansible(sources: Sequence[AnsibleFile], folder: Path, problems: Problems) -> Fragment:
    """Read files as the one inventory that they are to Ansible.

    Args:
        sources: the files, in Ansible's order.
        folder: where group_vars/ and host_vars/ may be: beside a file, inside a directory of files.
        problems: takes everything that is wrong or can't be carried over.
    """
    tree = Tree.begin(folder)
    noted = Problems()
    for source in sources:
        if isinstance(source.content, str):
            parse_ini(source.path, source.content, tree, noted)
        else:
            parse_groups(source.content, tree, noted)
    if tree.named > MAX_MACHINES:
        problems.take(noted)
        return Fragment()
    tree.finish(noted)
    group_files = read_vars(folder / "group_vars", tree.groups, noted)
    host_files = read_vars(folder / "host_vars", tree.hosts, noted)
    problems.take(noted)
    try:
        precedence = Precedence(tree, group_files, host_files)
    except Entangled as error:
        problems.add(Place(folder), str(error), "Make the groups fewer, or flatter.")
        return Fragment()
    except ValueError:  # groups in a circle, which was noted
        return Fragment()
    hosts = {name: precedence.variables_of(name) for name in tree.hosts}
    check_beside(tree, hosts, folder, problems)
    mapper = Mapper(hosts, problems)
    drafts = []
    for name, host in tree.hosts.items():
        groups = [group for group in precedence.groups_of(name) if group != UNGROUPED]
        located = mapper.machine(name, host.place, groups)
        entry = check(MachineEntry, located, problems)
        if entry is not None:
            drafts.append(draft(located, [], entry))
    return Fragment(tuple(drafts))
