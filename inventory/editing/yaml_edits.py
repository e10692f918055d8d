"""Sets a key of a map in a YAML or JSON text. Pure.

The parser's positions say which characters are the value, so comments, order, quotes and blanks stay. No emitter writes
the file anew: it would break lines and change indentation that people chose.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from inventory.editing.text_edits import CannotEdit, TextEdit, apply_edits, find_line_break, find_line_end
from inventory.files.located_yaml import compose_yaml, parse_yaml
from inventory.files.problems import KeyPath, ProblemCollector

_HINT: Final = "Write it into the file yourself."
_JSON_SUFFIX: Final = ".json"


def set_yaml_keys(path: Path, text: str, key: str, values: Mapping[KeyPath, str], *, ansible: bool = False) -> str:
    """Return a document in which a key of some maps has another value.

    Args:
        path: the file. A name that ends in .json gets quotes.
        text: its content, a valid document.
        key: the key. Where a map does not have it yet, it stands behind the map's ``name``, or at the end of the file.
        values: the new value by the path of the map: ``("machines", 3)``. Each is a plain word.
        ansible: whether the document may have Ansible's tags.

    Raises:
        CannotEdit: the file can't be changed so that nothing else in it changes.
    """
    expected = _read(path, text, ansible)
    if expected is None:
        raise CannotEdit("it is not valid", file=path, hint="`fleetpatch inventory check` says where.")
    root = compose_yaml(text)
    edits = [_build_edit(path, text, _find_map(path, root, place), key, value) for place, value in values.items()]
    if len({edit.start for edit in edits}) < len(edits):
        raise CannotEdit("one place in the file stands for several machines (an alias)", file=path, hint=_HINT)
    changed = apply_edits(text, edits)
    for place, value in values.items():
        _set(expected, place, key, value)
    if _read(path, changed, ansible) != expected:
        raise CannotEdit(f"`{key}` can't be written without a change of something else", file=path, hint=_HINT)
    return changed


def _read(path: Path, text: str, ansible: bool) -> object:
    """Return the data of a document; None: it is not valid. A value that aliases repeat is there several times."""
    problems = ProblemCollector()
    located = parse_yaml(path, text, problems, ansible=ansible)
    if problems:
        return None
    return located.data if located is not None else {}


def _find_map(path: Path, node: yaml.Node | None, place: KeyPath) -> yaml.MappingNode | None:
    """Return the node of a map; None: the whole document is empty."""
    if node is None and not place:
        return None
    for step in place:
        if isinstance(step, int) and isinstance(node, yaml.SequenceNode):
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if _is_key(name, str(step))), None)
        else:
            node = None
    if not isinstance(node, yaml.MappingNode):
        raise CannotEdit("the entry comes from elsewhere in the file (<<)", file=path, hint=_HINT)
    return node


def _build_edit(path: Path, text: str, node: yaml.MappingNode | None, key: str, value: str) -> TextEdit:
    is_json = path.suffix == _JSON_SUFFIX
    word = json.dumps(value) if is_json else value
    pair = f"{json.dumps(key) if is_json else key}: {word}"
    if node is None or (not node.value and not node.flow_style):  # nothing, or nothing but comments
        return _append_line(text, pair)
    for name, present in node.value:
        if _is_key(name, key):
            return _replace_value(path, name, present, word)
    anchor = next((entry for entry in node.value if _is_key(entry[0], "name")), None)
    if node.flow_style:
        last = anchor or (node.value[-1] if node.value else None)
        if last is None:
            return TextEdit(node.start_mark.index + 1, node.start_mark.index + 1, pair)
        return TextEdit(last[1].end_mark.index, last[1].end_mark.index, f", {pair}")
    indent = " " * node.value[0][0].start_mark.column
    if anchor is None:
        return _append_line(text, f"{indent}{pair}")
    end = find_line_end(text, anchor[1].end_mark.index)
    return TextEdit(end, end, f"{find_line_break(text)}{indent}{pair}")


def _append_line(text: str, line: str) -> TextEdit:
    line_break = find_line_break(text)
    lead = line_break if text and text[-1] not in "\r\n" else ""
    return TextEdit(len(text), len(text), f"{lead}{line}{line_break}")


def _replace_value(path: Path, name: yaml.Node, present: yaml.Node, word: str) -> TextEdit:
    start, end = present.start_mark.index, present.end_mark.index
    if start < name.end_mark.index:  # an alias: its value stands elsewhere
        raise CannotEdit("the value is an alias (*)", file=path, line=name.start_mark.line + 1, hint=_HINT)
    if start == end:  # an empty value, right behind the colon
        return TextEdit(start, end, f" {word}")
    return TextEdit(start, end, word)


def _is_key(node: yaml.Node, key: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == key


def _set(data: Any, place: KeyPath, key: str, value: str) -> None:  # noqa: ANN401 - data of any document
    for step in place:
        data = data[step]
    data[key] = value
