"""YAML text → plain data that knows where it stands.

Nothing is constructed but maps, lists, strings and None: no tag can make an object, and a scalar stays the text that
was written. So ``environment: no`` is the word "no", ``ring: 1.10`` keeps its zero, and the schema alone decides what
is a number.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

from inventory.places import KeyPath, Located, Place, Problems

MAX_DEPTH = 100
MAX_COPIES = 100_000
"""Values that aliases may add. A small file can otherwise describe more than a machine's memory holds."""

VAULTED = object()
"""Stands for a value that Ansible's vault keeps, where those are no fault by themselves."""


class Typed(str):
    """A plain scalar that YAML 1.1 takes for a number, a truth, a time or nothing: still its text, and the tag."""

    tag: str

    def __new__(cls, text: str, tag: str) -> "Typed":
        """Make one from its text and YAML's tag for it."""
        made = super().__new__(cls, text)
        made.tag = tag
        return made


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "timestamp", "map", "seq", "null", "value")
)
_KNOWN_TAGS = ("!vault", "!unsafe", "tag:yaml.org,2002:")
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


def parse_yaml(path: Path, text: str, problems: Problems, *, ansible: bool = False) -> Located | None:
    """Read a YAML document.

    Args:
        path: the file, for messages.
        text: its content.
        problems: takes syntax errors, duplicate keys, unknown tags, and aliases that blow up.
        ansible: allow Ansible's own tags; what is vaulted becomes VAULTED, and what is no text for YAML is Typed.

    Returns:
        The data, or None when there is none (an empty document, or a syntax error that was noted).
    """
    try:
        if not _depth_is_sane(text):
            problems.add(Place(path), f"this file nests deeper than {MAX_DEPTH} levels", "Write it flatter.")
            return None
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        problems.add(*_syntax(path, error))
        return None
    if root is None:
        return None
    walk = _Walk(path, problems, ansible)
    data = walk.value(root, ())
    return None if walk.exploded else Located(data, walk.places)


def _depth_is_sane(text: str) -> bool:
    """Look at the events before anything is composed: composing recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return True


def _syntax(path: Path, error: yaml.YAMLError) -> tuple[Place, str, str]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    parts = [str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
    what = ", ".join(parts) or type(error).__name__
    if "alias" in what:  # its name may be a password that begins with *, so it is not repeated
        what = "an alias (*) that no anchor (&) stands for"
    hint = "Mind the indentation (no tabs), and quote values that begin with one of * & ! { [ @ ` or hold ': '."
    return Place(path, mark.line + 1 if mark else None), f"this is no valid YAML: {what}", hint


class _Walk:
    """One walk over a composed document."""

    def __init__(self, path: Path, problems: Problems, ansible: bool) -> None:
        self.path = path
        self.ansible = ansible
        self.problems = problems
        self.places: dict[KeyPath, Place] = {}
        self.exploded = False
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._copies = 0

    def value(self, node: yaml.Node, path: KeyPath, place: Place | None = None) -> object:
        """Return a node's plain value, and note its place."""
        place = place or self._place(node, path)
        self.places[path] = place
        if node.tag not in _PLAIN:
            return self._tagged(node, place)
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == _NULL else self._text(node)
        if not self._may_enter(node, place):
            return None
        self._open.add(id(node))
        try:
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        finally:
            self._open.discard(id(node))

    def _text(self, node: yaml.ScalarNode) -> str:
        """Return a scalar's text; with the type that it has for Ansible, where that matters."""
        return Typed(node.value, node.tag) if self.ansible and node.tag != _TEXT else str(node.value)

    def _place(self, node: yaml.Node, path: KeyPath) -> Place:
        return Place(self.path, node.start_mark.line + 1, ".".join(str(part) for part in path))

    def _tagged(self, node: yaml.Node, place: Place) -> object:
        if self.ansible and node.tag in {"!vault", "!vault-encrypted"}:
            return VAULTED
        if self.ansible and node.tag == "!unsafe" and isinstance(node, yaml.ScalarNode):
            return str(node.value)
        hint = "Write plain YAML, without tags; a secret is given as env:NAME, file:PATH or prefect:BLOCK."
        # Only known tags are repeated: "!hunter2" is somebody's password.
        named = f"the tag {node.tag!r}" if node.tag.startswith(_KNOWN_TAGS) else "a tag (!)"
        self.problems.add(place, f"{named} is not allowed here", hint)
        return None

    def _may_enter(self, node: yaml.Node, place: Place) -> bool:
        """Refuse aliases that contain themselves, and those that multiply."""
        if id(node) in self._open:
            self.problems.add(place, "this alias contains itself", "Write the value out.")
            return False
        if id(node) in self._seen:
            self._copies += len(node.value) + 1
        self._seen.add(id(node))
        if self._copies > MAX_COPIES and not self.exploded:
            self.exploded = True
            hint = "Put what is common under `defaults` or `groups`."
            self.problems.add(place, f"aliases make this file larger than {MAX_COPIES:,} values", hint)
        return not self.exploded

    def _sequence(self, node: yaml.Node, path: KeyPath) -> list[object]:
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = {**self._merge(value_node, path), **merged}
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            line = key_node.start_mark.line + 1
            place = Place(self.path, line, ".".join(str(part) for part in (*path, key)))
            if key in lines:
                message = f"the key {key[:80]!r} stands here twice, first in line {lines[key]}"
                self.problems.add(place, message, "Remove one of the two, or merge them.")
                continue
            lines[key] = line
            own[key] = self.value(value_node, (*path, key), place)
        return {**merged, **own}

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN:
            return self._text(node)
        self.problems.add(self._place(node, path), "a key must be plain text", "Quote it, or give it a name.")
        return None

    def _merge(self, node: yaml.Node, path: KeyPath) -> Mapping[str, object]:
        """Return what ``<<`` brings in. What is merged keeps the place where it was written first."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, object] = {}
        for source in sources:
            data = self.value(source, path, self.places[path]) if isinstance(source, yaml.MappingNode) else None
            if not isinstance(data, dict):
                self.problems.add(
                    self._place(node, path), "<< takes a map, or a list of maps", "Give it an alias (*x)."
                )
                continue
            found = {**data, **found}
        return found
