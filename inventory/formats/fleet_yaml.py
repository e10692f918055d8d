"""Parser for fleet.yaml, fleetpatch's own format: `defaults`, `groups`, `machines`, `host_keys`, `sets`."""

from inventory.builder import (
    InventoryFragment,
    MachineDraft,
    SettingsLayer,
    build_host_key_settings,
    build_machine_draft,
    collect_explicit_fields,
    expand_machine_entries,
)
from inventory.files.problems import LocatedData, ProblemCollector, did_you_mean
from inventory.schema.entries import MachineEntry, MachineSettings
from inventory.schema.fleet_file import FleetFile
from inventory.schema.validation import describe_unknown_key, validate_mapping
from inventory.set_builder import read_set_drafts

FLEET_FILE_KEYS = tuple(FleetFile.model_fields)


def parse_fleet_yaml(located: LocatedData, problems: ProblemCollector) -> InventoryFragment:
    """Build machine drafts from a parsed fleet.yaml.

    Args:
        located: the document.
        problems: collects all problems.

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
    return InventoryFragment(tuple(_build_machine_drafts(located, defaults, groups, problems)), keys, sets)


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
    for name in data:
        validate_mapping(
            MachineEntry,
            LocatedData({"name": name}, {(): part.locate((name,)), ("name",): part.locate((name,))}),
            problems,
        )
    return {
        name: collect_explicit_fields(validate_mapping(MachineSettings, part.get_child(name), problems))
        if settings is not None
        else {}
        for name, settings in data.items()
    }


def _build_machine_drafts(
    located: LocatedData, defaults: SettingsLayer, groups: dict[str, SettingsLayer] | None, problems: ProblemCollector
) -> list[MachineDraft]:
    entries = located.data.get("machines") if isinstance(located.data, dict) else None
    if entries is None:
        alone = isinstance(located.data, dict) and (located.data.get("host_keys") or located.data.get("sets"))
        if defaults or groups or not alone:
            problems.add(located.locate(), "this file has no machines", "Add `machines:` and a list of them under it.")
        return []
    if not isinstance(entries, list):
        problems.add(located.locate(("machines",)), "`machines` is a list", "Write each machine as `- name: ...`.")
        return []
    whole = located.get_child("machines")
    drafts = []
    for single in expand_machine_entries(
        (_to_named_entry(whole.get_child(index)) for index in range(len(entries))), problems
    ):
        entry = validate_mapping(MachineEntry, single, problems)
        if entry is not None:
            layers = _find_group_layers(entry, single, groups, problems)
            drafts.append(build_machine_draft(single, [defaults, *layers], entry))
    return drafts


def _to_named_entry(located: LocatedData) -> LocatedData:
    """Turn a bare word of the list into an entry with that machine name."""
    if isinstance(located.data, str):
        return LocatedData({"name": located.data}, located.locations, located.base_path)
    return located


def _find_group_layers(
    entry: MachineEntry, located: LocatedData, groups: dict[str, SettingsLayer] | None, problems: ProblemCollector
) -> list[SettingsLayer]:
    if groups is None:
        return []
    for name in entry.groups or ():
        if name not in groups:
            hint = f"{did_you_mean(name, groups)}Add it under `groups:`, with nothing after it when it sets nothing."
            problems.add(located.locate(("groups",)), f"there is no group {name!r}", hint)
    return [groups[name] for name in entry.groups or () if name in groups]
