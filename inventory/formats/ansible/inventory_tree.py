"""The hosts and groups of an Ansible inventory, joined from all its files, with the precedence of their variables."""

import graphlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from inventory.data_class import dataclass
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
from inventory.formats.ansible.variable_values import UnreadableValue, parse_priority
from inventory.name_ranges import MAX_MACHINES, InvalidRange, expand_ranges
from inventory.schema.value_types import NAME_PATTERN

Variables = dict[str, LocatedData]

ALL_GROUP = "all"
UNGROUPED_GROUP = "ungrouped"
READ_VARIABLE_PREFIXES = ("ansible_", "fleetpatch_")
"""Prefixes of the variables that are read. Other variables are for playbooks and are dropped."""

DESTINATION_VARIABLE_PATTERN = re.compile(
    r"(ansible|fleetpatch)_(\w+_)?(host|port|proxy|proxy_command|ssh_executable|remote_addr|address|jump)"
)
"""Variables that may say which machine is reached. Arguments of ssh (``ansible_ssh_common_args`` …) may do so, too."""
MAX_REPORTED_CYCLES = 5
_PRIORITY_VARIABLE = "ansible_group_priority"
_NAME_PATTERN = re.compile(NAME_PATTERN)
_RANGE_EXPRESSION = r"\[[0-9A-Za-z]*:[0-9A-Za-z]+(?::[0-9]+)?\]"
_HOST_PATTERN = re.compile(rf"(?:[A-Za-z0-9._-]|{_RANGE_EXPRESSION})+(?::[0-9]+)?")
_HOST_WITH_PORT_PATTERN = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_DNS_NAME_PATTERN = re.compile(r"\w(?:[\w-]*\w)?(?<!_)(?:\.\w(?:[\w-]*\w)?(?<!_))*")
_MAX_PATTERN_LENGTH = 1000
"""Maximum number of characters in a pattern."""


@dataclass(slots=True)
class Group:
    """A group: its hosts, its child groups with their places, and its variables."""

    name: str
    place: SourceLocation
    variables: Variables = field(default_factory=dict)
    children: dict[str, SourceLocation] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    priority: int = 1


@dataclass(slots=True)
class Host:
    """A host, the place that names it first, and its own variables."""

    name: str
    place: SourceLocation
    variables: Variables = field(default_factory=dict)


