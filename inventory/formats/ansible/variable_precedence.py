"""Resolves the groups of an Ansible host and the precedence of its variables."""

import graphlib
from collections.abc import Iterator, Mapping

from inventory.formats.ansible.inventory_tree import ALL_GROUP, UNGROUPED_GROUP, InventoryTree, Variables

MAX_GROUP_LEVELS = 100
"""Maximum depth of nested groups."""


MAX_GROUP_MEMBERSHIPS = 1_000_000
"""Maximum number of group memberships in total. Groups that contain each other crosswise multiply."""


class GroupsTooComplex(ValueError):
    """Groups are nested too deeply, or have too many memberships."""


class VariablePrecedence:
    """Finds the groups and the variables of each host. The tree must have no errors.

    Ansible's order, weakest first: variables of `all`; variables of groups (parents before children, then by priority
    and name); the files group_vars/all and group_vars/*; the variables of the host; host_vars.

    Raises:
        GroupsTooComplex: there are too many levels or memberships.
    """

    def __init__(
        self, tree: InventoryTree, group_files: Mapping[str, Variables], host_files: Mapping[str, Variables]
    ) -> None:
        self._tree = tree
        self._group_files = group_files
        self._host_files = host_files
        self._depths: dict[str, int] = {}
        self._ancestors: dict[str, frozenset[str]] = {}
        self._compute_ancestors()
        self._groups_by_host: dict[str, list[str]] = {}
        for group in tree.groups.values():
            for host in group.hosts:
                self._groups_by_host.setdefault(host, []).append(group.name)
        self._variables_by_groups: dict[tuple[str, ...], Variables] = {}

    def find_groups(self, host: str) -> list[str]:
        """Return all groups of a host except `all`, the weakest first."""
        group_names: set[str] = set()
        for name in self._groups_by_host.get(host, ()):
            group_names |= {name, *self._ancestors[name]}
        group_names -= {ALL_GROUP}
        if group_names - {UNGROUPED_GROUP}:
            group_names -= {UNGROUPED_GROUP}
        groups = self._tree.groups
        return sorted(
            group_names or {UNGROUPED_GROUP}, key=lambda name: (self._depths[name], groups[name].priority, name)
        )

    def resolve_variables(self, host: str) -> Variables:
        """Return the variables of a host. Each value is from its strongest source."""
        groups = tuple(self.find_groups(host))
        if groups not in self._variables_by_groups:
            self._variables_by_groups[groups] = {
                key: value for layer in self._list_layers(groups) for key, value in layer.items()
            }
        return {
            **self._variables_by_groups[groups],
            **self._tree.hosts[host].variables,
            **self._host_files.get(host, {}),
        }

    def _list_layers(self, groups: tuple[str, ...]) -> Iterator[Variables]:
        yield from (self._tree.groups[name].variables for name in (ALL_GROUP, *groups))
        yield from (self._group_files.get(name, {}) for name in (ALL_GROUP, *groups))

    def _compute_ancestors(self) -> None:
        """Compute the depth and the ancestors of each group, parents before children."""
        groups = self._tree.groups
        parents: dict[str, set[str]] = {name: set() if name == ALL_GROUP else {ALL_GROUP} for name in groups}
        for group in groups.values():
            for child in group.children:
                parents[child].add(group.name)
        total = 0
        for name in graphlib.TopologicalSorter(parents).static_order():
            self._depths[name] = 1 + max((self._depths[parent] for parent in parents[name]), default=-1)
            self._ancestors[name] = frozenset(parents[name]).union(
                *(self._ancestors[parent] for parent in parents[name])
            )
            total += len(self._ancestors[name])
            if self._depths[name] > MAX_GROUP_LEVELS:
                raise GroupsTooComplex(f"groups nest deeper than {MAX_GROUP_LEVELS} levels")
            if total > MAX_GROUP_MEMBERSHIPS:
                raise GroupsTooComplex(f"groups contain each other more than {MAX_GROUP_MEMBERSHIPS:,} times")
