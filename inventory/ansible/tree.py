"""Hosts and groups of an Ansible inventory, as all of its files together make them, and which variable wins."""

import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inventory.ansible.values import Unreadable, priority
from inventory.places import Located, Place, Problems

Variables = dict[str, Located]

ALL = "all"
UNGROUPED = "ungrouped"
OURS = ("ansible_", "fleetpatch_")
"""How the variables begin that are looked at; all others are for playbooks, and are not even kept."""

MAX_LEVELS = 100
"""Levels of groups below each other."""
MAX_MEMBERSHIPS = 1_000_000
"""Groups of all groups, together: groups that contain each other crosswise multiply."""
MOST_CIRCLES = 5
_PRIORITY = "ansible_group_priority"


@dataclass(slots=True)
class Group:
    """A group: its own hosts, its child groups with the place that names them, and its variables."""

    name: str
    place: Place
    variables: Variables = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    priority: int = 1


@dataclass(slots=True)
class Host:
    """A host, where it was named first, and the variables given with it."""

    name: str
    place: Place
    variables: Variables = field(default_factory=dict)


@dataclass(slots=True)
class Tree:
    """What the files of one inventory say, in the order in which Ansible reads them."""

    groups: dict[str, Group] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    named: int = 0
    """Names that were read so far, again and again the same ones counted as well."""

    @classmethod
    def begin(cls, folder: Path) -> "Tree":
        """Return the tree that every inventory begins with."""
        tree = cls()
        tree.group(ALL, Place(folder))
        tree.group(UNGROUPED, Place(folder))
        return tree

    def group(self, name: str, place: Place) -> Group:
        """Return a group, made when it is new."""
        return self.groups.setdefault(name, Group(name, place))

    def host(self, name: str, place: Place, group: Group, port: Located | None = None) -> None:
        """Put a host into a group. The port that stands with its name counts where the host is named first."""
        if name not in self.hosts:
            self.hosts[name] = Host(name, place, {"ansible_port": port} if port else {})
        group.hosts[name] = None

    def set_variable(self, name: str, key: str, value: Located, problems: Problems) -> None:
        """Give a variable to a group or host. A name that is both is taken for the group, as Ansible does."""
        if not key.startswith(OURS):
            return
        group = self.groups.get(name)
        if group and key == _PRIORITY:
            try:
                group.priority = priority(value)
            except Unreadable as error:
                problems.add(value.at(), str(error), error.hint)
        else:
            (group or self.hosts[name]).variables[key] = value

    def finish(self, problems: Problems) -> None:
        """Note groups that contain themselves, and what Ansible's own two groups can't be."""
        for group in self.groups.values():
            for child, place in group.children.items():
                if child == ALL or (child == UNGROUPED and group.name != ALL) or group.name == UNGROUPED:
                    name = UNGROUPED if group.name == UNGROUPED else child
                    hint = "`all` holds every group, `ungrouped` is in no other group and holds none."
                    problems.add(place, f"the group {name!r} can't stand here", hint)
        self._check_circles(problems)
        among = {host for group in self.groups.values() if group.name != ALL for host in group.hosts}
        for name, host in self.hosts.items():
            if name in self.groups and name not in among:
                hint = "Rename one of the two, or put the host into a group."
                problems.add(host.place, f"{name!r} is a group and a host in no group", hint)

    def _check_circles(self, problems: Problems) -> None:
        graph = {name: set(group.children) for name, group in self.groups.items()}
        for _ in range(MOST_CIRCLES):
            try:
                graphlib.TopologicalSorter(graph).prepare()
            except graphlib.CycleError as error:
                below, above = error.args[1][:2]  # each is contained in the one after it
                message = f"the group {below!r} contains itself, by way of {above!r}"
                place = self.groups[above].children.get(below) or self.groups[above].place
                problems.add(place, message, "Take one of the two out of the other's children.")
                graph.update((name, set()) for name in error.args[1])
            else:
                return


class Entangled(ValueError):
    """Groups that nest so deep, or contain each other so often, that no person wrote them."""


class Precedence:
    """Answers, for a tree without faults, which groups a host is in and which variable wins.

    The order is Ansible's: the weakest first are the variables of `all`, those of groups (parents before children,
    then by priority and name), then the files group_vars/all and group_vars/*, then the host's own, then host_vars.

    Raises:
        Entangled: there are too many levels or memberships.
    """

    def __init__(self, tree: Tree, group_files: Mapping[str, Variables], host_files: Mapping[str, Variables]) -> None:
        self._tree = tree
        self._group_files = group_files
        self._host_files = host_files
        self._depths: dict[str, int] = {}
        self._above: dict[str, frozenset[str]] = {}
        self._walk_down()
        self._of_host: dict[str, list[str]] = {}
        for group in tree.groups.values():
            for host in group.hosts:
                self._of_host.setdefault(host, []).append(group.name)
        self._shared: dict[tuple[str, ...], Variables] = {}

    def groups_of(self, host: str) -> list[str]:
        """Return all groups of a host but `all`, the weakest first."""
        found: set[str] = set()
        for name in self._of_host.get(host, ()):
            found |= {name, *self._above[name]}
        found -= {ALL}
        if found - {UNGROUPED}:
            found -= {UNGROUPED}
        groups = self._tree.groups
        return sorted(found or {UNGROUPED}, key=lambda name: (self._depths[name], groups[name].priority, name))

    def variables_of(self, host: str) -> Variables:
        """Return the variables of a host, each from where it is given with the greatest weight."""
        groups = tuple(self.groups_of(host))
        if groups not in self._shared:
            self._shared[groups] = {key: value for layer in self._layers(groups) for key, value in layer.items()}
        return {**self._shared[groups], **self._tree.hosts[host].variables, **self._host_files.get(host, {})}

    def _layers(self, groups: tuple[str, ...]) -> Iterator[Variables]:
        yield from (self._tree.groups[name].variables for name in (ALL, *groups))
        yield from (self._group_files.get(name, {}) for name in (ALL, *groups))

    def _walk_down(self) -> None:
        """Find each group's depth and all that contain it, parents before children."""
        groups = self._tree.groups
        parents: dict[str, set[str]] = {name: set() if name == ALL else {ALL} for name in groups}
        for group in groups.values():
            for child in group.children:
                parents[child].add(group.name)
        total = 0
        for name in graphlib.TopologicalSorter(parents).static_order():
            self._depths[name] = 1 + max((self._depths[parent] for parent in parents[name]), default=-1)
            self._above[name] = frozenset(parents[name]).union(*(self._above[parent] for parent in parents[name]))
            total += len(self._above[name])
            if self._depths[name] > MAX_LEVELS:
                raise Entangled(f"groups nest deeper than {MAX_LEVELS} levels")
            if total > MAX_MEMBERSHIPS:
                raise Entangled(f"groups contain each other more than {MAX_MEMBERSHIPS:,} times")
