"""Parsers of fleetpatch's own formats: fleet.yaml, and CSV with a column for each key."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from inventory.builder import (
    InventoryFragment,
    MachineDraft,
    SettingsLayer,
    build_host_key_settings,
    build_machine_draft,
    collect_explicit_fields,
    expand_machine_entries,
)
from inventory.files.problems import KeyPath, LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.limit_builder import read_limits_draft
from inventory.name_lists import format_count
from inventory.schema.entries import FleetFile, LimitsEntry, MachineEntry, MachineSettings
from inventory.schema.validation import describe_unknown_key, validate_mapping
from inventory.set_builder import read_set_drafts

FLEET_FILE_KEYS = tuple(FleetFile.model_fields)


def parse_fleet_yaml(located: LocatedData, problems: ProblemCollector) -> InventoryFragment:
    """Build machine drafts from a parsed fleet.yaml.

    Returns:
        Everything that is valid, so that later checks can use it.
    """
    data = located.data
    if not isinstance(data, dict):
        problems.add(located.locate(), "an inventory is a map", "Begin it with `machines:` and a list of machines.")
        return InventoryFragment()
    for key in data.keys() - set(FLEET_FILE_KEYS):
        problems.add(located.locate((key,)), *describe_unknown_key(key, list(FLEET_FILE_KEYS)))
    keys = (
        build_host_key_settings(located.get_child("host_keys"), problems) if data.get("host_keys") is not None else None
    )
    defaults: SettingsLayer = {}
    if data.get("defaults") is not None:
        defaults = collect_explicit_fields(validate_mapping(MachineSettings, located.get_child("defaults"), problems))
    groups = _build_group_layers(located, problems)
    sets = read_set_drafts(located.get_child("sets"), problems) if "sets" in data else ()
    limits = read_limits_draft(located.get_child("limits"), problems) if data.get("limits") is not None else None
    return InventoryFragment(tuple(_build_machine_drafts(located, defaults, groups, problems)), keys, sets, limits)


def _build_group_layers(located: LocatedData, problems: ProblemCollector) -> dict[str, SettingsLayer] | None:
    """Return the settings of each group, or None if the file has no list of groups."""
    data = located.data["groups"] if isinstance(located.data, dict) and "groups" in located.data else None
    if data is None:
        return None
    if not isinstance(data, dict):
        problems.add(
            located.locate(("groups",)), "`groups` is a map", "Write each group's name, and its settings under it."
        )
        return None
    # The same schema checks these names and the names in a machine's list of groups.
    part = located.get_child("groups")
    layers: dict[str, SettingsLayer] = {}
    for name in data:
        location = part.locate((name,))
        validate_mapping(MachineEntry, LocatedData({"name": name}, {(): location, ("name",): location}), problems)
    for name, settings in data.items():
        own_part = part.get_child(name) if settings is not None else replace(part, data={})
        layers[name] = collect_explicit_fields(validate_mapping(MachineSettings, own_part, problems))
    return layers


def _build_machine_drafts(
    located: LocatedData, defaults: SettingsLayer, groups: dict[str, SettingsLayer] | None, problems: ProblemCollector
) -> list[MachineDraft]:
    entries = located.data.get("machines") if isinstance(located.data, dict) else None
    if entries is None:
        alone = isinstance(located.data, dict) and any(map(located.data.get, ("host_keys", "limits", "sets")))
        if defaults or groups or not alone:
            problems.add(located.locate(), "this file has no machines", "Add `machines:` and a list of them under it.")
        return []
    if not isinstance(entries, list):
        problems.add(located.locate(("machines",)), "`machines` is a list", "Write each machine as `- name: ...`.")
        return []
    machine_list = located.get_child("machines")
    drafts = []
    parts = [machine_list.get_child(index) for index in range(len(entries))]
    # a bare word of the list is a machine's name
    named = (replace(part, data={"name": part.data}) if isinstance(part.data, str) else part for part in parts)
    for single in expand_machine_entries(named, problems):
        entry = validate_mapping(MachineEntry, single, problems)
        if entry is None:
            continue
        group_names = entry.groups or () if groups is not None else ()
        layers = [defaults]
        for name in group_names:
            if groups and name in groups:
                layers.append(groups[name])
            else:
                hint = "Add it under `groups:`, with nothing after it when it sets nothing."
                message = f"there is no group {name!r}"
                problems.add(single.locate(("groups",)), message, f"{did_you_mean(name, groups or ())}{hint}")
        drafts.append(build_machine_draft(single, layers, entry))
    return drafts


_TAG_COLUMN_PREFIX = "tag:"
_DELIMITERS = (",", "\t", ";")
_SEPARATOR_PATTERN = re.compile(r"\"?sep=([,;\t|])\"?[,;\t ]*", re.IGNORECASE)
_LIMIT_COLUMNS = tuple(LimitsEntry.model_fields)
_MIN_KNOWN_COLUMNS = 2
"""A file without names that has fewer is no inventory."""
_NO_NAME = "no-name"
"""Stands for the name in rows of a file without names, so that their other faults are found."""
_NESTED_KEYS = frozenset({"tags", "limits", "winrm", "pre_checks", "probes", "wake"})
COLUMNS = (*(key for key in MachineEntry.model_fields if key not in _NESTED_KEYS), *_LIMIT_COLUMNS)


def find_delimiter(text: str) -> tuple[str, str]:
    """Return the separator of a CSV text, and the line before the header that names it; "" if there is none."""
    first = next((row for row in text.splitlines() if row.strip() and not row.lstrip().startswith("#")), "")
    if match := _SEPARATOR_PATTERN.fullmatch(first):
        return match[1], first
    return next((delimiter for delimiter in _DELIMITERS if delimiter in first), ","), ""


def parse_fleet_csv(path: Path, text: str, problems: ProblemCollector) -> InventoryFragment:
    """Parse a CSV file. The separator is that of Excel's line "sep=;", or else the one that the header has.

    The key of a problem's place is the column.
    """
    delimiter, separator_line = find_delimiter(text)
    if separator_line:
        text = text.replace(separator_line, "#", 1)  # the line becomes a comment
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        line = 1
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                rows.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1  # first line of the next row: a quoted cell may contain line breaks
    except csv.Error as error:
        hint = 'Put cells with commas or line ends in "double quotes", and double the quotes inside.'
        problems.add(SourceLocation(path, reader.line_num), f"this is no valid CSV: {error}", hint)
        return InventoryFragment()
    if not rows:
        problems.add(path, "this file is empty", "Begin it with a header such as: name,address,user,tag:ring")
        return InventoryFragment()
    (header_line, header), *body = rows
    columns = _check_header(SourceLocation(path, header_line), header, problems)
    entries = [_parse_row(SourceLocation(path, number), columns, cells, problems) for number, cells in body if columns]
    drafts = []
    for single in expand_machine_entries((row for row in entries if row), problems):
        entry = validate_mapping(MachineEntry, single, problems)
        if entry is not None and entry.name != _NO_NAME:
            drafts.append(build_machine_draft(single, [], entry))
    return InventoryFragment(tuple(drafts))


def _check_header(place: SourceLocation, header: list[str], problems: ProblemCollector) -> list[str]:
    """Return the columns to read, with "" for one that has a fault. Return none if this is a file of another kind."""
    known_columns = [column for column in header if column in COLUMNS or column.startswith(_TAG_COLUMN_PREFIX)]
    if "name" not in header:
        problems.add(place, "there is no column 'name'", f"The header names keys: {', '.join(COLUMNS)}, tag:NAME.")
        if len(known_columns) < _MIN_KNOWN_COLUMNS:
            # Do not quote a file of another kind: it may contain secrets.
            header, known_columns = [column for column in header if did_you_mean(column, COLUMNS)], []
    columns = []
    for index, column in enumerate(header):
        fault: tuple[str, str] | None = None
        if not column:
            fault = "this column has no name", "Name it, or remove it."
        elif column in header[:index]:
            fault = f"the column {column!r} stands here twice", "Remove one of the two."
        elif column not in COLUMNS and not column.startswith(_TAG_COLUMN_PREFIX):
            fault = describe_unknown_key(column, [*COLUMNS, "tag:NAME"])
        if fault:
            problems.add(SourceLocation(place.file, place.line, column or f"column {index + 1}"), *fault)
        columns.append("" if fault else column)
    return columns if known_columns else []


def _parse_row(
    place: SourceLocation, header: list[str], cells: list[str], problems: ProblemCollector
) -> LocatedData | None:
    if len(cells) != len(header):
        message = f"{format_count(len(cells), 'cell')}, but the header has {format_count(len(header), 'column')}"
        problems.add(place, message, 'Add what is missing, or put cells with a comma in "double quotes".')
        return None
    data: dict[str, object] = {} if "name" in header else {"name": _NO_NAME}
    maps: dict[str, dict[str, str]] = {"tags": {}, "limits": {}}
    locations: dict[KeyPath, SourceLocation] = {(): place}
    for column, cell in zip(header, cells, strict=True):
        path: tuple[str, ...] = (column,)
        if column.startswith(_TAG_COLUMN_PREFIX):
            path = ("tags", column.removeprefix(_TAG_COLUMN_PREFIX))
        elif column in _LIMIT_COLUMNS:
            path = ("limits", column)
        locations[path] = SourceLocation(place.file, place.line, column)
        if cell and column:  # an empty cell sets no value, and a faulty column is told already
            values = maps[path[0]] if len(path) > 1 else data
            values[path[-1]] = cell
    return LocatedData(data | {key: values for key, values in maps.items() if values}, locations)
