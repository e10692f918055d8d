"""Hosts and groups of an Ansible inventory, and which variable wins."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inventory.places import Located, Place, Problems

Variables = dict[str, Located]

ALL = "all"
UNGROUPED = "ungrouped"


@dataclass(slots=True)
class Group:
    """A group: its own hosts, its child groups with the place that names them, and its variables."""

    name: str
    place: Place
    variables: Variables = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    declared: bool = True


@dataclass(slots=True)
class Host:
    """A host, where it was named first, and the variables given with it."""

    name: str
    place: Place
    variables: Variables = field(default_factory=dict)


@dataclass(slots=True)
class Tree:
    """All of one inventory, in the order of the file."""

    groups: dict[str, Group] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)

    def group(self, name: str, place: Place, *, declared: bool = True) -> Group:
        """Return a group, made when it is new. One that is only named (as a child) is not declared by that."""
        group = self.groups.setdefault(name, Group(name, place, declared=name in {ALL, UNGROUPED}))
        group.declared = group.declared or declared
        return group

    def host(self, name: str, place: Place, group: Group, variables: Mapping[str, Located]) -> None:
        """Put a host into a group; variables given again replace those given before."""
        self.hosts.setdefault(name, Host(name, place)).variables.update(variables)
        group.hosts[name] = None

    def check(self, problems: Problems) -> None:
        """Note groups that nobody declared, and groups that contain themselves."""
        for group in self.groups.values():
            if not group.declared:
                hint = f"Add a section [{group.name}], or correct the name."
                problems.add(group.place, f"the group {group.name!r} is not declared", hint)
            for child, place in list(group.children.items()):
                if group.name in self._below(child):
                    message = f"the group {child!r} contains itself, by way of {group.name!r}"
                    problems.add(place, message, "Take one of the two out of the other's children.")
                    del group.children[child]

    def _below(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = [name]
        while ahead:
            current = ahead.pop()
            if current not in found:
                found.add(current)
                ahead += self.groups[current].children if current in self.groups else ()
        return found


class Precedence:
    """Answers, for a checked tree, which groups a host is in and which variable wins.

    The order is Ansible's: the weakest first are the variables of `all`, those of groups (parents before children,
    then by priority and name), then the files group_vars/all and group_vars/*, then the host's own, then host_vars.
    """

    def __init__(self, tree: Tree, group_files: Mapping[str, Variables], host_files: Mapping[str, Variables]) -> None:
        self._tree = tree
        self._group_files = group_files
        self._host_files = host_files
        self._parents: dict[str, set[str]] = {}
        self._of_host: dict[str, set[str]] = {}
        for group in tree.groups.values():
            for child in group.children:
                self._parents.setdefault(child, set()).add(group.name)
            for host in group.hosts:
                self._of_host.setdefault(host, set()).add(group.name)
        self._depths: dict[str, int] = {ALL: 0}

    def groups_of(self, host: str) -> list[str]:
        """Return all groups of a host but `all`, the weakest first."""
        found: set[str] = set()
        ahead = list(self._of_host.get(host, ()))
        while ahead:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += self._parents.get(name, ())
        found.discard(ALL)
        return sorted(found or {UNGROUPED}, key=lambda name: (self._depth(name), self._priority(name), name))

    def variables_of(self, host: str) -> Variables:
        """Return the variables of a host, each from where it is given with the greatest weight."""
        groups = self.groups_of(host)
        result: Variables = {}
        for layer in self._layers(host, groups):
            result |= layer
        return result

    def _layers(self, host: str, groups: list[str]) -> Iterator[Variables]:
        inline = self._tree.groups
        yield inline[ALL].variables if ALL in inline else {}
        yield from (inline[name].variables for name in groups if name in inline)
        yield from (self._group_files.get(name, {}) for name in (ALL, *groups))
        yield self._tree.hosts[host].variables
        yield self._host_files.get(host, {})

    def _depth(self, name: str) -> int:
        if name not in self._depths:
            parents = self._parents.get(name, set()) - {ALL}
            self._depths[name] = 1 + max((self._depth(parent) for parent in parents), default=0)
        return self._depths[name]

    def _priority(self, name: str) -> int:
        group = self._tree.groups.get(name)
        given = group.variables.get("ansible_group_priority") if group else None
        text = given.data if given else None
        return int(text) if isinstance(text, str) and text.lstrip("-").isdigit() else 1
