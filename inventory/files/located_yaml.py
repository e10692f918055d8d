"""YAML parser that returns plain data and the place of each value.

It builds only maps, lists, strings and None. No tag can create an object, and each scalar stays text. So
``environment: no`` is the word "no", and ``ring: 1.10`` keeps its zero. Only the schema decides what is a number.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from inventory.errors import PASSWORD_FORMS
from inventory.files.problems import KeyPath, LocatedData, ProblemCollector, SourceLocation

MAX_DEPTH = 100
MAX_ALIASED_VALUES = 100_000
"""Maximum number of values that aliases may add. Without it, a small file could fill the memory."""

VAULTED = object()
"""Replaces a value that Ansible Vault encrypts, where such values are allowed."""


class TypedScalar(str):
    """A plain scalar that YAML 1.1 reads as a number, boolean, time or null. It keeps its text and its tag."""

    tag: str

    def __new__(cls, text: str, tag: str) -> "TypedScalar":
        """Build a scalar from its text and its YAML tag."""
        scalar = super().__new__(cls, text)
        scalar.tag = tag
        return scalar


class _TooDeep(Exception):
    """A document nests deeper than MAX_DEPTH levels."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes a document in one pass. It refuses deep nesting at once, because composing is recursive."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._tags: dict[str, str] = {}

    def descend_resolver(self, _node: yaml.Node | None, _index: object) -> None:
        """Enter a value."""
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:
            raise _TooDeep

    def ascend_resolver(self) -> None:
        """Leave a value."""
        self._depth -= 1

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        """Return the tag of a value. A fleet has the same words in thousands of places: each is looked at once."""
        if kind is yaml.ScalarNode and implicit[0]:
            if value not in self._tags:
                self._tags[value] = super().resolve(kind, value, implicit)
            return self._tags[value]
        if self._depth > MAX_DEPTH and kind is not yaml.ScalarNode:
            raise _TooDeep
        return str(super().resolve(kind, value, implicit))


_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "timestamp", "map", "seq", "null", "value")
)
_KNOWN_TAGS = ("!vault", "!unsafe", "tag:yaml.org,2002:")
_STRING_TAG = "tag:yaml.org,2002:str"
_NULL_TAG = "tag:yaml.org,2002:null"
_MERGE_TAG = "tag:yaml.org,2002:merge"


def compose_yaml(text: str) -> yaml.Node | None:
    """Return the nodes of a document, with the positions of their characters; None: it is empty.

    Raises:
        yaml.YAMLError: it is no valid YAML.
        Exception: it nests too deep. ``parse_yaml`` reports both as problems.
    """
    root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return root


def parse_yaml(path: Path, text: str, problems: ProblemCollector, *, ansible: bool = False) -> LocatedData | None:
    """Parse a YAML document.

    Args:
        path: the file, for messages.
        text: its content.
        problems: collects syntax errors, duplicate keys, unknown tags and excessive aliases.
        ansible: allow Ansible's tags. An encrypted value becomes VAULTED; a scalar that is not text in YAML becomes
            TypedScalar.

    Returns:
        The data, or None for an empty document or a syntax error (which is added to ``problems``).
    """
    try:
        root = compose_yaml(text)
    except _TooDeep:
        problems.add(path, f"this file nests deeper than {MAX_DEPTH} levels", "Write it flatter.")
        return None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        parts = [str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
        description = ", ".join(parts) or type(error).__name__
        if "alias" in description:  # an alias name may be a password that begins with *: do not show it
            description = "an alias (*) that no anchor (&) stands for"
        hint = "Mind the indentation (no tabs), and quote values that begin with one of * & ! { [ @ ` or hold ': '."
        location = SourceLocation(path, mark.line + 1 if mark else None)
        problems.add(location, f"this is no valid YAML: {description}", hint)
        return None
    if root is None:
        return None
    builder = _LocatedDataBuilder(path, problems, ansible)
    data = builder.build_value(root, (), _find_line(root))
    return None if builder.is_too_large else LocatedData(data, builder.locations)


class _Places(Mapping[KeyPath, SourceLocation]):
    """The places of a file's values. Only lines are kept: of thousands of values, one may have a problem."""

    def __init__(self, file: Path) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._file = file

    def __getitem__(self, path: KeyPath) -> SourceLocation:
        return SourceLocation(self._file, self.lines[path], ".".join(map(str, path)))

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)


