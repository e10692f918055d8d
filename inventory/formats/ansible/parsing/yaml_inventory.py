"""Parser for Ansible's YAML format: groups with `hosts`, `vars` and `children`."""

from inventory.files.located_yaml import TypedScalar
from inventory.files.problems import LocatedData, ProblemCollector, did_you_mean
from inventory.formats.ansible.inventory_tree import READ_VARIABLE_PREFIXES, InventoryTree, Variables

GROUP_KEYS = ("hosts", "vars", "children")


def looks_like_yaml_inventory(data: object) -> bool:
    """Return whether a document looks like an Ansible inventory."""
    if not isinstance(data, dict):
        return False
    return "all" in data or any(isinstance(group, dict) and group.keys() & set(GROUP_KEYS) for group in data.values())


def parse_yaml_inventory(located: LocatedData, tree: InventoryTree, problems: ProblemCollector) -> None:
    """Add a parsed YAML inventory to a tree.

    Args:
        located: the document, a map of groups.
        tree: the tree from the files before this one.
        problems: collects everything that the format does not allow.
    """
    _add_groups(tree, located, None, problems)


def _add_groups(tree: InventoryTree, located: LocatedData, parent: str | None, problems: ProblemCollector) -> None:
    for name in _list_keys(located, "groups", problems):
        part = located.get_child(name)
        _check_name_is_text(name, part, problems)
        tree.get_or_add_group(name, part.locate())
        if parent is not None:
            tree.groups[parent].children.setdefault(name, part.locate())
        for key in _list_keys(part, f"what the group {name[:80]!r} holds", problems):
            if key == "hosts":
                _add_group_hosts(tree, part.get_child(key), name, problems)
            elif key == "vars":
                for variable, value in collect_variables(part.get_child(key), problems).items():
                    tree.set_variable(name, variable, value, problems)
            elif key == "children":
                _add_groups(tree, part.get_child(key), name, problems)
            else:
                hint = f"{did_you_mean(key, GROUP_KEYS)}A group has `hosts`, `vars` and `children`."
                problems.add(part.locate((key,)), f"unknown key {key[:80]!r} in a group", hint)


def _add_group_hosts(tree: InventoryTree, located: LocatedData, group: str, problems: ProblemCollector) -> None:
    for pattern in _list_keys(located, "hosts", problems):
        host = located.get_child(pattern)
        _check_name_is_text(pattern, host, problems)
        variables = collect_variables(host, problems)
        for name in tree.add_hosts(tree.groups[group], pattern, host.locate(), problems):
            for variable, value in variables.items():
                tree.set_variable(name, variable, value, problems)


def _check_name_is_text(name: str, located: LocatedData, problems: ProblemCollector) -> None:
    if isinstance(name, TypedScalar):
        problems.add(located.locate(), "Ansible takes this name for a number or a truth", "Put it in quotes.")


def collect_variables(located: LocatedData, problems: ProblemCollector) -> Variables:
    """Return the variables of a map that fleetpatch reads, each with its place."""
    return {
        name: located.get_child(name)
        for name in _list_keys(located, "variables", problems)
        if name.startswith(READ_VARIABLE_PREFIXES)
    }


def _list_keys(located: LocatedData, what: str, problems: ProblemCollector) -> list[str]:
    if located.data is None:
        return []
    if not isinstance(located.data, dict):
        problems.add(located.locate(), f"{what} must be a map here", "Write `name:` on a line of its own for each.")
        return []
    return list(located.data)