@dataclass(slots=True)
class InventoryTree:
    """The content of all files of one inventory, in Ansible's reading order."""

    groups: dict[str, Group] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    host_name_count: int = 0
    """Number of host names read so far, duplicates included."""

    @classmethod
    def build_empty(cls, folder: Path) -> "InventoryTree":
        """Return a tree with only Ansible's built-in groups."""
        tree = cls()
        tree.get_or_add_group(ALL_GROUP, SourceLocation(folder))
        tree.get_or_add_group(UNGROUPED_GROUP, SourceLocation(folder))
        return tree

    def get_or_add_group(self, name: str, place: SourceLocation) -> Group:
        """Return a group. Create it if it is new."""
        return self.groups.setdefault(name, Group(name, place))

    def add_hosts(
        self, group: Group, pattern: str, variables: Variables, place: SourceLocation, problems: ProblemCollector
    ) -> None:
        """Add the hosts of a pattern (``web-[01:20]:2222``) and their variables to a group.

        An invalid pattern is reported. The report repeats it only if it is an IP address, because a line of another
        kind of file may be a password. A host that is there already, with another address, is reported, too.
        """
        with_port = _HOST_WITH_PORT_PATTERN.fullmatch(pattern)
        bare, port = with_port.groups() if with_port else (pattern, "")
        is_limited = len(bare) > _MAX_PATTERN_LENGTH or self.host_name_count > MAX_MACHINES
        try:
            names = () if is_limited else expand_ranges(bare)
        except InvalidRange as error:
            problems.add(place, str(error), "Write it as [first:last] or [first:last:step].")
            return
        self.host_name_count += len(names)
        if self.host_name_count > MAX_MACHINES:
            hint = "Correct the ranges, or split the inventory."
            problems.add(place, f"this inventory names more than {MAX_MACHINES:,} machines", hint)
            return
        if not names or not all(_NAME_PATTERN.fullmatch(name) for name in names):
            name_text = repr(bare) if _is_ip_address(bare) else "the first word here" if " " not in pattern else "this"
            hint = (
                "Use up to 128 letters, digits, '.', '_' and '-'; an address goes under ansible_host, a port after ':'."
            )
            problems.add(place, f"{name_text} is no usable name", hint)
            return
        if port and (
            bare.startswith("[") or "[:" in bare or not all(_DNS_NAME_PATTERN.fullmatch(name) for name in names)
        ):
            problems.add(place, "Ansible reads no port after such a name", "Write ansible_port=PORT instead.")
            return
        port = port.lstrip("0")
        located = LocatedData(port, {(): SourceLocation(place.file, place.line, "port")}) if port else None
        mentioned = {"ansible_port": located, **variables} if located else variables
        for name in names:
            if host := self.hosts.get(name):
                _check_same_destination(host, mentioned, has_port=located is not None, problems=problems)
            else:
                self.hosts[name] = Host(name, place, {"ansible_port": located} if located else {})
            group.hosts[name] = None
            for variable, value in variables.items():
                self.set_variable(name, variable, value, problems)

    def set_variable(self, name: str, key: str, value: LocatedData, problems: ProblemCollector) -> None:
        """Set a variable of a group or host. Ansible reads a name that is both as the group; so does this method."""
        if not key.startswith(READ_VARIABLE_PREFIXES):
            return
        group = self.groups.get(name)
        if group and key == _PRIORITY_VARIABLE:
            try:
                group.priority = parse_priority(value)
            except UnreadableValue as error:
                problems.add(value.locate(), str(error), error.hint)
        else:
            (group or self.hosts[name]).variables[key] = value

    def check_groups(self, problems: ProblemCollector) -> None:
        """Report groups that contain themselves, and invalid uses of Ansible's groups `all` and `ungrouped`."""
        for group in self.groups.values():
            for child, location in group.children.items():
                is_ungrouped = group.name == UNGROUPED_GROUP
                if is_ungrouped or child == ALL_GROUP or (child == UNGROUPED_GROUP and group.name != ALL_GROUP):
                    name = UNGROUPED_GROUP if is_ungrouped else child
                    hint = "`all` holds every group, `ungrouped` is in no other group and holds none."
                    problems.add(location, f"the group {name!r} can't stand here", hint)
        self._check_group_cycles(problems)
        grouped_hosts = {host for group in self.groups.values() if group.name != ALL_GROUP for host in group.hosts}
        for name, host in self.hosts.items():
            if name in self.groups and name not in grouped_hosts:
                hint = "Rename one of the two, or put the host into a group."
                problems.add(host.place, f"{name!r} is a group and a host in no group", hint)

    def _check_group_cycles(self, problems: ProblemCollector) -> None:
        graph = {name: set(group.children) for name, group in self.groups.items()}
        for _ in range(MAX_REPORTED_CYCLES):
            try:
                graphlib.TopologicalSorter(graph).prepare()
            except graphlib.CycleError as error:
                below, above = error.args[1][:2]  # graphlib: each group is contained in the next one
                message = f"the group {below!r} contains itself, by way of {above!r}"
                source_location = self.groups[above].children.get(below) or self.groups[above].place
                problems.add(source_location, message, "Take one of the two out of the other's children.")
                graph.update((name, set()) for name in error.args[1])
            else:
                return


def _check_same_destination(host: Host, mentioned: Variables, *, has_port: bool, problems: ProblemCollector) -> None:
    """Report a host that is here again, with an address, port or way that differs from those before.

    Ansible takes the later variable, but ignores a port after ``:``. So one of two machines would be lost.
    """
    for variable, value in mentioned.items():
        before = host.variables.get(variable)
        is_lost_port = has_port and variable == "ansible_port" and before is None
        is_destination = DESTINATION_VARIABLE_PATTERN.fullmatch(variable) or variable.endswith("_args")
        if is_lost_port or (is_destination and before is not None and str(before.data) != str(value.data)):
            first = before.locate() if before else host.place
            message = f"the host {host.name!r} is here a second time, with another {variable} than in {first.short}"
            problems.add(
                value.locate(), message, "Give each machine a name of its own, and its address as ansible_host."
            )


def is_host_pattern(word: str) -> bool:
    """Return whether a word can be a host pattern: a name with optional ranges and port, or an IP address."""
    return len(word) <= _MAX_PATTERN_LENGTH and (_HOST_PATTERN.fullmatch(word) is not None or _is_ip_address(word))


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


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
            names = (ALL_GROUP, *groups)
            layers = [self._tree.groups[name].variables for name in names]
            layers += [self._group_files.get(name, {}) for name in names]
            self._variables_by_groups[groups] = {key: value for layer in layers for key, value in layer.items()}
        own_variables = self._tree.hosts[host].variables
        return {**self._variables_by_groups[groups], **own_variables, **self._host_files.get(host, {})}

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
