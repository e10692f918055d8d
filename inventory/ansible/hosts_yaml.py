"""Ansible's YAML format: groups that hold `hosts`, `vars` and `children`."""

from inventory.ansible.hosts_ini import add_hosts
from inventory.ansible.tree import ALL, UNGROUPED, Tree, Variables
from inventory.places import Located, Problems, did_you_mean

KEYS = ("hosts", "vars", "children")


def looks_like_groups(data: object) -> bool:
    """Return whether a document has the form of an Ansible inventory."""
    if not isinstance(data, dict) or not data:
        return False
    if ALL in data:
        return True
    groups = [group for group in data.values() if isinstance(group, dict)]
    return bool(groups) and all(any(key in group for key in KEYS) for group in groups)


def parse_groups(located: Located, problems: Problems) -> Tree:
    """Read a parsed YAML inventory.

    Args:
        located: the document, a map of groups.
        problems: takes everything that has no place in it.
    """
    tree = Tree()
    tree.group(ALL, located.at())
    tree.group(UNGROUPED, located.at())
    _children(tree, located, None, problems)
    tree.check(problems)
    return tree


def _children(tree: Tree, located: Located, parent: str | None, problems: Problems) -> None:
    for name in _keys(located, "groups", problems):
        part = located.part(name)
        group = tree.group(name, part.at())
        if parent is not None:
            tree.groups[parent].children[name] = part.at()
        for key in _keys(part, f"what the group {name!r} holds", problems):
            if key == "hosts":
                for pattern in _keys(part.part(key), "hosts", problems):
                    host = part.part(key).part(pattern)
                    add_hosts(tree, group, pattern, variables_in(host, problems), host.at(), problems)
            elif key == "vars":
                group.variables.update(variables_in(part.part(key), problems))
            elif key == "children":
                _children(tree, part.part(key), name, problems)
            else:
                hint = f"{did_you_mean(key, KEYS)}A group has `hosts`, `vars` and `children`."
                problems.add(part.at((key,)), f"unknown key {key!r} in a group", hint)


def variables_in(located: Located, problems: Problems) -> Variables:
    """Return the variables of a map, each with its place."""
    return {name: located.part(name) for name in _keys(located, "variables", problems)}


def _keys(located: Located, what: str, problems: Problems) -> list[str]:
    if located.data is None:
        return []
    if not isinstance(located.data, dict):
        problems.add(located.at(), f"{what} must be a map here", "Write `name:` on a line of its own for each.")
        return []
    return list(located.data)