class _LocatedDataBuilder:
    """Builds plain data from a composed document in one pass."""

    def __init__(self, path: Path, problems: ProblemCollector, ansible: bool) -> None:
        self.path = path
        self.ansible = ansible
        self.problems = problems
        self.locations = _Places(path)
        self.is_too_large = False
        self._visited_nodes: set[int] = set()
        self._open_nodes: set[int] = set()
        self._aliased_values = 0

    def build_value(self, node: yaml.Node, path: KeyPath, line: int) -> object:
        """Return the plain value of a node, and record its line."""
        self.locations.lines[path] = line
        if node.tag not in _PLAIN_TAGS:
            if self.ansible and node.tag in {"!vault", "!vault-encrypted"}:
                return VAULTED
            if self.ansible and node.tag == "!unsafe" and isinstance(node, yaml.ScalarNode):
                return str(node.value)
            hint = f"Write plain YAML, without tags; a secret is given as {PASSWORD_FORMS}."
            # Show only known tags. "!hunter2" may be a password.
            named = f"the tag {node.tag!r}" if node.tag.startswith(_KNOWN_TAGS) else "a tag (!)"
            self.problems.add(self.locations[path], f"{named} is not allowed here", hint)
            return None
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == _NULL_TAG else self._build_text(node)
        if not self._may_enter(node, path):
            return None
        self._open_nodes.add(id(node))
        try:
            return (
                self._build_map(node, path)
                if isinstance(node, yaml.MappingNode)
                else [
                    self.build_value(child, (*path, index), _find_line(child)) for index, child in enumerate(node.value)
                ]
            )
        finally:
            self._open_nodes.discard(id(node))

    def _build_text(self, node: yaml.ScalarNode) -> str:
        """Return the text of a scalar; as TypedScalar where Ansible gives it another type."""
        return TypedScalar(node.value, node.tag) if self.ansible and node.tag != _STRING_TAG else str(node.value)

    def _locate(self, node: yaml.Node, path: KeyPath) -> SourceLocation:
        return SourceLocation(self.path, _find_line(node), ".".join(map(str, path)))

    def _may_enter(self, node: yaml.Node, path: KeyPath) -> bool:
        """Return whether a node may be read. Reject recursive aliases and aliases that multiply the data."""
        if id(node) in self._open_nodes:
            self.problems.add(self.locations[path], "this alias contains itself", "Write the value out.")
            return False
        if id(node) in self._visited_nodes:
            self._aliased_values += len(node.value) + 1
        self._visited_nodes.add(id(node))
        if self._aliased_values > MAX_ALIASED_VALUES and not self.is_too_large:
            self.is_too_large = True
            hint = "Put what is common under `defaults` or `groups`."
            self.problems.add(
                self.locations[path], f"aliases make this file larger than {MAX_ALIASED_VALUES:,} values", hint
            )
        return not self.is_too_large

    def _build_map(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        own_values: dict[str, object] = {}
        merged: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged = {**self._build_merged_map(value_node, path), **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _PLAIN_TAGS:
                location = self._locate(key_node, path)
                self.problems.add(location, "a key must be plain text", "Quote it, or give it a name.")
                continue
            key = self._build_text(key_node)
            line = _find_line(key_node)
            if key in lines:
                message = f"the key {key[:80]!r} stands here twice, first in line {lines[key]}"
                self.problems.add(
                    self._locate(key_node, (*path, key)), message, "Remove one of the two, or merge them."
                )
                continue
            lines[key] = line
            own_values[key] = self.build_value(value_node, (*path, key), line)
        return {**merged, **own_values}

    def _build_merged_map(self, node: yaml.Node, path: KeyPath) -> Mapping[str, object]:
        """Return the merged map of ``<<``. A merged value keeps the place where it is written."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, object] = {}
        for source in sources:
            is_map = isinstance(source, yaml.MappingNode)
            data = self.build_value(source, path, self.locations.lines[path]) if is_map else None
            if isinstance(data, dict):
                merged = {**data, **merged}
            else:
                location = self._locate(node, path)
                self.problems.add(location, "<< takes a map, or a list of maps", "Give it an alias (*x).")
        return merged


def _find_line(node: yaml.Node) -> int:
    """Return the line of a node, from 1."""
    return int(node.start_mark.line) + 1


def iterate_entries(located: LocatedData, key: str, problems: ProblemCollector) -> Iterator[LocatedData]:
    """Yield the entries of a list in a file, with their places."""
    data = located.data.get(key) if isinstance(located.data, dict) else None
    if data is None:
        return
    part = located.get_child(key)
    if not isinstance(data, list):
        problems.add(part.locate(), f"`{key}` is a list", "Write each entry after a dash: `- name: ...`.")
        return
    yield from (part.get_child(index) for index in range(len(data)))
