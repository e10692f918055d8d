"""fleet.yaml, the inventory's own format: `defaults`, `groups`, `machines`, `host_keys`."""

from inventory.checking import check, unknown_key
from inventory.drafts import Draft, Fragment, Layer, draft, host_keys, layer_of, spread_all
from inventory.places import Located, Problems, did_you_mean
from inventory.schema import FleetFile, MachineEntry, Settings

KEYS = tuple(FleetFile.model_fields)


def read_fleet(located: Located, problems: Problems) -> Fragment:
    """Read a parsed fleet.yaml.

    Args:
        located: the document.
        problems: takes everything that is wrong with it.

    Returns:
        What could be made of it, so that the rest of the checks see it as well.
    """
    data = located.data
    if not isinstance(data, dict):
        problems.add(located.at(), "an inventory is a map", "Begin it with `machines:` and a list of machines.")
        return Fragment()
    for key in data.keys() - set(KEYS):
        problems.add(located.at((key,)), *unknown_key(key, list(KEYS)))
    keys = host_keys(located.part("host_keys"), problems) if data.get("host_keys") is not None else None
    defaults: Layer = {}
    if data.get("defaults") is not None:
        defaults = layer_of(check(Settings, located.part("defaults"), problems))
    groups = _groups(located, problems)
    return Fragment(tuple(_machines(located, defaults, groups, problems)), keys)


def _groups(located: Located, problems: Problems) -> dict[str, Layer] | None:
    """Return the settings of each group, or None when the file has no list of groups."""
    data = located.data["groups"] if isinstance(located.data, dict) and "groups" in located.data else None
    if data is None:
        return None
    if not isinstance(data, dict):
        problems.add(
            located.at(("groups",)), "`groups` is a map", "Write each group's name, and its settings under it."
        )
        return None
    # The names are checked as those of a list of groups are: by the same schema.
    part = located.part("groups")
    for name in data:
        check(MachineEntry, Located({"name": name}, {(): part.at((name,)), ("name",): part.at((name,))}), problems)
    return {
        name: layer_of(check(Settings, part.part(name), problems)) if settings is not None else {}
        for name, settings in data.items()
    }


def _machines(located: Located, defaults: Layer, groups: dict[str, Layer] | None, problems: Problems) -> list[Draft]:
    entries = located.data.get("machines") if isinstance(located.data, dict) else None
    if entries is None:
        if defaults or groups or not (isinstance(located.data, dict) and located.data.get("host_keys")):
            problems.add(located.at(), "this file has no machines", "Add `machines:` and a list of them under it.")
        return []
    if not isinstance(entries, list):
        problems.add(located.at(("machines",)), "`machines` is a list", "Write each machine as `- name: ...`.")
        return []
    whole = located.part("machines")
    drafts = []
    for single in spread_all((_named(whole.part(index)) for index in range(len(entries))), problems):
        entry = check(MachineEntry, single, problems)
        if entry is not None:
            layers = _layers(entry, single, groups, problems)
            drafts.append(draft(single, [defaults, *layers], entry))
    return drafts


def _named(located: Located) -> Located:
    """Take a bare word in the list for a machine's name."""
    if isinstance(located.data, str):
        return Located({"name": located.data}, located.places, located.base)
    return located


def _layers(entry: MachineEntry, located: Located, groups: dict[str, Layer] | None, problems: Problems) -> list[Layer]:
    if groups is None:
        return []
    for name in entry.groups or ():
        if name not in groups:
            hint = f"{did_you_mean(name, groups)}Add it under `groups:`, with nothing after it when it sets nothing."
            problems.add(located.at(("groups",)), f"there is no group {name!r}", hint)
    return [groups[name] for name in entry.groups or () if name in groups]
