"""Ansible's YAML format: groups that hold `hosts`, `vars` and `children`."""

from inventory.ansible.hosts import add_hosts
from inventory.ansible.tree import OURS, Tree, Variables
from inventory.places import Located, Problems, did_you_mean
from inventory.yaml_tree import Typed

KEYS = ("hosts", "vars", "children")


def looks_like_groups(data: object) -> bool:
    """Return whether a document has the form of an Ansible inventory."""
    if not isinstance(data, dict):
        return False
    return "all" in data or any(isinstance(group, dict) and group.keys() & set(KEYS) for group in data.values())


def parse_groups(located: Located, tree: Tree, problems: Problems) -> None:
    """Read a parsed YAML inventory into a tree.

    Args:
        located: the document, a map of groups.
        tree: what files before this one made.
        problems: takes everything that has no place in it.
    """
    _children(tree, located, None, problems)


def _children(tree: Tree, located: Located, parent: str | None, problems: Problems) -> None:
    for name in _keys(located, "groups", problems):
        part = located.part(name)
        _check_text(name, part, problems)
        tree.group(name, part.at())
        if parent is not None:
            tree.groups[parent].children.setdefault(name, part.at())
        for key in _keys(part, f"what the group {name[:80]!r} holds", problems):
            if key == "hosts":
                _hosts(tree, part.part(key), name, problems)
            elif key == "vars":
                for variable, value in variables_in(part.part(key), problems).items():
                    tree.set_variable(name, variable, value, problems)
            elif key == "children":
                _children(tree, part.part(key), name, problems)
            else:
                hint = f"{did_you_mean(key, KEYS)}A group has `hosts`, `vars` and `children`."
                problems.add(part.at((key,)), f"unknown key {key[:80]!r} in a group", hint)


def _hosts(tree: Tree, located: Located, group: str, problems: Problems) -> None:
    for pattern in _keys(located, "hosts", problems):
        host = located.part(pattern)
        _check_text(pattern, host, problems)
        variables = variables_in(host, problems)
        for name in add_hosts(tree, tree.groups[group], pattern, host.at(), problems):
            for variable, value in variables.items():
                tree.set_variable(name, variable, value, problems)


def _check_text(name: str, located: Located, problems: Problems) -> None:
    if isinstance(name, Typed):
        problems.add(located.at(), "Ansible takes this name for a number or a truth", "Put it in quotes.")


def variables_in(located: Located, problems: Problems) -> Variables:
    """Return the variables of a map that matter here, each with its place."""
    return {name: located.part(name) for name in _keys(located, "variables", problems) if name.startswith(OURS)}


def _keys(located: Located, what: str, problems: Problems) -> list[str]:
    if located.data is None:
        return []
    if not isinstance(located.data, dict):
        problems.add(located.at(), f"{what} must be a map here", "Write `name:` on a line of its own for each.")
        return []
    return list(located.data)
